"""A threshold that keeps a promise: the rows that it keeps are right at least that often.

Fixed-sequence testing (Angelopoulos et al. 2021, "Learn then Test") with exact binomial tests: the
thresholds and their order are fixed before any label of the calibration rows is read. The sequence
begins where enough rows are kept that the promise can be proved in spite of a few errors, and goes
towards more rows until the first threshold that is not proved. Whatever is chosen, the kept rows'
true accuracy lies below the promise with a probability of at most `LEVEL`.

The rows must have had no part in choosing the model, its checkpoint, its temperature or the
thresholds: on rows that chose among many candidates the promise is broken far more often.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LEVEL = 0.05
"""Probability, at most, that the promise is broken."""

_CANDIDATES = 9
_ERRORS = 3
"""Errors that the first threshold of the sequence must be able to have."""

_STARTS = 2
"""Places where the sequence begins; each has its part of `LEVEL`."""


@dataclass(frozen=True)
class Kept:
    """A threshold that was proved.

    share, rows, errors: of the calibration rows that it keeps
    """

    threshold: float
    share: float
    rows: int
    errors: int


@dataclass(frozen=True)
class NotKept:
    """A promise that could not be proved.

    highest: the highest promise that these rows prove (in steps of half a point); None where they
             prove none
    rows:    calibration rows that this promise would need, at the accuracies that were seen; None
             where the accuracies lie below it
    """

    highest: float | None
    rows: int | None


def candidates(confidence: Sequence[float]) -> list[float]:
    """Thresholds to try, the strictest first: deciles of the confidence on other rows."""
    shares = np.arange(_CANDIDATES, 0, -1) / (_CANDIDATES + 1)
    found = np.quantile(np.asarray(confidence, dtype=np.float64), shares)
    return [float(t) for t in dict.fromkeys(found.tolist())]


@lru_cache
def rows_to_begin(promise: float, level: float = LEVEL) -> int:
    """The fewest rows on which the promise is proved in spite of `_ERRORS` errors.

    Without an error ln level / ln promise rows are enough, but almost nobody makes none.
    """
    from scipy.special import bdtr

    count = math.ceil(math.log(level) / math.log(promise))
    while bdtr(_ERRORS, count, 1 - promise) > level:
        count += 1
    return count


def choose_threshold(
    thresholds: Sequence[float], confidence: Floats, correct: npt.NDArray[np.bool_], promise: float
) -> Kept | None:
    """The threshold that keeps the most rows among those that are proved; None where none is.

    thresholds: the strictest first, fixed without these rows' labels
    confidence, correct: of each calibration row

    Raises ValueError for a promise outside (0, 1).
    """
    if not 0 < promise < 1:
        raise ValueError(f"got a promise of {promise:g}, expected a number between 0 and 1")
    kept = [confidence >= threshold for threshold in thresholds]
    counts = [int(mask.sum()) for mask in kept]
    least = rows_to_begin(promise, LEVEL / _STARTS)
    able = [k for k, count in enumerate(counts) if count >= least]
    if not able:
        return None
    # The first that can be proved, and the middle of the rest: fixed by counts, not by labels.
    starts = sorted({able[0], able[len(able) // 2]})
    found: int | None = None
    for start in starts:
        for k in range(start, len(thresholds)):
            errors = int((kept[k] & ~correct).sum())
            if not _proved(counts[k], errors, promise, LEVEL / len(starts)):
                break
            found = k if found is None else max(found, k)
    if found is None:
        return None
    errors = int((kept[found] & ~correct).sum())
    return Kept(thresholds[found], counts[found] / len(confidence), counts[found], errors)


def _proved(rows: int, errors: int, promise: float, level: float) -> bool:
    """Whether so few errors have a probability of at most `level` where the accuracy is exactly
    the promise."""
    from scipy.special import bdtr

    return bool(rows > 0 and bdtr(errors, rows, 1 - promise) <= level)


def why_not(
    thresholds: Sequence[float], confidence: Floats, correct: npt.NDArray[np.bool_], promise: float
) -> NotKept:
    """What could be promised in place of a promise that could not be kept."""
    lower = np.arange(math.floor(promise * 200 - 1e-9), 99, -1) / 200
    highest = next(
        (float(p) for p in lower if choose_threshold(thresholds, confidence, correct, float(p))),
        None,
    )
    needed: list[int] = []
    for threshold in thresholds:
        mask = confidence >= threshold
        if not mask.any():
            continue
        accuracy = float(correct[mask].mean())
        rows = _rows_for(promise, accuracy)
        if rows is not None:
            needed.append(math.ceil(rows / float(mask.mean())))
    return NotKept(highest, min(needed, default=None))


def _rows_for(promise: float, accuracy: float) -> int | None:
    """Kept rows with which the promise is proved in four of five cases; None where it is not true.

    The usual normal approximation; an accuracy of one is taken as one error in two rows fewer.
    """
    accuracy = min(accuracy, 1 - 1e-3)
    if accuracy <= promise:
        return None
    spread = 1.96 * math.sqrt(promise * (1 - promise)) + 0.84 * math.sqrt(accuracy * (1 - accuracy))
    return max(rows_to_begin(promise), math.ceil((spread / (accuracy - promise)) ** 2))
