"""The student's input, and the part of it that is cut first."""

from __future__ import annotations

from tutelage.core.task import NLI, Task
from tutelage.core.types import Source


def test_the_premise_of_an_nli_input_is_cut_first() -> None:
    source = NLI.source({"premise": " It rains. ", "hypothesis": "It is very wet outside today."})
    assert source.text == "Premise: It rains. Hypothesis: It is very wet outside today."
    assert source.text[slice(*source.cut)] == "It rains."


def test_a_context_that_comes_last_is_also_cut_first() -> None:
    task = Task("qa", ("claim", "passage"), ("yes", "no"), context="passage")
    source = task.source({"claim": "Is it wet, and if so, how wet is it?", "passage": "It is."})
    assert source.text == "Claim: Is it wet, and if so, how wet is it? Passage: It is."
    assert source.text[slice(*source.cut)] == "It is."


def test_without_a_context_each_rows_longest_field_is_cut_first() -> None:
    task = Task("pair", ("one", "two"), ("same", "other"))
    for fields in ({"one": "short", "two": "rather long"}, {"one": "rather long", "two": "short"}):
        source = task.source(fields)
        assert source.text[slice(*source.cut)] == "rather long"


def test_a_prefix_moves_the_span_with_the_text() -> None:
    source = NLI.source({"premise": "It rains.", "hypothesis": "It is wet."}).prefixed("explain: ")
    assert source.text == "explain: Premise: It rains. Hypothesis: It is wet."
    assert source.text[slice(*source.cut)] == "It rains."
    assert source == Source(source.text, (18, 27))


def test_an_omitted_field_is_neither_input_nor_context() -> None:
    fields = {"premise": "Oslo is cold.", "hypothesis": "It snows."}
    assert NLI.without(()) is NLI
    alone = NLI.without(("premise",))
    assert alone.source(fields).text == "Hypothesis: It snows."
    assert (alone.context, alone.labels) == (None, NLI.labels)
    assert NLI.group("u", fields) == "Oslo is cold."
    assert alone.group("u", fields) == "u"
    assert NLI.without(["hypothesis"]).context == "premise"
