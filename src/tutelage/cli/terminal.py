"""Terminal output of the commands: progress, tables, one-line errors and warnings."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import typer

from tutelage.cli.jobs_progress import JobsProgress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from tutelage.config.layout_settings import LayoutSettings
    from tutelage.config.recipe import Recipe
    from tutelage.core.progress import AnnotationProgress, JobProgress
    from tutelage.core.results import Comparison, Results
    from tutelage.core.task import Task

_ENOUGH_REQUESTS = 10
"""Requests after which their rate predicts how long the rest takes."""
_PLAIN_EVERY_S = 15.0
"""Seconds between two lines of progress where the output is not a terminal."""


def command_of(function: Callable[..., None]) -> typer.Typer:
    """Make an app of one command, for `cli.main`."""
    single = typer.Typer(add_completion=False, rich_markup_mode="markdown")
    single.command()(function)
    return single


def complain(message: str, label: str = "error") -> None:
    """Print one plain line on standard error."""
    print(f"tutelage: {label}: {' '.join(message.split())}", file=sys.stderr)


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output."""
    from tutelage.core.storage import as_json

    print(json.dumps(as_json(value), indent=2, ensure_ascii=False))


def print_scores(found: Any, independent: bool) -> None:
    """Print results on files of predictions as JSON.

    independent: whether rows were treated as independent because their groups are unknown
    """
    from tutelage.core.storage import as_json

    print_json(as_json(found) | {"rows_taken_as_independent": independent})


def warn_of_independence(context: str | None) -> None:
    """Warn that the rows that share a `context` are unknown."""
    complain(
        f"rows are treated as independent: where several share a {context}, intervals are too "
        "narrow and p-values too small. Name the predicted rows with --data",
        label="warning",
    )


def task_and_layout(recipe: Recipe | None) -> tuple[Task, LayoutSettings | None]:
    """The task of a recipe and how its files are read; without one, NLI and the defaults."""
    from tutelage.core.task import NLI

    if recipe is None:
        return NLI, None
    return recipe.resolved_task(), recipe.data


def error_console() -> Console:
    """The console for progress: standard error, so that standard output has only results."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, emoji=False)


def out_console() -> Console:
    """The console for results, wide enough for a table where the output is a file."""
    from rich.console import Console

    console = Console(highlight=False, emoji=False)
    return console if console.is_terminal else Console(highlight=False, emoji=False, width=140)


def _span(seconds: float) -> str:
    """An approximate time: `about 40 s`, `about 12 min`, `about 3.5 h`."""
    if seconds < 100:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 6000 else f"about {seconds / 3600:.1f} h"


def _left(seconds: float | None) -> list[str]:
    return [f"{_span(seconds)} left"] if seconds else []


class Bars:
    """An observer with a bar for each thing in progress; plain lines where there is no terminal.

    console: where they go; None: standard error
    clock:   returns seconds
    """

    def __init__(
        self, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.table import Column

        self.console = console or error_console()
        self.bars = Progress(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            # Where the line is too long, the details are cut and not the columns before them.
            TextColumn("{task.fields[details]}", table_column=Column(no_wrap=True, ratio=1)),
            expand=True,
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.clock = clock
        self.began = clock()
        self.shown: dict[str, Any] = {}
        self.last_plain: float | None = None
        self.students: JobsProgress | None = None
        self.verb = ""
        self.single: JobsProgress | None = None

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bars.stop()
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            complain("finished work is kept: run the same command to continue", label="interrupted")

    def stage(self, title: str) -> None:
        """A new stage begins."""
        for bar in self.shown.values():
            self.bars.remove_task(bar)
        self.shown.clear()
        self.students = self.single = None
        self._line(f"[{self.clock() - self.began:6.1f} s] {title}")

    def note(self, line: str) -> None:
        """Something that a person should know."""
        self._line(f"           {line}")

    def annotating(self, arm: str, progress: AnnotationProgress) -> None:
        """How far one arm's annotation is."""
        details = []
        if progress.failed:
            details.append(f"{progress.failed} failed")
        if progress.cost_usd:
            cost = f"${progress.cost_usd:.4f}"
            if progress.total and progress.done < progress.total:
                # Known answers are free and come first; the rest costs as much as those so far.
                left = progress.total - progress.done
                cost += f" of about ${progress.cost_usd * (1 + left / progress.requests):.4f}"
            details.append(cost)
        if progress.cached:
            details.append(f"{progress.cached} known")
        if progress.requests and progress.seconds > 1:
            rate = progress.requests / progress.seconds
            details.append(f"{rate:,.0f} requests/s" if rate >= 10 else f"{rate:.2g} requests/s")
            if progress.tokens:
                details.append(f"{progress.tokens / progress.seconds:,.0f} tokens/s")
            if progress.total and progress.requests >= _ENOUGH_REQUESTS:
                details.append(f"{_span((progress.total - progress.done) / rate)} left")
        total = progress.total or max(progress.done, 1)
        self._show(f"answers for {arm}", progress.done, total, details)

    def jobs(self, done: int, total: int, verb: str) -> None:
        """How many students of this stage are `verb`: trained, for example."""
        if not total:
            return
        if self.students is None:
            self.students = JobsProgress(total, done, self.clock)
            self._start_timer()
        self.students.done = done
        self.verb = verb
        self._show_students(self.students)

    def job(self, progress: JobProgress) -> None:
        """How far one of them is; or how far the only one is, where none were counted."""
        if self.students is not None:
            self.students.update(progress)
            self._show_students(self.students)
            return
        share = progress.done / max(progress.total, 1)
        if self.single is None or share < self.single.completed:  # the same rows once more
            self.single = JobsProgress(1, 0, self.clock)
            self._start_timer()
        self.single.update(progress)
        left = _left(self.single.seconds_left)
        self._show(progress.name, progress.done, progress.total, left)

    def _show_students(self, students: JobsProgress) -> None:
        left = _left(students.seconds_left)
        if self.console.is_terminal:
            self._show("students", students.completed, students.total, left)
        else:
            self._show("students", students.done, students.total, left, f" {self.verb}")

    def _start_timer(self) -> None:
        """Print no plain line before another 15 s: the stage's title has just been printed."""
        self.last_plain = self.clock()

    def _show(
        self, text: str, done: float, total: int, details: Sequence[str], unit: str = ""
    ) -> None:
        described = ", ".join(details)
        if self.console.is_terminal:
            if text not in self.shown:
                self.shown[text] = self.bars.add_task(text, total=total, details="")
            self.bars.update(self.shown[text], completed=done, details=described)
            return
        now, last = self.clock(), self.last_plain
        if done == total or last is None or now - last >= _PLAIN_EVERY_S:
            self.last_plain = now
            self._line(f"           {text}: {done} of {total}{unit}{described and ', '}{described}")

    def _line(self, text: str) -> None:
        # Not wrapped where there is no terminal, so that a log has one line for each message.
        self.console.print(text, markup=False, soft_wrap=True)


