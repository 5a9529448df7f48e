from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from tutelage.core.errors import DivergedError, StudentError
from tutelage.core.task import NLI, Task
from tutelage.core.types import Example
from tutelage.student.encoding.prompts import encode_label, encode_separator, label_ids
from tutelage.student.encoding.truncation import encode_sources
from tutelage.student.inference import score
from tutelage.student.inference.score import _end_of_rationale, score_batch, score_labels
from tutelage.student.model.student import Student

EXAMPLES = [
    Example("a", {"premise": "two dogs play on the beach.", "hypothesis": "a dog."}, "neutral"),
    Example("b", {"premise": "Oslo", "hypothesis": "the man is from Norway."}, "entailment"),
    Example(
        "c",
        {"premise": "the old man was born in 1950 in Oslo, and so on.", "hypothesis": "Norway."},
        "contradiction",
    ),
]


def _by_hand(
    student: Student,
    example: Example,
    words: str,
    *,
    cue: str | None = None,
    lead: Sequence[int] = (),
) -> float:
    """log p(label | source), by one forward pass per token of the label."""
    source = encode_sources(student, [NLI.source(example.fields)], 200, cue)[0].ids
    total, written = 0.0, list(lead)
    for token in encode_label(student, words):
        with torch.no_grad():
            if student.architecture == "encoder-decoder":
                logits = student.model(
                    input_ids=torch.tensor([source]),
                    decoder_input_ids=torch.tensor([[student.decoder_start_id, *written]]),
                ).logits[0, -1]
            else:
                logits = student.model(input_ids=torch.tensor([source + written])).logits[0, -1]
        total += torch.log_softmax(logits, -1)[token].item()
        written.append(token)
    return total


def test_labels_have_several_tokens_here(student: Student) -> None:
    # Otherwise the tests below would not cover labels of several tokens.
    assert max(len(ids) for ids in label_ids(student, TASK)) > 1


TASK = Task(
    name="long",
    fields=("premise", "hypothesis"),
    labels=("entailment", "neutral", "contradiction"),
    verbalizers={"entailment": "both true", "neutral": "nothing is said", "contradiction": "dog"},
)


@pytest.mark.parametrize("task", [NLI, TASK])
def test_score_is_the_sum_over_the_labels_tokens(student: Student, task: Task) -> None:
    predictions = score_labels(student, EXAMPLES, task, tokens_per_micro_batch=10_000)
    for example, prediction in zip(EXAMPLES, predictions, strict=True):
        scores = torch.tensor(
            [_by_hand(student, example, task.verbalize(label)) for label in task.labels]
        )
        wanted = torch.softmax(scores.double(), 0)
        found = torch.tensor([prediction.probabilities[label] for label in task.labels])
        torch.testing.assert_close(found.double(), wanted, rtol=1e-3, atol=1e-5)
        assert prediction.label == task.labels[int(scores.argmax())]
        assert prediction.uid == example.uid
        assert prediction.gold == example.label


