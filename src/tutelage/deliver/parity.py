"""The parity gate: an export is what was evaluated, or it is refused.

(a) token ids, label ids, limits and verbalizers are identical;
(b) float: each label's probability within 0.001; 16-bit and int8: within 0.02 on 99% of the rows,
    and the mean log loss within 0.01;
(c) labels agree on 99.5% of the rows whose margin exceeds 0.02, and the accuracy is within 0.5
    points.

Probabilities are compared at temperature 1: the temperature is fitted afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tutelage.core.checkpoint_record import CheckpointRecord
from tutelage.core.errors import StudentError
from tutelage.core.export_record import ExportPrecision
from tutelage.core.types import Example
from tutelage.deliver.exported import ExportedModel
from tutelage.evaluation.temperature import Floats, mean_log_loss, probabilities_at
from tutelage.student.encoding.prompts import encode_prompts, label_ids, scoring_prompt
from tutelage.student.encoding.text_encoder import TextEncoder

FLOAT_DIFFERENCE = 0.001
SMALL_DIFFERENCE, SMALL_SHARE, SMALL_LOG_LOSS = 0.02, 0.99, 0.01
MARGIN, LABEL_SHARE, ACCURACY = 0.02, 0.995, 0.005


class ParityError(StudentError):
    """An export that does not answer as the student that was evaluated."""


@dataclass(frozen=True)
class Parity:
    """How an export agreed with its checkpoint.

    rows, made_up:  rows that were compared, and how many of them are longer than the limit and made
                    up
    largest:        difference of a label's probability
    within:         share of rows on which no probability differs by more than the bound
    log_loss:       difference of the mean log loss, on labelled rows; None without any
    agreement:      share of all rows with the same label
    agreement_by_margin: the same of rows whose margin exceeds 0.02
    accuracy, accuracy_before: on labelled rows, of the export and of the checkpoint
    """

    rows: int
    made_up: int
    largest: float
    within: float
    log_loss: float | None
    agreement: float
    agreement_by_margin: float
    accuracy: float | None
    accuracy_before: float | None


def long_rows(examples: Sequence[Example], fields: Sequence[str], limit: int) -> list[Example]:
    """Made-up rows that are longer than the limit: rows whose texts are repeated.

    In each row another field is the long one, and in the last all are.
    """
    some = list(examples[:3])
    made: list[Example] = []
    for number, example in enumerate(some):
        for name in (*fields, None):
            texts = {
                field: " ".join([text] * (limit // max(1, len(text.split())) + 2))
                if name in (field, None)
                else text
                for field, text in ((f, example.fields[f] or "a") for f in fields)
            }
            made.append(Example(f"made-up-{number}-{name or 'all'}", texts, ""))
    return made


def check_encoding(
    student: TextEncoder, record: CheckpointRecord, export: ExportedModel, rows: Sequence[Example]
) -> None:
    """Part (a). Raises ParityError for the first thing that differs."""
    task, said = record.task, export.record
    for name in ("max_source_tokens", "max_rationale_tokens", "objective", "decision_rule"):
        if getattr(record, name) != getattr(said, name):
            raise ParityError(
                f"{name}: the export says {getattr(said, name)!r}, the checkpoint was evaluated "
                f"with {getattr(record, name)!r}"
            )
    if said.task != task:
        raise ParityError("the export's task (fields, labels, verbalizers) is another one")
    wanted = label_ids(student, task)
    found = label_ids(export, said.task)
    if found != wanted or [list(ids) for ids in said.label_ids] != wanted:
        raise ParityError(
            f"labels are token ids {wanted}, but the export writes {found} and scores "
            f"{[list(ids) for ids in said.label_ids]}"
        )
    sources = [task.source(e.fields) for e in rows]
    ours = encode_prompts(student, sources, scoring_prompt(student), record.max_source_tokens)
    for example, one, other in zip(rows, ours, export.encode(rows), strict=True):
        if one != other:
            raise ParityError(
                f"row {example.uid!r}: the export's token ids differ from those in training "
                f"({len(one.ids)} and {len(other.ids)} tokens): its tokenizer is another one"
            )


def check_scores(
    task_labels: Sequence[str],
    plain: Floats,
    found: Floats,
    rows: Sequence[Example],
    precision: ExportPrecision,
    made_up: int,
) -> Parity:
    """Parts (b) and (c), from summed log-probabilities [rows, labels] of the plain model and of the
    export. Raises ParityError with every bound that is broken."""
    before, after = probabilities_at(plain, 1.0), probabilities_at(found, 1.0)
    differences = np.abs(before - after).max(axis=1)
    ordered = np.sort(before, axis=1)
    clear = ordered[:, -1] - ordered[:, -2] > MARGIN
    same = before.argmax(axis=1) == after.argmax(axis=1)
    number = {label: k for k, label in enumerate(task_labels)}
    labelled = [i for i, row in enumerate(rows) if row.label]
    gold = [number[rows[i].label] for i in labelled]
    small = precision != "f32"
    bound = SMALL_DIFFERENCE if small else FLOAT_DIFFERENCE
    parity = Parity(
        rows=len(rows),
        made_up=made_up,
        largest=float(differences.max()),
        within=float(np.mean(differences <= bound)),
        log_loss=abs(mean_log_loss(found[labelled], gold) - mean_log_loss(plain[labelled], gold))
        if labelled
        else None,
        agreement=float(same.mean()),
        agreement_by_margin=float(same[clear].mean()) if clear.any() else 1.0,
        accuracy=float(np.mean(after[labelled].argmax(axis=1) == gold)) if labelled else None,
        accuracy_before=float(np.mean(before[labelled].argmax(axis=1) == gold))
        if labelled
        else None,
    )
    if problems := broken(parity, precision):
        raise ParityError("; ".join(problems))
    return parity


def broken(parity: Parity, precision: ExportPrecision) -> list[str]:
    """The bounds that an export breaks, one line each."""
    problems = []
    if precision == "f32":
        if parity.largest > FLOAT_DIFFERENCE:
            problems.append(
                f"a label's probability differs by {parity.largest:.4f}, at most "
                f"{FLOAT_DIFFERENCE} is allowed"
            )
    else:
        if parity.within < SMALL_SHARE:
            problems.append(
                f"probabilities are within {SMALL_DIFFERENCE} on {parity.within:.1%} of the rows, "
                f"{SMALL_SHARE:.0%} are needed"
            )
        if parity.log_loss is not None and parity.log_loss > SMALL_LOG_LOSS:
            problems.append(
                f"the mean log loss differs by {parity.log_loss:.4f}, at most {SMALL_LOG_LOSS} is "
                "allowed"
            )
    if parity.agreement_by_margin < LABEL_SHARE:
        problems.append(
            f"labels agree on {parity.agreement_by_margin:.1%} of the rows whose margin exceeds "
            f"{MARGIN}, {LABEL_SHARE:.1%} are needed"
        )
    changed = abs((parity.accuracy or 0.0) - (parity.accuracy_before or 0.0))
    # Half a point itself is within half a point, whatever the last bit says.
    if changed > ACCURACY + 1e-9:
        problems.append(
            f"the accuracy is {parity.accuracy:.4f}, that of the checkpoint "
            f"{parity.accuracy_before:.4f}"
        )
    return problems
