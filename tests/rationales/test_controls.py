from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.core.errors import UsageError
from tutelage.core.task import NLI, Task
from tutelage.core.types import Example, Rationale, Usage
from tutelage.rationales.controls import filler, label_echo, scrambled, shuffled

STATUSES = ("ok", "ok", "ok", "refused", "truncated", "empty", "failed")


@st.composite
def tables(draw):
    """Rows over a few premises, each with a rationale that names its row and premise."""
    count = draw(st.integers(2, 30))
    examples, rationales = [], []
    for index in range(count):
        premise = draw(st.integers(0, 5))
        uid, label = f"u{index}", draw(st.sampled_from(NLI.labels))
        examples.append(Example(uid, {"premise": f"p{premise}", "hypothesis": f"h{index}"}, label))
        status = draw(st.sampled_from(STATUSES))
        text = f"p{premise} {uid}" if status == "ok" else ""
        rationales.append(Rationale(uid, "s", text, status, usage=Usage(index, 1)))
    return examples, rationales


def ok_rows(rationales):
    return [i for i, r in enumerate(rationales) if r.status == "ok"]


@given(tables(), st.integers(0, 5))
def test_shuffled_is_a_derangement_of_the_ok_texts(table, seed):
    examples, rationales = table
    rows = ok_rows(rationales)
    if len(rows) == 1:
        with pytest.raises(UsageError, match="expected at least two to swap"):
            shuffled(rationales, examples, NLI, seed)
        return
    result = shuffled(rationales, examples, NLI, seed)
    assert Counter(r.text for r in result) == Counter(r.text for r in rationales)
    assert all(result[i].text != rationales[i].text for i in rows)
    assert all(result[i] == r for i, r in enumerate(rationales) if i not in rows)
    for kept in ("uid", "status", "usage", "strategy"):
        assert [getattr(r, kept) for r in result] == [getattr(r, kept) for r in rationales]


@given(tables(), st.integers(0, 5))
def test_within_label_the_donor_has_the_same_label(table, seed):
    examples, rationales = table
    label_of = {f"{e.fields['premise']} {e.uid}": e.label for e in examples}
    counts = Counter(examples[i].label for i in ok_rows(rationales))
    if 1 in counts.values():
        with pytest.raises(UsageError, match="of label"):
            shuffled(rationales, examples, NLI, seed, within_label=True)
        return
    result = shuffled(rationales, examples, NLI, seed, within_label=True)
    for i in ok_rows(rationales):
        assert label_of[result[i].text] == examples[i].label
        assert result[i].text != rationales[i].text


@given(tables(), st.integers(0, 5))
def test_by_context_no_row_gets_an_answer_of_its_own_context(table, seed):
    examples, rationales = table
    rows = ok_rows(rationales)
    contexts = {examples[i].fields["premise"] for i in rows}
    if len(contexts) == 1:
        with pytest.raises(UsageError, match="context"):
            shuffled(rationales, examples, NLI, seed, by_context=True)
        return
    result = shuffled(rationales, examples, NLI, seed, by_context=True)
    donors = {}
    for i in rows:
        own, donor = examples[i].fields["premise"], result[i].text.split()[0]
        assert donor != own
        assert donors.setdefault(own, result[i].text) == result[i].text  # one answer a context
    assert len({text.split()[0] for text in donors.values()}) == len(contexts)  # a permutation


def wide(count):
    examples = [
        Example(f"u{i}", {"premise": f"p{i // 2}", "hypothesis": "h"}, NLI.labels[i % 3])
        for i in range(count)
    ]
    return examples, [Rationale(e.uid, "s", f"text {e.uid}", "ok") for e in examples]


def test_the_seed_decides_and_nothing_else():
    examples, rationales = wide(50)
    first = shuffled(rationales, examples, NLI, 3)
    assert shuffled(rationales, examples, NLI, 3) == first
    assert shuffled(rationales, examples, NLI, 4) != first


def test_donors_come_from_everywhere():
    examples, rationales = wide(5)
    seen = {shuffled(rationales, examples, NLI, seed)[0].text for seed in range(100)}
    assert seen == {f"text u{i}" for i in range(1, 5)}


