"""Strategies and teachers of other packages: the example of docs/plugins.md, and broken ones."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tutelage.cli.main import app
from tutelage.config.recipe_file import load_recipe, parse_recipe
from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.errors import RecipeError, UsageError
from tutelage.core.task import NLI
from tutelage.core.types import Example
from tutelage.strategies.lookup import BUILT_IN, get_strategy, strategy_names
from tutelage.teacher.ledger.maintenance import overview
from tutelage.teacher.ledger.store import Ledger
from tutelage.teacher.registry import is_looked_up, open_teacher

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/plugins.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """The document's only block of code in a language."""
    (text,) = re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    return text


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the document's package."""
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    (source / "tutelage_keywords.py").write_text(block("python"), encoding="utf-8")
    (source / "pyproject.toml").write_text(block("toml"), encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--target", str(site)]
    subprocess.run([*pip, *offline, str(source)], check=True, timeout=120)
    return site


def test_a_recipe_uses_the_strategy_and_the_teacher_of_an_installed_package(
    installed: Path, tmp_path: Path
) -> None:
    (tmp_path / "recipe.yaml").write_text(block("yaml"), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "tutelage", "annotate", "recipe.yaml", "--ledger", "l.sqlite"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), str(ROOT / "src")])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    with Ledger(tmp_path / "l.sqlite") as ledger:
        (group,) = overview(ledger).answers
    assert (group.identity, group.model) == ("fixed:opened, built", "fixed")
    assert (group.strategy, group.answers) == ("keywords", 90)
    lines = (tmp_path / "runs/keywords/rationales/keywords.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in lines.splitlines()]
    assert len(rows) == 90
    assert {(row["strategy"], row["text"], row["status"]) for row in rows} == {
        ("keywords", "opened, built", "ok")
    }


def test_plugins_are_found_by_name(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(installed)
    assert strategy_names() == (*BUILT_IN, "keywords")
    example = Example("a", {"premise": "It rains.", "hypothesis": "It is wet."}, "entailment")
    (message,) = get_strategy("keywords").render(example, NLI)
    assert message.content.startswith("Premise: It rains.\nHypothesis: It is wet.\n\nWhich words")
    settings = TeacherSettings(model="fixed: yes ")
    assert open_teacher(settings).identity == "fixed:yes"
    assert not is_looked_up(settings)


def test_plugins_are_listed_where_a_name_is_unknown(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(installed)
    with pytest.raises(UsageError, match=r"did you mean 'keywords'\?.*, template, keywords$"):
        get_strategy("keyword")
    with pytest.raises(UsageError, match=r"scripted, fixed:….*did you mean 'fixed:…'"):
        open_teacher(TeacherSettings(model="fixd:x"))
    with pytest.raises(UsageError, match="'keywords' takes no template"):
        get_strategy("keywords", template="x")


def test_a_recipe_without_the_package_names_the_strategies_that_there_are(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(block("yaml"), encoding="utf-8")
    with pytest.raises(RecipeError, match="unknown strategy 'keywords': There are"):
        load_recipe(tmp_path / "recipe.yaml")


# --- packages that do not keep to the contract


GOOD = """
class S:
    name, asks_teacher, schema = "extra", False, None
    def render(self, example, task): return ()
    def parse(self, completion, example, task): raise NotImplementedError
class T:
    identity = model = "t"
    def __init__(self, name, settings, base): self.settings = settings
    paid = False
    async def complete(self, request): raise NotImplementedError
    async def explain(self, fault): raise NotImplementedError
    async def __aenter__(self): return self
    async def __aexit__(self, *exception): return None
class Lacking:
    name = "extra"
    @property
    def asks_teacher(self): raise RuntimeError("no property is run to see whether it is there")
class OtherName(S):
    name = "other"
def fails(*arguments): raise ValueError("two\\n lines")
def refuses(name, settings, base):
    from tutelage.core.errors import UsageError
    raise UsageError(f"no {name!r} here")
NUMBER = 3
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Install a package of one module, with entry points as `group name = object`."""

    def make(package: str, *points: str, source: str = GOOD) -> None:
        folder = tmp_path / package
        info = folder / f"{package}-1.dist-info"
        info.mkdir(parents=True)
        (folder / f"{package}_module.py").write_text(source, encoding="utf-8")
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n", encoding="utf-8"
        )
        lines = []
        for point in points:
            group, _, rest = point.partition(" ")
            lines += [f"[tutelage.{group}]", rest]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        monkeypatch.syspath_prepend(folder)

    return make


def test_whatever_keeps_to_the_protocol_is_taken(install) -> None:
    install("p1", "strategies extra = p1_module:S", "teachers their = p1_module:T")
    assert get_strategy("extra").name == "extra"
    settings = TeacherSettings(model="their:name")
    assert open_teacher(settings).settings is settings
    assert is_looked_up(settings)  # `paid = False` is in the class


@pytest.mark.parametrize(
    ("point", "said"),
    [
        ("strategies extra = p2_missing:S", "cannot be imported: ModuleNotFoundError"),
        ("strategies extra = p2_module:Nothing", "cannot be imported: AttributeError"),
        ("strategies extra = p2_module:NUMBER", "got 'int', expected a callable"),
        ("strategies extra = p2_module:fails", "failed: ValueError: two lines"),
        ("strategies extra = p2_module:Lacking", "'Lacking' without schema, render, parse"),
        ("strategies extra = p2_module:OtherName", "name is 'other', expected 'extra'"),
        ("strategies human = p2_module:S", "the name 'human' is built in"),
        ("strategies label = p2_module:S", "the name 'label' is built in"),
        ("teachers extra = p2_missing:T", "cannot be imported: ModuleNotFoundError"),
        ("teachers extra = p2_module:fails", "failed: ValueError: two lines"),
        ("teachers extra = p2_module:refuses", "no 'x' here"),
        ("teachers extra = p2_module:dict", "cannot be imported: AttributeError"),
        ("teachers openai = p2_module:T", "the name 'openai' is built in"),
    ],
)
def test_a_plugin_that_breaks_the_contract_is_one_line(install, point: str, said: str) -> None:
    install("p2", point)
    with pytest.raises(UsageError) as caught:
        if point.startswith("strategies"):
            get_strategy("extra")
        else:
            open_teacher(TeacherSettings(model="extra:x"))
    message = str(caught.value)
    assert said in message and "\n" not in message
    if "refuses" not in point:  # a TutelageError has the plugin's own message
        group, _, named = point.partition(" ")
        assert f"package 'p2', entry point '{named}' of tutelage.{group}" in message


def test_a_teacher_without_a_member_is_refused(install) -> None:
    source = GOOD.replace("    async def explain(self, fault): raise NotImplementedError\n", "")
    install("p3", "teachers their = p3_module:T", source=source)
    with pytest.raises(UsageError, match=r"package 'p3'.* returned 'T' without explain: expected"):
        open_teacher(TeacherSettings(model="their:x"))


def test_a_built_in_name_wins_over_a_plugin(install) -> None:
    install("p4", "strategies human = p4_module:S", "teachers scripted = p4_module:T")
    assert type(get_strategy("human")).__name__ == "Human"
    assert open_teacher(TeacherSettings(model="scripted")).identity == "scripted"


def test_a_name_that_two_packages_offer_is_refused(install) -> None:
    install("p5", "strategies extra = p5_module:S")
    install("p6", "strategies extra = p6_module:S")
    with pytest.raises(UsageError) as caught:
        get_strategy("extra")
    assert all(f"package '{name}'" in str(caught.value) for name in ("p5", "p6"))


OWN_TEXT = """
from tutelage.core.types import Rationale
class Echo:
    name, asks_teacher, schema = "echo", False, None
    def render(self, example, task): return ()
    def parse(self, completion, example, task):
        return Rationale(example.uid, self.name, example.fields["text"], "ok")
"""


def test_a_strategy_that_asks_no_teacher_needs_none(
    install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("p7", "strategies echo = p7_module:Echo", source=OWN_TEXT)
    rows = [{"text": f"good film {i}", "label": "good" if i % 2 else "bad"} for i in range(6)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    recipe = parse_recipe(
        {
            "name": "echo",
            "task": {"fields": ["text"], "labels": ["good", "bad"]},
            "data": dict.fromkeys(("train", "dev", "test"), "rows.jsonl"),
            "arms": [{"name": "labels"}, {"name": "echo", "strategy": "echo"}],
        }
    )
    assert not recipe.arms[1].asks_teacher

    done = CliRunner().invoke(app, ["annotate", "rows.jsonl", "--strategy", "echo"])
    assert done.exit_code == 0, done.output
    lines = (tmp_path / "rationales.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["text"] for line in lines] == [row["text"] for row in rows]
    done = CliRunner().invoke(app, ["annotate", "rows.jsonl", "--strategy", "informed_reasoning"])
    assert "no teacher is named" in str(done.exception)
