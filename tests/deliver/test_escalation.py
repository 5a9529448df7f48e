"""What the student is not sure of goes to the teacher: who answered is said, the budget is kept."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from scripted_server import Reply, ScriptedServer, error
from serving_app import serving
from students import ROWS, TASK, Made
from typer.testing import CliRunner

from tutelage import Student
from tutelage.cli.main import app
from tutelage.config.escalation_settings import EscalationSettings
from tutelage.core.errors import AuthenticationError, TutelageError, UsageError
from tutelage.core.storage import read_jsonl
from tutelage.core.types import Example, Prediction
from tutelage.deliver.escalation import NO_ANSWER, NO_LABEL, SPENT, open_escalation
from tutelage.deliver.predict import write_predictions
from tutelage.experiment.prediction_files import evaluate_file
from tutelage.teacher.ledger.charges import charged
from tutelage.teacher.ledger.store import Ledger

PRICE = 0.003
"""US dollars of an answer: 3 tokens at 1,000 dollars for a million; at most 5 are reserved."""

SOME = ROWS[:12]
RUNNER = CliRunner()


def said(row: Example) -> str:
    """What the scripted teacher answers about a row: one of the labels, by the row's length."""
    return TASK.labels[len(row.fields["note"]) % 3]


def answer(body: dict[str, Any], before: int) -> Reply:
    prompt = body["messages"][-1]["content"]
    note = prompt.split("Note: ")[1].split("\n")[0]
    return Reply(TASK.verbalize(TASK.labels[len(note) % 3]))


@pytest.fixture(scope="module")
def folder(made: Callable[[str], Made]) -> Path:
    return made("t5").export.folder


@pytest.fixture(scope="module")
def found(folder: Path) -> list[Prediction]:
    """What the student alone answers."""
    return list(Student.load(folder).predict(SOME))


@pytest.fixture(scope="module")
def threshold(found: list[Prediction]) -> float:
    """With which half of the rows are below."""
    return sorted(max(p.probabilities.values()) for p in found)[6]


@pytest.fixture(scope="module")
def below(found: list[Prediction], threshold: float) -> list[int]:
    rows = [n for n, p in enumerate(found) if max(p.probabilities.values()) < threshold]
    assert len(rows) == 6
    return rows


class Asked:
    """A scripted teacher, and the settings that escalate to it."""

    def __init__(self, server: ScriptedServer, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.ledger = folder / "ledger.sqlite"

    def recipe(self, **teacher: Any) -> Path:
        asked = {
            "model": "openai:m",
            "base_url": self.server.base_url,
            "max_tokens": 5,
            "price": {"input": 0, "output": 1000},
            **teacher,
        }
        path = self.folder / "recipe.yaml"
        values = {
            "name": "rooms",
            "task": {
                "name": TASK.name,
                "fields": list(TASK.fields),
                "labels": list(TASK.labels),
                "context": TASK.context,
            },
            "data": {"train": "a.jsonl", "dev": 0.1, "test": 0.1},
            "teacher": {k: v for k, v in asked.items() if v is not None},
            "arms": [
                {"name": "labels"},
                {"name": "reasons", "strategy": "template", "template": "Why {{ label }}?"},
            ],
        }
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        return path

    def options(self, budget: float | None = 1, **teacher: Any) -> dict[str, Any]:
        return {
            "escalate": str(self.recipe(**teacher)),
            "ledger": str(self.ledger),
            "escalation_budget_usd": budget,
        }

    def charged(self, scope: str = "rooms/escalation") -> float:
        with Ledger(self.ledger) as opened:
            return charged(opened, scope) / 1e12


@pytest.fixture
def asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Asked]:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    with ScriptedServer(getattr(request, "param", answer)) as server:
        yield Asked(server, tmp_path)


def fields_of(rows: list[Example]) -> list[dict[str, str]]:
    return [dict(row.fields) for row in rows]


