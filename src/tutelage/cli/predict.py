"""`tutelage predict`: predict the rows of a file with a trained student."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tutelage.cli.terminal import command_of


def predict(
    model: Annotated[Path, typer.Argument(help="A checkpoint: …/seed-0/model.")],
    data: Annotated[str, typer.Argument(help="Labelled rows: a file or hf:NAME#SPLIT.")],
    output: Annotated[Path, typer.Option(help="The file of predictions to write.")] = Path(
        "predictions.jsonl"
    ),
    recipe: Annotated[
        str | None, typer.Option(help="A recipe that has the task and columns. Default: NLI.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also let the student write its rationales.")
    ] = False,
) -> None:
    """Predict a label with probabilities for each row of a file.

    Prints how many of the predictions are right.

    Example: `tutelage predict runs/quickstart/arms/labels/lr-0.003_w-1/seed-0/model test.jsonl`
    """
    from tutelage import api
    from tutelage.cli.terminal import Bars, task_and_columns
    from tutelage.config.recipe_file import load_recipe
    from tutelage.core.errors import require_extra
    from tutelage.core.progress import JobProgress

    require_extra("train", "tutelage predict")
    task, columns = task_and_columns(None if recipe is None else load_recipe(recipe))
    with Bars() as bars:
        predictions = api.predict_file(
            model,
            data,
            task=task,
            columns=columns,
            explained=explain,
            output=output,
            on_progress=lambda done, total: bars.job(JobProgress(str(output), done, total)),
        )
    right = sum(p.label == p.gold for p in predictions)
    print(f"{output}: {len(predictions)} rows, {right} right ({right / len(predictions):.3f})")


app = command_of(predict)
