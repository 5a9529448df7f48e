"""The teacher's own label: what is shown, and which answers count as which label."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tutelage.core.task import NLI, Task
from tutelage.core.types import Completion, Example
from tutelage.strategies.labelling import Labelling, parse_label, render_label

ROW = Example(
    "e1",
    {"premise": "Ada Lom opened a mill in Tarn.", "hypothesis": "Zed closed it."},
    "contradiction",
    reason="She opened one.",
)
SHOT = Example("s1", {"premise": "It rained.", "hypothesis": "Oslo is wet."}, "neutral")
REVIEWS = Task(
    "reviews", ("text",), ("good", "bad", "so-so"), verbalizers={"good": "a treat", "bad": "no"}
)


def test_the_prompt_shows_all_labels_and_never_which_is_the_rows() -> None:
    (message,) = Labelling(NLI).render(ROW, NLI)
    assert message.role == "user"
    assert "Premise: Ada Lom opened a mill in Tarn.\nHypothesis: Zed closed it." in message.content
    assert all(label in message.content for label in NLI.labels)
    assert ROW.reason is not None and ROW.reason not in message.content
    for label in NLI.labels:  # the prompt knows nothing of the row's label
        other = Example("x", ROW.fields, label, reason="no")
        assert Labelling(NLI, [SHOT]).render(other, NLI) == Labelling(NLI, [SHOT]).render(ROW, NLI)


def test_examples_are_earlier_turns_of_the_chat() -> None:
    alone = Labelling(NLI).render(ROW, NLI)[0].content
    first, answer, last = Labelling(NLI, [SHOT]).render(ROW, NLI)
    assert [m.role for m in (first, answer, last)] == ["user", "assistant", "user"]
    assert first.content.endswith("Premise: It rained.\nHypothesis: Oslo is wet.")
    assert answer.content == "neutral"
    assert alone == first.content.replace(
        "Premise: It rained.\nHypothesis: Oslo is wet.", last.content
    )


def test_the_prompt_uses_the_words_of_the_task() -> None:
    strategy = Labelling(REVIEWS)
    prompt = strategy.render(Example("v", {"text": "Warm soup."}, "good"), REVIEWS)[0].content
    assert "- a treat\n- no\n- so-so\n" in prompt
    assert "- good" not in prompt
    assert strategy.schema is not None
    assert strategy.schema["properties"]["label"]["enum"] == ["a treat", "no", "so-so"]


@pytest.mark.parametrize(
    "text",
    [
        "neutral",
        "Neutral.",
        " **NEUTRAL**\n",
        '"neutral"',
        "- neutral",
        "Label: neutral",
        "**Answer:** neutral",
        "The correct label is: *neutral*, as the premise says nothing of contradiction.",
        'The label that fits is "neutral," not entailment.',
        "Neutral: it neither entails nor contradicts.",
        "neutral\n\nEntailment would need more.",
        "Neutral - nothing speaks for entailment or contradiction.",
        "The premise is neutral to the hypothesis.",
        "I think that this one is neutral",
        '{"label": "neutral"}',
        '```json\n{"label": "Neutral"}\n```',
        "<think>Perhaps entailment? No.</think>\n\nneutral",
    ],
)
def test_answers_that_say_neutral(text: str) -> None:
    assert parse_label(text, NLI) == "neutral"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yes",
        "1",  # a label's number was not asked for
        "n",  # nor a data file's spelling
        "neutral or entailment",
        "Neutral, or entailment",
        "It could be entailment. It could be neutral.",
        "It is not an entailment.",
        "This isn't really a contradiction.",
        "There is no contradiction",
        "The label is entailment. The label is neutral.",
        "neutrality",
        '{"label": 1}',
        '{"label": "perhaps"}',
        '["neutral", "entailment"]',
    ],
)
def test_answers_without_one_clear_label(text: str) -> None:
    assert parse_label(text, NLI) is None


def test_a_truncated_answer_has_to_begin_with_its_label() -> None:
    def read(text: str) -> tuple[str, str | None]:
        found = Labelling(NLI).parse(Completion(text, "length"), ROW, NLI)
        return found.status, found.label

    assert read("Contradiction: Ada opened it, and") == ("truncated", "contradiction")
    assert read("Let us see. Is it an entailment") == ("truncated", None)
    assert parse_label("Let us see. Is it an entailment", NLI) == "entailment"


@pytest.mark.parametrize(
    ("completion", "status"),
    [
        (Completion("neutral", "stop"), "ok"),
        (Completion("maybe", "stop"), "failed"),
        (Completion("I'm sorry, but I can't help with that.", "stop"), "refused"),
        (Completion("neutral", "content_filter"), "refused"),
        (Completion("", "stop"), "empty"),
    ],
)
def test_an_answer_without_a_label_has_a_reason(completion: Completion, status: str) -> None:
    found = Labelling(NLI).parse(completion, ROW, NLI)
    assert found.status == status
    assert (found.label == "neutral") == (status == "ok")
    assert (found.label is None) == bool(found.detail)


WORDS = st.text(min_size=1, max_size=12).filter(lambda words: bool(words.strip()))


@example(words=["```", "<think>a</think>", "{"])
@given(words=st.lists(WORDS, min_size=2, max_size=4, unique_by=str.strip))
def test_parsing_is_the_inverse_of_rendering_for_any_words(words: list[str]) -> None:
    labels = tuple(f"label-{i}" for i in range(len(words)))
    task = Task("t", ("text",), labels, verbalizers=dict(zip(labels, words, strict=True)))
    for label in labels:
        assert parse_label(render_label(label, task), task) == label


@given(label=st.sampled_from(REVIEWS.labels), gap=st.sampled_from(["", " ", "\n"]))
def test_parsing_is_the_inverse_of_rendering_inside_other_text(label: str, gap: str) -> None:
    words = render_label(label, REVIEWS)
    for text in (words.upper(), f"{gap}**{words}**.{gap}", json.dumps({"label": words})):
        assert parse_label(text, REVIEWS) == label


PIECES = st.sampled_from(
    [*NLI.labels, "not", "İ", "label is", '{"label":', '"', ":", "```", "<think>", "\n", ",", "or"]
)


@given(pieces=st.lists(PIECES | st.text(max_size=5), max_size=12), cut=st.booleans())
def test_any_answer_has_one_of_the_labels_or_none(pieces: list[str], cut: bool) -> None:
    completion = Completion(" ".join(pieces), "length" if cut else "stop")
    found = Labelling(NLI).parse(completion, ROW, NLI)
    assert found.label is None or found.label in NLI.labels
    assert found.label is None or found.status in ("ok", "truncated")


def test_a_recipe_gets_the_strategy_that_labels_rows_in_its_place() -> None:
    from tutelage.strategies.lookup import BUILT_IN, get_strategy
    from tutelage.strategies.row_label import RowLabel

    assert Labelling.name in BUILT_IN
    assert isinstance(get_strategy("label"), RowLabel)
