"""Scores labels with the plain model: nothing shared between labels, no cache, no packed rows.

Slow, and right for every model that transformers can run. The faster ways are compared with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tutelage.student.encoding.batching import length_mask, pad
from tutelage.student.model.student import Student


def sum_by_label(logits: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """logits [B, K, T, vocabulary], targets and mask [B or 1, K, T] -> [B, K]."""
    logits = logits.float()
    targets = targets.expand(logits.shape[:3])
    chosen = logits.gather(-1, targets[..., None])[..., 0] - logits.logsumexp(-1)
    return (chosen * mask).sum(-1)


def with_prefixes(
    sources: Sequence[list[int]], prefixes: Sequence[list[int]] | None
) -> list[list[int]]:
    """Each source with the start of its target after it."""
    if prefixes is None:
        return list(sources)
    return [[*source, *prefix] for source, prefix in zip(sources, prefixes, strict=True)]


def score_plainly(
    student: Student,
    sources: Sequence[list[int]],
    labels: Sequence[list[int]],
    prefixes: Sequence[list[int]] | None = None,
) -> torch.Tensor:
    """log p(label | source) [sources, labels], in one forward pass of the padded rows per label.

    prefixes: token ids of each target before the label
    """
    if student.architecture == "classifier":
        inputs = {
            "input_ids": pad(sources, student.pad_id).to(student.device),
            "attention_mask": length_mask(sources).to(student.device),
        }
        every = torch.log_softmax(student.model(**inputs).logits.float(), dim=-1)
        return every[:, [label[0] for label in labels]]
    befores = prefixes if prefixes is not None else [[]] * len(sources)
    columns = []
    for label in labels:
        if student.architecture == "encoder-decoder":
            first = [len(before) for before in befores]
            decoder = [[student.decoder_start_id, *before, *label[:-1]] for before in befores]
            inputs = {
                "input_ids": pad(sources, student.pad_id),
                "attention_mask": length_mask(sources),
                "decoder_input_ids": pad(decoder, student.pad_id),
            }
        else:
            rows = [[*row, *label[:-1]] for row in with_prefixes(sources, prefixes)]
            first = [len(row) - len(label) for row in rows]
            # A causal model does not attend to what stands to the right: padding needs no mask.
            inputs = {"input_ids": pad(rows, student.pad_id)}
        moved = {name: tensor.to(student.device) for name, tensor in inputs.items()}
        logits = student.model(**moved, use_cache=False).logits
        at = torch.tensor([[start + t for t in range(len(label))] for start in first])
        chosen = logits[torch.arange(len(sources))[:, None], at][:, None]
        target = torch.tensor(label, device=student.device)[None, None]
        columns.append(sum_by_label(chosen, target, torch.ones_like(target)))
    return torch.cat(columns, dim=1)


def score_alone(
    student: Student,
    sources: Sequence[list[int]],
    labels: Sequence[list[int]],
    prefixes: Sequence[list[int]] | None = None,
) -> torch.Tensor:
    """The same with one row and one label at a time: there is no padding, and no other row.

    In some models (mixtures of experts of a limited capacity) the rows of a batch change each
    other.
    """
    rows = [
        score_plainly(student, sources[i : i + 1], labels, prefixes and prefixes[i : i + 1])
        for i in range(len(sources))
    ]
    return torch.cat(rows)
