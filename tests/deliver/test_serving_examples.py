"""The container file and the systemd unit parse, and call the command as it is."""

from __future__ import annotations

import configparser
import json
import re
import shlex
from pathlib import Path

from typer.testing import CliRunner

from tutelage.cli.main import app

EXAMPLES = Path(__file__).parents[2] / "examples" / "serving"


def _takes(words: list[str]) -> None:
    """The command line has only options that `tutelage serve` has."""
    assert words[1] == "serve"
    known = CliRunner().invoke(app, ["serve", "--help"], terminal_width=200).output
    for word in words[2:]:
        if word.startswith("--"):
            assert re.search(rf"{word}\b", known), word


def test_the_container_file_has_known_instructions_and_the_right_command() -> None:
    text = (EXAMPLES / "Containerfile").read_text(encoding="utf-8")
    joined = text.replace("\\\n", " ")
    lines = [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]
    instructions = [line.split(" ", 1) for line in lines]
    names = [name for name, _ in instructions]
    known = {"FROM", "COPY", "RUN", "USER", "EXPOSE", "HEALTHCHECK", "STOPSIGNAL", "ENTRYPOINT"}
    assert names[0] == "FROM" and set(names) <= known
    assert names.index("USER") < names.index("ENTRYPOINT")
    by_name = dict(instructions)
    words = json.loads(by_name["ENTRYPOINT"])
    assert words[0] == "tutelage"
    _takes(words)
    check = json.loads(by_name["HEALTHCHECK"].removeprefix("CMD "))
    compile(check[2], "health check", "exec")
    assert f":{by_name['EXPOSE']}/healthz" in check[2]
    assert f"--port {by_name['EXPOSE']}" in " ".join(words)


def test_the_unit_parses_and_has_the_right_command() -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str  # type: ignore[assignment]
    unit.read(EXAMPLES / "tutelage.service", encoding="utf-8")
    assert set(unit.sections()) == {"Unit", "Service", "Install"}
    words = shlex.split(unit["Service"]["ExecStart"])
    assert Path(words[0]).is_absolute() and Path(words[0]).name == "tutelage"
    _takes(words)
    # The server lets requests finish for 20 seconds.
    assert int(unit["Service"]["TimeoutStopSec"]) > 20
    assert unit["Service"]["DynamicUser"] == "yes"
