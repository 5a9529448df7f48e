"""How a teacher labels rows, and how that is checked before most of it is paid for."""

from __future__ import annotations

from pydantic import Field

from tutelage.config.settings import Integer, Settings


class LabellingSection(Settings):
    """Labels by a teacher: the prompt's examples, and the check against known labels."""

    shots_per_label: Integer = Field(
        0,
        ge=0,
        le=8,
        description="Training rows of each label that every prompt of `label` and "
        "`chain_of_thought` shows, the same ones for all rows. Where arms learn a part of train, "
        "each seed draws these first, so that they are gold rows of every arm.",
        examples=[2],
    )
    agreement_rows: Integer = Field(
        200,
        ge=20,
        description="Training rows, drawn at random, that the teacher labels before the unlabelled "
        "rows are paid for, without seeing their labels. The run stops where its accuracy is below "
        "that of the most frequent label.",
        examples=[300],
    )
