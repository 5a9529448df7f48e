"""Separating reasoning from the answer, on texts that nobody has thought of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.core.types import Completion
from tutelage.strategies.finish_reasons import standard_reason
from tutelage.strategies.reasoning import separate, without_reasoning

WORDS = st.text(st.characters(blacklist_characters="<[&◁⟨【#`", blacklist_categories=["Cs"]))
PLAIN = WORDS.filter(
    lambda text: not text.lstrip().lower().startswith(("here", "thinking", "assistant", "analysis"))
)
TAGS = st.sampled_from(
    [
        ("<think>", "</think>"),
        ("<thinking>", "</thinking>"),
        ("<THOUGHT>", "</THOUGHT>"),
        ("<reasoning id=1>", "</reasoning>"),
        ("<|begin_of_thought|>", "<|end_of_thought|>"),
        ("<|think_start|>", "<|think_end|>"),
        ("[THINK]", "[/THINK]"),
        ("◁think▷", "◁/think▷"),
        ("<scratchpad>", "</scratchpad>"),
        ("<x:think>", "</x:think>"),
    ]
)


@given(PLAIN)
def test_a_text_without_marks_is_unchanged(text: str) -> None:
    completion = Completion(text, "stop")
    assert without_reasoning(completion) is completion
    assert separate(text).answer == text


@given(TAGS, PLAIN, PLAIN)
def test_what_is_between_the_tags_is_reasoning(
    tags: tuple[str, str], thought: str, answer: str
) -> None:
    for text in (f"{tags[0]}{thought}{tags[1]}{answer}", f"{thought}{tags[1]}{answer}"):
        found = separate(text)
        assert found.answer == answer.strip() and found.reasoning == thought.strip()
        assert not found.unclosed
        assert separate(found.answer).answer == found.answer
    cut = without_reasoning(Completion(f"{tags[0]}{thought}", "stop"))
    assert (cut.text, cut.finish_reason) == ("", "length")


PIECES = ["<think>", "</think>", "<", ">", "[THINK]", "a", " ", "<|channel|>", "analysis", "final",
          "assistant", "<|message|>", "\n", "#"]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES)).map("".join))
def test_any_mixture_is_separated_without_an_error(text: str) -> None:
    found = separate(text)
    assert "<think>" not in found.answer and "</think>" not in found.answer


@given(st.text(max_size=30))
def test_any_finish_reason_is_understood_or_kept(reason: str) -> None:
    found = standard_reason(reason)
    assert found is None or found == found.casefold()
    assert standard_reason(found) == found


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Who: Ada [Lovelace] <b>", "Who: Ada [Lovelace] <b>"),
        ("x < y and y > z, as [1] says", "x < y and y > z, as [1] says"),
        ("Here is my answer: rain.", "Here is my answer: rain."),
        ("<answer>It rains.", "<answer>It rains."),  # a pair around it is no part of an answer
        ("Assistant: final answer is rain.", "Assistant: final answer is rain."),
    ],
)
def test_texts_that_only_look_like_it(text: str, answer: str) -> None:
    assert separate(text).answer == answer
