"""The stages of an experiment, one call each: annotate, train two students, compare them.

    python examples/python_api.py [FOLDER]     (half a minute; no key, no download)

The data are generated and the teacher looks its answers up in them. For your own, name a file and
TeacherSettings(model="openai:…"). Two students of a few steps detect nothing: `tutelage run` does
this with a search, several seeds and controls.
"""

import sys
from pathlib import Path

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


def main(folder: Path) -> None:
    """Train a student with rationales and one without, and compare them on dev."""
    train_rows, dev = hold_out(load_examples("synthetic:nli?n=180&seed=1", NLI), NLI, rows=60)
    teacher = TeacherSettings(model="scripted")
    annotation = annotate(train_rows, strategy="informed_reasoning", task=NLI, teacher=teacher)
    print(annotation.rationales[0].text)

    with_rationales = build_training_examples(
        train_rows, NLI, annotation.rationales, "label_then_rationale"
    )
    labels_only = build_training_examples(train_rows, NLI, None, "label")
    # New weights need a tokenizer. A pretrained student brings its own.
    tokenizer = tokenizer_for(with_rationales, folder / "tokenizer")

    common = TrainSettings(learning_rate=3e-3, batch_size=16, max_steps=10, warmup_steps=2)
    arms = {
        "reasoning": (with_rationales, common.replace(label_weight=0.3)),
        "labels": (labels_only, common.replace(objective="label", label_weight=1.0)),
    }
    predictions = {}
    for name, (rows, settings) in arms.items():
        student = load_student("scratch:t5-tiny", tokenizer=tokenizer, seed=settings.seed)
        train(student, rows, dev, NLI, settings, folder / name)
        predictions[name] = {settings.seed: score_labels(student, dev, NLI)}
        print(f"{name}: accuracy {evaluate(predictions[name], NLI).accuracy:.3f}")

    (found,) = compare(predictions, [("reasoning", "labels")], NLI)
    low, high = found.ci95
    print(f"difference {found.difference:+.3f} (95% interval {low:+.3f} to {high:+.3f})")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "students"))
