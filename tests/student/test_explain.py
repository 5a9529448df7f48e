"""Explanations that a student generates freely: parsed, limited, in order."""

from __future__ import annotations

import pytest

from tutelage.core.task import NLI
from tutelage.core.types import ObjectiveName
from tutelage.data.synthetic import generate
from tutelage.student.inference import explain as module
from tutelage.student.inference.explain import write_explanations
from tutelage.student.model.student import Student

ROWS = generate(7, 4)


def _generating(monkeypatch: pytest.MonkeyPatch, student: Student, texts: list[str]) -> list[str]:
    """Have `generate` return these texts, row by row. Returns the list of prompts it is given."""
    prompts: list[str] = []
    left = iter(texts)

    def write(
        student: Student, sources: list[list[int]], start: list[int], limit: int
    ) -> list[list[int]]:
        prompts.append(student.tokenizer.decode(sources[0], skip_special_tokens=True))
        assert start == []
        return [student.tokenizer(next(left), add_special_tokens=False).input_ids for _ in sources]

    monkeypatch.setattr(module, "generate", write)
    return prompts


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
def test_label_and_rationale_are_parsed(
    student: Student,
    monkeypatch: pytest.MonkeyPatch,
    objective: ObjectiveName,
    text: str,
    label: str | None,
    rationale: str,
) -> None:
    student.objective = objective
    prompts = _generating(monkeypatch, student, [text])
    (found,) = write_explanations(student, ROWS[:1], NLI)
    assert (found.uid, found.label, found.text) == (ROWS[0].uid, label, rationale)
    assert found.tokens == len(student.tokenizer(text, add_special_tokens=False).input_ids)
    assert not found.cut
    if student.architecture == "decoder-only":
        answers = objective == "label_then_rationale"
        assert prompts[0].endswith("Answer:" if answers else "Explanation:")


def test_explanations_are_limited_in_order_and_reported(student: Student) -> None:
    progress: list[int] = []
    found = write_explanations(
        student,
        ROWS,
        NLI,
        max_rationale_tokens=9,
        tokens_per_micro_batch=200,
        on_progress=progress.append,
    )
    assert [each.uid for each in found] == [row.uid for row in ROWS]
    assert progress == sorted(progress) and progress[-1] == len(ROWS) and len(progress) > 1
    longest = max(each.tokens for each in found)
    assert 9 < longest <= 9 + 12  # with label and separator
    # Random weights rarely generate the end token: a cut explanation is marked as such.
    assert {each.cut for each in found if each.tokens == longest} == {True}
    assert not any(each.cut for each in found if each.tokens < longest)
    whole = write_explanations(student, ROWS, NLI, max_rationale_tokens=9)
    assert whole == found
    assert write_explanations(student, [], NLI) == []
