"""How much a written rationale shares with a reference: ROUGE-L and chrF.

Overlap does not measure worth: a rationale in other words may be better, and one with the right
words may give the wrong reason. Both are between 0 and 1, and 0 where either text is empty.

These few lines are our own, because `rouge-score` depends on NLTK and `sacrebleu` on lxml. The
tests compare them with values from both.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from tutelage.core.types import Example

_WORD = re.compile(r"\w+")

CHRF_ORDER, CHRF_BETA = 6, 2.0


def rouge_l(candidate: str, references: Sequence[str]) -> float:
    """ROUGE-L's F1 (Lin 2004) against the best of the references.

    With L the length in words of the longest common subsequence, P = L / |candidate| and
    R = L / |reference|, F1 = 2 P R / (P + R). Words are runs of letters and digits, in lower case,
    without stemming.
    """
    _check(references)
    words = _words(candidate)
    return max(_rouge_l(words, _words(reference)) for reference in references)


def chrf(candidate: str, references: Sequence[str]) -> float:
    """chrF2 (Popović 2015) against the best of the references: character n-grams, n = 1 to 6.

    Precision and recall are averaged over the n for which both texts have n-grams (white space is
    taken out first), F = 5 P R / (4 P + R). As sacrebleu's sentence score without smoothing, / 100.
    """
    _check(references)
    return max(_chrf(candidate, reference) for reference in references)


def reasons_of(example: Example) -> list[str]:
    """The data's own reasons for an example's label: several where several people gave one."""
    further = (text for name, text in example.references.items() if name.startswith("human"))
    return list(dict.fromkeys(text for text in (example.reason, *further) if text))


def _check(references: Sequence[str]) -> None:
    if not references or isinstance(references, str):
        raise ValueError(f"got the references {references!r}, expected a list of at least one text")


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _rouge_l(candidate: list[str], reference: list[str]) -> float:
    common = _longest_common_subsequence(candidate, reference)
    return 2 * common / (len(candidate) + len(reference)) if common else 0.0


def _longest_common_subsequence(first: list[str], second: list[str]) -> int:
    lengths = [0] * (len(second) + 1)
    for word in first:
        diagonal = 0
        for place, other in enumerate(second, start=1):
            above = lengths[place]
            lengths[place] = diagonal + 1 if word == other else max(above, lengths[place - 1])
            diagonal = above
    return lengths[-1]


def _chrf(candidate: str, reference: str) -> float:
    mine, theirs = "".join(candidate.split()), "".join(reference.split())
    orders = min(CHRF_ORDER, len(mine), len(theirs))
    if orders == 0:
        return 0.0
    precision = recall = 0.0
    for n in range(1, orders + 1):
        of_mine, of_theirs = _ngrams(mine, n), _ngrams(theirs, n)
        matches = (of_mine & of_theirs).total()
        precision += matches / of_mine.total() / orders
        recall += matches / of_theirs.total() / orders
    weight = CHRF_BETA**2
    bottom = weight * precision + recall
    return (1 + weight) * precision * recall / bottom if bottom else 0.0


def _ngrams(text: str, n: int) -> Counter[str]:
    return Counter(text[start : start + n] for start in range(len(text) - n + 1))
