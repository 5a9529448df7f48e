"""Predictions as a matrix of scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tutelage.core.types import Prediction
from tutelage.evaluation.temperature import Floats


def score_matrix(found: Sequence[Prediction], labels: Sequence[str]) -> Floats:
    """Log-probabilities of predictions at temperature 1: [rows, labels]."""
    smallest = np.finfo(np.float64).tiny
    rows = [[max(p.probabilities[label], smallest) for label in labels] for p in found]
    return np.asarray(np.log(np.array(rows)))
