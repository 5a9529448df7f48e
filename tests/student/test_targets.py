from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.core.errors import DataError
from tutelage.core.task import NLI
from tutelage.core.types import Example, ObjectiveName, Rationale, Target
from tutelage.student.encoding.targets import (
    LABEL_SEPARATOR,
    SEPARATOR,
    build_training_examples,
    parse_target,
    render_target,
)

WORDS = (
    st.text(min_size=1)
    .map(str.strip)
    .filter(lambda t: t and SEPARATOR not in t and LABEL_SEPARATOR not in t)
)


@given(
    label=WORDS,
    rationale=st.none() | WORDS,
    objective=st.sampled_from(["label_then_rationale", "rationale_then_label", "multitask"]),
)
def test_parsing_undoes_rendering(
    label: str, rationale: str | None, objective: ObjectiveName
) -> None:
    target = Target(label, rationale)
    texts = [writing.text for writing in render_target(target, objective)]
    assert parse_target(texts, objective) == target


def test_the_objective_label_writes_the_label_only() -> None:
    (writing,) = render_target(Target("neutral", "never seen"), "label")
    assert writing.text == "neutral"
    assert parse_target([writing.text], "label") == Target("neutral")


def test_the_text_of_each_objective() -> None:
    target = Target("neutral", "It is open.")
    written = {
        objective: [(w.prompt, w.text) for w in render_target(target, objective)]
        for objective in get_args(ObjectiveName)
    }
    assert written == {
        "label": [("answer", "neutral")],
        "label_then_rationale": [("answer", "neutral Rationale: It is open.")],
        "rationale_then_label": [("explain", "It is open. Label: neutral")],
        "multitask": [("answer", "neutral"), ("explain", "It is open.")],
    }


def test_a_text_without_a_label() -> None:
    assert parse_target(["It goes on and on"], "rationale_then_label") == Target(
        "", "It goes on and on"
    )


@pytest.mark.parametrize(
    ("objective", "rationale"),
    [
        ("label_then_rationale", "He wrote Rationale: none"),
        ("rationale_then_label", "He wrote Label: none, and left."),
    ],
)
def test_rationale_may_hold_the_separator(objective: ObjectiveName, rationale: str) -> None:
    target = Target("neutral", rationale)
    texts = [writing.text for writing in render_target(target, objective)]
    assert parse_target(texts, objective) == target


def _examples() -> list[Example]:
    return [
        Example(f"u{i}", {"premise": f"p {i}", "hypothesis": f"h {i}"}, label)
        for i, label in enumerate(NLI.labels)
    ]


def test_every_row_is_kept_whatever_its_rationale() -> None:
    rationales = [
        Rationale("u0", "x", "because", "ok"),
        Rationale("u1", "x", "half of a sen", "truncated"),
        Rationale("u2", "x", "", "refused"),
    ]
    built = build_training_examples(_examples(), NLI, rationales, "label_then_rationale")
    assert [(t.uid, t.target) for t in built] == [
        ("u0", Target("entailment", "because")),
        ("u1", Target("neutral")),
        ("u2", Target("contradiction")),
    ]
    assert built[0].source.text == "Premise: p 0 Hypothesis: h 0"


def test_the_label_objective_ignores_rationales() -> None:
    rationales = [Rationale("u0", "x", "because", "ok")]
    built = build_training_examples(_examples(), NLI, rationales, "label")
    assert [t.target.rationale for t in built] == [None] * 3


def test_rationales_of_other_rows_are_an_error() -> None:
    with pytest.raises(DataError, match=r"'elsewhere'.*no training example"):
        build_training_examples(
            _examples(), NLI, [Rationale("elsewhere", "x", "y", "ok")], "label_then_rationale"
        )
