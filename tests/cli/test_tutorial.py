"""docs/tutorial.md is followed from its first block to its last, in one folder.

A scripted server answers in place of the local one; `init` looks at the page's 600 rows, and the
first 120 of them are trained on, with two seeds of three steps. `serve` is tested in tests/deliver:
here its request is answered in process.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from scripted_server import ScriptedServer
from typer.testing import CliRunner

import forked
from documented import ROOT, Block, blocks, commands
from tutelage import Student
from tutelage.cli.main import app
from tutelage.config.recipe_file import parse_recipe
from tutelage.student.jobs import worker

PAGE = blocks("docs/tutorial.md")
ROWS = 120


class Reader:
    """Does what the page says, in the current folder, which is empty at first."""

    def __init__(self, server: ScriptedServer) -> None:
        self.server = server
        self.ran: list[str] = []
        self.printed = ""

    def follow(self, block: Block) -> None:
        getattr(self, block.language)(block.text)

    def sh(self, text: str) -> None:
        for words in commands(text):
            if words[0] == "tutelage" and words[1] != "serve":
                done = CliRunner().invoke(app, words[1:])
                assert done.exit_code == 0, f"{words}\n{done.output}\n{done.exception!r}"
                self.printed = done.stdout
                self.ran.append(words[1])
            elif words[0] == "tutelage":
                assert Path(words[2]).is_dir()
            elif words[0] == "curl":
                (row,) = [json.loads(word)["row"] for word in words if word.startswith("{")]
                assert Student.load("student").predict([row])[0].label in ("good", "bad")
            elif words[0] == "make":
                makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
                assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE)
            else:
                assert words[0] == "git"

    def python(self, text: str) -> None:
        exec(compile(text, "docs/tutorial.md", "exec"), {})

    def text(self, text: str) -> None:
        assert text == self.printed
        lines = Path("reviews.csv").read_text(encoding="utf-8").splitlines(keepends=True)
        assert len(lines) == 1 + 600
        Path("reviews.csv").write_text("".join(lines[: 1 + ROWS]), encoding="utf-8")

    def yaml(self, text: str) -> None:
        if "name:" not in text:
            recipe = yaml.safe_load(Path("recipe.yaml").read_text(encoding="utf-8"))
            assert parse_recipe({**recipe, **yaml.safe_load(text)}).teacher.budget_usd == 1
            return
        for found, here in (
            ("http://localhost:8080/v1", self.server.base_url),
            ("epochs: 3", "max_steps: 3, max_rationale_tokens: 16"),
            ("seeds: [0, 1, 2]", "seeds: [0, 1]"),
        ):
            assert found in text
            text = text.replace(found, here)
        Path("recipe.yaml").write_text(text, encoding="utf-8")
        Path("new.csv").write_text("text\nThe hotel was warm and clever.\n", encoding="utf-8")


@pytest.mark.usefixtures("quick_measurements")
def test_the_tutorial_can_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUTELAGE_LEDGER", str(tmp_path / "ledger.sqlite"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(worker, "start_method", forked.start_method)
    with ScriptedServer(models=("local",)) as server:
        reader = Reader(server)
        for block in PAGE:
            reader.follow(block)
        # `doctor` asks about one of the rows that are explained.
        assert server.answered == round(0.7 * ROWS)
        # docs/data.md goes on with this run.
        (python,) = blocks("docs/data.md", "python")
        reader.follow(python)
    assert reader.ran == ["init", "plan", "doctor", "run", "predict", "export"]
    assert len(list(Path("runs/reviews/arms").glob("*/*/seed-*"))) == 3 * 2


def test_the_tutorial_counts_what_its_recipe_makes() -> None:
    """Of 600 rows, 0.1 and 0.2 are held out; three arms are trained with three seeds."""
    text = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
    assert f"each of the {round(600 * (1 - 0.1 - 0.2))} training rows, then nine students" in text
    (recipe,) = [yaml.safe_load(b.text) for b in PAGE if b.language == "yaml" and "name:" in b.text]
    assert (recipe["data"]["dev"], recipe["data"]["test"]) == (0.1, 0.2)
    assert (len(parse_recipe(recipe).arms), len(recipe["seeds"])) == (3, 3)
