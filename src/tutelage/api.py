"""The commands as functions: what `tutelage COMMAND` does, for scripts and notebooks.

Each is imported from its room when it is first used. The command line calls these and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.core.errors import require_extra

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from tutelage.config.export_settings import ExportSettings
    from tutelage.config.layout_settings import LayoutSettings
    from tutelage.config.plan_settings import PlanSettings
    from tutelage.config.publish_settings import PublishSettings
    from tutelage.config.recipe import Recipe
    from tutelage.config.scale_settings import ScaleSettings
    from tutelage.config.serve_settings import ServeSettings
    from tutelage.config.teacher_settings import TeacherSettings
    from tutelage.config.training_settings import TrainSettings
    from tutelage.core.progress import Observer
    from tutelage.core.results import Comparison, Evaluation, Results
    from tutelage.core.task import Task
    from tutelage.data.describe import Description as Description
    from tutelage.data.describe import PoolDescription as PoolDescription
    from tutelage.data.file_task import FileTask as FileTask
    from tutelage.deliver.exporter import Export
    from tutelage.deliver.predict import Counts
    from tutelage.deliver.publication import Publication
    from tutelage.evaluation.frontier import Frontier
    from tutelage.experiment.run import Run
    from tutelage.planning.doctor import Finding
    from tutelage.planning.pilot import Pilot as Pilot
    from tutelage.planning.plan import Plan as Plan
    from tutelage.report.compare_runs import TwoRuns as TwoRuns
    from tutelage.report.worth_section import WorthSection
    from tutelage.student.encoding.token_lengths import Audit as Audit
    from tutelage.student.encoding.token_lengths import Cut as Cut
    from tutelage.student.encoding.token_lengths import Lengths as Lengths
    from tutelage.student.training.result import TrainResult
    from tutelage.teacher.batch.batches import BatchRow as BatchRow
    from tutelage.teacher.cost.forecast import Amount as Amount
    from tutelage.teacher.ledger.maintenance import Overview as Overview
    from tutelage.teacher.summary import Summary as Summary


def main_process() -> AbstractContextManager[bool]:
    """True inside, in the process that does the work; False in the others of `accelerate launch`,
    once they have done their share."""
    from tutelage.student.jobs.jobs import main_process

    return main_process()


def run(
    recipe: Recipe,
    *,
    fractions: Sequence[str | float] = (),
    scale: ScaleSettings | None = None,
    **options: Any,
) -> Run:
    """Run an experiment from end to end, or what is missing of it; see `experiment.run.run`.

    fractions: of the training rows, for learning curves, as numbers or as text ("0.1,0.3")
    scale: where its students are trained and evaluated
    """
    from tutelage.experiment.learning_curves import parse_fractions
    from tutelage.experiment.run import run
    from tutelage.planning.before_run import detectable_line

    if scale is not None and scale.engine == "ray":
        from tutelage.scale.train_on_ray import students_on_ray

        options["elsewhere"] = students_on_ray(scale, options.get("workers"))
    return run(recipe, fractions=parse_fractions(fractions), power_line=detectable_line, **options)


def train_file(
    data: str,
    dev: str,
    rationales: Path | None,
    student: str,
    settings: TrainSettings,
    output: Path,
    **options: Any,
) -> TrainResult:
    """Train one student on a file; see `experiment.train_file.train_file`."""
    from tutelage.experiment.train_file import train_file

    return train_file(data, dev, rationales, student, settings, output, **options)


def file_task(data: str, **said: Any) -> FileTask:
    """A data file's task and how it is read, said or guessed; see `data.file_task.task_of_file`."""
    from tutelage.data.file_task import task_of_file

    return task_of_file(data, **said)


def annotate_file(
    data: str,
    strategy: str,
    template: str | None,
    teacher: TeacherSettings | None,
    output: Path,
    ledger: Path | None,
    observer: Observer,
    **options: Any,
) -> dict[Path, Summary]:
    """Write a rationale for each row of a file; see `experiment.prepare.annotate_file`."""
    from tutelage.experiment.prepare import annotate_file

    return annotate_file(data, strategy, template, teacher, output, ledger, observer, **options)


def strategy_traits(name: str, template: str | None = None) -> tuple[bool, bool]:
    """Whether a strategy asks a teacher, and whether it labels rows that have no label."""
    from tutelage.strategies.lookup import get_strategy, labels_rows

    strategy = get_strategy(name, template=template)
    return strategy.asks_teacher, labels_rows(strategy)


