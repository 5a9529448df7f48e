"""A bag-of-words classifier that predicts a label from a rationale alone.

Naive Bayes over the words and pairs of words of a text, each counted once. It does not see the
input, so whatever it predicts correctly comes from the rationale; and it trains in a moment on a
few hundred texts. A better classifier might do better: its accuracy is a lower bound.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tutelage.core.task import Task

_WORD = re.compile(r"\w+")

_SHORTEST_STEM = 4
_STEM_SHARE = 0.6
"""Words that begin with this fraction of the letters of a label's word count as its forms:
`entails`, `contradictory`. At least four letters; a shorter word has to match as it is."""


@dataclass(frozen=True, slots=True)
class TextClassifier:
    """Log-probabilities of a trained classifier.

    prior: by label, the most frequent first
    words: feature -> label -> log p(feature | label)
    """

    prior: Mapping[str, float]
    words: Mapping[str, Mapping[str, float]]

    def predict(self, text: str) -> str:
        """The most likely label of `text`; the most frequent one where no word is known."""
        scores = dict(self.prior)
        for feature in _features(text):
            for label, share in self.words.get(feature, {}).items():
                scores[label] += share
        return max(scores, key=lambda label: scores[label])


def train_classifier(texts: Sequence[str], labels: Sequence[str]) -> TextClassifier:
    """Multinomial naive Bayes over present features, with one added to each count.

        log p(label) + Σ log [(n(feature, label) + 1) / (n(label) + V)]

    over the features of a text that occur in training; n counts texts that hold a feature, V is the
    number of features. (scikit-learn's MultinomialNB on 0 and 1.) Of equally likely labels the most
    frequent wins, and of those the first in the alphabet.

    Raises ValueError for no texts, or a different number of labels.
    """
    if not texts or len(texts) != len(labels):
        raise ValueError(f"got {len(texts)} texts and {len(labels)} labels, expected as many")
    number = Counter(labels)
    order = sorted(number, key=lambda label: (-number[label], label))
    counts: dict[str, Counter[str]] = {label: Counter() for label in order}
    for text, label in zip(texts, labels, strict=True):
        counts[label].update(_features(text))
    known = {feature for of_label in counts.values() for feature in of_label}
    bottom = {label: math.log(max(counts[label].total() + len(known), 1)) for label in order}
    return TextClassifier(
        {label: math.log(number[label] / len(texts)) for label in order},
        {
            word: {label: math.log(counts[label][word] + 1) - bottom[label] for label in order}
            for word in known
        },
    )


def mask_label_words(text: str, task: Task) -> str:
    """`text` with `*` for every word that names a label: names, verbalizers, spellings, and forms
    of their words. A paraphrase stays ("it must be so"): nothing distinguishes it from a reason."""
    return _label_words(task).sub("*", text)


def _label_words(task: Task) -> re.Pattern[str]:
    names = {*task.labels, *(task.verbalize(label) for label in task.labels), *task.spellings}
    patterns = set()
    for name in names:
        words = re.findall(r"[^\W_]+", name.lower())
        if words:
            patterns.add(r"[\W_]+".join(re.escape(word) for word in words))
        for word in words:
            if len(word) >= _SHORTEST_STEM:
                stem = word[: max(_SHORTEST_STEM, math.ceil(_STEM_SHARE * len(word)))]
                patterns.add(re.escape(stem) + r"\w*")
    longest_first = sorted(patterns, key=lambda pattern: (-len(pattern), pattern))
    return re.compile(rf"\b(?:{'|'.join(longest_first)})\b", re.IGNORECASE)


def _features(text: str) -> set[str]:
    words = _WORD.findall(text.lower())
    return {*words, *(" ".join(pair) for pair in itertools.pairwise(words))}