def test_no_ok_row_means_nothing_to_do():
    examples, _ = wide(3)
    failed = [Rationale(e.uid, "s", "", "failed", detail="x") for e in examples]
    assert shuffled(failed, examples, NLI, 0) == failed


def test_label_echo_is_the_verbalized_label_without_the_text():
    task = Task("t", ("text",), ("good", "bad"), verbalizers={"good": "splendid"})
    examples = [Example("a", {"text": "x"}, "good"), Example("b", {"text": "y"}, "bad")]
    rationales = [
        Rationale("a", "s", "long story", "ok", label="bad"),
        Rationale("b", "s", "", "refused", detail="no"),
    ]
    echo = label_echo(rationales, examples, task)
    assert echo[0].text == "The answer is splendid." and echo[0].label is None
    assert echo[0].status == "ok" and echo[1] == rationales[1]


@given(st.lists(st.text(), min_size=1, max_size=8))
def test_scrambled_keeps_a_row_s_own_words_and_nothing_of_their_order(texts):
    rationales = [Rationale(f"u{i}", "s", text, "ok") for i, text in enumerate(texts)]
    result = scrambled(rationales)
    for before, after in zip(rationales, result, strict=True):
        assert Counter(after.text.split()) == Counter(before.text.split())
        if len(set(before.text.split())) > 1:
            assert after.text.split() != before.text.split()
        assert (after.uid, after.status) == (before.uid, before.status)


def test_the_order_of_scrambled_words_is_the_row_s_and_fixed():
    text = "Oslo lies in Norway, and Norway is cold in winter, so it is cold there."
    rows = [Rationale("a", "s", text, "ok", "entailment"), Rationale("b", "s", text, "ok")]
    first, second = scrambled(rows)
    assert first.text != second.text  # each row has an order of its own
    assert scrambled(rows[::-1]) == [second, first]  # whatever rows come before
    assert first.label is None
    assert first.text == ("Norway, it is and Norway so in is Oslo lies in cold there. winter, cold")
    other = [Rationale("c", "s", "cut of", "truncated"), Rationale("d", "s", "", "refused")]
    assert scrambled(other) == other


@given(st.lists(st.integers(1, 900), min_size=1, max_size=8))
def test_filler_is_as_long_as_the_text_and_the_same_for_all(lengths):
    rationales = [Rationale(f"u{i}", "s", "x" * n, "ok") for i, n in enumerate(lengths)]
    texts = [r.text for r in filler(rationales)]
    longest = max(texts, key=len)
    for length, text in zip(lengths, texts, strict=True):
        assert text.split()
        # The nearest end of a word: words of it have at most ten characters.
        assert abs(len(text) - length) <= 5
        assert longest.startswith(text)
        assert (longest + " ").startswith(text + " ") or longest == text  # no word is cut
    assert filler(rationales) == filler(rationales)


def test_filler_has_no_content_and_leaves_what_is_not_ok():
    rationales = [
        Rationale("a", "s", "Oslo lies in Norway, so it entails.", "ok", "entailment", Usage(7, 2)),
        Rationale("b", "s", "cut of", "truncated"),
        Rationale("c", "s", "", "refused", detail="no"),
    ]
    filled, cut, refused = filler(rationales)
    assert (cut, refused) == (rationales[1], rationales[2])
    assert (filled.uid, filled.status, filled.usage, filled.label) == ("a", "ok", Usage(7, 2), None)
    words = {word.strip(".,").lower() for word in filled.text.split()}
    assert not words & {"oslo", "norway", *NLI.labels, *NLI.relations}


def test_long_filler_repeats_in_whole_words():
    [one] = filler([Rationale("a", "s", "x" * 2000, "ok")])
    [other] = filler([Rationale("a", "s", "x" * 900, "ok")])
    assert set(one.text.split()) == set(other.text.split())
    assert "  " not in one.text


@pytest.mark.parametrize(
    "control", [lambda r, e: shuffled(r, e, NLI, 0), lambda r, e: label_echo(r, e, NLI)]
)
def test_misaligned_rows_are_refused(control):
    examples, rationales = wide(4)
    with pytest.raises(UsageError, match="same order"):
        control(rationales[::-1], examples)
    with pytest.raises(UsageError, match="same order"):
        control(rationales[:3], examples)
