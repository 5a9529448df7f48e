"""The import table of docs/design.md, the absence of cycles, and names that are there once."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "tutelage"
DESIGN = ROOT / "docs" / "design.md"

TORCH_LIVES_IN = {"student", "planning.doctor", "deliver"}
HEAVY = {
    "ray",
    "torch",
    "transformers",
    "datasets",
    "scipy",
    "matplotlib",
    "aiohttp",
    "pyarrow",
    "openai",
    "peft",
}


@cache
def modules() -> dict[str, ast.Module]:
    """Every module by its dotted name below `tutelage`; a package by its own name."""
    return {
        ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): (
            ast.parse(path.read_text(encoding="utf-8"))
        )
        for path in sorted(SOURCE.rglob("*.py"))
    }


@cache
def _imports(tree: ast.AST) -> tuple[str, ...]:
    """Everything imported, also inside functions and for type checkers alone."""
    return tuple(_imported(tree))


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full.removeprefix("tutelage.") in modules() else node.module


def _ours(tree: ast.AST) -> set[str]:
    return {m.removeprefix("tutelage.") for m in _imports(tree) if m.startswith("tutelage.")}


def _table() -> dict[str, set[str]]:
    """The table of docs/design.md: a part, and the parts that it may import."""
    text = DESIGN.read_text(encoding="utf-8")
    lines = text.split("| this | may import |\n|---|---|\n")[1].split("\n\n")[0].splitlines()
    assert len(lines) <= 12
    allowed: dict[str, set[str]] = {}
    for line in lines:
        left, right = (cell.strip() for cell in line.strip("| ").split("|"))
        parts = {part.strip(" `") for part in left.split(",")}
        named = {part.strip(" `") for part in right.split(",")}
        if "nothing of ours" in right:
            named = set()
        if "everything above" in named:
            named = (named - {"everything above"}) | set(allowed)
        for part in parts:
            allowed[part] = named | {part}
    return allowed


def test_every_part_imports_what_the_table_allows() -> None:
    table = _table()
    assert {p.split(".")[0] for p in modules()} - {"__init__", "__main__"} == set(table)
    faults = [
        f"{name} imports {wanted}"
        for name, tree in modules().items()
        if name not in ("__init__", "__main__")
        for wanted in sorted(_ours(tree))
        if wanted.split(".")[0] not in table[name.split(".")[0]]
    ]
    assert faults == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {name: _ours(tree) & set(modules()) for name, tree in modules().items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name not in done:
            for wanted in sorted(graph[name]):
                visit(wanted, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_the_top_shows_the_pipeline() -> None:
    top = {path.name for path in SOURCE.iterdir() if path.name != "__pycache__"}
    assert len(top - {"__init__.py", "__main__.py", "py.typed"}) <= 15


def test_no_two_modules_have_one_name() -> None:
    """A command's module is named after the command, and may share its name with a stage."""
    stems = Counter(
        path.stem
        for path in SOURCE.rglob("*.py")
        if path.stem != "__init__" and path.parent.name != "cli"
    )
    assert [stem for stem, count in stems.items() if count > 1] == []


def test_only_the_student_knows_torch() -> None:
    faults = [
        name
        for name, tree in modules().items()
        if "torch" in {m.split(".")[0] for m in _imports(tree)}
        and not any(name == home or name.startswith(home + ".") for home in TORCH_LIVES_IN)
    ]
    assert faults == []


def _at_the_top(tree: ast.Module) -> ast.Module:
    return ast.Module([n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)], [])


def test_heavy_packages_are_imported_where_they_are_used() -> None:
    """Not at the top of a module that a command may load before it knows that it needs them.

    One module is there to import them, for workers.
    """
    faults = []
    for name, tree in modules().items():
        if name == "student.jobs.preloaded":
            continue
        heavy = HEAVY & {m.split(".")[0] for m in _imports(_at_the_top(tree))}
        if heavy and not (heavy <= {"torch"} and name.split(".")[0] == "student"):
            faults.append(f"{name}: {sorted(heavy)}")
    assert faults == []


def test_commands_import_what_they_call_lazily() -> None:
    """At its top a command's module imports definitions and what prints, never a stage."""
    for name, tree in modules().items():
        if name.startswith("cli."):
            parts = {m.split(".")[0] for m in _ours(_at_the_top(tree))}
            assert parts <= {"cli", "config", "core"}, f"{name}: {parts}"


def test_modules_stay_readable() -> None:
    long = {
        str(path.relative_to(SOURCE)): count
        for path in SOURCE.rglob("*.py")
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert long == {}
