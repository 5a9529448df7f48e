"""`--version`, and the completion of a shell, which imports no command."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version

from tutelage.cli.main import COMMANDS

LOADED = """\
import sys
from tutelage.cli.main import app
try:
    app(prog_name="tutelage")
except SystemExit:
    pass
shown = [name for name in sys.modules if name.startswith("tutelage.")]
heavy = {"torch", "transformers", "numpy", "scipy", "openai", "aiohttp", "yaml"}
print("LOADED", *sorted(shown), *sorted(heavy & set(sys.modules)))
"""


def tutelage(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "COLUMNS": "100", **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_version_is_that_of_the_package() -> None:
    done = tutelage("-m", "tutelage", "--version")
    assert (done.returncode, done.stdout) == (0, f"tutelage {version('tutelage')}\n")


def test_help_offers_version_and_completion() -> None:
    shown = tutelage("-m", "tutelage", "--help").stdout
    for option in ("--version", "--install-completion", "--show-completion"):
        assert option in shown


def complete(words: str) -> tuple[list[str], list[str]]:
    """What bash is offered after `words`, and the modules that were imported for it."""
    done = tutelage(
        "-c",
        LOADED,
        _TUTELAGE_COMPLETE="complete_bash",
        COMP_WORDS=words,
        COMP_CWORD=str(words.count(" ")),
        _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1",
    )
    assert done.returncode == 0, done.stderr
    *offered, last = done.stdout.splitlines()
    assert last.startswith("LOADED ")
    return offered, last.split()[1:]


def test_completion_of_commands_imports_none_of_them() -> None:
    offered, loaded = complete("tutelage ")
    assert sorted(offered) == sorted(COMMANDS)
    assert complete("tutelage r")[0] == ["run", "report", "runs"]
    commands = {f"tutelage.cli.{name}" for name in COMMANDS}
    assert not commands & set(loaded)
    assert {name.split(".")[1] for name in loaded if "." in name} == {"cli", "core"}
    assert not [name for name in loaded if "." not in name], "a heavy package"


def test_completion_of_options_imports_the_one_command() -> None:
    offered, loaded = complete("tutelage runs --js")
    assert offered == ["--json"]
    commands = {f"tutelage.cli.{name}" for name in COMMANDS}
    assert commands & set(loaded) == {"tutelage.cli.runs"}


def test_a_completion_script_is_shown() -> None:
    # Which shell asks is found out from the process that called; here it is named.
    named = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    shown = tutelage("-m", "tutelage", "--show-completion", "bash", **named)
    assert shown.returncode == 0 and "COMP_WORDS" in shown.stdout, shown.stderr
