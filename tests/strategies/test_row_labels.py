"""The strategies that label rows: what the teacher sees, and which answers count as which label."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tutelage.core.task import NLI, Task
from tutelage.core.types import Completion, Example
from tutelage.data.synthetic import generate
from tutelage.strategies import chain_of_thought, row_label
from tutelage.strategies.label_options import label_on_a_line, rotated_labels
from tutelage.strategies.lookup import BUILT_IN, Strategy, get_strategy, labels_rows
from tutelage.strategies.row_text import parse_quoted_fields, quoted_fields

REVIEWS = Task(
    "reviews", ("text",), ("good", "bad", "so-so"), verbalizers={"good": "a treat", "bad": "no"}
)
ROW = Example("v", {"text": "Warm soup."}, "good", reason="It is warm.")
SHOTS = [Example("s1", {"text": "Cold."}, "bad"), Example("s2", {"text": "Fine."}, "so-so")]
NAMES = ("label", "chain_of_thought")
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def strategy(name: str, task: Task = REVIEWS, shots: list[Example] | None = None) -> Strategy:
    return get_strategy(name, task=task, shots=shots or ())


def test_these_label_rows_and_the_others_do_not() -> None:
    found = {
        name: labels_rows(get_strategy(name, template="Why?" if name == "template" else None))
        for name in BUILT_IN
    }
    assert {name for name, yes in found.items() if yes} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_prompt_is_the_same_whatever_the_gold_label_is(name: str) -> None:
    for shots in ([], SHOTS):
        asked = strategy(name, shots=shots)
        prompt = asked.render(ROW, REVIEWS)
        for label in ("", *REVIEWS.labels):
            other = Example("x", ROW.fields, label, reason="another", tags=("t",))
            assert asked.render(other, REVIEWS) == prompt
        (message,) = prompt
        assert message.role == "user" and 'Text: "Warm soup."\n' in message.content
        assert "It is warm" not in message.content
        assert all(f"\n- {words}\n" in message.content for words in ("a treat", "no", "so-so"))


def test_the_labels_are_rotated_by_the_row() -> None:
    rows = generate(300, 4)
    firsts = Counter(rotated_labels(row, NLI)[0] for row in rows)
    assert all(70 < firsts[label] < 130 for label in NLI.labels)
    for row in rows[:9]:
        order = rotated_labels(row, NLI)
        start = NLI.labels.index(order[0])
        assert order == NLI.labels[start:] + NLI.labels[:start]
        # Neither the label nor the id decides: only what the teacher reads.
        assert rotated_labels(Example("other", row.fields, ""), NLI) == order
        (message,) = strategy("label", NLI).render(row, NLI)
        places = [message.content.index(f"\n- {label}: the premise") for label in order]
        assert places == sorted(places)


@pytest.mark.parametrize("name", NAMES)
def test_examples_come_first_and_are_the_same_for_all_rows(name: str) -> None:
    asked = strategy(name, shots=SHOTS)
    prompts = [
        asked.render(Example("e", {"text": text}, ""), REVIEWS)[0].content for text in ("a", "b")
    ]
    start = (
        'Examples that people have labelled:\n\nText: "Cold."\nLabel: no\n\nText: "Fine."\n'
        "Label: so-so\n\n"
    )
    assert all(prompt.startswith(start) for prompt in prompts)
    bare = strategy(name).render(Example("e", {"text": "a"}, ""), REVIEWS)[0].content
    assert prompts[0] == start + bare


@given(text=TEXT, name=st.sampled_from(NAMES), with_shots=st.booleans())
def test_no_row_leaves_its_place(text: str, name: str, with_shots: bool) -> None:
    asked = strategy(name, shots=SHOTS if with_shots else [])
    row = Example("e", {"text": text}, "good")
    prompt = asked.render(row, REVIEWS)[0].content
    # One of three ordinary rows has its labels in the same order.
    others = (Example("o", {"text": f"ordinary {i}"}, "good") for i in range(100))
    other = next(o for o in others if rotated_labels(o, REVIEWS) == rotated_labels(row, REVIEWS))
    theirs = asked.render(other, REVIEWS)[0].content
    before, _, after = theirs.rpartition(quoted_fields(other.fields, REVIEWS))
    assert prompt.startswith(before) and prompt.endswith(after)
    inner = prompt[len(before) : len(prompt) - len(after)]
    assert parse_quoted_fields(inner, REVIEWS) == {"text": text}
    assert len(prompt.splitlines()) == len(theirs.splitlines())


# --- answers

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(str.strip)


def task_of(words: list[str]) -> Task:
    labels = tuple(f"label-{i}" for i in range(len(words)))
    return Task("t", ("text",), labels, verbalizers=dict(zip(labels, words, strict=True)))


@example(words=["```", "<think>a</think>", "{"], reasoning='{"label": "{"}')
@example(words=["a\nb", '"a\\nb"', "a b"], reasoning="Label: a b\n\nLabel: a")
@example(words=["Label: x", "x", "x."], reasoning="The answer is x.")
@example(words=["good", "bad"], reasoning="x" * 100_000)
@given(words=st.lists(WORDS, min_size=2, max_size=4, unique_by=str.strip), reasoning=TEXT)
def test_parsing_is_the_inverse_of_rendering(words: list[str], reasoning: str) -> None:
    task = task_of(words)
    for label in task.labels:
        assert row_label.parse_answer(row_label.render_answer(label, task), task) == label
        answer = chain_of_thought.render_answer(reasoning, label, task)
        assert chain_of_thought.parse_answer(answer, task) == (reasoning.strip(), label)
        for name, value in (
            ("label", {"label": task.verbalize(label)}),
            ("chain_of_thought", {"rationale": reasoning, "label": task.verbalize(label)}),
        ):
            found = get_strategy(name).parse(Completion(json.dumps(value)), ROW, task)
            assert found.label == label
            assert name == "label" or found.text == reasoning.strip()
        assert "\n" not in label_on_a_line(label, task)


@pytest.mark.parametrize(
    "answer",
    [
        "The soup is praised.\n\nLabel: a treat",
        "The soup is praised.\nLabel: A Treat.",
        "The soup is praised.\n\n**Label:** a treat",
        "The soup is praised.\n\n**Final label: a treat**\n",
        "The soup is praised.\n- Label: *a treat*",
        "The soup is praised.\n\nThe answer is a treat.",
        "The soup is praised.\n\na treat",
        "Label: a treat\nThe soup is praised.",
        "Label: a treat, since it is warm\nThe soup is praised.",
        "The soup is praised.\nAnswer: good",
        '{"rationale": "The soup is praised.", "label": "a treat"}',
        '```json\n{"rationale": "The soup is praised. ", "label": "a treat"}\n```',
    ],
)
def test_answers_with_reasons_and_a_label(answer: str) -> None:
    found = strategy("chain_of_thought").parse(Completion(answer, "stop"), ROW, REVIEWS)
    assert (found.status, found.label, found.detail) == ("ok", "good", "")
    assert found.text == "The soup is praised."


@pytest.mark.parametrize(
    "answer",
    [
        "The soup is a treat.",
        "It is a treat, so it is not a no.",
        "Label: a treat or no",
        "Label: not a treat",
        "Label: tasty",
        "Label:",
        "Label: one of these labels",
        "Label: a treat\nor rather\nLabel: no\nwho knows",
        "The answer is a treat if warm.",
        '{"rationale": "warm", "label": "tasty"}',
        '{"rationale": "warm"}',
        "[1, 2]",
    ],
)
def test_answers_without_one_clear_label_are_counted_and_not_guessed(answer: str) -> None:
    found = strategy("chain_of_thought").parse(Completion(answer, "stop"), ROW, REVIEWS)
    assert (found.status, found.label) == ("failed", None)
    assert found.text == answer and found.detail == "no line names one of the labels"


@pytest.mark.parametrize(
    ("completion", "status", "label", "text"),
    [
        (Completion("Warm.\n\nLabel: a tr", "length"), "truncated", None, "Warm.\n\nLabel: a tr"),
        (Completion("Warm.\n\nLabel: no", "length"), "truncated", None, "Warm."),
        (Completion("Label: no", "stop"), "empty", "bad", ""),
        (Completion("", "stop"), "empty", None, ""),
        (Completion("Label: no", "content_filter"), "refused", None, ""),
        (Completion("I'm sorry, but I can't help with that.", "stop"), "refused", None, ""),
        (Completion("Cold.", "stop", label="bad"), "ok", "bad", "Cold."),
        (Completion("Cold.\nLabel: no", "stop", label="bad"), "ok", "bad", "Cold."),
        (Completion("Cold.", "stop", label="tasty"), "failed", None, "Cold."),
        (Completion("", None, label="bad"), "empty", "bad", ""),
    ],
)
def test_the_status_of_reasoning(
    completion: Completion, status: str, label: str | None, text: str
) -> None:
    found = strategy("chain_of_thought").parse(completion, ROW, REVIEWS)
    assert (found.status, found.label, found.text) == (status, label, text)
    assert bool(found.detail) == (status != "ok")


@pytest.mark.parametrize(
    ("completion", "status", "label"),
    [
        (Completion("a treat", "stop"), "ok", "good"),
        (Completion("**A treat.**", "stop"), "ok", "good"),
        (Completion("perhaps", "stop"), "failed", None),
        (Completion("a treat or no", "stop"), "failed", None),
        (Completion("No: it is cold, and", "length"), "truncated", "bad"),
        (Completion("Let us see", "length"), "truncated", None),
        (Completion("", "stop"), "empty", None),
        (Completion("", None, label="bad"), "ok", "bad"),
        (Completion("", None, label="tasty"), "failed", None),
        (Completion("no", "content_filter"), "refused", None),
    ],
)
def test_the_status_of_a_label(completion: Completion, status: str, label: str | None) -> None:
    found = strategy("label").parse(completion, ROW, REVIEWS)
    assert (found.status, found.label) == (status, label)
    assert bool(found.detail) == (status != "ok")


PIECES = st.sampled_from(
    [
        "a treat",
        "no",
        "so-so",
        "Label:",
        "answer is",
        "not",
        "{",
        '"label":',
        "\n",
        "\n\n",
        "**",
        ".",
    ]
)


@given(pieces=st.lists(PIECES | st.text(max_size=5), max_size=12), name=st.sampled_from(NAMES))
def test_any_answer_has_one_of_the_labels_or_none(pieces: list[str], name: str) -> None:
    for reason in ("stop", "length"):
        found = strategy(name).parse(Completion(" ".join(pieces), reason), ROW, REVIEWS)
        assert found.label is None or found.label in REVIEWS.labels
        assert found.status != "ok" or found.label is not None


def test_structured_answers_have_a_schema_where_the_task_is_known() -> None:
    assert get_strategy("label").schema is None
    schema = strategy("chain_of_thought").schema
    assert schema is not None
    assert schema["required"] == ["rationale", "label"] == list(schema["properties"])
    assert schema["properties"]["label"]["enum"] == ["a treat", "no", "so-so"]
