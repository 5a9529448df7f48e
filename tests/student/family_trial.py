"""Tries out a family: compares it with bare transformers, trains it, saves it, loads it again.

python tests/student/family_trial.py > docs/students.md
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from bare import Bare
from families import REFUSED, STUDENTS, Family, make_folder

from tutelage.config.training_settings import TrainSettings
from tutelage.core.errors import StudentError
from tutelage.core.task import NLI
from tutelage.core.types import Rationale
from tutelage.data.synthetic import generate as synthetic
from tutelage.student.encoding.batching import collate
from tutelage.student.encoding.prompts import encode_prompts
from tutelage.student.encoding.targets import build_training_examples
from tutelage.student.encoding.tokenise import encode_examples
from tutelage.student.inference.generate import generate
from tutelage.student.inference.score import score_labels
from tutelage.student.model.loading import load_student
from tutelage.student.model.precision import prepare
from tutelage.student.model.scratch import train_tokenizer
from tutelage.student.model.student import Student
from tutelage.student.training.loss import batch_loss
from tutelage.student.training.trainer import train

OBJECTIVES = ("label", "label_then_rationale", "multitask")
ROWS = synthetic(6, 1)
DEV = synthetic(3, 2)
WHY = {e.uid: e.reason or "It follows." for e in ROWS}
LIMITS = {"max_source_tokens": 400, "max_rationale_tokens": 100}
TEXTS = [
    *(f"{NLI.source(e.fields).text} {e.label} Rationale: {e.reason}" for e in (*ROWS, *DEV)),
    "predict: explain: Answer: Explanation: Label: entailment neutral contradiction",
]


@dataclass(frozen=True)
class Seen:
    """How a family is computed."""

    kind: str
    scoring: str
    packed: bool
    generation: str


def make_tokenizer(folder: Path) -> Path:
    train_tokenizer(TEXTS * 2, folder)
    return folder


def try_family(family: Family, place: Path, tokenizer: Path) -> Seen:
    """Raises AssertionError where the family's student is not bare transformers' model."""
    torch.set_num_threads(1)
    folder = str(make_folder(family, place / "start", tokenizer))
    bare, student = Bare(folder), load_student(folder)
    _check_scores(student, bare)
    for objective in OBJECTIVES:
        _check_gradient(student, bare, objective)
    sources = _check_generation(student, bare)

    settings = TrainSettings(
        learning_rate=1e-3, batch_size=3, max_steps=2, warmup_steps=1, dropout=0.0, **LIMITS
    )
    student = load_student(folder, dropout=0.0)
    rows = build_training_examples(
        ROWS,
        NLI,
        [Rationale(uid, "human", text, "ok") for uid, text in WHY.items()],
        "label_then_rationale",
    )
    train(student, rows, DEV, NLI, settings, place / "training")
    trained = score_labels(student, DEV, NLI, **LIMITS)
    again = load_student(str(place / "training" / "model"))
    prepare(again, settings.precision)
    assert score_labels(again, DEV, NLI, **LIMITS) == trained  # bit for bit
    _check_scores(again, Bare(str(place / "training" / "model")))
    assert generate(again, sources, [], 4) == generate(student, sources, [], 4)

    packed = "fast" if student.can_pack else "separate"
    student.objective = "multitask"
    return Seen(
        student.architecture,
        student.ways["scoring"][0],
        packed == "fast",
        student.ways["generation"][0],
    )


def _check_scores(student: Student, bare: Bare) -> None:
    for example, found in zip(DEV, score_labels(student, DEV, NLI, **LIMITS), strict=True):
        wanted = bare.probabilities(NLI.source(example.fields).text, list(NLI.labels))
        for label, value in zip(NLI.labels, wanted, strict=True):
            assert abs(found.probabilities[label] - value) < 1e-4, (example.uid, label)


def _check_gradient(student: Student, bare: Bare, objective: str) -> None:
    student.objective = objective  # type: ignore[assignment]
    rows = build_training_examples(
        ROWS[:2],
        NLI,
        [Rationale(e.uid, "human", WHY[e.uid], "ok") for e in ROWS[:2]],
        student.objective,
    )
    encoded = encode_examples(student, rows, **LIMITS)
    weight = 1.0 if objective == "label" else 0.3
    counts = [sum(e.counts[k] for e in encoded) for k in (0, 1)]
    student.model.eval()
    groups = [[e] for e in encoded] if student.ways["scoring"][0] == "alone" else [encoded]
    for group in groups:
        loss = batch_loss(student, collate(student, group)).weighted(
            (weight, 1 - weight), (counts[0], counts[1])
        )
        loss.backward()  # type: ignore[no-untyped-call]
    found = {n: p.grad for n, p in student.model.named_parameters() if p.grad is not None}
    texts = [(NLI.source(e.fields).text, e.label, WHY[e.uid]) for e in ROWS[:2]]
    wanted = bare.gradient(texts, objective, weight)
    apart = sum(
        float((found.get(n, torch.zeros(())) - wanted.get(n, torch.zeros(()))).square().sum())
        for n in found.keys() | wanted.keys()
    )
    size = sum(float(g.square().sum()) for g in wanted.values())
    assert (apart / size) ** 0.5 < 1e-3, (objective, (apart / size) ** 0.5)
    student.model.zero_grad(set_to_none=True)
    student.objective = "label_then_rationale"


def _check_generation(student: Student, bare: Bare) -> list[list[int]]:
    texts = [NLI.source(e.fields) for e in DEV]
    sources = [s.ids for s in encode_prompts(student, texts, "answer", 400)]
    together = generate(student, sources, [], 4)
    assert together == [generate(student, [source], [], 4)[0] for source in sources]
    assert together == [bare.generate(bare.source(text.text), 4) for text in texts]
    return sources


def refusal(family: Family, place: Path, tokenizer: Path) -> str:
    """The line with which a family is refused, without the folder."""
    folder = str(make_folder(family, place, tokenizer))
    try:
        load_student(folder)
    except StudentError as error:
        return str(error).replace(folder, family.example)
    raise AssertionError(f"{family.name} is not refused")


SCORING = {"fast": "shared", "batched": "one label at a time", "alone": "one row at a time"}
GENERATION = {"batched": "batched", "alone": "one row at a time", "uncached": "without a cache"}
DOCS = Path(__file__).parents[2] / "docs" / "students.md"
STUDENTS_HEAD = "| family | for example | architecture | labels | packed | generation |"
REFUSED_HEAD = "| family | message |"


def row_of(family: Family, seen: Seen) -> str:
    """The family's row of the table of students."""
    packed = "" if seen.kind == "encoder-decoder" else "yes" if seen.packed else "no"
    return (
        f"| {family.name} | `{family.example}` | {seen.kind} | {SCORING[seen.scoring]} | {packed} "
        f"| {GENERATION[seen.generation]} |"
    )


