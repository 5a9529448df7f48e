"""`tutelage`: the list of commands, and what becomes of errors."""

from __future__ import annotations

import os
import sys

import typer

from tutelage.cli import (
    annotate,
    audit,
    compare,
    doctor,
    evaluate,
    init,
    ledger,
    plan,
    predict,
    report,
    run,
    runs,
    train,
)
from tutelage.cli.terminal import complain
from tutelage.core.errors import RecipeError, TutelageError

app = typer.Typer(
    name="tutelage",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Teach a small language model with a large one's explanations, and find out honestly "
    "whether it helped.\n\nExample: `tutelage run quickstart`",
)
_COMMANDS = (
    run,
    init,
    doctor,
    plan,
    audit,
    annotate,
    train,
    evaluate,
    compare,
    report,
    runs,
    predict,
)
for module in _COMMANDS:
    app.command(module.command.__name__)(module.command)
app.add_typer(ledger.app)


def main() -> None:
    """Run the command line. Exit codes: 0 fine, 1 the work failed, 2 the call is wrong, 130
    interrupted (typer turns Ctrl-C into that)."""
    try:
        app()
    except RecipeError as error:
        complain(str(error))
        for problem in error.problems[1:]:
            complain(problem, label="also")
        sys.exit(error.exit_code)
    except TutelageError as error:
        complain(str(error), label="error" if error.exit_code else "waiting")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
