"""Writes docs/api.md, the page of the names that Python users import.

    python scripts/api_page.py > docs/api.md

The page names each object, and mkdocstrings puts its signature and docstring there when the site
is built. So only a new name changes the page; tests/test_site.py says when it is out of date.
"""

from __future__ import annotations

import tutelage

ROOMS = {
    "config": "Recipes and settings",
    "data": "Data",
    "core": "Types and results",
    "strategies": "Strategies",
    "teacher": "The teacher",
    "rationales": "Controls",
    "student": "The student",
    "evaluation": "Evaluation",
    "experiment": "Experiments",
    "report": "Reports",
    "deliver": "A trained student",
}
"""Headings, by the part of the package in which a name is defined, in the page's order."""

HEAD = """\
# Python

`from tutelage import NAME` gives each name on this page. Importing `tutelage` itself loads nothing;
a name that needs an extra says which, where it is not installed. What a settings object takes is
described where a recipe's keys are, in [recipe.md](recipe.md): they are the same definitions.
Complete programs are in [the tutorial](tutorial.md#from-python) and in the folder `examples`.
"""

COMMANDS = """
## Commands as functions

`tutelage.api` has one function for each command of [cli.md](cli.md).

::: tutelage.api
"""


def page() -> str:
    """The page, in Markdown. Raises KeyError where a name's room has no heading."""
    by_room: dict[str, list[str]] = {room: [] for room in ROOMS}
    for name, home in tutelage._HOME_OF.items():
        by_room[home.partition(".")[0]].append(f"tutelage.{home}.{name}")
    parts = [HEAD]
    for room, names in by_room.items():
        parts += [f"\n## {ROOMS[room]}\n", *(f"\n::: {name}\n" for name in sorted(names))]
    return "".join([*parts, COMMANDS])


if __name__ == "__main__":
    print(page(), end="")