def test_the_server_says_who_answered_and_what_it_cost(
    folder: Path, found: list[Prediction], threshold: float, below: list[int], asked: Asked
) -> None:
    with serving(folder, threshold, **asked.options()) as served:
        whole = served.predict({"rows": fields_of(SOME), "explain": False})[2]
        answers = whole["predictions"]
        for n, (one, alone) in enumerate(zip(answers, found, strict=True)):
            assert one["student_label"] == alone.label
            assert one["probabilities"] == pytest.approx(dict(alone.probabilities), abs=1e-5)
            assert one["trusted"] is (n not in below) and one["note"] == ""
            if n in below:
                assert (one["answered_by"], one["label"]) == ("teacher", said(SOME[n]))
                assert one["teacher_label"] == said(SOME[n])
                assert one["teacher_cost_usd"] == pytest.approx(PRICE)
            else:
                assert (one["answered_by"], one["label"]) == ("student", alone.label)
                assert one["teacher_label"] is one["teacher_cost_usd"] is None
        assert any(answers[n]["label"] != found[n].label for n in below)
        assert whole["teacher"] == "openai:m" == served.call("GET", "/info")[2]["teacher"]
        # Only rows below the threshold were asked about, without a label of their own.
        prompts = [body["messages"][-1]["content"] for body in asked.server.bodies]
        assert len(prompts) == len(below) == asked.server.answered
        for n in below:
            assert sum(SOME[n].fields["note"] + "\n" in prompt for prompt in prompts) >= 1

        again = served.predict({"row": dict(SOME[below[0]].fields)})[2]["prediction"]
        assert (again["answered_by"], again["teacher_cost_usd"]) == ("teacher", 0)
        assert asked.server.answered == len(below)
        metrics = served.call("GET", "/metrics")[2]
        assert "tutelage_rows_by_teacher_total 7.0" in metrics
        charged_usd = float(metrics.split("\ntutelage_teacher_charged_usd ")[1].split()[0])
        assert charged_usd == pytest.approx(len(below) * PRICE) == asked.charged()
        assert served.lines(2)[0]["teacher_rows"] == 6


def test_a_rationale_of_another_label_is_left_out(
    folder: Path, found: list[Prediction], below: list[int], threshold: float, asked: Asked
) -> None:
    with serving(folder, threshold, **asked.options()) as served:
        for n in below:
            row = {"row": dict(SOME[n].fields), "explain": True}
            one = served.predict(row)[2]["prediction"]
            assert (one["rationale"] is None) is (said(SOME[n]) != found[n].label)


def test_the_budget_is_kept_by_the_teachers_own_count(folder: Path, asked: Asked) -> None:
    """Many clients at once; 0.011 dollars are three answers, since a fourth could exceed it."""
    with serving(folder, 1.0, **asked.options(0.011)) as served:
        with ThreadPoolExecutor(8) as pool:
            calls = [{"row": dict(row.fields)} for row in SOME]
            answers = [one[2]["prediction"] for one in pool.map(served.predict, calls)]
        spent = [one for one in answers if one["answered_by"] == "student"]
        assert asked.server.answered == 3 == len(answers) - len(spent)
        assert asked.charged() == pytest.approx(3 * PRICE)
        for one in spent:
            assert (one["note"], one["label"]) == (SPENT, one["student_label"])
            assert one["teacher_cost_usd"] is None
        lines = [line["teacher"] for line in served.lines() if "teacher" in line]
        assert lines and "budget_usd $0.011" in lines[0]
    # The experiment's own budget is another one.
    assert asked.charged("rooms") == 0


def silent(body: dict[str, Any], before: int) -> Reply:
    return [
        Reply("I would rather not say."),
        Reply("surely true or surely false"),
        error(400, "this text is refused"),
    ][len(body["messages"][-1]["content"]) % 3]


@pytest.mark.parametrize("asked", [silent], indirect=True)
def test_an_answer_that_names_no_label_is_never_guessed(
    folder: Path, found: list[Prediction], asked: Asked
) -> None:
    with serving(folder, 1.0, **asked.options()) as served:
        answers = served.predict({"rows": fields_of(SOME)})[2]["predictions"]
    assert {one["note"] for one in answers} == {NO_LABEL, NO_ANSWER}
    for one, alone in zip(answers, found, strict=True):
        assert (one["label"], one["answered_by"]) == (alone.label, "student")
        assert one["teacher_label"] is None
        if one["note"] == NO_LABEL:  # it was paid for
            assert one["teacher_cost_usd"] == pytest.approx(PRICE) or one["teacher_cost_usd"] == 0


def slow(body: dict[str, Any], before: int) -> Reply:
    return Reply("surely true", delay_s=3.0)


@pytest.mark.parametrize("asked", [slow], indirect=True)
def test_a_slow_teacher_holds_nobody_up(folder: Path, asked: Asked) -> None:
    with serving(folder, 1.0, **asked.options(), escalation_seconds=0.2) as served:
        one = served.predict({"row": dict(SOME[0].fields)})[2]["prediction"]
        assert one["answered_by"] == "student" and "within 0.2 s" in one["note"]
        assert served.call("GET", "/healthz")[0] == 200


def closed(body: dict[str, Any], before: int) -> Reply:
    return error(401, "wrong key")


@pytest.mark.parametrize("asked", [closed], indirect=True)
def test_a_teacher_that_refuses_everything_is_logged_and_the_student_answers(
    folder: Path, asked: Asked, tmp_path: Path
) -> None:
    with serving(folder, 1.0, **asked.options()) as served:
        one = served.predict({"row": dict(SOME[0].fields)})[2]["prediction"]
        assert one["answered_by"] == "student" and "cannot be asked now" in one["note"]
        assert "wrong key" not in json.dumps(one)
        assert any("wrong key" in line.get("teacher", "") for line in served.lines(2))
    # A file of predictions is not finished with answers that nobody asked for.
    with pytest.raises(TutelageError, match="wrong key"):
        settings = EscalationSettings(threshold=1.0, **asked.options())
        write_predictions(folder, str(rows_file(tmp_path)), output=tmp_path / "o.jsonl",
                          escalation=settings)  # fmt: skip
    assert not (tmp_path / "o.jsonl").exists()


