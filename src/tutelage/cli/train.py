"""`tutelage train`: one student on one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    data: Annotated[str, typer.Argument(help="NLI rows: a file or hf:NAME#SPLIT; or a recipe.")],
    dev: Annotated[str | None, typer.Option(help="NLI rows to stop and choose by.")] = None,
    output: Annotated[Path, typer.Option(help="Folder of the checkpoint.")] = Path("student"),
    rationales: Annotated[
        Path | None, typer.Option(help="A file that `tutelage annotate` wrote; none: labels only.")
    ] = None,
    objective: Annotated[
        str,
        typer.Option(
            help="With rationales: label, label_then_rationale, rationale_then_label or multitask."
        ),
    ] = "label_then_rationale",
    student: Annotated[
        str, typer.Option(help="A hub name or folder, gguf:…, package:…, scratch:t5-tiny.")
    ] = "google-t5/t5-small",
    learning_rate: Annotated[float, typer.Option(min=0)] = 6e-4,
    label_weight: Annotated[float, typer.Option(min=0, max=1, help="w in (w, 1 - w).")] = 0.5,
    epochs: Annotated[int, typer.Option(min=1)] = 5,
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    seed: Annotated[int, typer.Option()] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    runs: Annotated[Path, typer.Option(help="A recipe: the folder of the runs.")] = Path("runs"),
    track: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Copy the log to tensorboard, wandb or trackio; may be repeated."
        ),
    ] = None,
) -> None:
    """Train one student and keep its best checkpoint by dev accuracy, or all of a recipe's.

    Goes on where it was interrupted. A recipe's test set is not opened. On several GPUs, a recipe's
    students are trained one a GPU; `accelerate launch -m tutelage train …` has all GPUs train each.

    Example: `tutelage train train.jsonl --dev dev.jsonl --rationales rationales.jsonl`
    """
    from tutelage.cli.terminal import Bars
    from tutelage.config.training_settings import TrainSettings, objective_named
    from tutelage.core.errors import UsageError
    from tutelage.student.jobs.jobs import JobProgress, main_process

    with main_process() as first, Bars() as bars:
        if not first:
            return
        if data.endswith((".yaml", ".yml")):
            from tutelage.config.recipe_file import load_recipe
            from tutelage.experiment.run import run

            recipe = load_recipe(data)
            done = run(recipe, runs=runs, observer=bars, until="training", track=track or ())
            print(f"Checkpoints: {done.folder / 'arms'}")
            return
        if dev is None:
            raise UsageError("no dev rows: name a file with --dev")
        from tutelage.experiment.train_file import train_file

        settings = TrainSettings(
            objective=objective_named(objective) if rationales else "label",
            learning_rate=learning_rate,
            label_weight=label_weight if rationales else 1.0,
            epochs=epochs,
            batch_size=batch_size,
            seed=seed,
            threads=threads,
        )
        result = train_file(
            data,
            dev,
            rationales,
            student,
            settings,
            output,
            lambda done, total: bars.job(JobProgress(str(output), done, total)),
            track or (),
        )
    print(
        f"{output / 'model'}: dev accuracy {result.dev_accuracy:.3f} at step {result.best_step} "
        f"of {result.steps}"
    )


command.__name__ = "train"
