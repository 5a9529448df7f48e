"""The import table of docs/design.md, held against the code."""

from __future__ import annotations

import ast
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "tutelage"

BASIS = {"errors"}
WORDS = BASIS | {"records", "task"}
GROUND = WORDS | {"runfolder", "data", "strategies", "environment", "modelfiles"}
GROUND |= {"student.target"}
STAGES = GROUND | {"teacher", "rationales", "student", "evaluation", "report"}
RECIPE = {"recipe", "rules", "sections"}
WHOLE = STAGES | RECIPE | {"recipe_file", "observer", "preparation", "outcome", "manifest"}

MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "environment": BASIS,
    "modelfiles": BASIS | {"environment"},
    "records": BASIS,
    "task": BASIS | {"records"},
    "runfolder": WORDS,
    "data": WORDS | {"runfolder", "environment", "data"},
    "strategies": WORDS | {"runfolder", "strategies"},
    "teacher": GROUND | {"teacher"},
    "rationales": GROUND | {"rationales"},
    "student": GROUND | {"student"},
    "evaluation": WORDS | {"evaluation"},
    "report": WORDS | {"runfolder", "evaluation", "report"},
    "sections": GROUND | {"teacher.base", "teacher.prices", "student.settings"},
    "rules": GROUND | {"sections"},
    "recipe": GROUND | {"rules", "sections"},
    "recipe_file": GROUND | RECIPE,
    "observer": {"student.jobs", "teacher.annotate"},
    "preparation": GROUND | {"teacher", "rationales", "observer"} | RECIPE,
    "teacher_baseline": STAGES | RECIPE | {"preparation", "observer"},
    "survey": GROUND | {"teacher", "observer"},
    "foresight": STAGES | RECIPE | {"preparation"},
    "planning": GROUND
    | RECIPE
    | {"teacher", "observer", "preparation", "survey", "foresight", "teacher_baseline"},
    "outcome": STAGES | RECIPE | {"preparation"},
    "manifest": STAGES | RECIPE | {"preparation"},
    "students": STAGES | RECIPE | {"preparation", "observer"},
    "curves": STAGES | RECIPE | {"preparation", "outcome", "students"},
    "looks": STAGES | RECIPE | {"preparation", "outcome"},
    "baselines": STAGES | RECIPE | {"preparation"},
    "explanations": STAGES | RECIPE | {"preparation", "outcome"},
    "experiment": WHOLE
    | {"students", "explanations", "looks", "baselines", "curves", "teacher_baseline"},
    "training": STAGES,
    "auditing": STAGES | {"recipe", "preparation", "observer", "training"},
    "reading": STAGES,
    "doctor": STAGES | {"recipe", "preparation"},
}

TORCH_LIVES_IN = {"student", "doctor"}
HEAVY = {
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


def _modules() -> list[tuple[str, ast.Module]]:
    return [
        (".".join(path.relative_to(SOURCE).with_suffix("").parts), ast.parse(path.read_text()))
        for path in sorted(SOURCE.rglob("*.py"))
    ]


def _imports(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from tutelage import manifest` names a module as well.
            found |= (
                {f"{node.module}.{a.name}" for a in node.names}
                if node.module == "tutelage"
                else {node.module}
            )
    return found


def test_every_part_imports_what_it_may_and_no_more() -> None:
    faults = []
    for name, tree in _modules():
        part = name.split(".")[0]
        if part in ("__init__", "__main__", "commands"):
            continue
        for module in _imports(tree):
            if not module.startswith("tutelage."):
                continue
            wanted = module.removeprefix("tutelage.")
            allowed = MAY_IMPORT[part]
            if not any(wanted == a or wanted.startswith(a + ".") for a in allowed):
                faults.append(f"{name} imports {wanted}")
    assert faults == []


def test_only_the_student_knows_torch() -> None:
    faults = [
        name
        for name, tree in _modules()
        if "torch" in {m.split(".")[0] for m in _imports(tree)}
        and name.split(".")[0] not in TORCH_LIVES_IN
    ]
    assert faults == []


def test_heavy_packages_are_imported_where_they_are_used() -> None:
    """Not at the top of a module that a command may load before it knows that it needs them."""
    faults = []
    for name, tree in _modules():
        top = ast.Module(
            [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], []
        )
        heavy = HEAVY & {m.split(".")[0] for m in _imports(top)}
        if heavy and not (heavy <= {"torch"} and name.split(".")[0] == "student"):
            faults.append(f"{name}: {sorted(heavy)}")
    assert faults == []


def test_commands_import_their_stage_lazily() -> None:
    for name, tree in _modules():
        if not name.startswith("commands.") or name in ("commands.main", "commands.__init__"):
            continue
        top = {
            m
            for node in tree.body
            if isinstance(node, ast.Import | ast.ImportFrom)
            for m in _imports(ast.Module([node], []))
        }
        ours = {m for m in top if m.startswith("tutelage")}
        assert ours == set(), f"{name} imports {ours} at its top"


def test_modules_stay_readable() -> None:
    long = {
        name: count
        for path in SOURCE.rglob("*.py")
        if (count := len(path.read_text().splitlines())) > 400
        for name in [str(path.relative_to(SOURCE))]
    }
    assert long == {}
