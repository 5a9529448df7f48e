from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.errors import DataError
from tutelage.records import Example, Rationale, Target
from tutelage.student.target import (
    SEPARATOR,
    build_training_examples,
    parse_target,
    render_target,
)
from tutelage.task import NLI

WORDS = st.text(min_size=1).map(str.strip).filter(lambda t: t and SEPARATOR not in t)


@given(label=WORDS, rationale=st.none() | WORDS)
def test_parsing_undoes_rendering(label: str, rationale: str | None) -> None:
    target = Target(label, rationale)
    assert parse_target(render_target(target)) == target


def test_rationale_may_hold_the_separator() -> None:
    target = Target("neutral", "He wrote Rationale: none")
    assert parse_target(render_target(target)) == target


def _examples() -> list[Example]:
    return [
        Example(f"u{i}", {"premise": f"p {i}", "hypothesis": f"h {i}"}, label)
        for i, label in enumerate(NLI.labels)
    ]


def test_every_row_stays_whatever_became_of_its_rationale() -> None:
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
    assert built[0].source == "Premise: p 0 Hypothesis: h 0"


def test_the_label_objective_ignores_rationales() -> None:
    rationales = [Rationale("u0", "x", "because", "ok")]
    built = build_training_examples(_examples(), NLI, rationales, "label")
    assert [t.target.rationale for t in built] == [None] * 3


def test_rationales_of_other_rows_are_an_error() -> None:
    with pytest.raises(DataError, match=r"'elsewhere'.*no training example"):
        build_training_examples(
            _examples(), NLI, [Rationale("elsewhere", "x", "y", "ok")], "label_then_rationale"
        )
