"""ROUGE-L and chrF: by hand, and the values of rouge-score 0.1.2 and sacrebleu 2.6.0."""

from __future__ import annotations

import pytest

from tutelage.evaluation.overlap import chrf, rouge_l


@pytest.mark.parametrize(
    ("candidate", "reference", "of_sacrebleu", "of_rouge_score"),
    [
        (
            "The man is outdoors because a park is outside.",
            "A park is outside, so the man is outdoors.",
            0.718039,
            0.444444,
        ),
        ("the cat sat on the mat", "the cat is on the mat", 0.645779, 0.833333),
        (
            "Nobody said that it rained.",
            "It did not rain, as far as anybody said.",
            0.321103,
            0.142857,
        ),
        ("Yes", "No", 0, 0),
        ("short", "a rather longer reference than that", 0.032, 0),
        ("Same text.", "Same text.", 1, 1),
    ],
)
def test_they_are_those_of_the_reference_packages(
    candidate: str, reference: str, of_sacrebleu: float, of_rouge_score: float
) -> None:
    assert chrf(candidate, [reference]) == pytest.approx(of_sacrebleu, abs=1e-6)
    assert rouge_l(candidate, [reference]) == pytest.approx(of_rouge_score, abs=1e-6)


def test_by_hand() -> None:
    # Longest common subsequence a c d: P = 3/4, R = 3/5
    assert rouge_l("a b c d", ["a c x d y"]) == pytest.approx(2 * 0.75 * 0.6 / 1.35)
    # n = 1: 2 of 3 and 2 of 2; n = 2: 1 of 2 and 1 of 1. P = (2/3 + 1/2) / 2, R = 1
    precision = (2 / 3 + 1 / 2) / 2
    assert chrf("a bc", ["bc"]) == pytest.approx(5 * precision / (4 * precision + 1))


def test_the_best_reference_counts() -> None:
    assert rouge_l("a b", ["x y", "a b", "a"]) == 1
    assert chrf("ab cd", ["xyz", "abcd"]) == 1


def test_empty_texts_share_nothing_and_no_reference_is_an_error() -> None:
    assert rouge_l("", ["a"]) == rouge_l("a", ["..."]) == chrf("", ["a"]) == chrf(" ", [" "]) == 0
    for score in (rouge_l, chrf):
        with pytest.raises(ValueError, match="at least one"):
            score("a", [])
        with pytest.raises(ValueError, match="list"):
            score("a", "a")


def test_letters_beyond_ascii_are_words() -> None:
    assert rouge_l("Ein Mädchen läuft", ["ein mädchen läuft."]) == 1
