"""Scores labels that share the work on their input. The fast ways of `score`.

Not every model computes in these ways what it computes plainly: `score.find_way` tries it out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tutelage.student.encoding.batching import length_mask, pad
from tutelage.student.encoding.packing import branch_mask, pack
from tutelage.student.model.student import Student


def score_with_cache(
    student: Student,
    sources: Sequence[list[int]],
    labels: Sequence[list[int]],
    prefixes: Sequence[list[int]] | None,
) -> torch.Tensor:
    """An encoder-decoder's log p(label | source): runs the encoder once, and the decoder over all
    labels together. Arguments as in `score.score_batch`."""
    prefixes = prefixes or [[]] * len(sources)
    device = student.device
    ids = pad(sources, student.pad_id).to(device)
    mask = length_mask(sources).to(device)
    encoder = student.model.get_encoder()
    states = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    if not any(prefixes):
        return _label_first(student, states, mask, labels)
    count = len(labels)
    inputs = pad(
        [[student.decoder_start_id, *prefix, *ids[:-1]] for prefix in prefixes for ids in labels],
        student.pad_id,
    )
    # Where each token of each label is predicted, and by which of the decoder's rows.
    at = [
        (row * count + k, len(prefix) + t)
        for row, prefix in enumerate(prefixes)
        for k, ids in enumerate(labels)
        for t in range(len(ids))
    ]
    which, columns = (torch.tensor(part, device=device) for part in zip(*at, strict=True))
    logits = _logits_at(
        student,
        which,
        columns,
        encoder_outputs=(states.repeat_interleave(count, dim=0),),
        attention_mask=mask.repeat_interleave(count, dim=0),
        decoder_input_ids=inputs.to(device),
        use_cache=False,
    )
    logits = logits.reshape(len(sources), -1, logits.shape[-1])
    every = torch.tensor([i for ids in labels for i in ids], device=device)
    return _sums(_log_probabilities(logits, every), [len(ids) for ids in labels])


def _log_probabilities(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """logits [B, N, vocabulary], targets [N] -> log p [B, N] in fp32."""
    logits = logits.float()
    chosen = logits.gather(-1, targets.expand(len(logits), -1)[..., None])[..., 0]
    return chosen - logits.logsumexp(-1)


def _sums(parts: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
    """parts [B, N], of which each of K labels has as many as its length (0 or more) -> [B, K]."""
    return torch.stack([part.sum(1) for part in torch.split(parts, list(lengths), dim=1)], dim=1)


def _logits_at(
    student: Student, rows: torch.Tensor, columns: torch.Tensor, **inputs: object
) -> torch.Tensor:
    """Logits [N, vocabulary] of a forward pass over `inputs`, at the positions (rows, columns)."""
    if student.head_can_be_narrowed:
        with student.narrowed_head(rows, columns):
            logits: torch.Tensor = student.model(**inputs).logits
    else:
        logits = student.model(**inputs).logits[rows, columns]
    return logits


def _label_first(
    student: Student, states: torch.Tensor, mask: torch.Tensor, labels: Sequence[list[int]]
) -> torch.Tensor:
    """log p [B, K] of the labels at the start of a target.

    states: [B, S, width], the encoder's; mask: [B, S]

    The decoder computes the start token once for all labels. Its cache, which includes the keys and
    values of the encoder's states (the larger part of its work), is copied for each label of more
    than one token, not computed again. A label of a single token costs nothing more.
    """
    device, rows = student.device, len(states)
    start = torch.full((rows, 1), student.decoder_start_id, device=device)
    first = student.model(
        encoder_outputs=(states,), attention_mask=mask, decoder_input_ids=start, use_cache=True
    )
    log_probabilities = torch.log_softmax(first.logits[:, 0].float(), -1)
    scores = log_probabilities[:, [ids[0] for ids in labels]]
    longer = [index for index, ids in enumerate(labels) if len(ids) > 1]
    if not longer:
        return scores
    count = len(longer)
    if count > 1:
        first.past_key_values.batch_repeat_interleave(count)
    tails = [labels[index][1:] for index in longer]
    inputs = [labels[index][:-1] for index in longer]
    # The row and the column of the decoder's output that predict each token of a tail.
    at = [(k, t) for k, tail in enumerate(tails) for t in range(len(tail))]
    which, columns = (torch.tensor(part, device=device) for part in zip(*at, strict=True))
    which = (torch.arange(rows, device=device)[:, None] * count + which).flatten()
    columns = columns.repeat(rows)
    logits = _logits_at(
        student,
        which,
        columns,
        encoder_outputs=(states.repeat_interleave(count, dim=0),),
        attention_mask=mask.repeat_interleave(count, dim=0),
        decoder_input_ids=pad(inputs, student.pad_id).to(device).repeat(rows, 1),
        past_key_values=first.past_key_values,
        use_cache=True,
    )
    targets = torch.tensor([i for tail in tails for i in tail], device=device)
    found = _log_probabilities(logits.reshape(rows, len(targets), -1), targets)
    scores[:, longer] += _sums(found, [len(tail) for tail in tails])
    return scores


def score_packed(
    student: Student, sources: Sequence[list[int]], labels: Sequence[list[int]]
) -> torch.Tensor:
    """One row per source with all labels as branches: each label attends to the source and to
    itself."""
    device, count = student.device, len(sources)
    tails = [label[:-1] for label in labels]
    packed = pack([(source, tails) for source in sources], student.pad_id)
    # The source's last position predicts the first token of every label; each position of a branch
    # predicts the next one.
    at = [
        [len(source) - 1]
        + [start + t for start, tail in zip(starts, tails, strict=True) for t in range(len(tail))]
        for source, starts in zip(sources, packed.starts, strict=True)
    ]
    columns = torch.tensor(at, device=device)
    rows = torch.arange(count, device=device)[:, None].expand_as(columns)
    positions = packed.position_ids.to(device)
    logits = _logits_at(
        student,
        rows.flatten(),
        columns.flatten(),
        input_ids=packed.input_ids.to(device),
        position_ids=positions,
        attention_mask=branch_mask(student, packed.owners.to(device), positions),
        use_cache=False,
    )
    logits = logits.reshape(count, len(at[0]), -1)
    first = torch.log_softmax(logits[:, 0].float(), -1)[:, [label[0] for label in labels]]
    later = torch.tensor(
        [i for label in labels for i in label[1:]], dtype=torch.long, device=device
    )
    found = _log_probabilities(logits[:, 1:], later)
    return first + _sums(found, [len(tail) for tail in tails])
