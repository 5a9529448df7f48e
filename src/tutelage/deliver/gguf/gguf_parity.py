"""The parity gate of a GGUF file: llama.cpp computes what was evaluated, or the file is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tutelage.core.checkpoint_record import CheckpointRecord
from tutelage.core.types import Example
from tutelage.deliver.gguf.llama_server import LlamaServer
from tutelage.deliver.parity import Parity, ParityError, check_scores
from tutelage.evaluation.temperature import Floats
from tutelage.student.encoding.prompts import encode_prompts, label_ids, prompt_cue, scoring_prompt
from tutelage.student.encoding.targets import parse_target
from tutelage.student.encoding.text_encoder import TextEncoder
from tutelage.student.encoding.truncation import EncodedSource, token_ids

_WRITTEN = 20
"""Rows for which llama.cpp writes the label itself."""

_SEPARATOR = 6
"""Tokens beyond the label that are written, so that its end is seen."""

_PROBES = (
    "It's 1,234.5 metres, isn't it?  They'll say \"no\" -- twice!\n\nThen:\n\t- 7/8 of £10 (x2).",
    "Ça coûte 12€, naïve Ångström. Это 2024 год. 你好，世界。 👩‍🚀 e=mc²   ",
    "HELLO WORLD HTTPResponse2xx don'T we'Ve \r\n\r\n ... !!! \u00a0\u200b a_b-c",
)
"""Texts in which rules of splitting words differ from one another."""


@dataclass(frozen=True)
class GgufParity:
    """How llama.cpp agreed with the checkpoint.

    scores:  of labels, computed as llama.cpp does by itself (with a cache in f16)
    exact:   the same with a cache in f32; None where anything else is in 16 bits or fewer
    seam:    rows, of `rows_as_text`, on which a prompt that is given as one text gets other token
             ids than in training, where text and cue meet
    rows_as_text: rows within the limit
    written: share of some rows on which the label that it writes is the label that is scored best
    """

    scores: Parity
    exact: Parity | None
    seam: int
    rows_as_text: int
    written: float


def gguf_gate(
    file: Path,
    student: TextEncoder,
    record: CheckpointRecord,
    exactly: bool,
    wanted: Floats,
    rows: Sequence[Example],
    made_up: int,
) -> GgufParity:
    """Compare a GGUF file in llama.cpp with the student that was evaluated.

    exactly: whether llama.cpp computes all of it in f32, once its cache is; then the bound is that
             of floats
    wanted:  the student's own log-probabilities of `rows`: [rows, labels]
    made_up: how many of the rows, the last ones, were made up

    Raises ParityError where token ids or probabilities differ, StudentError for a file that
    llama.cpp cannot load.
    """
    task = record.task
    sources = [task.source(row.fields) for row in rows]
    prompt = scoring_prompt(student)
    encoded = encode_prompts(student, sources, prompt, record.max_source_tokens)
    prompts = [one.ids for one in encoded]
    labels = label_ids(student, task)
    context = max(map(len, prompts)) + max(map(len, labels)) + _SEPARATOR + 1
    exact = None
    if exactly and record.precision == "fp32":
        with LlamaServer(file, context, exact=True) as server:
            found = server.scores(prompts, labels)
        exact = check_scores(task.labels, wanted, found, rows, "f32", made_up)
    with LlamaServer(file, context, exact=False) as server:
        texts = [source.text for source in sources]
        seam, whole = _check_tokens(server, student, rows, texts, encoded)
        found = server.scores(prompts, labels)
        # A cache in f16 is known to no more than 16 bits.
        scores = check_scores(task.labels, wanted, found, rows, "bf16", made_up)
        limit = max(map(len, labels)) + _SEPARATOR
        some = whole[:_WRITTEN]
        same = 0
        for index in some:
            text = server.text_after(prompts[index], limit)
            best = task.labels[int(wanted[index].argmax())]
            written = parse_target([text], "label_then_rationale").label
            same += written.partition("\n")[0].strip() == task.verbalize(best)
    return GgufParity(scores, exact, seam, len(whole), same / max(len(some), 1))


def _check_tokens(
    server: LlamaServer,
    student: TextEncoder,
    rows: Sequence[Example],
    texts: Sequence[str],
    encoded: Sequence[EncodedSource],
) -> tuple[int, list[int]]:
    """Compare token ids of texts: rows whose whole prompt differs at the cue, and the indices of
    the rows that are not cut. Raises ParityError where anything else differs."""
    cue = prompt_cue(scoring_prompt(student))
    before, _ = student.affixes
    for text in _PROBES:
        (ours,) = token_ids(student.tokenizer, [text])
        if server.tokens(text) != [*before, *ours]:
            raise ParityError(f"llama.cpp's tokenizer splits {text[:40]!r}… into other tokens")
    (ours,) = token_ids(student.tokenizer, [cue])
    if server.tokens(cue, whole=False) != ours:
        raise ParityError(f"llama.cpp's tokenizer splits {cue!r} into other tokens")
    seam, whole = 0, []
    for index, (row, text, one) in enumerate(zip(rows, texts, encoded, strict=True)):
        if one.truncated:
            continue
        whole.append(index)
        if server.tokens(text + cue) == one.ids:
            continue
        if server.tokens(text) != one.ids[: -len(ours)]:
            raise ParityError(f"row {row.uid!r}: llama.cpp's tokenizer gives other token ids")
        seam += 1
    return seam, whole
