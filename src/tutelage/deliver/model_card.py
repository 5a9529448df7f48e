"""The model card of an export: what it is, how good it is, and what it must not be taken for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.core.checkpoint_record import CheckpointRecord
from tutelage.core.export_record import ExportRecord
from tutelage.deliver.parity import Parity

DATA_LICENCE_UNNAMED = (
    "- The licence of the data applies too. Name it here before you publish this folder."
)


@dataclass(frozen=True)
class Background:
    """What an export's card says of where the model comes from.

    name:      of the run, or of the checkpoint's folder
    sentences: the report's answer, with its caveats
    data:      the data as the recipe names them
    student:   the model that was trained
    teacher:   what wrote the rationales; None where nobody did
    teacher_usd: what the teacher's rationales cost for 1,000 rows; None where unknown
    teacher_label_usd: what its labels cost for 1,000 rows, as a baseline; None where unknown
    """

    name: str
    sentences: Sequence[str] = ()
    data: Mapping[str, str] | None = None
    student: str = ""
    teacher: str | None = None
    teacher_usd: float | None = None
    teacher_label_usd: float | None = None


@dataclass(frozen=True)
class Card:
    """What a card is made from."""

    record: ExportRecord
    parity: Parity
    background: Background


def write_checkpoint_card(record: CheckpointRecord, background: Background) -> str:
    """The card of a checkpoint that was not exported, in Markdown."""
    task = record.task
    lines = [
        f"# {background.name}",
        "",
        f"A small text classifier: {', '.join(task.fields)} → {', '.join(task.labels)}. Digest "
        f"`{record.weights_sha256}`.",
        "",
        "## Use",
        "",
        "```sh",
        "pip install 'tutelage[train]'",
        "tutelage predict THIS_FOLDER rows.jsonl",
        "tutelage export THIS_FOLDER --output exported --test rows.jsonl",
        "```",
        "",
        f"It reads at most {record.max_source_tokens} tokens; the rest is cut. Its answer is "
        f"{record.decision_rule}.",
    ]
    if background.sentences:
        lines += ["", "## What the experiment found", ""]
        lines += [f"- {sentence}" for sentence in background.sentences]
    return "\n".join([*lines, *_origins(background)]) + "\n"


def write_card(card: Card) -> str:
    """The card, in Markdown."""
    return "\n".join(_lines(card)) + "\n"


def _lines(card: Card) -> Iterator[str]:
    record, parity, background = card.record, card.parity, card.background
    facts = record.parity or {}
    task = record.task
    yield f"# {background.name}"
    yield ""
    yield (
        f"A small text classifier: {', '.join(task.fields)} → {', '.join(task.labels)}. Digest "
        f"`{record.sha256}`."
    )
    yield ""
    yield "## Use"
    yield ""
    yield "```sh"
    yield "pip install 'tutelage[deliver]'"
    yield "tutelage predict THIS_FOLDER rows.jsonl"
    yield "tutelage serve THIS_FOLDER"
    yield "```"
    if background.sentences:
        yield ""
        yield "## What the experiment found"
        yield ""
        yield from (f"- {sentence}" for sentence in background.sentences)
    yield ""
    yield "## The export"
    yield ""
    yield "| | |"
    yield "|---|---|"
    yield f"| labels | {record.label_engine}, {record.precision} |"
    yield f"| rationales | {record.rationale_engine}: {facts.get('rationales', '')} |"
    if gguf := facts.get("gguf"):
        yield (
            f"| `gguf/model.gguf` | for llama.cpp, {gguf['precision']}: probabilities within "
            f"{gguf['scores']['largest']:.1e}; `gguf/README.md` says how it is asked |"
        )
    yield f"| longest input | {record.max_source_tokens} tokens; the rest is cut |"
    yield f"| decision rule | {record.decision_rule} |"
    yield f"| temperature | {record.temperature:.4f} {_fitted(facts)} |"
    threshold = "none" if record.threshold is None else f"{record.threshold:g}"
    yield f"| threshold | {threshold} |"
    yield f"| one row | {facts.get('latency_ms', 0)} ms (median, on the machine that exported it) |"
    yield from _costs(facts, background)
    yield ""
    yield "Compared with the checkpoint that was evaluated, before any temperature:"
    yield ""
    yield f"- {parity.rows:,} rows, {parity.made_up} of them made up and longer than the limit"
    yield f"- the same label on {parity.agreement:.2%} of all rows"
    yield f"- probabilities differ by {parity.largest:.1e} at most"
    if parity.accuracy is not None and parity.accuracy_before is not None:
        yield (
            f"- accuracy {parity.accuracy:.4f}, that of the checkpoint {parity.accuracy_before:.4f}"
        )
    yield from (f"- {note}" for note in facts.get("notes", ()))
    yield from _origins(background)


def _costs(facts: Mapping[str, Any], background: Background) -> Iterator[str]:
    """What 1,000 predictions take and cost, and what the teacher's answers cost."""
    seconds, hour = facts.get("seconds_for_1000"), facts.get("usd_per_hour")
    if seconds is None:
        return
    own = "" if hour is None else f", {seconds / 3600 * hour:.6f} US dollars at {hour:g} an hour"
    yield f"| 1,000 rows together | {seconds:.2f} s on that machine{own} |"
    if background.teacher is None:
        return
    answers = background.teacher_usd
    price = "an unknown price" if answers is None else f"{answers:.4f} US dollars"
    labels = background.teacher_label_usd
    asked = "" if labels is None else f"; 1,000 labels by it {labels:.4f} US dollars"
    yield f"| the teacher | 1,000 rationales by {background.teacher} cost {price}{asked} |"


def _origins(background: Background) -> Iterator[str]:
    yield ""
    yield "## Data and licence"
    yield ""
    if background.data:
        yield from (f"- {name}: `{spec}`" for name, spec in background.data.items())
    if background.student:
        yield f"- trained from `{background.student}`, whose licence applies to these weights"
    if background.teacher is not None:
        yield f"- rationales by {background.teacher}: its terms apply to what was trained on them"
    yield DATA_LICENCE_UNNAMED


def _fitted(facts: object) -> str:
    if not isinstance(facts, dict) or "temperature_rows" not in facts:
        return "(not fitted)"
    return (
        f"(fitted on {facts['temperature_rows']:,} rows of dev, which also chose the checkpoint: "
        f"mean log loss {facts['dev_log_loss']:.4f} before, "
        f"{facts['dev_log_loss_at_temperature']:.4f} after)"
    )