def refused_row_of(family: Family, line: str) -> str:
    """The family's row of the table of what is refused."""
    return f"| {family.name} | {line} |"


def table(text: str, head: str) -> list[str]:
    """The rows of the table of that head."""
    lines = text.split(f"{head}\n")[1].splitlines()[1:]
    return lines[: next((i for i, line in enumerate(lines) if not line.startswith("|")), None)]


def main() -> None:
    """Write the tables of docs/students.md again; names of families: print their rows alone."""
    chosen = sys.argv[1:]
    rows: dict[str, list[str]] = {STUDENTS_HEAD: [], REFUSED_HEAD: []}
    with tempfile.TemporaryDirectory() as place:
        tokenizer = make_tokenizer(Path(place) / "tokenizer")
        for number, family in enumerate((*STUDENTS, *REFUSED)):
            if chosen and family.name not in chosen:
                continue
            folder = Path(place) / str(number)
            try:
                if family in STUDENTS:
                    row = row_of(family, try_family(family, folder, tokenizer))
                    rows[STUDENTS_HEAD].append(row)
                else:
                    row = refused_row_of(family, refusal(family, folder, tokenizer))
                    rows[REFUSED_HEAD].append(row)
            except Exception as error:
                if not chosen:
                    raise
                row = f"{family.name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
            print(row, flush=True)
    if not chosen:
        text = DOCS.read_text(encoding="utf-8")
        for head, found in rows.items():
            before = table(text, head)
            text = text.replace("\n".join(before), "\n".join(found), 1) if before else text
        DOCS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
