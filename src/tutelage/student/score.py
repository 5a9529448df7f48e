"""Reading a student: the log-probability of every label, without generating.

A label's score is the SUM of the log-probabilities of its tokens, log p(label | input), so that
the scores are those of competing continuations; the softmax over a task's labels gives the
probabilities. (A mean over tokens would be no probability, and would favour labels whose later
tokens are certain.) Labels none of which begins another are needed, and checked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from tutelage.errors import StudentError
from tutelage.records import Example, Prediction
from tutelage.student.collate import (
    encode_label,
    encode_sources,
    length_mask,
    pad,
    split_by_tokens,
)
from tutelage.student.model import Student
from tutelage.task import Task

_PACKED_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.05}
"""Largest difference of scores, as a share of the largest, at which packed and separate scoring
count as the same. A model that ignores mask or positions is off by whole nats."""


def label_ids(student: Student, task: Task) -> list[list[int]]:
    """Token ids of each label of the task, in their order; raises where one begins another."""
    ids = [encode_label(student, task.verbalize(label)) for label in task.labels]
    for i, one in enumerate(ids):
        for j, other in enumerate(ids):
            if i != j and other[: len(one)] == one:
                raise StudentError(
                    f"labels {task.labels[i]!r} and {task.labels[j]!r}: under this student's "
                    "tokenizer the first begins the second, so that their scores do not compete; "
                    "give them other verbalizers"
                )
    return ids


def score_labels(
    student: Student,
    examples: Sequence[Example],
    task: Task,
    *,
    max_source_tokens: int = 512,
    tokens_per_pass: int = 8192,
    on_progress: Callable[[int], None] | None = None,
) -> list[Prediction]:
    """One prediction for each example, in their order; always one of the task's labels.

    on_progress is told the number of rows scored so far.
    """
    if not examples:
        return []
    labels = label_ids(student, task)
    texts = [task.render_source(e.fields) for e in examples]
    sources = encode_sources(student, texts, max_source_tokens)
    scores = torch.empty(len(examples), len(labels))
    extra = sum(len(ids) for ids in labels)
    order = sorted(range(len(sources)), key=lambda i: len(sources[i][0]))
    training = student.model.training
    student.model.eval()
    done = 0
    lengths = [len(sources[i][0]) + extra for i in order]
    for part in split_by_tokens(lengths, tokens_per_pass, order):
        with torch.no_grad():
            scores[part] = score_batch(student, [sources[i][0] for i in part], labels).cpu()
        done += len(part)
        if on_progress is not None:
            on_progress(done)
    student.model.train(training)
    if not bool(torch.isfinite(scores).all()):
        raise StudentError("the student's scores are not finite: its training diverged")
    probabilities = torch.softmax(scores.double(), dim=1)
    best = scores.argmax(dim=1)
    return [
        Prediction(
            uid=example.uid,
            label=task.labels[int(best[i])],
            probabilities={
                label: float(probabilities[i, k]) for k, label in enumerate(task.labels)
            },
            gold=example.label,
            truncated=sources[i][1],
        )
        for i, example in enumerate(examples)
    ]


def score_batch(
    student: Student, sources: Sequence[list[int]], labels: Sequence[list[int]]
) -> torch.Tensor:
    """log p(label | source), summed over the label's tokens: [sources, labels], fp32."""
    if student.architecture == "encoder-decoder":
        return _encoder_decoder(student, sources, labels)
    if student.packs_labels is None:
        student.packs_labels = _packing_works(student)
    scorer = _packed if student.packs_labels else _separate
    return scorer(student, sources, labels)


