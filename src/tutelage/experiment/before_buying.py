"""What is found out before most of the money is spent: is the teacher good enough as a labeller?"""

from __future__ import annotations

from pathlib import Path

from tutelage.config.recipe import Recipe
from tutelage.core.progress import Observer
from tutelage.core.results import TeacherAgreement
from tutelage.core.storage import write_jsonl
from tutelage.experiment.agreement_check import check_agreement
from tutelage.experiment.arm_rows import draw_rows, rows_bought_in_any_case
from tutelage.experiment.gold_sizes import gold_orders, gold_rows
from tutelage.experiment.prepare import Splits, load_splits
from tutelage.experiment.provider_terms import point_to_terms
from tutelage.student.encoding.targets import build_training_examples
from tutelage.student.jobs.jobs import Runner, TrainingJob
from tutelage.teacher.annotate import Summary


def compare_with_known_labels(
    recipe: Recipe,
    splits: Splits,
    folder: Path,
    ledger: Path | None,
    observer: Observer,
    *,
    retry_failed: bool = False,
) -> tuple[TeacherAgreement, ...]:
    """Ask every teacher that arms buy labels from about labelled rows, and compare its accuracy
    with that of a student of labels alone on dev; nothing where no arm buys labels.

    folder: of the run

    Raises as `check_agreement` does.
    """
    if not any(arm.learns_pool for arm in recipe.arms):
        point_to_terms(recipe, observer)
        return ()
    observer.stage("A first student of labels alone, to compare the teacher with")
    accuracy = first_student(recipe, splits, folder, observer)
    observer.stage("Asking the teacher about rows whose labels are known")
    return check_agreement(
        recipe,
        splits,
        ledger,
        observer,
        pool_rows=rows_bought_in_any_case(recipe, splits, ledger, observer),
        student_accuracy=accuracy,
        retry_failed=retry_failed,
    )


def annotate_what_is_bought(
    recipe: Recipe,
    runs: Path,
    ledger: Path | None,
    observer: Observer,
    *,
    retry_failed: bool = False,
    wait: bool = True,
) -> dict[Path, Summary]:
    """Buy what every arm and seed of a recipe may, and write the teachers' answers of its run.

    Returns a summary for each file, by path. Nothing is trained: the teacher is compared with known
    labels, but with no student. Raises as `check_agreement` and `draw_rows` do.
    """
    splits = load_splits(recipe)
    if any(arm.learns_pool for arm in recipe.arms):
        sure = rows_bought_in_any_case(recipe, splits, ledger, observer)
        check_agreement(recipe, splits, ledger, observer, pool_rows=sure, retry_failed=retry_failed)
    else:
        point_to_terms(recipe, observer)
    drawn = draw_rows(recipe, splits, ledger, observer, retry_failed=retry_failed, wait=wait)
    written = {}
    for arm, annotation in drawn.annotations.items():
        path = runs / recipe.name / "rationales" / f"{arm}.jsonl"
        write_jsonl(path, annotation.rationales)
        written[path] = annotation.summary
    return written


def first_student(recipe: Recipe, splits: Splits, folder: Path, observer: Observer) -> float | None:
    """The metric on dev of a student of labels alone on the first seed's gold rows, at the recipe's
    own epochs and first configuration; None where it diverged.

    It is trained in RUN/first-student, and is none of the students that are compared: how many
    steps these take depends on what will be bought.
    """
    arm, seed, task = recipe.baseline, recipe.replicates[0], recipe.resolved_task()
    gold = gold_orders(recipe, splits.train)[seed][: gold_rows(recipe, arm, len(splits.train))]
    rows = build_training_examples(gold, task, None, "label")
    place = folder / "first-student"
    tokenizer = None
    if recipe.student.model.startswith("scratch:"):
        from tutelage.student.model.scratch import tokenizer_for

        tokenizer = tokenizer_for(rows, place / "tokenizer")
    settings = recipe.training(arm, recipe.configs(arm)[0], seed)
    job = TrainingJob(
        recipe.student.model,
        tokenizer,
        rows,
        splits.dev,
        task,
        settings,
        place / "training",
        metric=recipe.metric,
    )
    with Runner(1, observer.job) as runner:
        ((_, result),) = runner.run([job])
    accuracy: float | None = result.dev_accuracy
    return accuracy