def annotate_recipe(
    recipe: Recipe, runs: Path, ledger: Path | None, observer: Observer, **options: Any
) -> dict[Path, Summary]:
    """Annotate every arm of a recipe; see `experiment.prepare.annotate_recipe`, and for recipes
    whose arms buy `experiment.before_buying.annotate_what_is_bought`."""
    from tutelage.experiment.before_buying import annotate_what_is_bought
    from tutelage.experiment.prepare import annotate_recipe

    if recipe.draws_rows:
        return annotate_what_is_bought(recipe, runs, ledger, observer, **options)
    return annotate_recipe(recipe, runs, ledger, observer, **options)


def audit_recipe(recipe: Recipe, runs: Path, observer: Observer) -> Audit:
    """Measure a recipe's rows in the student's tokens; see `planning.audit.audit_recipe`."""
    require_extra("train", "measuring tokens")
    from tutelage.planning.audit import audit_recipe

    return audit_recipe(recipe, runs, observer)


def audit_file(
    data: str,
    rationales: Path | None,
    student: str,
    settings: TrainSettings,
    observer: Observer,
    **options: Any,
) -> Audit:
    """Measure a file's rows in the student's tokens; see `planning.audit.audit_file`."""
    require_extra("train", "measuring tokens")
    from tutelage.planning.audit import audit_file

    return audit_file(data, rationales, student, settings, observer, **options)


def plan(recipe: Recipe, settings: PlanSettings, observer: Observer) -> Plan:
    """What a recipe costs and what it can detect; see `planning.plan.plan_recipe`."""
    from tutelage.planning.plan import plan_recipe

    return plan_recipe(recipe, settings, observer)


def doctor(recipe: Recipe | str | None) -> list[Finding]:
    """What is installed and reachable, and what is missing; see `planning.doctor.examine`."""
    from tutelage.planning.doctor import examine

    return list(examine(recipe))


def draft(file: str | Path, **options: Any) -> tuple[str, Description]:
    """A recipe for a data file, as YAML, and what the file was taken for; see
    `planning.draft.draft`."""
    from tutelage.planning.draft import draft

    return draft(str(file), **options)


def write_predictions(
    model: Path, data: str, *, scale: ScaleSettings | None = None, **options: Any
) -> Counts:
    """Predict the rows of a file; see `deliver.predict.write_predictions`.

    scale: where the rows are predicted
    """
    from tutelage.core.export_record import is_export

    if not is_export(model):
        require_extra("train", "predicting")
    from tutelage.deliver.predict import write_predictions

    if scale is not None and scale.engine == "ray":
        from tutelage.scale.predict_on_ray import scores_on_ray

        output = options.get("output", Path("predictions.jsonl"))
        return write_predictions(model, data, elsewhere=scores_on_ray(scale, output), **options)
    workers = 1 if scale is None else scale.workers
    return write_predictions(model, data, **{"workers": workers, **options})


def export(
    model: Path,
    output: Path,
    settings: ExportSettings,
    *,
    dev: str | None = None,
    test: str | None = None,
    overwrite: bool = False,
) -> Export:
    """Export a trained student; see `deliver.exporter.export_model`.

    dev, test: data specs; of a run, its own rows
    """
    from tutelage.experiment.export_run import export_student

    return export_student(model, output, settings, dev=dev, test=test, overwrite=overwrite)


def publish(
    model: Path, target: str, settings: PublishSettings, *, do_it: bool = False
) -> list[Publication]:
    """Publish a model, and its data; see `experiment.publish_run.publish`."""
    from tutelage.experiment.publish_run import publish

    return publish(model, target, settings, do_it=do_it)


def serve(model: Path, settings: ServeSettings, **options: Any) -> None:
    """Serve an exported model until SIGTERM; see `deliver.serving.http_server.serve`."""
    from tutelage.deliver.serving.http_server import serve

    serve(model, settings, **options)


def worth(run: Path) -> WorthSection:
    """What a run's money bought; see `report.worth_section.worth_of_run`."""
    from tutelage.report.worth_section import worth_of_run

    return worth_of_run(run)


def frontier(run: Path, **options: Any) -> Frontier:
    """Accuracy against cost of student and teacher; see `experiment.frontier_of_run`."""
    from tutelage.experiment.frontier_of_run import frontier_of_run

    return frontier_of_run(run, **options)


def write_frontier(frontier: Frontier, path: Path) -> Path:
    """Write the page of a frontier; see `report.frontier_page.write_frontier`."""
    from tutelage.report.frontier_page import write_frontier

    return write_frontier(frontier, path)


def frontier_table(
    frontier: Frontier,
) -> tuple[tuple[str, ...], list[tuple[str, ...]], list[str]]:
    """The columns and rows of a frontier's table, and what it says in sentences."""
    from tutelage.report.frontier_page import COLUMNS, frontier_rows, frontier_sentences

    return COLUMNS, frontier_rows(frontier), frontier_sentences(frontier)


