"""Every block of code in README and docs is run by a test, or is in the table of those that are
not, with the reason. What is not run is at least checked: commands against the command line's own
parser, recipes against the recipe's definitions, scripts and targets against the files."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.exceptions import TyperException

from documented import PAGES, ROOT, Block, blocks, commands
from tutelage.cli.main import app
from tutelage.config.recipe_file import parse_recipe

RUN_BY = {
    "README.md": "tests/cli/test_documented_commands.py",
    "docs/tutorial.md": "tests/cli/test_tutorial.py",
    "docs/data.md": "tests/cli/test_tutorial.py",
    "docs/guides/paper.md": "tests/test_site.py",
    "docs/plugins.md": "tests/teacher/test_plugins.py",
    "docs/statistics.md": "tests/evaluation/test_statistics_page.py",
}
"""Pages with a test that reads its blocks out of the page and runs them."""

NOT_RUN = {
    ("README.md", "accelerate launch"): "several GPUs; tests/student/ launches two processes",
    ("README.md", "python3 -m venv"): "needs an index; its extras are checked",
    ("CONTRIBUTING.md", "git clone"): "it is the tests' own call",
    ("docs/data.md", "tutelage predict"): "tests/deliver runs predict in every form",
    ("docs/deliver.md", "tutelage export"): "the same block as README's, which is run",
    ("docs/deliver.md", "tutelage serve"): "a server and a teacher; tests/deliver has both",
    ("docs/deliver.md", "tutelage frontier"): "needs a teacher; tests/experiment/test_frontier.py",
    ("docs/deliver.md", "tutelage publish"): "needs a hub; tests/deliver publishes to a stub",
    ("docs/guides/paper.md", "tutelage plan"): "needs the hub's data, a GPU and a key",
    ("docs/performance.md", "make bench-train"): "a measurement of minutes",
    ("docs/performance.md", "python benchmarks/train_contenders"): "a measurement of minutes",
    ("docs/performance.md", "python benchmarks/fast_parts"): "a measurement of minutes",
    ("docs/performance.md", "python benchmarks/train.py"): "a measurement of minutes",
    ("docs/performance.md", "python benchmarks/annotate"): "a measurement of minutes",
    ("docs/performance.md", "python benchmarks/students"): "a measurement of minutes",
    ("docs/performance.md", "make bench-serve"): "a measurement of minutes",
    ("docs/performance.md", "make bench-load"): "a measurement of minutes",
    ("docs/performance.md", "python -c"): "a measurement; tests/data generate rows",
    ("docs/results.md", "make"): "a whole experiment, of minutes to hours",
    ("docs/results.md", "pip install"): "a whole experiment, with recorded data",
    ("docs/results.md", "tutelage run"): "a whole experiment, with recorded data",
    ("docs/results.md", "python benchmarks/"): "a simulation of minutes",
    ("docs/results.md", "tutelage annotate"): "a model of 1.1 GB",
    ("docs/scale.md", "tutelage predict"): "40,000 rows; tests/deliver runs smaller files",
    ("docs/scale.md", "tutelage annotate"): "needs a server; tests/scale runs both commands",
    ("docs/scale.md", "tutelage run"): "needs a cluster; tests/scale/test_train_on_ray.py has one",
    ("docs/scale.md", "python benchmarks/"): "a measurement of minutes",
    ("docs/scale.md", "python scripts/scale_cost.py"): "tests/test_site.py checks its table",
    ("docs/teacher.md", "tutelage annotate"): "needs a file; tests/cli/test_label_command.py",
    ("docs/teacher.md", "tutelage ledger"): "placeholders; tests/cli/test_ledger_command.py",
    ("docs/teacher.md", "tutelage plan"): "tests/cli/test_plan.py runs both forms",
    ("docs/teacher.md", "pip install"): "needs an index; tests/teacher asks the local model",
}
"""(page, how the block's first line begins) -> why the tests do not run it as it stands."""

BASE: dict[str, Any] = {
    "name": "base",
    "task": {"fields": ["text"], "labels": ["good", "bad"]},
    "data": {"train": "train.jsonl", "dev": 0.1, "test": 0.2},
    "teacher": {"model": "openai:m", "max_tokens": 100},
    "student": {"model": "scratch:t5-tiny"},
    "arms": [{"name": "labels"}, {"name": "reasoning", "strategy": "informed_reasoning"}],
}
"""A recipe into which a fragment is put."""

PROGRAMS = ("tutelage", "make", "python", "python3", "pip", "accelerate", "git", "curl", "export")

ALL = [block for page in PAGES if (ROOT / page).exists() for block in blocks(page)]


def lines_of(block: Block) -> list[str]:
    """The commands of a block for the shell: a remark follows `#`, or at least two spaces."""
    found = []
    for line in block.text.replace("\\\n", " ").splitlines():
        first = re.split(r"  +(?!-)", line.strip())[0]
        if first.partition(" ")[0].removeprefix(".venv/bin/") in PROGRAMS:
            found += [part.strip() for part in re.split(r"; (?=python )", first)]
    return found


def is_shell(block: Block) -> bool:
    return block.language == "sh" or (not block.language and bool(lines_of(block)))


def recipe_of(block: Block) -> dict[str, Any] | None:
    """The recipe, or part of one, that a block holds: all its keys are a recipe's."""
    if block.language not in ("", "yaml") or is_shell(block):
        return None
    try:
        values = yaml.safe_load(block.text)
    except yaml.YAMLError:
        assert block.language != "yaml", f"{block.page}:{block.line}: not valid YAML"
        return None
    return values if isinstance(values, dict) else None


def where(block: Block) -> str:
    return f"{block.page}:{block.line}"


def reason(block: Block) -> str | None:
    for (page, begin), why in NOT_RUN.items():
        if page == block.page and block.first.startswith(begin):
            return why
    return None


def test_blocks_are_found() -> None:
    kinds = {block.language for block in ALL}
    assert {"", "sh", "yaml", "python", "toml"} <= kinds and len(ALL) > 50
    assert commands("tutelage x \\\n  --y # z\n") == [["tutelage", "x", "--y"]]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("nothing", "there is no command 'nothing'"),
        ("run", "recipe"),
        ("run a b", "unexpected extra argument"),
        ("run --nothing a", "--nothing"),
        ("plan --pilot 3", "recipe"),
    ],
)
def test_what_parses_commands_refuses_wrong_ones(words: str, why: str) -> None:
    parse(["run", "recipe.yaml"])
    parse(["plan", "a", "--pilot", "3"])
    with pytest.raises((AssertionError, TyperException)) as refused:
        parse(words.split())
    assert isinstance(refused.value, AssertionError) == (words == "nothing")
    assert re.search(why, str(refused.value) or repr(refused.value))


