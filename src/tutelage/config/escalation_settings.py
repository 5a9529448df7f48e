"""The settings of escalation: which answers are not trusted, and which teacher gives them then."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from tutelage.config.settings import Number, Settings, Text


class EscalationSettings(Settings):
    """Which answers of a student are trusted, and who answers instead of it."""

    threshold: Number | None = Field(
        None,
        ge=0,
        le=1,
        description="Probability from which an answer is trusted. Default: the export's.",
        examples=[0.8],
    )
    promise: Number | None = Field(
        None,
        gt=0,
        lt=1,
        description="Choose the threshold so that trusted answers are right at least this often, "
        "by a 95% bound on calibration rows (`data.calibration` of the recipe).",
        examples=[0.97],
    )
    escalate: Text | None = Field(
        None,
        description="A recipe, or the folder of its run: its teacher is asked for the label of "
        "each row below the threshold. Default: the student answers every row.",
        examples=["recipe.yaml"],
    )
    escalation_budget_usd: Number | None = Field(
        None,
        ge=0,
        description="US dollars that all such answers may be charged in total, in a budget of "
        "their own. When it is spent, the student answers. Default: what is left of the recipe's "
        "budget.",
        examples=[2],
    )
    ledger: Text | None = Field(
        None,
        description="The file that keeps paid answers. Default: $TUTELAGE_LEDGER, or "
        "`.tutelage/ledger.sqlite`.",
        examples=["ledger.sqlite"],
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.threshold is not None and self.promise is not None:
            raise ValueError("threshold and promise both choose the threshold: remove one of them")
        if self.escalation_budget_usd is not None and self.escalate is None:
            raise ValueError(
                "escalation_budget_usd is set, but no teacher is: name a recipe in escalate"
            )
        return self
