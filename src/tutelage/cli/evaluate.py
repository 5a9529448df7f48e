"""`tutelage evaluate`: accuracy and other metrics of predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tutelage.cli.terminal import command_of


def evaluate(
    predictions: Annotated[
        Path, typer.Argument(help="A file of predictions, or runs/NAME/arms/ARM.")
    ],
    data: Annotated[
        str | None,
        typer.Option(
            help="The predicted rows, to group those of one premise; a run folder has them."
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="A recipe with the task and how files are read. Default: NLI."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Print accuracy with its interval, macro-F1, precision and recall.

    Precision, recall and F1 are given for each label.

    Example: `tutelage evaluate predictions.jsonl`
    """
    from tutelage import api
    from tutelage.cli.terminal import print_scores, task_and_layout, warn_of_independence
    from tutelage.config.recipe_file import load_recipe

    task, layout = task_and_layout(None if recipe is None else load_recipe(recipe))
    found, independent = api.evaluate_file(predictions, data=data, task=task, layout=layout)
    if independent:
        warn_of_independence(task.context)
    if json:
        print_scores(found, independent)
        return
    low, high = found.ci95
    print(f"accuracy {found.accuracy:.3f} ({low:.3f} to {high:.3f}; {found.ci_method})")
    print(f"rows {found.n}, macro-F1 {_shown(found.macro_f1)}, inputs cut {found.truncated}")
    for label, scores in found.per_label.items():
        print(
            f"{label}: precision {_shown(scores.precision)}, recall {_shown(scores.recall)}, "
            f"F1 {_shown(scores.f1)}, rows {scores.support}"
        )


def _shown(score: float | None) -> str:
    return "undefined" if score is None else f"{score:.3f}"


app = command_of(evaluate)