def rows_file(folder: Path) -> Path:
    path = folder / "rows.jsonl"
    lines = [json.dumps({**row.fields, "label": row.label}) + "\n" for row in SOME]
    path.write_text("".join(lines), encoding="utf-8")
    return path


def test_predict_escalates_and_says_so(
    folder: Path,
    found: list[Prediction],
    threshold: float,
    below: list[int],
    asked: Asked,
    tmp_path: Path,
) -> None:
    options = asked.options(0.011)
    command = ["predict", str(folder), str(rows_file(tmp_path)), "--overwrite"]
    command += ["--threshold", f"{threshold!r}", "--escalate", options["escalate"]]
    command += ["--ledger", options["ledger"], "--escalation-budget-usd", "0.011"]
    output = tmp_path / "o.jsonl"
    done = RUNNER.invoke(app, [*command, "--output", str(output)])
    assert done.exit_code == 0, done.output
    lines = " ".join(done.output.split())
    assert "6 below the threshold: 3 answered by the teacher for 0.009000" in lines
    assert "3 by the student" in lines and "note: budget_usd $0.011" in lines
    records = list(read_jsonl(output))
    assert [r["note"] for r in records].count(SPENT) == 3
    right = 0
    for n, (record, row) in enumerate(zip(records, SOME, strict=True)):
        by_teacher = n in below and not record["note"]
        assert record["answered_by"] == ("teacher" if by_teacher else "student")
        assert record["label"] == (said(row) if by_teacher else found[n].label)
        right += record["label"] == row.label
    assert f"{right} of 12 labelled rows right" in lines
    assert evaluate_file(output, task=TASK)[0].accuracy == pytest.approx(right / 12)

    # With a larger budget the rest is asked, and what the ledger has costs nothing.
    command[command.index("0.011")] = "0.03"
    table = tmp_path / "o.csv"
    done = RUNNER.invoke(app, [*command, "--output", str(table)])
    assert "6 answered by the teacher for 0.009000" in " ".join(done.output.split())
    assert asked.server.answered == 6
    with table.open(encoding="utf-8", newline="") as file:
        cells = list(csv.DictReader(file))
    costs = [float(row["teacher_cost_usd"]) for row in cells if row["answered_by"] == "teacher"]
    assert sorted(costs) == pytest.approx([0, 0, 0, PRICE, PRICE, PRICE])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"threshold": None}, "needs a threshold: add --threshold or --promise"),
        ({"budget": None}, "nothing bounds what the teacher's answers may cost"),
        ({"price": None}, "no price of 'm' is known"),
        ({"model": "scripted", "price": None}, "no teacher answers rows"),
        ({"other": True}, "is about note, claim → true, false, open, but the student is about"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(
    asked: Asked, options: dict[str, Any], says: str
) -> None:
    from dataclasses import replace

    limit = options.pop("threshold", 0.5)
    task = (
        replace(TASK, labels=("true", "false"), verbalizers={}) if options.pop("other", 0) else TASK
    )
    budget = options.pop("budget", 1)
    settings = EscalationSettings(**asked.options(budget, **options))
    with pytest.raises(UsageError) as raised:
        open_escalation(settings, task, limit)
    assert says in str(raised.value)
    assert asked.server.requests == 0


def test_a_missing_key_is_said_at_the_start(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    settings = EscalationSettings(**asked.options(base_url=None))
    with pytest.raises(AuthenticationError, match="OPENAI_API_KEY"):
        open_escalation(settings, TASK, 0.5)


def test_thresholds_of_an_export_are_not_those_of_its_checkpoint(
    made: Callable[[str], Made], asked: Asked, tmp_path: Path
) -> None:
    notes: dict[str, list[str]] = {}
    for model in (made("t5").checkpoint, made("t5").export.folder):
        heard = notes[model.name] = []
        write_predictions(
            model,
            str(rows_file(tmp_path)),
            output=tmp_path / "o.jsonl",
            overwrite=True,
            escalation=EscalationSettings(threshold=0.0, **asked.options()),
            on_note=heard.append,
        )
    assert ["not calibrated" in " ".join(heard) for heard in notes.values()] == [True, False]


def test_a_threshold_without_a_teacher_is_refused_by_predict(folder: Path, tmp_path: Path) -> None:
    done = RUNNER.invoke(
        app, ["predict", str(folder), str(rows_file(tmp_path)), "--threshold", "0.5"]
    )
    assert done.exit_code != 0 and "need a teacher: add --escalate" in str(done.exception)
    with pytest.raises(UsageError, match="name a recipe in escalate"):
        EscalationSettings(escalation_budget_usd=1)