def print_results(results: Results) -> None:
    """Print the arms, the comparisons and the answer."""
    from rich.markup import escape
    from rich.table import Table

    from tutelage import api

    console = out_console()
    metric = results.metric_name
    arms = Table(title=f"{escape(results.name)}: {metric}", title_justify="left")
    for name in ("arm", "trials", "seeds", "dev", "test", "95% interval", "by seed", "rows"):
        arms.add_column(name, justify="left" if name == "arm" else "right")
    for arm in results.arms:
        test = arm.test
        arms.add_row(
            escape(arm.name),
            str(len(arm.trials)),
            str(len(arm.seeds)),
            f"{arm.dev.accuracy:.3f}",
            f"{test.accuracy:.3f}",
            f"{test.ci95[0]:.3f} to {test.ci95[1]:.3f}",
            " ".join(f"{accuracy:.3f}" for accuracy in test.accuracy_by_seed),
            str(test.n),
        )
    _add_baselines(arms, results)
    console.print(arms)
    if results.comparisons:
        print_comparisons(results.comparisons, f"Differences in test {metric}, in points")
    if results.comparisons_unseen:
        rows = results.comparisons_unseen[0].n
        print_comparisons(
            results.comparisons_unseen,
            f"The same on the {rows} test rows whose context is not in train; not part of the "
            "correction above",
        )
    if results.control_comparisons:
        print_comparisons(
            results.control_comparisons,
            "Control arms minus labels alone, to describe what each does; not corrected",
        )
    if results.context_comparisons:
        print_comparisons(
            results.context_comparisons, "Compared with baselines, row by row; not corrected"
        )
    for sentence in api.answer_sentences(results):
        console.print(sentence, markup=False, soft_wrap=True)


def _add_baselines(arms: Table, results: Results) -> None:
    """Add the baselines that were evaluated on the test set to the table of arms."""
    majority, words = results.baselines.majority, results.baselines.bag_of_words
    for name, choice, found in (
        ("majority class", majority and majority.label, majority),
        ("bag of words", words and f"C {words.strength:g}", words),
    ):
        if found is not None:
            low, high = found.ci95
            arms.add_row(
                *(name, str(choice), "", "", "", f"{found.accuracy:.3f}"),
                *(f"{low:.3f} to {high:.3f}", str(found.n)),
            )


def print_comparisons(comparisons: Sequence[Comparison], title: str) -> None:
    """Print one table of differences."""
    from rich.markup import escape
    from rich.table import Table

    from tutelage.core.results import ComparisonResult
    from tutelage.core.wording import detectable_points

    table = Table(title=title, title_justify="left", caption_justify="left")
    for name in (
        "arm",
        "compared with",
        "difference",
        "95% interval",
        "p",
        "p (Holm)",
        "detectable",
    ):
        table.add_column(name, justify="left" if name in ("arm", "compared with") else "right")
    for row in comparisons:
        secondary = isinstance(row, ComparisonResult) and not row.primary
        if secondary and table.caption is None:
            table.add_section()
            table.caption = "Below the line: secondary comparisons, corrected separately"
        low, high = row.ci95
        table.add_row(
            escape(row.arm),
            escape(row.baseline),
            f"{100 * row.difference:+.1f}",
            f"{100 * low:+.1f} to {100 * high:+.1f}",
            f"{row.p_value:.2g}",
            f"{row.p_adjusted:.2g}",
            detectable_points(row.minimum_detectable_difference, row.detectable_range),
        )
    out_console().print(table)
