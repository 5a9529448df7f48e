"""Asks a teacher on behalf of a recipe: the one place where an experiment's requests begin.

Rationales, bought labels, the agreement check and the baseline `teacher` all go through it, so that
ledger, budget, progress and notes are the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tutelage.config.recipe import Recipe
from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.progress import AnnotationProgress, Observer
from tutelage.core.types import Example
from tutelage.strategies.lookup import Strategy
from tutelage.teacher.annotate import Annotation, Options, annotate
from tutelage.teacher.ledger.store import Ledger


@dataclass(frozen=True, slots=True)
class Asking:
    """How a recipe's requests are made.

    ledger:       None: the one at the default path
    retry_failed: repeat requests that are known to have failed permanently
    wait:         wait for open batches; otherwise BatchesOpenError is raised once they were sent
    """

    recipe: Recipe
    ledger: Path | None
    observer: Observer
    retry_failed: bool = False
    wait: bool = True

    def annotate(
        self,
        rows: Sequence[Example],
        strategy: Strategy,
        settings: TeacherSettings | None,
        title: str,
        *,
        shown_from: int = 0,
        on_failure: Callable[[str, str], None] | None = None,
    ) -> Annotation:
        """The answers about these rows, in their order, charged to the budget of the recipe's name.

        settings: None for a strategy that asks no teacher
        title:    what progress is reported under
        shown_from: rows from which on progress is reported
        on_failure: as in `teacher.annotation.Options`

        Raises BudgetError, TeacherError and related errors as `teacher.annotate.annotate` does.
        """

        def on_progress(progress: AnnotationProgress) -> None:
            if len(rows) >= shown_from:
                self.observer.annotating(title, progress)

        options = Options(
            budget_name=self.recipe.name,
            retry_failed=self.retry_failed,
            wait=self.wait,
            on_progress=on_progress,
            on_note=self.observer.note,
            on_failure=on_failure,
        )
        book = None if self.ledger is None else Ledger(self.ledger)
        try:
            return annotate(
                rows,
                strategy=strategy,
                teacher=settings,
                task=self.recipe.resolved_task(),
                ledger=book,
                options=options,
            )
        finally:
            if book is not None:
                book.close()
