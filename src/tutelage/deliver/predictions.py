"""Predictions as a sequence that is shown in a line and becomes a table. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

from tutelage.core.types import Prediction


@dataclass(frozen=True, repr=False)
class Predictions(Sequence[Prediction]):
    """Predictions in the order of their rows."""

    rows: tuple[Prediction, ...]

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Prediction, ...]: ...
    def __getitem__(self, index: int | slice) -> Prediction | tuple[Prediction, ...]:
        return self.rows[index]

    def __iter__(self) -> Iterator[Prediction]:
        return iter(self.rows)

    def __repr__(self) -> str:
        shown = ", ".join(f"{p.label} ({p.probabilities[p.label]:.2f})" for p in self.rows[:5])
        more = ", …" if len(self.rows) > 5 else ""
        return f"<{len(self.rows)} predictions: {shown}{more}>"

    def to_pandas(self) -> Any:
        """A DataFrame with a row for each prediction: uid, label, p(LABEL) for each label, gold."""
        import pandas

        def row(p: Prediction) -> dict[str, Any]:
            shares = {f"p({label})": share for label, share in p.probabilities.items()}
            return {
                "uid": p.uid,
                "label": p.label,
                **shares,
                "gold": p.gold or None,
                "rationale": p.rationale,
            }

        return pandas.DataFrame([row(prediction) for prediction in self.rows])