def test_longer_rows_never_bring_back_a_way_that_disagreed(
    encoder_decoder: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer rows are tried out with one label, for which a wrong way may be right."""
    labels = label_ids(encoder_decoder, TASK)
    fast = score._WAYS["fast"]

    def wrong_for_several(student: Student, sources: Any, some: Any, *more: Any) -> torch.Tensor:
        return fast(student, sources, some, *more) + (len(some) > 1)

    monkeypatch.setattr(score, "_WAYS", {**score._WAYS, "fast": wrong_for_several})
    for length in (5, 9, 14):
        sources = [encoder_decoder.any_tokens(length), encoder_decoder.any_tokens(3)]
        assert score.find_way(encoder_decoder, sources, labels) == "batched"


def test_longer_rows_that_disagree_are_scored_in_another_way(
    encoder_decoder: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model may attend to a window that shorter rows do not exceed."""
    labels = label_ids(encoder_decoder, TASK)
    fast = score._WAYS["fast"]

    def wrong_for_long(student: Student, sources: Any, *more: Any) -> torch.Tensor:
        return fast(student, sources, *more) + (max(map(len, sources)) > 9)

    monkeypatch.setattr(score, "_WAYS", {**score._WAYS, "fast": wrong_for_long})
    found = [
        score.find_way(encoder_decoder, [encoder_decoder.any_tokens(length)] * 2, labels)
        for length in (5, 9, 14)
    ]
    assert found == ["fast", "fast", "batched"]


SHORT = Task(
    name="short",
    fields=("premise", "hypothesis"),
    labels=("entailment", "neutral", "contradiction"),
    verbalizers={"entailment": "man", "neutral": "Oslo", "contradiction": "dog"},
)
MIXED = replace(SHORT, verbalizers={**SHORT.verbalizers, "neutral": "nothing is said"})


@pytest.mark.parametrize("narrowed", [True, False])
@pytest.mark.parametrize(("task", "calls"), [(SHORT, 1), (MIXED, 2), (TASK, 2)])
def test_the_decoder_continues_only_labels_of_several_tokens(
    encoder_decoder: Student, task: Task, calls: int, narrowed: bool
) -> None:
    encoder_decoder.head_can_be_narrowed = narrowed
    texts = [task.source(e.fields) for e in EXAMPLES]
    sources = [s.ids for s in encode_sources(encoder_decoder, texts, 99)]
    labels = label_ids(encoder_decoder, task)
    shapes = []
    encoder_decoder.model.decoder.register_forward_pre_hook(
        lambda _, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    with torch.no_grad():
        scores = score_batch(encoder_decoder, sources, labels)
    longer = [ids for ids in labels if len(ids) > 1]
    further = (len(EXAMPLES) * len(longer), max((len(ids) - 1 for ids in longer), default=0))
    assert shapes == [(len(EXAMPLES), 1), further][:calls]
    wanted = [
        [_by_hand(encoder_decoder, e, task.verbalize(w)) for w in task.labels] for e in EXAMPLES
    ]
    torch.testing.assert_close(scores, torch.tensor(wanted), rtol=1e-4, atol=1e-4)


def test_batches_do_not_change_a_score(student: Student) -> None:
    together = score_labels(student, EXAMPLES, TASK, tokens_per_micro_batch=10_000)
    alone = score_labels(student, EXAMPLES, TASK, tokens_per_micro_batch=1)
    for one, other in zip(together, alone, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, rel=1e-4)


def test_packed_and_separate_scores_agree(decoder_only: Student) -> None:
    texts = [TASK.source(e.fields) for e in EXAMPLES]
    sources = [s.ids for s in encode_sources(decoder_only, texts, 99)]
    labels = label_ids(decoder_only, TASK)
    with torch.no_grad():
        packed = score_batch(decoder_only, sources, labels)
        assert decoder_only.can_pack is True
        decoder_only.can_pack = False
        separate = score_batch(decoder_only, sources, labels)
    torch.testing.assert_close(packed, separate, rtol=1e-4, atol=1e-4)


def test_labels_of_one_token_are_packed_too(decoder_only: Student) -> None:
    sources = [s.ids for s in encode_sources(decoder_only, [TASK.source(EXAMPLES[0].fields)], 99)]
    labels = [[5], [9], [7]]
    with torch.no_grad():
        scores = score_batch(decoder_only, sources, labels)
        logits = decoder_only.model(input_ids=torch.tensor(sources)).logits[:, -1]
    assert decoder_only.can_pack is True
    torch.testing.assert_close(scores, torch.log_softmax(logits, -1)[:, [5, 9, 7]])


def test_a_model_that_ignores_positions_is_scored_separately(decoder_only: Student) -> None:
    forward = decoder_only.model.base_model.forward

    def stubborn(**inputs: torch.Tensor) -> object:
        inputs.pop("position_ids", None)
        return forward(**inputs)

    decoder_only.model.base_model.forward = stubborn
    texts = [TASK.source(e.fields) for e in EXAMPLES]
    sources = [s.ids for s in encode_sources(decoder_only, texts, 99)]
    with torch.no_grad():
        score_batch(decoder_only, sources, label_ids(decoder_only, TASK))
    assert decoder_only.can_pack is False


def test_a_label_that_begins_another_is_refused(student: Student) -> None:
    task = Task("x", ("text",), ("dog", "dogs"), verbalizers={"dogs": "dog is"})
    with pytest.raises(StudentError, match=r"'dog' and 'dogs'.*verbalizers"):
        label_ids(student, task)


def test_scores_that_are_not_finite_are_an_error(encoder_decoder: Student) -> None:
    with torch.no_grad():
        encoder_decoder.model.shared.weight.fill_(float("nan"))
    with pytest.raises(DivergedError, match="not finite"):
        score_labels(encoder_decoder, EXAMPLES, NLI)


def test_a_student_of_two_tasks_gets_the_prompt_for_labels(student: Student) -> None:
    plain = score_labels(student, EXAMPLES, NLI)
    student.objective = "multitask"
    prompted = score_labels(student, EXAMPLES, NLI)
    prefixed = [s.prefixed("predict: ") for s in (NLI.source(e.fields) for e in EXAMPLES)]
    sources = [s.ids for s in encode_sources(student, prefixed, 200)]
    with torch.no_grad():
        scores = score_batch(student, sources, label_ids(student, NLI))
    changed = torch.tensor([list(p.probabilities.values()) for p in prompted])
    wanted = torch.softmax(scores, 1)
    if student.architecture == "encoder-decoder":
        torch.testing.assert_close(changed, wanted, rtol=1e-3, atol=1e-5)
    else:  # the cue at the end is the one that every decoder-only student gets
        assert prompted == plain


def _ids(student: Student, text: str) -> list[int]:
    ids: list[int] = student.tokenizer(text, add_special_tokens=False).input_ids
    return ids


def _generates(
    student: Student, by_word: dict[str, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Have the student generate these ids, by a word of the input, whatever its weights are."""

    def generate(_: Student, sources: list[list[int]], start: list[int], limit: int) -> object:
        decoded = [student.tokenizer.decode(ids) for ids in sources]
        return [
            next(ids for w, ids in by_word.items() if w in source)[:limit] for source in decoded
        ]

    monkeypatch.setattr("tutelage.student.inference.score.generate", generate)


def test_labels_are_scored_after_the_generated_rationale(
    student: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    student.objective = "rationale_then_label"
    causal = student.architecture == "decoder-only"
    space = " " if causal else ""
    separator = _ids(student, "\nLabel:" if causal else "Label:")
    assert encode_separator(student) == separator
    by_word = {
        "dogs": [*_ids(student, f"{space}dogs play"), *separator, *_ids(student, "neutral")],
        "old": _ids(student, f"{space}born in Oslo"),  # without a label
        "Oslo": [*_ids(student, f"{space}Norway"), *separator, *_ids(student, "animals")],
    }
    _generates(student, by_word, monkeypatch)
    predictions = score_labels(student, EXAMPLES, TASK, tokens_per_micro_batch=10_000)
    assert [p.rationale for p in predictions] == ["dogs play", "Norway", "born in Oslo"]
    for example, prediction in zip(EXAMPLES, predictions, strict=True):
        lead = _ids(student, f"{space}{prediction.rationale}")
        scores = torch.tensor(
            [
                _by_hand(
                    student,
                    example,
                    TASK.verbalize(label),
                    cue="\nExplanation:",
                    lead=[*lead, *separator],
                )
                for label in TASK.labels
            ]
        )
        found = torch.tensor([prediction.probabilities[label] for label in TASK.labels])
        torch.testing.assert_close(found, torch.softmax(scores, 0), rtol=1e-3, atol=1e-5)


def test_a_rationale_that_does_not_end_is_cut(
    student: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    student.objective = "rationale_then_label"
    _generates(student, {"": _ids(student, "the man is from Norway and so on and on")}, monkeypatch)
    (prediction,) = score_labels(student, EXAMPLES[:1], TASK, max_rationale_tokens=4)
    assert prediction.rationale
    assert len(_ids(student, prediction.rationale)) <= 5


@pytest.mark.parametrize(
    ("ids", "limit", "end"),
    [
        ([1, 2, 8, 9, 3], 4, 2),
        ([1, 8, 9, 2, 8, 9, 3], 4, 4),
        ([1, 8, 9, 2, 8, 9, 3], 3, 1),  # what follows the limit does not belong to the rationale
        ([1, 2, 3, 4, 8, 9], 3, 3),
        ([1, 2, 3, 8], 3, 3),
        ([8, 9], 3, 0),
        ([8], 3, 3),
    ],
)
def test_where_a_rationale_ends(ids: list[int], limit: int, end: int) -> None:
    assert _end_of_rationale(ids, [8, 9], limit) == end


def test_after_a_rationale_the_head_runs_at_the_labels_only(
    encoder_decoder: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder_decoder.objective = "rationale_then_label"
    _generates(encoder_decoder, {"": _ids(encoder_decoder, "Oslo lies in Norway")}, monkeypatch)
    score_labels(encoder_decoder, EXAMPLES, TASK)  # ways of scoring are tried out once, here
    rows = []
    encoder_decoder.model.get_output_embeddings().register_forward_hook(
        lambda _, inputs, output: rows.append(len(output))
    )
    score_labels(encoder_decoder, EXAMPLES, TASK)
    labels = label_ids(encoder_decoder, TASK)
    assert rows == [len(EXAMPLES) * sum(len(ids) for ids in labels)]


def test_packed_labels_need_the_head_once_for_each_of_their_tokens(decoder_only: Student) -> None:
    score_labels(decoder_only, EXAMPLES, TASK)  # the way is found here
    rows = []
    decoder_only.model.get_output_embeddings().register_forward_hook(
        lambda _, inputs, output: rows.append(output.shape[:-1].numel())
    )
    score_labels(decoder_only, EXAMPLES, TASK)
    lengths = [len(ids) for ids in label_ids(decoder_only, TASK)]
    assert len(set(lengths)) > 1
    # All first tokens are predicted at one place, the input's end.
    assert rows == [len(EXAMPLES) * (1 + sum(lengths) - len(lengths))]
