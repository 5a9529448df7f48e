"""The job in which a student explains itself: what it writes of its own accord about some rows.

For people to read, and to be measured: no prediction is ever made of it.
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
class ExplainingJob(ScoringJob):
    """Have the checkpoint of a finished training job write its labels and rationales."""

    @cached_property
    def key(self) -> str:
        """A digest of all that decides the outcome."""
        return digest(["explanations", super().key])

    def read(
        self, student: Any, rows: Sequence[Example], on_progress: Callable[[int], None] | None
    ) -> list[Explanation]:
        """What `student` writes about `rows`, in their order."""
        from tutelage.student.inference.explain import write_explanations

        job = self.trained
        return write_explanations(
            student, rows, job.task, on_progress=on_progress, **job.settings.inference_limits
        )

    def restore(self, path: Path) -> list[Explanation]:
        """The explanations in a file that the job wrote."""
        return [Explanation(**record) for record in read_jsonl(path)]


def sampled(examples: Sequence[Example], count: int) -> list[Example]:
    """`count` of the examples (or all there are), in their order: those whose uid has the smallest
    SHA-256. The same for every arm, every call, and whatever stands beside them in the file."""
    ranked = sorted(examples, key=lambda e: hashlib.sha256(e.uid.encode()).digest())
    kept = {e.uid for e in ranked[:count]}
    return [e for e in examples if e.uid in kept]
