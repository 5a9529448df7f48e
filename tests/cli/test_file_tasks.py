"""`annotate`, `train` and `audit` of a file: any task, given or guessed; a guess costs nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from openai_server.server import Server
from typer.testing import CliRunner, Result

from tutelage.cli.main import app
from tutelage.core.errors import UsageError
from tutelage.core.storage import read_jsonl


@pytest.fixture(autouse=True)
def reviews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A file of a task that is not NLI, with a label column of another name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-something-secret")
    rows = [
        {"id": i, "comment": f"film {i} was a joy to see", "mood": ("good", "bad")[i % 2]}
        for i in range(20)
    ]
    Path("reviews.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
    )
    yield


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def annotated(server: Server, *arguments: str) -> Result:
    return call(
        "annotate", "reviews.jsonl", "--teacher", "openai:m", "--base-url", server.base_url,
        *arguments,
    )  # fmt: skip


def test_nothing_is_paid_for_on_a_guess() -> None:
    with Server() as server:
        done = annotated(server)
        assert server.counts.requests == 0
    assert isinstance(done.exception, UsageError)
    message = str(done.exception)
    assert "text from 'comment', labels from 'mood': good (10), bad (10)" in message
    assert "--yes" in message and "--task" in message and "\n" not in message
    assert not Path("rationales.jsonl").exists()


@pytest.mark.parametrize(
    "said",
    [
        ("--yes",),
        ("--task", "{fields: [comment], labels: [good, bad]}", "--label-column", "mood"),
        (
            "--task", "{fields: [text], labels: [bad, good]}",
            "--label-column", "mood", "--text-columns", "comment",
        ),
        ("--yes", "--label-column", "mood", "--text-columns", "comment"),
    ],
)  # fmt: skip
def test_a_task_of_the_users_own(said: tuple[str, ...]) -> None:
    with Server() as server:
        done = annotated(server, *said)
        assert done.exit_code == 0, done.output
        assert server.counts.requests == 20
        assert "joy to see" in str(server.bodies[0])
    assert [row["status"] for row in read_jsonl(Path("rationales.jsonl"))] == ["ok"] * 20


def test_a_recipe_has_the_task_and_the_columns() -> None:
    assert call("init", "reviews.jsonl").exit_code == 0
    with Server() as server:
        done = annotated(server, "--recipe", "recipe.yaml")
        assert done.exit_code == 0, done.output
        assert server.counts.requests == 20
        done = annotated(server, "--recipe", "recipe.yaml", "--task", "nli")
    assert isinstance(done.exception, UsageError) and "--recipe together" in str(done.exception)


def test_a_budget_needs_a_price_and_an_option_gives_it() -> None:
    """The price that a budget needs has an option."""
    budget = ("--yes", "--budget-usd", "1", "--max-tokens", "20")
    with Server() as server:
        done = annotated(server, *budget)
        assert "price" in str(done.exception)
        done = annotated(server, *budget, "--price", "{input: 0.5, output: 1.5}")
        assert done.exit_code == 0, done.output
        done = annotated(server, *budget, "--price", "0", "--output", "free.jsonl")
        assert done.exit_code == 0, done.output
        done = annotated(server, *budget, "--price", "{input: 0.5")
    assert isinstance(done.exception, UsageError)
    assert str(done.exception).startswith("--price '{input: 0.5': not valid YAML")


def test_a_student_is_trained_on_a_file() -> None:
    Path("dev.jsonl").write_text(
        Path("reviews.jsonl").read_text(encoding="utf-8").replace("film", "book"), encoding="utf-8"
    )
    done = call(
        "train", "reviews.jsonl", "--dev", "dev.jsonl", "--student", "scratch:t5-tiny",
        "--max-steps", "2", "--batch-size", "4", "--fast", "off",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "labels from 'mood'" in done.stderr
    assert "dev accuracy" in done.stdout


def test_the_lengths_of_a_file_are_measured() -> None:
    done = call("audit", "reviews.jsonl", "--student", "scratch:t5-tiny", "--json")
    assert done.exit_code == 0, done.output
    assert "comment" in json.loads(done.stdout)["splits"][0]["fields"]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (("--task", "{fields: [text]"), "not valid YAML"),
        (("--task", "nil"), "expected nli, sentiment, yes_no, or fields and labels"),
        (("--task", "{fields: [text], labels: [one]}"), "needs at least two"),
        (("--task", "nli", "--text-columns", "comment"), "one for each field of the task"),
        (("--label-column", "label"), "no column 'label': expected one of id, comment, mood"),
        (("--max-failed", "sometimes"), "--max-failed: got 'sometimes'"),
        (("--concurrency", "0"), "--concurrency: got '0'"),
        (("--mode", "slow"), "--mode: got 'slow'"),
    ],
)
def test_errors_are_one_line(said: tuple[str, ...], message: str) -> None:
    with Server() as server:
        done = annotated(server, *said)
        assert server.counts.requests == 0
    assert message in str(done.exception)
    assert "\n" not in str(done.exception)


def test_a_finished_student_is_replaced_only_if_that_is_said(tmp_path: Path) -> None:
    Path("dev.jsonl").write_text(
        Path("reviews.jsonl").read_text(encoding="utf-8").replace("film", "book"), encoding="utf-8"
    )
    train = (
        "train", "reviews.jsonl", "--dev", "dev.jsonl", "--student", "scratch:t5-tiny",
        "--max-steps", "1", "--batch-size", "4",
    )  # fmt: skip
    assert call(*train).exit_code == 0
    before = Path("student/model/model.safetensors").read_bytes()
    assert call(*train).exit_code == 0  # the same training: nothing to do
    other = call(*train, "--seed", "1")
    assert "holds a student of other data or settings" in str(other.exception)
    assert Path("student/model/model.safetensors").read_bytes() == before
    assert call(*train, "--seed", "1", "--overwrite").exit_code == 0
    assert Path("student/model/model.safetensors").read_bytes() != before
    assert not Path("student/.lock").exists()
    with FileLock("student/.lock"):
        both = call(*train, "--seed", "1")
    assert "another training is writing there" in str(both.exception)
    Path("file").touch()
    assert "is a file, expected the name of a folder" in str(
        call(*train, "--output", "file").exception
    )
