"""`tutelage annotate` and `plan` on the command line: what they refuse and what they print."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from openai_server.faults import Reply, error
from openai_server.server import Server
from typer.testing import CliRunner, Result

from tutelage.cli.main import app
from tutelage.cli.terminal import Bars
from tutelage.core.errors import UsageError
from tutelage.core.progress import AnnotationProgress

RECIPE = """\
name: small
data: {train: "synthetic:nli?n=30&seed=1", dev: "synthetic:nli?n=10&seed=2",
       test: "synthetic:nli?n=10&seed=3"}
teacher: scripted
student: {model: "scratch:t5-tiny", epochs: 1}
arms: [{name: labels}, {name: reasoning, strategy: informed_reasoning}]
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TUTELAGE_LEDGER", raising=False)
    monkeypatch.setenv("MY_KEY", "sk-something-secret")
    Path("recipe.yaml").write_text(RECIPE, encoding="utf-8")
    with Path("rows.jsonl").open("w", encoding="utf-8") as file:
        for number in range(12):
            row = {"premise": f"Premise {number}.", "hypothesis": "So.", "label": "neutral"}
            file.write(json.dumps(row) + "\n")
    return tmp_path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def refused(*arguments: object) -> str:
    done = call(*arguments)
    assert isinstance(done.exception, UsageError)
    return str(done.exception)


@pytest.mark.parametrize(
    "option", [("--teacher", "openai:m"), ("--max-tokens", "9"), ("--output", "there.jsonl")]
)
def test_options_that_a_recipe_has_as_keys_are_refused(option: tuple[str, str]) -> None:
    message = refused("annotate", "recipe.yaml", *option)
    assert message.startswith(f"{option[0]} is for a data file") and "recipe.yaml" in message
    assert not Path("runs").exists()


def test_options_that_a_recipe_lacks_are_accepted() -> None:
    done = call("annotate", "recipe.yaml", "--runs", "elsewhere", "--retry-failed")
    assert done.exit_code == 0, done.output
    written = Path("elsewhere/small/rationales/reasoning.jsonl")
    assert f"{written}: 30 ok; 0 requests, 0 answers from the ledger" in done.stdout
    assert len(written.read_text(encoding="utf-8").splitlines()) == 30


def test_runs_is_refused_for_a_file() -> None:
    message = refused("annotate", "rows.jsonl", "--teacher", "openai:m", "--runs", "r")
    assert "--output" in message


def test_requests_follow_the_options() -> None:
    with Server() as server:
        done = call(
            "annotate", "rows.jsonl", "--teacher", "openai:m", "--base-url", server.base_url,
            "--seed", 7, "--max-tokens", 30, "--temperature", 0.5, "--api-key-env", "MY_KEY",
            "--output", "out.jsonl", "--task", "nli",
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        assert "out.jsonl: 12 ok; 12 requests, 0 answers from the ledger" in done.stdout
        asked = list(server.bodies)
    assert {(a["seed"], a["max_tokens"], a["temperature"]) for a in asked} == {(7, 30, 0.5)}
    assert "sk-something-secret" not in Path("out.jsonl").read_text(encoding="utf-8") + done.output


def test_cut_answers_and_failed_rows_are_explained() -> None:
    def behave(body: dict[str, Any], before: int) -> Reply | None:
        text = str(body)
        if "Premise 1." in text:
            return error(400, "maximum context length is 5 tokens", "context_length_exceeded")
        return Reply(finish_reason="length") if "Premise 2." in text else None

    with Server(behave) as server:
        given = ("--teacher", "openai:m", "--base-url", server.base_url, "--task", "nli")
        done = call("annotate", "rows.jsonl", *given)
        assert done.exit_code == 1
        again = call("annotate", "rows.jsonl", *given, "--retry-failed")
        assert server.counts.requests == 12 + 1
    assert "10 ok, 1 truncated, 1 failed; 12 requests" in done.stdout
    assert "1 failed: refused: HTTP 400: maximum context length is 5 tokens" in done.stdout
    assert "1 row has an answer that was cut at the token limit" in done.stderr
    assert "1 row has no answer" in done.stderr and "--retry-failed" in done.stderr
    assert again.exit_code == 1 and "1 requests, 11 answers" in again.stdout


def test_an_answer_that_cannot_be_parsed_is_not_requested_again() -> None:
    with Server(lambda body, before: Reply(text="It is so.")) as server:
        given = ("--teacher", "openai:m", "--base-url", server.base_url, "--task", "nli")
        done = call("annotate", "rows.jsonl", *given, "--strategy", "information_extraction")
    assert done.exit_code == 0, done.output  # nothing is left to be done
    assert "12 failed; 12 requests" in done.stdout and "no answer" not in done.stderr
    assert "12 failed: the answer could not be parsed: it answers none of the five" in done.stdout


def test_plan_needs_a_recipe_and_says_how_to_get_one() -> None:
    message = refused("plan", "rows.jsonl")
    assert "plan takes a recipe" in message and "`tutelage init rows.jsonl`" in message


def test_in_a_narrow_terminal_the_bar_and_the_counts_stay(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # taken for a terminal
    monkeypatch.setenv("COLUMNS", "80")
    shown = shown_progress(
        capsys, done=1234, requests=1234, cached=999, tokens=99_000, seconds=60.0, cost_usd=1.5,
        arm="information-extraction",
    )  # fmt: skip
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert "answers for information-extraction" in plain and "1234/4000" in plain
    assert "$1.5" in plain
    assert max(len(line) for line in re.split(r"[\r\n]", plain)) <= 80


def shown_progress(capsys: pytest.CaptureFixture[str], **progress: Any) -> str:
    values = {"done": 0, "total": 4000, "cached": 0, "failed": 0, "requests": 0, **progress}
    arm = values.pop("arm", "informed_reasoning")
    with Bars() as bars:
        bars.annotating(arm, AnnotationProgress(**values))
    return capsys.readouterr().err


def test_progress_is_one_line_with_a_rate(
    capsys: pytest.CaptureFixture[str],
) -> None:
    slow = shown_progress(
        capsys, done=70, cached=50, failed=1, requests=20, tokens=9000, seconds=400.0
    )
    assert slow.splitlines() == [
        "           answers for informed_reasoning: 70 of 4000, 1 failed, 50 known, "
        "0.05 requests/s, 22 tokens/s, about 21.8 h left"
    ]
    fast = shown_progress(
        capsys, done=2000, requests=2000, tokens=800_000, seconds=2.0, cost_usd=1.5
    )
    assert "$1.5000 of about $3.0000, 1,000 requests/s, 400,000 tokens/s, about 2 s left" in fast
    assert "left" not in shown_progress(capsys, done=1, requests=1, seconds=30.0)