@pytest.mark.parametrize("page", sorted(RUN_BY))
def test_a_page_s_test_reads_it(page: str) -> None:
    assert Path(page).name in (ROOT / RUN_BY[page]).read_text(encoding="utf-8")


def test_every_block_of_commands_or_python_is_run_or_has_a_reason() -> None:
    lost = []
    for block in ALL:
        if not (is_shell(block) or block.language == "python"):
            continue
        if reason(block) is None and block.page not in RUN_BY:
            lost.append(f"{where(block)}: {block.first}")
    assert not lost, "\n".join(lost)


def test_every_reason_is_about_a_block() -> None:
    for page, begin in NOT_RUN:
        found = [b for b in ALL if b.page == page and b.first.startswith(begin)]
        assert found, f"{page} has no block that begins with {begin!r}"


def parse(words: list[str]) -> None:
    """Parse a call of `tutelage` as the command line does, and call nothing.

    Raises the command line's own exception for a call that it would refuse.
    """
    command: Any = typer.main.get_command(app)
    context = command.context_class(command)
    while hasattr(command, "get_command"):
        name, *words = words
        found = command.get_command(context, name)
        assert found is not None, f"there is no command {name!r}"
        command = found
    command.make_context(name, words)


@pytest.mark.parametrize("block", [b for b in ALL if is_shell(b)], ids=where)
def test_commands_are_ones_that_exist(block: Block) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for line in lines_of(block):
        (words, *_) = commands(line)
        words = [word for word in words if word != "…"]
        if "<" in words:
            words = words[: words.index("<")]
        program = words[0].removeprefix(".venv/bin/")
        if program == "tutelage":
            parse(words[1:])
        elif program == "make":
            assert re.search(rf"^{re.escape(words[1])}:", makefile, re.MULTILINE), line
        elif program == "python" and words[1].endswith(".py"):
            source = (ROOT / words[1]).read_text(encoding="utf-8")
            for option in (word for word in words[2:] if word.startswith("--")):
                assert f'"{option}"' in source, f"{line}: {words[1]} has no {option}"
        elif program == "pip":
            for named in re.findall(r"\[([\w,]+)\]", line):
                assert set(named.split(",")) <= set(extras["optional-dependencies"]), line


RECIPES = [(b, found) for b in ALL if (found := recipe_of(b)) is not None]


def test_recipes_are_found() -> None:
    assert {b.page for b, _ in RECIPES} >= {"README.md", "docs/teacher.md", "docs/worth.md"}


@pytest.mark.parametrize(("block", "found"), RECIPES, ids=[where(b) for b, _ in RECIPES])
def test_recipes_and_their_parts_are_valid(block: Block, found: dict[str, Any]) -> None:
    """A strategy or a teacher of the page on plugins is known where its package is installed."""
    if block.page == "docs/plugins.md":
        found = {**found, "teacher": "scripted", "arms": BASE["arms"]}
    whole = found if "arms" in found else {**BASE, **found}
    assert parse_recipe(whole).name == whole["name"]
