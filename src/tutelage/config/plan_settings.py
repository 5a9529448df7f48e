"""The settings of `tutelage plan`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from tutelage.config.settings import Integer, Number, Settings


class PlanSettings(Settings):
    """The basis of a plan: answers in a ledger, a pilot, an earlier run."""

    pilot: Integer | None = Field(
        None,
        ge=1,
        description="Make this many requests of each kind first, within the budget, and forecast "
        "from their answers. Default: nothing is sent.",
        examples=[20],
    )
    ledger: Path | None = Field(
        None,
        description="The file that keeps paid answers. Default: $TUTELAGE_LEDGER, or "
        ".tutelage/ledger.sqlite.",
        examples=["answers.sqlite"],
    )
    detect: Number | None = Field(
        None,
        gt=0,
        le=100,
        description="A true difference in points of the metric: say how many seeds, rows and "
        "trainings it takes to detect it.",
        examples=[2.3],
    )
    measure: bool = Field(
        False,
        description="Run a few steps of each kind of training, and say how long a run takes on "
        "this machine and how much memory a training needs. What was measured before, here or by "
        "`tutelage doctor RECIPE`, is said in any case.",
        examples=[True],
    )
    runs: Path = Field(Path("runs"), description="The folder of runs.", examples=["runs"])
    like: Path | None = Field(
        None,
        description="The folder of a finished run: students are expected to differ as they did "
        "there.",
        examples=["runs/earlier"],
    )
