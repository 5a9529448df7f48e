"""Settings given from Python are refused as in a recipe: one line, before anything is loaded."""

from __future__ import annotations

from typing import Any

import pytest

from tutelage.config.training_settings import LoraSettings, StudentSettings, TrainSettings
from tutelage.core.errors import UsageError


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (TrainSettings, {"epochs": 0}),
        (TrainSettings, {"batch_size": -1}),
        (TrainSettings, {"learning_rate": float("nan")}),
        (TrainSettings, {"learning_rate": float("inf")}),
        (TrainSettings, {"label_weight": 1.5}),
        (TrainSettings, {"max_source_tokens": 0}),
        (TrainSettings, {"dropout": 1.0}),
        (TrainSettings, {"patience": 0}),
        (LoraSettings, {"rank": 0}),
        (LoraSettings, {"alpha": -1}),
        (StudentSettings, {"precision": "fp16"}),
    ],
)
def test_a_bad_setting_is_refused_in_one_line(kind: Any, values: dict[str, Any]) -> None:
    (name,) = values
    with pytest.raises(UsageError, match=f"{name}: got ") as made:
        kind(**values)
    assert "\n" not in str(made.value)
    with pytest.raises(UsageError, match=f"{name}: got "):
        kind().replace(**values)
