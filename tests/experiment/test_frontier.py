"""The frontier's figures are those computed by hand, and the test set is opened for one choice."""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

sys.path.append(str(Path(__file__).parents[1] / "teacher"))

from scripted_server import Reply, ScriptedServer

from tutelage.cli.main import app
from tutelage.config.recipe_file import load_recipe
from tutelage.core.checkpoint_record import CheckpointRecord, write_record
from tutelage.core.errors import BudgetError, RunFolderError, UsageError
from tutelage.core.storage import read_json, read_jsonl, write_json, write_jsonl
from tutelage.core.task import NLI
from tutelage.core.types import Example, Prediction
from tutelage.evaluation.frontier import Frontier, choose_point, thresholds_between
from tutelage.experiment.arm_strategies import draw_rows
from tutelage.experiment.frontier_of_run import frontier_of_run
from tutelage.experiment.prepare import load_splits

USD = 0.003
"""Of an answer: 3 tokens at 1,000 dollars for a million; 9 are reserved."""


def number(text: str) -> int:
    return sum(text.encode())


def by_teacher(row: Example) -> str | None:
    """What the scripted teacher answers: mostly what is right, sometimes no label at all."""
    kind = number(row.fields["hypothesis"]) % 8
    if kind == 0:
        return None
    return row.label if kind > 1 else NLI.labels[kind]


def shown(row: Example) -> str:
    return f"Premise: {row.fields['premise']}\nHypothesis: {row.fields['hypothesis']}"


