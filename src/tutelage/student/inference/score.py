"""Reading a student: the log-probability of every label.

A label's score is the SUM of the log-probabilities of its tokens, log p(label | input), so that
the scores are those of competing continuations; the softmax over a task's labels gives the
probabilities. (A mean over tokens would be no probability, and would favour labels whose later
tokens are certain.) Labels none of which begins another are needed, and checked.

Nothing is generated, but by a student that learnt to write its rationale first: it writes one, of
bounded length, and the labels are scored after it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import torch

from tutelage.core.errors import StudentError
from tutelage.core.task import Task
from tutelage.core.types import Example, Prediction
from tutelage.student.encoding.batching import (
    encode_label,
    encode_prompts,
    encode_separator,
    length_mask,
    pad,
    split_by_tokens,
)
from tutelage.student.encoding.packing import branch_mask, can_pack, pack
from tutelage.student.fast.threads import Lanes
from tutelage.student.inference.generate import generate
from tutelage.student.model.student import Student


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
    max_rationale_tokens: int = 256,
    tokens_per_micro_batch: int = 8192,
    on_progress: Callable[[int], None] | None = None,
) -> list[Prediction]:
    """One prediction for each example, in their order; always one of the task's labels.

    max_rationale_tokens: of a rationale that the student writes first; it is cut there
    on_progress is told the number of rows scored so far.
    """
    if not examples:
        return []
    labels = label_ids(student, task)
    texts = [task.source(e.fields) for e in examples]
    writes = student.objective == "rationale_then_label"
    sources = encode_prompts(student, texts, "explain" if writes else "answer", max_source_tokens)
    scores = torch.empty(len(examples), len(labels))
    rationales: list[str | None] = [None] * len(examples)
    extra = sum(len(ids) for ids in labels) + (max_rationale_tokens if writes else 0)
    order = sorted(range(len(sources)), key=lambda i: len(sources[i].ids))
    training = student.model.training
    student.model.eval()
    # A student that writes first is read on all threads at once: what generating keeps is its own.
    lanes = Lanes(student, 1 if writes else torch.get_num_threads(), tokens_per_micro_batch)
    lengths = [len(sources[i].ids) + extra for i in order]
    counting, done = threading.Lock(), 0

    def read(reader: Student, _: int, part: list[int]) -> None:
        nonlocal done
        inputs = [sources[i].ids for i in part]
        leads = None
        if writes:
            leads, written = _write_rationales(reader, inputs, labels, max_rationale_tokens)
            for i, text in zip(part, written, strict=True):
                rationales[i] = text
        with torch.no_grad():
            scores[part] = score_batch(reader, inputs, labels, leads).cpu()
        with counting:
            done += len(part)
            if on_progress is not None:
                on_progress(done)

    try:
        lanes.run(read, split_by_tokens(lengths, lanes.tokens_per_micro_batch, order))
    finally:
        lanes.close()
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
            truncated=sources[i].truncated,
            cut_tokens=sources[i].cut_tokens,
            cut_beyond=sources[i].cut_beyond,
            rationale=rationales[i],
        )
        for i, example in enumerate(examples)
    ]


def _write_rationales(
    student: Student, sources: Sequence[list[int]], labels: Sequence[list[int]], limit: int
) -> tuple[list[list[int]], list[str]]:
    """The student's own rationale for each source: token ids up to and with the separator before
    the label, and the text."""
    separator = encode_separator(student)
    room = limit + len(separator) + max(len(ids) for ids in labels)
    leads, texts = [], []
    for ids in generate(student, sources, [], room):
        rationale = ids[: _end_of_rationale(ids, separator, limit)]
        leads.append([*rationale, *separator])
        texts.append(student.tokenizer.decode(rationale, skip_special_tokens=True).strip())
    return leads, texts


def _end_of_rationale(ids: Sequence[int], separator: Sequence[int], limit: int) -> int:
    """Where `separator` stands last in `ids` after at most `limit` others; else `limit`."""
    for start in range(min(limit, len(ids) - len(separator)), -1, -1):
        if ids[start : start + len(separator)] == separator:
            return start
    return limit


def score_batch(
    student: Student,
    sources: Sequence[list[int]],
    labels: Sequence[list[int]],
    leads: Sequence[list[int]] | None = None,
) -> torch.Tensor:
    """log p(label | source), summed over the label's tokens: [sources, labels], fp32.

    leads: for each source, token ids that were written before the label
    """
    if student.architecture == "encoder-decoder":
        return _encoder_decoder(student, sources, labels, leads or [[]] * len(sources))
    if leads is not None:
        sources = [[*source, *lead] for source, lead in zip(sources, leads, strict=True)]
    scorer = _packed if can_pack(student) else _separate
    return scorer(student, sources, labels)


def _sum_by_label(logits: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """logits [B, K, T, vocabulary], targets and mask [B or 1, K, T] -> [B, K]."""
    logits = logits.float()
    targets = targets.expand(logits.shape[:3])
    chosen = logits.gather(-1, targets[..., None])[..., 0] - logits.logsumexp(-1)
    return (chosen * mask).sum(-1)


def _encoder_decoder(
    student: Student,
    sources: Sequence[list[int]],
    labels: Sequence[list[int]],
    leads: Sequence[list[int]],
) -> torch.Tensor:
    """The encoder once; one short decoder pass for all labels together."""
    device = student.device
    ids = pad(sources, student.pad_id).to(device)
    mask = length_mask(sources).to(device)
    encoder = student.model.get_encoder()
    states = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    if not any(leads):
        return _after_start(student, states, mask, labels)
    targets = pad(labels, student.pad_id).to(device)[None]
    count = len(labels)
    inputs = pad(
        [[student.decoder_start_id, *lead, *ids[:-1]] for lead in leads for ids in labels],
        student.pad_id,
    )
    at = torch.tensor([[len(lead) + t for t in range(targets.shape[2])] for lead in leads])
    at = at.clamp(max=inputs.shape[1] - 1).to(device)
    at = at.repeat_interleave(count, dim=0)
    logits = _read_at(
        student,
        torch.arange(len(inputs), device=device)[:, None].expand_as(at).flatten(),
        at.flatten(),
        encoder_outputs=(states.repeat_interleave(count, dim=0),),
        attention_mask=mask.repeat_interleave(count, dim=0),
        decoder_input_ids=inputs.to(device),
        use_cache=False,
    )
    logits = logits.reshape(len(sources), count, targets.shape[2], -1)
    return _sum_by_label(logits, targets, length_mask(labels).to(device)[None])


def _read_at(
    student: Student, rows: torch.Tensor, columns: torch.Tensor, **inputs: object
) -> torch.Tensor:
    """Logits [N, vocabulary] of a pass over `inputs`, at (rows, columns) [N] alone."""
    if student.head_can_be_narrowed:
        with student.narrowed_head(rows, columns):
            logits: torch.Tensor = student.model(**inputs).logits
    else:
        logits = student.model(**inputs).logits[rows, columns]
    return logits


def _after_start(
    student: Student, states: torch.Tensor, mask: torch.Tensor, labels: Sequence[list[int]]
) -> torch.Tensor:
    """log p [B, K] of the labels at the beginning of a target.

    states: [B, S, width], the encoder's; mask: [B, S]

    The start token is read once for all labels. What the decoder made of it and of the encoder's
    states (the larger part of its work) is copied to each label that goes on after its first
    token, not computed again; a label of a single token costs nothing more.
    """
    device, rows = student.device, len(states)
    start = torch.full((rows, 1), student.decoder_start_id, device=device)
    first = student.model(
        encoder_outputs=(states,), attention_mask=mask, decoder_input_ids=start, use_cache=True
    )
    begun = torch.log_softmax(first.logits[:, 0].float(), -1)
    scores = begun[:, [ids[0] for ids in labels]]
    longer = [place for place, ids in enumerate(labels) if len(ids) > 1]
    if not longer:
        return scores
    count = len(longer)
    if count > 1:
        first.past_key_values.batch_repeat_interleave(count)
    tails = [labels[place][1:] for place in longer]
    read = [labels[place][:-1] for place in longer]
    # Where each token of a tail is predicted: a row of the pass, and a column.
    at = [(k, t) for k, tail in enumerate(tails) for t in range(len(tail))]
    which, columns = (torch.tensor(part, device=device) for part in zip(*at, strict=True))
    which = (torch.arange(rows, device=device)[:, None] * count + which).flatten()
    columns = columns.repeat(rows)
    logits = _read_at(
        student,
        which,
        columns,
        encoder_outputs=(states.repeat_interleave(count, dim=0),),
        attention_mask=mask.repeat_interleave(count, dim=0),
        decoder_input_ids=pad(read, student.pad_id).to(device).repeat(rows, 1),
        past_key_values=first.past_key_values,
        use_cache=True,
    ).float()
    targets = torch.tensor([i for t in tails for i in t], device=device).repeat(rows, 1)
    logits = logits.reshape(*targets.shape, -1)
    found = logits.gather(-1, targets[..., None])[..., 0] - logits.logsumexp(-1)
    parts = torch.split(found, [len(tail) for tail in tails], dim=1)
    for place, part in zip(longer, parts, strict=True):
        scores[:, place] += part.sum(1)
    return scores


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
    """One pass over source, label 1, label 2, …: a label sees the source and itself alone."""
    device = student.device
    tails = [label[:-1] for label in labels]
    packed = pack([(source, tails) for source in sources], student.pad_id)
    # The first token of every label is read at the source's end, each later one at the one before.
    columns = [
        [
            [len(source) - 1, *range(start, start + len(tail))]
            for start, tail in zip(starts, tails, strict=True)
        ]
        for source, starts in zip(sources, packed.starts, strict=True)
    ]
    longest = max(len(label) for label in labels)
    at = torch.tensor(
        [[places + [0] * (longest - len(places)) for places in row] for row in columns],
        device=device,
    )
    rows = torch.arange(len(sources), device=device)[:, None, None].expand_as(at)
    logits = _read_at(
        student,
        rows.flatten(),
        at.flatten(),
        input_ids=packed.input_ids.to(device),
        position_ids=packed.position_ids.to(device),
        attention_mask=branch_mask(packed.owners.to(device), student.model.dtype),
        use_cache=False,
    ).reshape(*at.shape, -1)
    targets = pad(labels, student.pad_id).to(device)[None]
    return _sum_by_label(logits, targets, length_mask(labels).to(device)[None])
