"""Exports are used without torch and transformers: nothing on the way imports them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from students import ROWS, Made

_SCRIPT = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "transformers", "accelerate", "datasets", "pyarrow",
                                      "peft", "sentencepiece", "charset_normalizer"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
from pathlib import Path
from tutelage import Student
from tutelage.cli.main import app
from tutelage.deliver.exported import ExportedModel
from tutelage.deliver.serving.http_server import make_server
from tutelage.deliver.serving.app import make_app
from tutelage.config.serve_settings import ServeSettings

folder, rows, output = sys.argv[1:]
found = Student.load(folder).predict([{"note": "the red door", "claim": "a lamp"}], explain=True)
assert found[0].rationale is not None
make_server(make_app(ExportedModel.load(Path(folder)), ServeSettings()), ServeSettings())
app(["predict", folder, rows, "--output", output], standalone_mode=False)
"""


def test_an_export_is_loaded_used_and_served_without_torch(
    made: Callable[[str], Made], tmp_path: Path
) -> None:
    rows, output = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    rows.write_text(
        "".join(json.dumps({**e.fields, "label": e.label}) + "\n" for e in ROWS), encoding="utf-8"
    )
    folder = made("t5").export.folder
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(folder), str(rows), str(output)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert len(found) == len(ROWS) and all(row["label"] for row in found)