def evaluate_file(
    path: Path, *, data: str | None, task: Task, layout: LayoutSettings | None
) -> tuple[Evaluation, bool]:
    """Metrics of a file of predictions; see `experiment.prediction_files.evaluate_file`."""
    from tutelage.experiment.prediction_files import evaluate_file

    return evaluate_file(path, data=data, task=task, layout=layout)


def compare_files(
    arm: Path,
    baseline: Path,
    *,
    data: str | None,
    task: Task,
    layout: LayoutSettings | None,
) -> tuple[Comparison, bool]:
    """Compare two files of predictions; see `experiment.prediction_files.compare_files`."""
    from tutelage.experiment.prediction_files import compare_files

    return compare_files(arm, baseline, data=data, task=task, layout=layout)


def is_run(path: Path) -> bool:
    """Whether `path` is the folder of a run."""
    from tutelage.report.compare_runs import is_run

    return is_run(path)


def compare_runs(one: Path, other: Path) -> TwoRuns:
    """Compare two finished runs, arm by arm; see `report.compare_runs.compare_runs`."""
    from tutelage.report.compare_runs import compare_runs

    return compare_runs(one, other)


def write_report(run: Path, output: Path | None = None) -> Path:
    """Write report.html and report.md of a finished run; see `report.page.write_report`."""
    from tutelage.report.page import write_report

    return write_report(run, output)


def answer_sentences(results: Results) -> list[str]:
    """What a run found, in sentences; see `report.answer.answer_sentences`."""
    from tutelage.report.answer import answer_sentences

    return answer_sentences(results)


def ledger_overview(ledger: Path | None, *, failures: bool = False) -> tuple[Overview, list[Any]]:
    """What a ledger holds, and each request that failed where `failures` asks for them."""
    from tutelage.teacher.ledger import maintenance

    with maintenance.open_existing(ledger) as opened:
        return maintenance.overview(opened), maintenance.failures(opened) if failures else []


def short_identity(identity: str) -> str:
    """A teacher's identity in the ledger, a file's digest shortened; `prune` takes it as well."""
    from tutelage.teacher.ledger.maintenance import DIGEST_PREFIX, SHORT_LENGTH, is_digest

    return identity[: len(DIGEST_PREFIX) + SHORT_LENGTH] if is_digest(identity) else identity


def ledger_export(ledger: Path | None, file: Path, strategies: Sequence[str] = ()) -> int:
    """Write answers to a .jsonl file; returns how many."""
    from tutelage.teacher.ledger.export import export_answers
    from tutelage.teacher.ledger.maintenance import open_existing

    with open_existing(ledger) as opened:
        return export_answers(opened, file, list(strategies))


def ledger_import(ledger: Path | None, file: Path) -> tuple[int, int]:
    """Add exported answers, all of a file or none; returns (new, known)."""
    from tutelage.teacher.ledger.export import import_answers
    from tutelage.teacher.ledger.store import Ledger

    with Ledger(ledger) as opened:
        return import_answers(opened, file)


def ledger_prune(
    ledger: Path | None,
    *,
    strategy: str | None = None,
    model: str | None = None,
    identity: str | None = None,
    older_than_days: float | None = None,
    do_it: bool = False,
) -> tuple[int, float | None]:
    """Delete answers for good, or count them: (answers, US dollars that they cost; None
    where they were deleted). What they cost stays charged to their budgets."""
    from tutelage.teacher.ledger import maintenance

    which = maintenance.Pruning(strategy, model, identity, older_than_days)
    with maintenance.open_existing(ledger) as opened:
        if do_it:
            return maintenance.prune(opened, which), None
        return maintenance.would_prune(opened, which)


def cancel_batch(ledger: Path | None, number: int, base_url: str | None = None) -> bool:
    """Ask the server to end a batch; False where it had ended."""
    from tutelage.teacher.ledger import maintenance

    with maintenance.open_existing(ledger) as opened:
        return maintenance.cancel_batch(opened, number, base_url)


def adopt_batch(
    ledger: Path | None, number: int, remote_id: str, base_url: str | None = None
) -> None:
    """Record the id under which the server has a batch."""
    from tutelage.teacher.ledger import maintenance

    with maintenance.open_existing(ledger) as opened:
        maintenance.adopt_batch(opened, number, remote_id, base_url)


def forget_batch(ledger: Path | None, number: int) -> int:
    """Give a batch up; returns how many of its requests can be made again."""
    from tutelage.teacher.ledger import maintenance

    with maintenance.open_existing(ledger) as opened:
        return maintenance.forget_batch(opened, number)
