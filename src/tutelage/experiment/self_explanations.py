"""`Results.explanations`: measures the rationales that students wrote about a sample of test rows.

Nothing here is trained on, chosen by or used for a prediction. Of each arm it measures how often it
writes a rationale and ends it, how much the rationale shares with the data's own reasons (overlap,
which is not quality), and how well the gold label can be predicted from the rationale alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.core.results import ArmExplanations, LabelPredictability, MeanWithInterval
from tutelage.core.task import Task
from tutelage.core.types import Example, Explanation, ObjectiveName, Rationale
from tutelage.evaluation.crossed import CrossedResult, crossed_random_effects
from tutelage.evaluation.leakage import label_predictability
from tutelage.evaluation.overlap import chrf, reasons_of, rouge_l
from tutelage.evaluation.text_classifier import mask_label_words, train_classifier
from tutelage.experiment.prepare import Splits
from tutelage.experiment.summarise import ArmRun

FEWEST_TO_TRAIN_ON = 50
"""Training rationales below which no classifier is trained."""

FEWEST_TO_TEST_ON = 20
"""Explained rows below which the classifier is not tested."""

REFERENCES = "the data's own reasons"

_WRITES_LABEL: tuple[ObjectiveName, ...] = ("label_then_rationale", "rationale_then_label")


def describe_explanations(
    written: Mapping[str, tuple[int, Sequence[Explanation]]],
    runs: Sequence[ArmRun],
    splits: Splits,
    task: Task,
    labels: Mapping[str, str] | None = None,
) -> dict[str, ArmExplanations] | None:
    """`Results.explanations`; None where no arm wrote any.

    written: arm -> (seed of the student, what it wrote), about the same test rows
    labels:  uid -> label of the rows that arms learn; None: those of train
    """
    rows = {e.uid: e for e in splits.test}
    units = splits.groups(splits.test, task)
    labels = {e.uid: e.label for e in splits.train} if labels is None else labels
    described = {}
    for run in runs:
        seed, found = written.get(run.arm.name, (0, ()))
        if not found:
            continue
        examples = [rows[e.uid] for e in found]
        groups = [units[e.uid] for e in examples]
        predicted = {p.uid: p.label for p in run.test[seed]}
        agree = [e.label == predicted[e.uid] for e in found]
        writes_label = run.arm.effective_objective in _WRITES_LABEL
        learned = [r for r in run.rationales or () if r.status == "ok"]
        predictability, missing = _predictability(found, examples, groups, learned, labels, task)
        described[run.arm.name] = ArmExplanations(
            seed=seed,
            rows=len(found),
            empty=sum(not e.text for e in found),
            cut=sum(e.cut for e in found),
            mean_words=sum(len(e.text.split()) for e in found) / len(found),
            mean_tokens=sum(e.tokens for e in found) / len(found),
            label_agreement=sum(agree) / len(found) if writes_label else None,
            **_overlap(found, examples, groups),
            label_predictability=predictability,
            label_predictability_missing=missing,
        )
    return described or None


def _overlap(
    found: Sequence[Explanation], examples: Sequence[Example], groups: Sequence[Hashable]
) -> dict[str, Any]:
    """ROUGE-L and chrF with the most similar of a row's reasons, over the rows that have one."""
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


def _mean(values: Sequence[float], groups: Sequence[Hashable]) -> MeanWithInterval:
    table = np.array(values)[:, None]
    if len(set(groups)) < 2:
        return MeanWithInterval(float(table.mean()), None)
    return _interval(crossed_random_effects(table, groups, bounds=(0.0, 1.0)))


def _predictability(
    found: Sequence[Explanation],
    examples: Sequence[Example],
    groups: Sequence[Hashable],
    learned: Sequence[Rationale],
    labels: Mapping[str, str],
    task: Task,
) -> tuple[LabelPredictability | None, str | None]:
    """How well a classifier trained on the rationales that the student learned predicts the gold
    label from those that it wrote; or None, and why there is no such figure."""
    if len(learned) < FEWEST_TO_TRAIN_ON:
        return None, f"{len(learned)} training rationales, of at least {FEWEST_TO_TRAIN_ON}"
    if len(found) < FEWEST_TO_TEST_ON or len(set(groups)) < 2:
        return None, f"{len(found)} rows explained, of at least {FEWEST_TO_TEST_ON}"
    gold = [labels[r.uid] for r in learned]
    correct: list[NDArray[Any]] = []
    for shown in (str, lambda text: mask_label_words(text, task), lambda text: ""):
        classifier = train_classifier([shown(r.text) for r in learned], gold)
        hits = [
            classifier.predict(shown(each.text)) == example.label
            for each, example in zip(found, examples, strict=True)
        ]
        correct.append(np.array(hits, dtype=np.float64)[:, None])
    as_written, masked, majority = correct
    measured = label_predictability(as_written, masked, majority, groups)
    return LabelPredictability(
        as_written=_interval(measured.as_written),
        masked=_interval(measured.masked),
        majority=_interval(measured.majority),
        leakage=_interval(measured.leakage),
        gain=_interval(measured.gain),
        trained_on=len(learned),
    ), None


def _interval(result: CrossedResult) -> MeanWithInterval:
    return MeanWithInterval(result.estimate, (result.ci_low, result.ci_high))