def by_student(row: Example) -> Prediction:
    kind = number(row.fields["premise"] + row.fields["hypothesis"])
    label = row.label if kind % 3 else NLI.labels[kind // 3 % 3]
    sure = 0.4 + 0.55 * (kind % 17) / 17
    rest = dict.fromkeys(NLI.labels, (1 - sure) / 2)
    return Prediction(row.uid, label, rest | {label: sure}, row.label)


class Made:
    """A finished run's folder with hand-made predictions, and a scripted teacher."""

    def __init__(self, folder: Path, values: dict[str, Any], server: ScriptedServer) -> None:
        self.run, self.server = folder / "run", server
        self.ledger = folder / "ledger.sqlite"
        place = self.run / "arms" / "labels" / "lr-1" / "seed-0"
        model = place / "model"
        model.mkdir(parents=True)
        (model / "config.json").write_text("{}", encoding="utf-8")
        write_record(
            model,
            CheckpointRecord(
                task=NLI, objective="label", max_source_tokens=24, max_rationale_tokens=8,
                tokens_per_micro_batch=400, precision="fp32", fast="auto", threads=1, settings={},
                data_sha256={}, versions={},
            ),
        )  # fmt: skip
        (self.run / "recipe.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
        write_json(self.run / "results.json", {"recommended": {"folder": str(place / "model")}})
        write_json(self.run / "manifest.json", {"test_set_openings": [], "started": "then"})
        splits = load_splits(load_recipe(str(self.run / "recipe.yaml")))
        self.rows = {"dev": list(splits.dev), "test": list(splits.test)}
        self.groups = {name: splits.groups(rows, NLI) for name, rows in self.rows.items()}
        for name, rows in self.rows.items():
            write_jsonl(place / f"{name}.jsonl", map(asdict, map(by_student, rows)))
        self.place = place

    def frontier(self, **options: Any) -> Frontier:
        return frontier_of_run(self.run, ledger=self.ledger, **options)

    @property
    def manifest(self) -> list[dict[str, Any]]:
        return list(read_json(self.run / "manifest.json").get("thresholds_on_test", []))


@pytest.fixture
def make(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    small_recipe: Callable[..., dict[str, Any]],
) -> Iterator[Callable[..., Made]]:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    answers: dict[str, str | None] = {}

    def answer(body: dict[str, Any], before: int) -> Reply:
        label = answers[body["messages"][-1]["content"].split("\n\n")[-1]]
        return Reply("I do not know." if label is None else f"**{label.capitalize()}**.")

    with ScriptedServer(answer) as server:

        def made(**teacher: Any) -> Made:
            asked = {
                "model": "openai:m", "base_url": server.base_url, "max_tokens": 9,
                "price": {"input": 0, "output": 1000}, "budget_usd": 5, **teacher,
            }  # fmt: skip
            values = small_recipe(teacher=asked, teacher_baseline={"rows": 12})
            found = Made(tmp_path, values, server)
            for row in itertools.chain(*found.rows.values()):
                answers[shown(row)] = by_teacher(row)
            return found

        yield made


def sure(prediction: Prediction, temperature: float) -> float:
    """The highest probability after scaling, in plain arithmetic."""
    powers = [p ** (1 / temperature) for p in prediction.probabilities.values()]
    return max(powers) / sum(powers)


def by_hand(rows: list[Example], threshold: float, temperature: float) -> dict[str, float]:
    right = asked = unanswered = 0
    for row in rows:
        mine, theirs = by_student(row), by_teacher(row)
        label = mine.label
        if sure(mine, temperature) < threshold:
            asked += 1
            unanswered += theirs is None
            label = mine.label if theirs is None else theirs
        right += label == row.label
    n = len(rows)
    return {
        "accuracy": right / n, "asked": asked / n, "unanswered": unanswered / n,
        "usd": 1000 * asked * USD / n,
    }  # fmt: skip


def test_the_figures_are_those_computed_by_hand(make: Callable[..., Made]) -> None:
    made = make()
    found = made.frontier(ask=True, test=True)
    dev, test = made.rows["dev"], made.rows["test"]
    texts = {(r.fields["premise"], r.fields["hypothesis"]) for r in dev}
    distinct = {round(sure(by_student(row), found.temperature), 9) for row in dev}
    assert len(found.points) == len(distinct) + 1 > 8
    for point in found.points:
        wanted = by_hand(dev, point.threshold, found.temperature)
        assert {name: getattr(point, name) for name in wanted} == pytest.approx(wanted)
    assert (found.points[0].asked, found.points[-1].asked) == (0, 1)
    assert found.student.accuracy == pytest.approx(found.points[0].accuracy)
    alone = sum(by_teacher(row) == row.label for row in dev) / len(dev)
    assert found.teacher_alone.accuracy == pytest.approx(alone)
    assert found.teacher_alone.usd == pytest.approx(1000 * USD)

    best = max(point.accuracy for point in found.points)
    assert found.chosen.accuracy == best > found.student.accuracy
    assert found.chosen.asked == min(p.asked for p in found.points if p.accuracy == best)

    tested = found.test
    assert tested is not None
    wanted = by_hand(test, found.chosen.threshold, found.temperature)
    assert {name: getattr(tested.point, name) for name in wanted} == pytest.approx(wanted)
    assert tested.student == pytest.approx(by_hand(test, 0, 1)["accuracy"])
    assert tested.gain == pytest.approx(wanted["accuracy"] - tested.student)
    assert tested.ci95[0] < tested.gain < tested.ci95[1]
    # All of dev was asked about, and of test only what lies below the threshold.
    below = round(wanted["asked"] * len(test))
    assert made.server.answered <= len(texts) + below
    assert read_json(made.run / "frontier.json")["chosen"]["usd"] == found.chosen.usd

    # From the ledger, without a request, everything is the same; and the opening is counted once.
    sent = made.server.requests
    assert made.frontier(test=True) == found
    assert made.server.requests == sent and len(made.manifest) == 1
    assert made.manifest[0]["answer"]["point"]["accuracy"] == pytest.approx(wanted["accuracy"])


def test_each_other_threshold_on_test_is_recorded_and_said(make: Callable[..., Made]) -> None:
    made = make()
    first = made.frontier(ask=True, test=True)
    second = made.frontier(ask=True, test=True, threshold=0.5)
    assert second.rule == "named" and first.others == ()
    assert [each["threshold"] for each in second.others] == [first.chosen.threshold]
    done = CliRunner().invoke(app, [
        "frontier", str(made.run), "--ledger", str(made.ledger), "--test", "--threshold", "0.5",
    ])  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "The test set was opened for 1 other threshold before" in done.output
    assert len(made.manifest) == 2
    # Without --test nothing of it is looked at.
    assert made.frontier(threshold=0.6).test is None and len(made.manifest) == 2


def test_what_is_missing_is_said_and_nothing_is_asked_unasked(make: Callable[..., Made]) -> None:
    made = make()
    n = len(made.rows["dev"])
    with pytest.raises(UsageError) as raised:
        made.frontier()
    texts = len({number(str(r.fields)) for r in made.rows["dev"]})
    assert f"no label of m for {n} of {n} rows" in str(raised.value).replace("openai:", "")
    assert f"at most ${texts * 0.009:.4f}" in str(raised.value)
    assert made.server.requests == 0
    # The rows that the teacher as a baseline is asked about.
    sample = made.frontier(rows=12, ask=True)
    assert sample.rows == 12 == made.server.answered
    drawn = draw_rows(made.rows["dev"], 12, NLI)
    assert sample.student.accuracy == sum(by_student(r).label == r.label for r in drawn) / 12
    with pytest.raises(UsageError, match=r"--rows 12, which it has been asked about"):
        made.frontier()
    with pytest.raises(UsageError, match=r"test, below the threshold: the ledger has no label"):
        made.frontier(rows=12, test=True, threshold=1.0)
    assert made.manifest == [] and made.server.answered == 12


def test_the_recipes_budget_is_kept(make: Callable[..., Made]) -> None:
    made = make(budget_usd=0.02)
    with pytest.raises(BudgetError, match=r"budget_usd \$0\.02"):
        made.frontier(ask=True)
    assert 0 < made.server.answered * USD <= 0.02


def test_a_limit_on_the_cost_limits_the_choice(make: Callable[..., Made]) -> None:
    made = make()
    whole = made.frontier(ask=True)
    cheap = made.frontier(most_usd=0.5)
    able = [p for p in whole.points if (p.usd or 0) <= 0.5]
    assert cheap.chosen.accuracy == max(p.accuracy for p in able)
    assert (cheap.chosen.usd or 0) <= 0.5 < (whole.chosen.usd or 0)
    with pytest.raises(UsageError, match="both choose the threshold"):
        made.frontier(most_usd=1, threshold=0.5)


def test_without_a_price_the_rest_is_still_known(make: Callable[..., Made]) -> None:
    made = make(price=None, budget_usd=None)
    with pytest.raises(UsageError, match=r"sets no teacher\.budget_usd"):
        made.frontier(ask=True)
    assert made.server.requests == 0


def test_predictions_of_other_rows_are_refused(make: Callable[..., Made]) -> None:
    made = make()
    rows = list(read_jsonl(made.place / "dev.jsonl"))
    write_jsonl(made.place / "dev.jsonl", rows[1:])
    with pytest.raises(RunFolderError, match="holds other rows than the recipe's dev"):
        made.frontier(ask=True)
    (made.place / "dev.jsonl").unlink()
    with pytest.raises(RunFolderError, match="is missing"):
        made.frontier(ask=True)


@pytest.mark.usefixtures("figures")
def test_the_page_and_the_table_say_what_the_help_is_worth(make: Callable[..., Made]) -> None:
    made = make()
    command = ["frontier", str(made.run), "--ledger", str(made.ledger), "--ask", "--test"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    values = json.loads((made.run / "frontier.json").read_text(encoding="utf-8"))
    gain = 1000 * values["test"]["gain"]
    page = (made.run / "frontier.html").read_text(encoding="utf-8")
    for text in (" ".join(done.output.split()), " ".join(page.split())):
        assert f"{gain:+.0f} right answers in 1,000 rows for $" in text
        assert f"{100 * values['chosen']['accuracy']:.1f}%" in text
        assert "teacher" in text and "Dev chose the checkpoint" in text
    assert page.count("<svg") == 2
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page
    printed = CliRunner().invoke(app, [*command, "--json"])
    assert json.loads(printed.stdout)["chosen"] == values["chosen"]


def test_thresholds_lie_between_the_values() -> None:
    found = thresholds_between([0.5, 0.9, 0.5, 0.7])
    assert found == pytest.approx([0, 0.6, 0.8, 0.95])
    assert thresholds_between([0.5, 1.0]) == pytest.approx([0, 0.75, 1.0])
    assert choose_point([]) is None
    assert all(not math.isnan(t) for t in thresholds_between([1.0]))
