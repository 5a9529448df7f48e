"""Write docs/cli.md from the commands: what `--help` prints of each, as Markdown.

python -m tutelage.cli.reference > docs/cli.md
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from tutelage.cli.main import COMMANDS, app

_INTRODUCTION = """\
# Command reference

*Generated from the commands by `make docs`; do not edit it by hand. `tutelage COMMAND --help`
prints the same.*

Exit codes: 0 done, 1 the work failed or left something open, 2 the call is wrong, 130 interrupted
(Ctrl-C or SIGTERM).
Results go to standard output, progress and messages to standard error. Where an option takes a
section of a recipe, as `--price` or `--lora`, it is written as in the recipe:
`--price '{input: 0.5, output: 1.5}'`.

Also: `tutelage --version`, `tutelage --install-completion`.
"""


def cli_reference() -> str:
    """The complete page, as Markdown."""
    group: Any = typer.main.get_command(app)
    parts = [_INTRODUCTION]
    for name in COMMANDS:
        command = group.get_command(None, name)
        inner = getattr(command, "commands", None)
        if inner is None:
            parts.append(_section(f"tutelage {name}", command))
        else:
            parts.append(f"## tutelage {name}\n\n{_help(command)}\n")
            parts += [_section(f"tutelage {name} {each}", inner[each], level=3) for each in inner]
    return "\n".join(parts)


def _section(title: str, command: Any, level: int = 2) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
    shown = " ".join(a.name.upper() if a.required else f"[{a.name.upper()}]" for a in arguments)
    lines = [f"{'#' * level} {title}", "", f"`{title} {shown}`".replace(" `", "`"), ""]
    lines += [_help(command), ""]
    rows = [*(_row(f"`{a.name.upper()}`", a) for a in arguments), *_option_rows(options)]
    if rows:
        lines += ["| | |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def _option_rows(options: list[Any]) -> Iterator[str]:
    for option in options:
        names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
        takes = "" if option.is_flag else f" `{option.metavar or _type_of(option)}`"
        yield _row(names + takes, option)


def _type_of(parameter: Any) -> str:
    names = {"int": "INTEGER", "float": "NUMBER", "path": "PATH"}
    return names.get(parameter.display_type(None).strip("<>").split(" ")[0], "TEXT")


def _row(name: str, parameter: Any) -> str:
    text = (parameter.help or "").strip()
    default = parameter.default
    if default not in (None, False, ()) and "Default:" not in text and not callable(default):
        text += f" Default: `{default}`."
    cells = (name.replace("|", "\\|"), " ".join(text.split()).replace("|", "\\|"))
    return f"| {cells[0]} | {cells[1]} |"


def _help(command: Any) -> str:
    paragraphs = (command.help or "").replace("\b", "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


if __name__ == "__main__":
    print(cli_reference(), end="")
