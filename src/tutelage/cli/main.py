"""`tutelage`: the list of commands, and how errors end a call."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from tutelage.cli.terminal import complain
from tutelage.core.errors import MissingExtraError, RecipeError, TutelageError, extra_of
from tutelage.core.interruption import sigterm_as_ctrl_c

COMMANDS: Mapping[str, str] = {
    "run": "Run an experiment: annotate, train, evaluate, compare, report.",
    "init": "Write a recipe for a data file, to be read and changed before it is run.",
    "doctor": "Check packages, device, ledger, disk, data, servers and student.",
    "plan": "Say what a recipe will cost, what it trains, and which differences it can detect.",
    "audit": "Measure every field, input and rationale in the student's tokens.",
    "annotate": "Ask the teacher for a rationale for each row of a file, or for a recipe's arms.",
    "train": "Train one student and keep its best checkpoint, or all students of a recipe.",
    "evaluate": "Print accuracy with its interval, macro-F1, precision and recall.",
    "compare": "Compare two students on the same rows, or two whole runs.",
    "report": "Write the report of a finished run again, and print its tables.",
    "worth": "Show what a run's money bought: labels, rationales, or more gold rows.",
    "frontier": "Draw accuracy against cost: student, teacher, and thresholds between them.",
    "runs": "List runs: when they began, whether they are finished, and what they found.",
    "predict": "Predict a label with probabilities for each row of a file.",
    "export": "Export a trained student, smaller and faster, as a folder that stands alone.",
    "serve": "Serve an exported model over HTTP, with a web page.",
    "publish": "Publish a model with its card to a folder or to the Hugging Face hub.",
    "ledger": "Show, export, import and prune the answers that were paid for.",
}
"""Each command and the first sentence of its help, so that `tutelage --help` imports none of them.
`tests/cli/test_commands.py` checks that they are the same."""


class _LazyGroup(TyperGroup):
    """Imports a command's module when the command is used, not when it is listed."""

    listing = False

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        if self.listing:
            return TyperCommand(cmd_name, short_help=COMMANDS[cmd_name])
        module = importlib.import_module(f"tutelage.cli.{cmd_name}")
        command = typer.main.get_command(module.app)
        command.name = cmd_name
        return command

    def format_help(self, ctx: Any, formatter: Any) -> None:
        with self._listing():
            super().format_help(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        with self._listing():
            return super().shell_complete(ctx, incomplete)

    @contextmanager
    def _listing(self) -> Iterator[None]:
        self.listing = True
        try:
            yield
        finally:
            self.listing = False


app = typer.Typer(
    name="tutelage",
    cls=_LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"tutelage {version('tutelage')}")
        raise typer.Exit


@app.callback()
def _tutelage(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Teach a small language model with a large one's explanations, and find out honestly whether
    it helped.

    Example: `tutelage run quickstart`
    """


def main() -> None:
    """Run the command line.

    Exit codes: 0 done, 1 the work failed, 2 the call is wrong, 130 interrupted by Ctrl-C
    (typer's code for it) or by SIGTERM.
    """
    try:
        with sigterm_as_ctrl_c():
            app()
    except RecipeError as error:
        complain(str(error))
        for problem in error.problems[1:]:
            complain(problem, label="also")
        sys.exit(error.exit_code)
    except TutelageError as error:
        complain(str(error), label="error" if error.exit_code else "waiting")
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        extra = extra_of(error.name)
        if extra is None:
            raise
        missing = MissingExtraError(str(error.name), extra, " ".join(["tutelage", *sys.argv[1:2]]))
        complain(str(missing))
        sys.exit(missing.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