def _sum_by_label(logits: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """logits [B, K, T, vocabulary], targets and mask [B or 1, K, T] -> [B, K]."""
    logits = logits.float()
    targets = targets.expand(logits.shape[:3])
    chosen = logits.gather(-1, targets[..., None])[..., 0] - logits.logsumexp(-1)
    return (chosen * mask).sum(-1)


def _encoder_decoder(
    student: Student, sources: Sequence[list[int]], labels: Sequence[list[int]]
) -> torch.Tensor:
    """The encoder once; one short decoder pass for all labels together."""
    device = student.device
    ids = pad(sources, student.pad_id).to(device)
    mask = length_mask(sources).to(device)
    encoder = student.model.get_encoder()
    states = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    count = len(labels)
    inputs = pad([[student.decoder_start_id, *label[:-1]] for label in labels], student.pad_id)
    output = student.model(
        encoder_outputs=(states.repeat_interleave(count, dim=0),),
        attention_mask=mask.repeat_interleave(count, dim=0),
        decoder_input_ids=inputs.to(device).repeat(len(sources), 1),
        use_cache=False,
    )
    logits = output.logits.unflatten(0, (len(sources), count))
    targets = pad(labels, student.pad_id).to(device)[None]
    return _sum_by_label(logits, targets, length_mask(labels).to(device)[None])


def _separate(
    student: Student, sources: Sequence[list[int]], labels: Sequence[list[int]]
) -> torch.Tensor:
    """Each source with each label as a row of its own: works for every causal model."""
    columns = []
    for label in labels:
        rows = [[*source, *label[:-1]] for source in sources]
        output = student.model(
            input_ids=pad(rows, student.pad_id).to(student.device), use_cache=False
        )
        at = torch.tensor([[len(s) - 1 + t for t in range(len(label))] for s in sources])
        logits = output.logits[torch.arange(len(sources))[:, None], at][:, None]
        target = torch.tensor(label, device=student.device)[None, None]
        columns.append(_sum_by_label(logits, target, torch.ones_like(target)))
    return torch.cat(columns, dim=1)


def _packed(
    student: Student, sources: Sequence[list[int]], labels: Sequence[list[int]]
) -> torch.Tensor:
    """One pass over source, label 1, label 2, …: a label sees the source and itself alone.

    A row is [source, padding, label tokens but each label's last]; the positions of each label's
    tokens continue the source's.
    """
    device = student.device
    width = max(len(s) for s in sources)
    tail = [token for label in labels for token in label[:-1]]
    ids = torch.cat(
        [pad(sources, student.pad_id), torch.tensor([tail] * len(sources)).long()], dim=1
    )
    lengths = torch.tensor([len(s) for s in sources])
    owner = torch.tensor([k for k, label in enumerate(labels) for _ in label[:-1]]).long()
    offset = torch.tensor([t for label in labels for t in range(len(label) - 1)]).long()
    positions = torch.cat(
        [torch.arange(width).expand(len(sources), -1), lengths[:, None] + offset], dim=1
    )
    total = ids.shape[1]
    mask = torch.ones(total, total, dtype=torch.bool).tril().repeat(len(sources), 1, 1)
    mask[:, width:, :width] = (torch.arange(width) < lengths[:, None])[:, None]
    mask[:, width:, width:] &= owner[:, None] == owner
    # Added to the attention's scores, which every implementation understands.
    added = torch.zeros(mask.shape, dtype=student.model.dtype)
    added.masked_fill_(~mask, torch.finfo(added.dtype).min)
    hidden_or_logits, head = _last_layer(
        student, ids.to(device), positions.to(device), added[:, None].to(device)
    )
    # The first token of every label is read at the source's end, each later one at the one before.
    longest = max(len(label) for label in labels)
    at = torch.zeros(len(sources), len(labels), longest, dtype=torch.long)
    at[:, :, 0] = (lengths - 1)[:, None]
    start = width
    for k, label in enumerate(labels):
        at[:, k, 1 : len(label)] = torch.arange(start, start + len(label) - 1)
        start += len(label) - 1
    rows = torch.arange(len(sources))[:, None, None]
    logits = head(hidden_or_logits[rows.to(device), at.to(device)])
    targets = pad(labels, student.pad_id).to(device)[None]
    return _sum_by_label(logits, targets, length_mask(labels).to(device)[None])


def _last_layer(
    student: Student, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
    """What the head reads, and the head; or the logits themselves where the head is not plain."""
    inputs = {
        "input_ids": ids,
        "position_ids": positions,
        "attention_mask": mask,
        "use_cache": False,
    }
    if student.head_is_linear:
        hidden = student.model.base_model(**inputs).last_hidden_state
        return hidden, student.model.get_output_embeddings()
    return student.model(**inputs).logits, lambda logits: logits


def _packing_works(student: Student) -> bool:
    """Try: not every model takes a mask of four dimensions and positions of its own."""
    vocabulary = student.model.config.get_text_config().vocab_size
    base = [i % vocabulary for i in range(5, 60)]
    sources, labels = [base[:9], base[9:14]], [base[20:23], base[30:31], base[40:42]]
    separate = _separate(student, sources, labels)
    try:
        packed = _packed(student, sources, labels)
    except (TypeError, ValueError, RuntimeError, IndexError):
        return False
    tolerance = _PACKED_TOLERANCE.get(student.model.dtype, 0.0)
    return bool((separate - packed).abs().max() < tolerance * separate.abs().max().clamp(min=1))
