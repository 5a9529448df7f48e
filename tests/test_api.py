"""The Python API: each command takes a few lines, as in the README, here on small data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tutelage


def test_every_public_name_exists_and_is_documented() -> None:
    for name in tutelage.__all__:
        value = getattr(tutelage, name)
        assert name == "NLI" or value.__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tutelage.nothing
    assert set(tutelage.__all__) <= set(dir(tutelage))


def test_importing_costs_nothing() -> None:
    code = "import sys, tutelage; print([m for m in sys.modules if m.startswith('tutelage.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_stages_one_by_one(tmp_path: Path) -> None:
    from tutelage import (
        NLI,
        TeacherSettings,
        TrainSettings,
        annotate,
        build_training_examples,
        compare,
        evaluate,
        hold_out,
        load_examples,
        load_student,
        score_labels,
        train,
    )
    from tutelage.student.model.scratch import tokenizer_for

    training, dev = hold_out(load_examples("synthetic:nli?n=90&seed=1", NLI), NLI, rows=30)
    rationales = annotate(
        training,
        strategy="informed_reasoning",
        task=NLI,
        teacher=TeacherSettings(model="scripted"),
    ).rationales
    rows = build_training_examples(training, NLI, rationales, "label_then_rationale")
    words = tokenizer_for(rows, tmp_path / "words")
    student = load_student("scratch:t5-tiny", tokenizer=words)
    result = train(
        student, rows, dev, NLI, TrainSettings(epochs=1, batch_size=16), tmp_path / "student"
    )
    predictions = score_labels(student, dev, NLI)
    evaluation = evaluate({0: predictions}, NLI)
    assert evaluation.accuracy == result.dev_accuracy
    same = compare({"a": {0: predictions}, "b": {0: predictions}}, [("a", "b")], NLI)[0]
    assert same.difference == 0
