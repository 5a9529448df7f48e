"""`tutelage predict`: predict the rows of a file with a trained student."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tutelage.cli.data_options import PANEL
from tutelage.cli.options import Given, takes
from tutelage.cli.terminal import command_of
from tutelage.config.escalation_settings import EscalationSettings
from tutelage.config.layout_settings import LayoutSettings
from tutelage.config.scale_settings import ScaleSettings

_SCALE = ("engine", "workers", "ray_address", "shared_folder")


@takes(LayoutSettings, PANEL)
@takes(EscalationSettings, "What the student is not sure of")
@takes(ScaleSettings, "Where the work is done", only=_SCALE)
def predict(
    model: Annotated[
        Path, typer.Argument(help="An export, a checkpoint, …/seed-0/model, or a run's folder.")
    ],
    data: Annotated[
        str, typer.Argument(help="Rows with or without labels: a file, hf:NAME#SPLIT, or -.")
    ],
    given: Given,
    output: Annotated[
        Path, typer.Option(help="The file to write (.jsonl, .csv or .parquet), or -.")
    ] = Path("predictions.jsonl"),
    recipe: Annotated[
        str | None, typer.Option(help="A recipe that says how the file is read.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also let the student write its rationales.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue what an interrupted call has written.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an output file that is there.")
    ] = False,
) -> None:
    """Predict a label with probabilities for each row of a file.

    The model knows its task and its limits. Of a run, the model is taken that its report
    recommends. Every row of the input has a row in the output, in order; one that cannot be read
    has its reason there. Where the rows have labels, the accuracy is printed.

    With --escalate, a recipe's teacher answers the rows that the student is not sure of, and the
    output says who answered each row, and what it cost.

    Example: `tutelage predict student test.jsonl --output new.csv`
    """
    from tutelage import api
    from tutelage.cli.terminal import Bars, complain
    from tutelage.config.recipe_file import load_recipe
    from tutelage.core.errors import UsageError, require_extra
    from tutelage.core.export_record import is_export
    from tutelage.core.progress import JobProgress

    if not is_export(model):
        require_extra("train", "tutelage predict")
    said = given.values.get(LayoutSettings)
    if said and recipe is not None:
        raise UsageError("got --recipe with options that say how the file is read: leave one out")
    layout = None if recipe is None else load_recipe(recipe).data.layout()
    with Bars() as bars:
        counts = api.write_predictions(
            model,
            data,
            layout=layout,
            changes=given.build(LayoutSettings) if said else None,
            explained=explain,
            output=output,
            resume=resume,
            overwrite=overwrite,
            scale=given.build(ScaleSettings),
            escalation=given.build(EscalationSettings),
            on_note=lambda line: complain(line, label="note"),
            on_progress=lambda done: bars.job(JobProgress(str(output), done, done)),
        )
    found = [f"{counts.rows:,} rows with {counts.model}"]
    if counts.labelled and counts.ci95 is not None:
        low, high = counts.ci95
        found.append(
            f"{counts.right:,} of {counts.labelled:,} labelled rows right: accuracy "
            f"{counts.accuracy:.3f} ({low:.3f} to {high:.3f}, rows taken as independent)"
        )
    if counts.below or counts.by_teacher:
        cost = "" if counts.paid_usd is None else f" for {counts.paid_usd:.6f} US dollars"
        found.append(
            f"{counts.below:,} below the threshold: {counts.by_teacher:,} answered by the "
            f"teacher{cost}, {counts.below - counts.by_teacher:,} by the student"
        )
    # Where the predictions go to standard output, nothing else does.
    line = f"{output}: {'; '.join(found)}"
    if str(output) == "-":
        complain(line, label="note")
    else:
        print(line)
    if counts.unreadable:
        complain(
            f"{counts.unreadable:,} rows could not be read and have the reason in the output, the "
            f"first: {counts.first}",
            label="warning",
        )


app = command_of(predict)
