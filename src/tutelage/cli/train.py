"""`tutelage train`: train one student on a file, or all students of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tutelage.cli.data_options import (
    PANEL,
    LabelColumnOption,
    RecipeOption,
    TaskOption,
    TextColumnsOption,
    file_task,
)
from tutelage.cli.options import Given, takes
from tutelage.cli.terminal import command_of
from tutelage.config.layout_settings import LayoutSettings
from tutelage.config.training_settings import StudentSettings, TrainSettings


@takes(TrainSettings, "Training")
@takes(
    StudentSettings,
    "Student",
    only=("model", "tracking"),
    names={"model": "student", "tracking": "track"},
)
@takes(LayoutSettings, PANEL)
def train(
    data: Annotated[str, typer.Argument(help="A data file, hf:NAME#SPLIT, or a recipe (.yaml).")],
    given: Given,
    dev: Annotated[
        str | None, typer.Option(help="Rows that choose the checkpoint: a file or hf:NAME#SPLIT.")
    ] = None,
    output: Annotated[Path, typer.Option(help="The folder of the checkpoint.")] = Path("student"),
    rationales: Annotated[
        Path | None,
        typer.Option(help="A file that `tutelage annotate` wrote. Default: none, labels alone."),
    ] = None,
    task: TaskOption = None,
    recipe: RecipeOption = None,
    label_column: LabelColumnOption = None,
    text_columns: TextColumnsOption = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace a student of other data or settings."),
    ] = False,
    runs: Annotated[Path, typer.Option(help="For a recipe: the folder of its runs.")] = Path(
        "runs"
    ),
) -> None:
    """Train one student and keep its best checkpoint, or all students of a recipe.

    The best checkpoint is the one with the highest dev accuracy. The same command continues an
    interrupted training. A recipe's test set is not opened. On several GPUs, a recipe's students
    are trained one per GPU; `accelerate launch -m tutelage train …` trains each on all of them.

    Example: `tutelage train train.jsonl --dev dev.jsonl --rationales rationales.jsonl`
    """
    from tutelage import api
    from tutelage.cli.terminal import Bars
    from tutelage.config.recipe_file import is_recipe, load_recipe
    from tutelage.core.errors import UsageError, require_extra
    from tutelage.core.progress import JobProgress

    student = given.build(StudentSettings)
    require_extra("train", "tutelage train")
    with api.main_process() as first, Bars() as bars:
        if not first:
            return
        if is_recipe(data):
            if wrong := [name for name in given.names() if name != "--track"]:
                raise UsageError(
                    f"{wrong[0]} is for a data file; a recipe has it as a key: change it in {data}"
                )
            done = api.run(
                load_recipe(data),
                runs=runs,
                observer=bars,
                until="training",
                track=student.tracking,
            )
            print(f"Checkpoints: {done.folder / 'arms'}")
            return
        if dev is None:
            raise UsageError("no dev rows: name a file with --dev")
        plain = {} if rationales else {"objective": "label", "label_weight": 1.0}
        settings = given.build(TrainSettings)
        if not rationales:
            settings = settings.replace(**plain)
        found = file_task(data, task, recipe, label_column, text_columns, given)
        if found.guess:
            bars.note(found.guess)
        result = api.train_file(
            data,
            dev,
            rationales,
            student.model,
            settings,
            output,
            task=found.task,
            layout=found.layout,
            on_step=lambda done, total: bars.job(JobProgress(str(output), done, total)),
            track=student.tracking,
            overwrite=overwrite,
        )
    print(
        f"{output / 'model'}: dev accuracy {result.dev_accuracy:.3f} at step {result.best_step} "
        f"of {result.steps}"
    )


app = command_of(train)
