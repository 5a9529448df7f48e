"""Temperature scaling: one number that makes probabilities as sure as they are right.

Guo et al. 2017, "On Calibration of Modern Neural Networks". It changes no label.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_LOWEST, _HIGHEST = 0.05, 20.0
"""Bounds of a temperature. Rows that are all right, or all wrong, would want an infinite one."""


def probabilities_at(scores: Floats, temperature: float) -> Floats:
    """softmax(scores / temperature) over the labels: [rows, labels]."""
    divided = np.asarray(scores, dtype=np.float64) / temperature
    shifted = np.exp(divided - divided.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def mean_log_loss(scores: Floats, gold: Sequence[int], temperature: float = 1.0) -> float:
    """Mean of −log p(gold label), in nats."""
    divided = np.asarray(scores, dtype=np.float64) / temperature
    highest = divided.max(axis=1, keepdims=True)
    normaliser = highest[:, 0] + np.log(np.exp(divided - highest).sum(axis=1))
    return float(np.mean(normaliser - divided[np.arange(len(divided)), np.asarray(gold)]))


def fit_temperature(scores: Floats, gold: Sequence[int]) -> float:
    """The temperature with the lowest mean log loss on these rows.

    scores: summed log-probabilities [rows, labels]
    gold:   index of each row's label
    """
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda log_t: mean_log_loss(scores, gold, float(np.exp(log_t))),
        bounds=(np.log(_LOWEST), np.log(_HIGHEST)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))
