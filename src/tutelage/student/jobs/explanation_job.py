"""The job in which a student generates labels and rationales freely.

People read them, and they are measured. No prediction is made from them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tutelage.core.storage import digest, read_jsonl
from tutelage.core.types import Example, Explanation
from tutelage.student.jobs.jobs import ScoringJob


@dataclass(frozen=True)
class ExplanationJob(ScoringJob):
    """Have the checkpoint of a finished training job generate labels and rationales."""

    @cached_property
    def key(self) -> str:
        """A digest of everything that decides the result."""
        return digest(["explanations", super().key])

    def compute(
        self, student: Any, rows: Sequence[Example], on_progress: Callable[[int], None] | None
    ) -> list[Explanation]:
        """One explanation per row, in the same order."""
        from tutelage.student.inference.explain import write_explanations

        job = self.trained
        return write_explanations(
            student, rows, job.task, on_progress=on_progress, **job.settings.inference_limits
        )

    def load(self, path: Path) -> list[Explanation]:
        """The explanations in a file that the job has written."""
        return [Explanation(**record) for record in read_jsonl(path)]


def sample_rows(examples: Sequence[Example], count: int) -> list[Example]:
    """`count` of the examples (or all, if there are fewer), in their order.

    Takes those whose uid has the smallest SHA-256, so that the sample is the same for every arm and
    every call, and does not depend on the other rows of the file.
    """
    ranked = sorted(examples, key=lambda e: hashlib.sha256(e.uid.encode()).digest())
    kept = {e.uid for e in ranked[:count]}
    return [e for e in examples if e.uid in kept]
