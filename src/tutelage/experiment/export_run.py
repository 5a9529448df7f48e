"""Exports the student of a run, with the run's own rows and the report's answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tutelage.config.export_settings import ExportSettings
from tutelage.config.recipe_file import load_recipe
from tutelage.core.checkpoint_record import read_record
from tutelage.core.errors import UsageError
from tutelage.core.results import Results, load_results
from tutelage.core.types import Example
from tutelage.data.load import load_examples
from tutelage.deliver.exporter import Export, export_model
from tutelage.deliver.model_card import Background
from tutelage.deliver.trained import checkpoint_in, layout_near
from tutelage.experiment.prepare import load_splits
from tutelage.report.answer import answer_sentences


def export_student(
    model: Path,
    output: Path,
    settings: ExportSettings,
    *,
    dev: str | None = None,
    test: str | None = None,
    overwrite: bool = False,
) -> Export:
    """Export the model that a run recommends, or a checkpoint; see `deliver.exporter.export_model`.

    dev, test: data specs of rows; None: those of the run that the model belongs to, if any
    """
    if output.exists() and not overwrite:
        raise UsageError(f"{output}: exists already: name another folder, or add --overwrite")
    run = run_of(model)
    rows: dict[str, Sequence[Example]] = {"dev": (), "test": (), "calibration": ()}
    background = None
    if run is not None:
        splits = load_splits(load_recipe(str(run / "recipe.yaml")))
        rows = {"dev": splits.dev, "test": splits.test, "calibration": splits.calibration}
        background = background_of(run)
    named = {"dev": dev, "test": test}
    if any(named.values()):
        student = checkpoint_in(model)

        task, layout = read_record(student).task, layout_near(student)
        for name, spec in named.items():
            if spec is not None:
                rows[name] = load_examples(spec, task, layout)
    return export_model(
        model,
        output,
        settings,
        dev=rows["dev"],
        test=rows["test"],
        calibration=rows["calibration"],
        background=background,
        overwrite=overwrite,
    )


def run_of(model: Path) -> Path | None:
    """The folder of the run that `model` is, or that it lies in; None for another folder."""
    whole = model.resolve()
    for folder in [whole, *list(whole.parents)[:5]]:
        if (folder / "recipe.yaml").is_file() and (folder / "arms").is_dir():
            return folder
    return None


def background_of(run: Path) -> Background | None:
    """What a card says of a run; None before it is finished."""
    if not (run / "results.json").is_file():
        return None
    results = load_results(run / "results.json")
    return Background(
        name=results.name,
        sentences=tuple(answer_sentences(results)),
        data={name: str(value) for name, value in _specs(run).items()},
        student=results.student.model,
        teacher=", ".join(_teachers(results)) or None,
        teacher_usd=_for_1000(results),
        teacher_label_usd=_labels_for_1000(results),
    )


def _specs(run: Path) -> dict[str, object]:
    data = load_recipe(str(run / "recipe.yaml")).data
    return {"train": data.train, "dev": data.dev, "test": data.test}


def _teachers(results: Results) -> list[str]:
    """The models that wrote rationales, each once."""
    names = [arm.model for arm in results.teacher.by_arm.values() if arm.model]
    return list(dict.fromkeys(names))


def _labels_for_1000(results: Results) -> float | None:
    """US dollars for 1,000 labels of the teacher, asked without examples; None where unknown."""
    for found in results.baselines.teacher:
        if found.shots == 0 and found.cost_usd is not None and found.rows:
            return 1000 * found.cost_usd / found.rows
    return None


def _for_1000(results: Results) -> float | None:
    """US dollars for 1,000 of the teacher's answers; None where the price is unknown."""
    spent = results.teacher
    count = spent.requests + spent.cached
    if spent.cost_usd is None or not count:
        return None
    return 1000 * spent.cost_usd / count
