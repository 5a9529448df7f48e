"""What a student writes of its own accord: taken apart, bounded, in order."""

from __future__ import annotations

import pytest

from tutelage.core.task import NLI
from tutelage.core.types import ObjectiveName
from tutelage.data.synthetic import generate
from tutelage.student.inference import explain as module
from tutelage.student.inference.explain import write_explanations
from tutelage.student.model.student import Student

ROWS = generate(7, 4)


def _saying(monkeypatch: pytest.MonkeyPatch, student: Student, texts: list[str]) -> list[str]:
    """Have `generate` write these texts, row by row; a list that takes the prompts it is given."""
    asked: list[str] = []
    left = iter(texts)

    def write(
        student: Student, sources: list[list[int]], start: list[int], limit: int
    ) -> list[list[int]]:
        asked.append(student.tokenizer.decode(sources[0], skip_special_tokens=True))
        assert start == []
        return [student.tokenizer(next(left), add_special_tokens=False).input_ids for _ in sources]

    monkeypatch.setattr(module, "generate", write)
    return asked


@pytest.mark.parametrize(
    ("objective", "text", "label", "rationale"),
    [
        ("label_then_rationale", "neutral Rationale: nothing.", "neutral", "nothing."),
        ("label_then_rationale", "animals Rationale: a dog is one.", None, "a dog is one."),
        ("label_then_rationale", "entailment", "entailment", ""),
        ("rationale_then_label", "a dog is an animal. Label: entailment", "entailment",
         "a dog is an animal."),
        ("rationale_then_label", "a dog is an animal", None, "a dog is an animal"),
        ("multitask", "nothing is said.", None, "nothing is said."),
    ],
)  # fmt: skip
def test_label_and_rationale_are_taken_apart(
    student: Student,
    monkeypatch: pytest.MonkeyPatch,
    objective: ObjectiveName,
    text: str,
    label: str | None,
    rationale: str,
) -> None:
    student.objective = objective
    asked = _saying(monkeypatch, student, [text])
    (found,) = write_explanations(student, ROWS[:1], NLI)
    assert (found.uid, found.label, found.text) == (ROWS[0].uid, label, rationale)
    assert found.tokens == len(student.tokenizer(text, add_special_tokens=False).input_ids)
    assert not found.cut
    if student.architecture == "decoder-only":
        answers = objective == "label_then_rationale"
        assert asked[0].endswith("Answer:" if answers else "Explanation:")


def test_it_is_bounded_in_order_and_told(student: Student) -> None:
    told: list[int] = []
    found = write_explanations(
        student,
        ROWS,
        NLI,
        max_rationale_tokens=9,
        tokens_per_micro_batch=200,
        on_progress=told.append,
    )
    assert [each.uid for each in found] == [row.uid for row in ROWS]
    assert told == sorted(told) and told[-1] == len(ROWS) and len(told) > 1
    room = max(each.tokens for each in found)
    assert 9 < room <= 9 + 12  # label and separator besides
    # With weights drawn at random the end comes seldom: what did not come to one is told.
    assert {each.cut for each in found if each.tokens == room} == {True}
    assert not any(each.cut for each in found if each.tokens < room)
    whole = write_explanations(student, ROWS, NLI, max_rationale_tokens=9)
    assert whole == found
    assert write_explanations(student, [], NLI) == []
