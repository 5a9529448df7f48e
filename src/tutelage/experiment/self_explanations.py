"""`explanations` of results.json: what the students wrote about a sample of test rows, measured.

Nothing here was trained on, chosen by, or read for a prediction. Three questions are asked of each
arm: how often it writes anything at all and comes to an end, how much of it stands in the data's
own reasons (overlap, which is no worth), and how well the label is told from it alone (which is).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.core.task import Task
from tutelage.core.types import Example, Explanation, ObjectiveName, Rationale
from tutelage.evaluation.crossed import CrossedResult, crossed_random_effects
from tutelage.evaluation.leakage import rationale_worth
from tutelage.evaluation.overlap import chrf, reasons_of, rouge_l
from tutelage.evaluation.text_classifier import mask_label_words, train_reader
from tutelage.experiment.prepare import Splits
from tutelage.experiment.summarise import ArmOutcome

LEAST_TO_LEARN_FROM = 50
"""Training rationales without which no reader is trained."""

LEAST_TO_READ = 20
"""Explained rows below which nothing is said of worth."""

REFERENCES = "the data's own reasons"

_WRITES_LABEL: tuple[ObjectiveName, ...] = ("label_then_rationale", "rationale_then_label")


def describe_explanations(
    written: Mapping[str, Sequence[Explanation]],
    outcomes: Sequence[ArmOutcome],
    splits: Splits,
    task: Task,
    seed: int,
) -> dict[str, Any] | None:
    """`explanations` of results.json; None where no arm wrote any.

    written: by arm, about the same test rows
    seed:    of the students that wrote it
    """
    rows = {e.uid: e for e in splits.test}
    labels = {e.uid: e.label for e in splits.train}
    described = {}
    for outcome in outcomes:
        found = written.get(outcome.arm.name)
        if not found:
            continue
        examples = [rows[e.uid] for e in found]
        groups = [task.group(e.uid, e.fields) for e in examples]
        scored = {p.uid: p.label for p in outcome.test[seed]}
        agree = [e.label == scored[e.uid] for e in found]
        writes_label = outcome.arm.effective_objective in _WRITES_LABEL
        learnt = [r for r in outcome.rationales or () if r.status == "ok"]
        worth, missing = _worth(found, examples, groups, learnt, labels, task)
        described[outcome.arm.name] = {
            "seed": seed,
            "rows": len(found),
            "empty": sum(not e.text for e in found),
            "cut": sum(e.cut for e in found),
            "mean_words": sum(len(e.text.split()) for e in found) / len(found),
            "mean_tokens": sum(e.tokens for e in found) / len(found),
            "agrees": sum(agree) / len(found) if writes_label else None,
            **_overlap(found, examples, groups),
            "worth": worth,
            "worth_missing": missing,
        }
    return described or None


def _overlap(
    found: Sequence[Explanation], examples: Sequence[Example], groups: Sequence[Hashable]
) -> dict[str, Any]:
    """ROUGE-L and chrF against the best of a row's reasons, over the rows that have one."""
    places = [i for i, example in enumerate(examples) if reasons_of(example)]
    if not places:
        return {"references": None, "referenced": 0, "rouge_l": None, "chrf": None}
    pairs = [(found[i].text, reasons_of(examples[i])) for i in places]
    units = [groups[i] for i in places]
    return {
        "references": REFERENCES,
        "referenced": len(places),
        "rouge_l": _mean([rouge_l(*pair) for pair in pairs], units),
        "chrf": _mean([chrf(*pair) for pair in pairs], units),
    }


def _mean(values: Sequence[float], groups: Sequence[Hashable]) -> dict[str, Any]:
    table = np.array(values)[:, None]
    if len(set(groups)) < 2:
        return {"mean": float(table.mean()), "ci95": None}
    return _interval(crossed_random_effects(table, groups, bounds=(0.0, 1.0)))


def _worth(
    found: Sequence[Explanation],
    examples: Sequence[Example],
    groups: Sequence[Hashable],
    learnt: Sequence[Rationale],
    labels: Mapping[str, str],
    task: Task,
) -> tuple[dict[str, Any] | None, str | None]:
    """How well the gold label is told from what the student wrote, by a reader that learnt from the
    rationales that the student learnt; or None, and why there is no such figure."""
    if len(learnt) < LEAST_TO_LEARN_FROM:
        return None, f"{len(learnt)} training rationales, of at least {LEAST_TO_LEARN_FROM}"
    if len(found) < LEAST_TO_READ or len(set(groups)) < 2:
        return None, f"{len(found)} rows explained, of at least {LEAST_TO_READ}"
    gold = [labels[r.uid] for r in learnt]
    right: list[NDArray[Any]] = []
    for shown in (str, lambda text: mask_label_words(text, task), lambda text: ""):
        reader = train_reader([shown(r.text) for r in learnt], gold)
        hits = [
            reader.read(shown(each.text)) == example.label
            for each, example in zip(found, examples, strict=True)
        ]
        right.append(np.array(hits, dtype=np.float64)[:, None])
    as_written, masked, without = right
    worth = rationale_worth(as_written, masked, without, groups)
    return {
        "as_written": _interval(worth.as_written),
        "masked": _interval(worth.masked),
        "without": _interval(worth.without),
        "leaked": _interval(worth.leaked),
        "worth": _interval(worth.worth),
        "learnt_from": len(learnt),
    }, None


def _interval(result: CrossedResult) -> dict[str, Any]:
    return {"mean": result.estimate, "ci95": (result.ci_low, result.ci_high)}
