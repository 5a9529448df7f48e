"""What an arm may buy: the section `spend` of a recipe."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from tutelage.config.settings import Integer, Number, Settings

SpendUnit = Literal["dollars", "tokens", "requests", "rows"]
"""What is spent: dollars, or what stands for them where a teacher has no price."""


class SpendSection(Settings):
    """What each arm may buy for, when it pays alone: one of these. `spend: 1.00` is in dollars."""

    dollars: Number | None = Field(
        None, gt=0, description="US dollars, at the teachers' prices.", examples=[1.0]
    )
    tokens: Integer | None = Field(
        None, ge=1, description="Tokens, of prompts and answers.", examples=[200000]
    )
    requests: Integer | None = Field(
        None,
        ge=1,
        description="Requests; rows with one prompt share one.",
        examples=[700],
    )
    rows: Integer | None = Field(
        None, ge=1, description="Rows that a teacher is asked about.", examples=[700]
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"got {', '.join(given) or 'nothing'}, expected one of dollars, tokens, requests "
                "and rows"
            )
        return self

    @property
    def unit(self) -> SpendUnit:
        """Which of them it is."""
        units: tuple[SpendUnit, ...] = ("dollars", "tokens", "requests", "rows")
        return next(unit for unit in units if getattr(self, unit) is not None)

    @property
    def amount(self) -> float:
        """How much, in `unit`."""
        return float(getattr(self, self.unit))

    @property
    def buys_equal_rows(self) -> bool:
        """Whether it buys every teacher's answers to equally many rows."""
        return self.unit in ("rows", "requests")

    def of(self, amount: float | None) -> Self:
        """Another amount of the same unit; None: this one."""
        if amount is None:
            return self
        whole = amount if self.unit == "dollars" else max(1, round(amount))
        return type(self)(**{self.unit: whole})


def _short_spend(value: Any) -> Any:
    return {"dollars": value} if isinstance(value, int | float | str) else value


Spend = Annotated[SpendSection | None, BeforeValidator(_short_spend)]
"""`spend: 1.00` is short for `spend: {dollars: 1.00}`."""
