"""An exported model in use. Free of torch and transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.core.errors import DivergedError, StudentError
from tutelage.core.export_record import ExportRecord, read_export_record
from tutelage.core.task import Task
from tutelage.core.types import Example, ObjectiveName, Prediction
from tutelage.deliver.label_engine import LabelEngine
from tutelage.deliver.rationale_engine import RationaleEngine
from tutelage.deliver.score_matrix import score_matrix
from tutelage.evaluation.temperature import Floats, probabilities_at
from tutelage.student.encoding.plain_tokenizer import TOKENIZER_FILE, PlainTokenizer
from tutelage.student.encoding.prompts import (
    encode_label,
    encode_prompts,
    explaining_prompt,
    explains_after_label,
    label_ids,
    rationale_in,
    scoring_prompt,
)
from tutelage.student.encoding.text_encoder import Architecture
from tutelage.student.encoding.truncation import EncodedSource

CHECKPOINT = "checkpoint"
"""Folder of the student's checkpoint, in an export that needs transformers."""


@dataclass(repr=False)
class ExportedModel:
    """The model of an export's folder. It encodes as the trained student does (a TextEncoder).

    student: the trained student in its `CHECKPOINT`, where the export needs it (see `trained`)
    """

    folder: Path
    record: ExportRecord
    student: Any = None

    @classmethod
    def load(cls, folder: Path) -> ExportedModel:
        """Load an export.

        Raises StudentError where a file has changed, or the tokenizer gives the labels other ids
        than those that the engine scores; MissingExtraError where its engine is not installed.
        """
        model = cls(folder, read_export_record(folder))
        model.check_labels()
        return model

    def check_labels(self) -> None:
        """Raise StudentError where the labels' token ids are not those that the engine scores."""
        found = label_ids(self, self.task)
        if found != [list(ids) for ids in self.record.label_ids]:
            raise StudentError(
                f"{self.folder}: the tokenizer writes the labels as {found}, but the engine scores "
                f"{[list(ids) for ids in self.record.label_ids]}: export the model again"
            )

    @property
    def task(self) -> Task:
        """The task."""
        return self.record.task

    @property
    def classes(self) -> list[str]:
        """None: classifiers are not exported."""
        return []

    @property
    def architecture(self) -> Architecture:
        """Of the student."""
        return self.record.architecture

    @property
    def objective(self) -> ObjectiveName:
        """Of the student."""
        return self.record.objective

    @property
    def affixes(self) -> tuple[list[int], list[int]]:
        """Special tokens before and after an input."""
        return list(self.record.before), list(self.record.after)

    @cached_property
    def tokenizer(self) -> PlainTokenizer:
        """The tokenizer."""
        record = self.record
        return PlainTokenizer(self.folder / TOKENIZER_FILE, record.eos_id, record.unk_id)

    @cached_property
    def engine(self) -> LabelEngine:
        """What scores labels."""
        nodes = len({tuple(ids[:t]) for ids in self.record.label_ids for t in range(len(ids))})
        return LabelEngine(
            self.folder,
            precision=self.record.precision,
            logits_per_row=nodes * len(self.tokenizer),
        )

    @cached_property
    def rationale_engine(self) -> RationaleEngine:
        """What writes rationales."""
        return RationaleEngine(self.folder, self.tokenizer, self.architecture)

    @property
    def needs_student(self) -> bool:
        """Whether anything is computed by the checkpoint itself."""
        return "transformers" in (self.record.label_engine, self.record.rationale_engine)

    def encode(self, examples: Sequence[Example]) -> list[EncodedSource]:
        """The inputs of examples as token ids, cut as in training."""
        sources = [self.task.source(e.fields) for e in examples]
        return encode_prompts(self, sources, scoring_prompt(self), self.record.max_source_tokens)

    def scores(self, encoded: Sequence[EncodedSource], **options: Any) -> Floats:
        """log p(label | input): [rows, labels]. Raises DivergedError for what is not finite."""
        found = self.engine.scores([source.ids for source in encoded], **options)
        if not np.isfinite(found).all():
            raise DivergedError("the model's scores are not finite: export it again")
        return found.astype(np.float64)

    def score(
        self,
        examples: Sequence[Example],
        *,
        explain: bool = False,
        on_progress: Callable[[int], None] | None = None,
    ) -> list[Prediction]:
        """One prediction per example, in the same order.

        explain:     also write a rationale for each
        on_progress: called with the number of rows scored so far
        """
        if not examples:
            return []
        if self.record.label_engine == "transformers":
            return self._scored_by_student(examples, explain, on_progress)
        done = 0

        def count(rows: int) -> None:
            nonlocal done
            done += rows
            if on_progress is not None:
                on_progress(done)

        encoded = self.encode(examples)
        scores = self.scores(encoded, on_rows=count)
        found = self.predictions(examples, encoded, scores)
        return self.explained(examples, found) if explain else found

    def predictions(
        self, examples: Sequence[Example], encoded: Sequence[EncodedSource], scores: Floats
    ) -> list[Prediction]:
        """Predictions from scores, by the record's decision rule and temperature."""
        labels, probabilities = self.task.labels, self._probabilities(scores)
        return [
            Prediction(
                uid=example.uid,
                label=labels[int(np.argmax(scores[row]))],
                probabilities=probabilities[row],
                gold=example.label,
                truncated=source.truncated,
                cut_tokens=source.cut_tokens,
                cut_beyond=source.cut_beyond,
            )
            for row, (example, source) in enumerate(zip(examples, encoded, strict=True))
        ]

    def explained(
        self, examples: Sequence[Example], found: Sequence[Prediction]
    ) -> list[Prediction]:
        """The predictions, with the rationales that the student writes for them."""
        engine = self.record.rationale_engine
        if engine == "none":
            raise StudentError(
                f"{self.folder}: this export writes no rationales "
                f"({(self.record.parity or {}).get('rationales', 'its student learnt none')})"
            )
        if engine == "transformers":
            texts = self.student.write_rationales(examples, found)
        else:
            texts = self._written(examples, found)
        return [replace(p, rationale=text) for p, text in zip(found, texts, strict=True)]

    def _written(self, examples: Sequence[Example], found: Sequence[Prediction]) -> list[str]:
        sources = [self.task.source(e.fields) for e in examples]
        limit = self.record.max_source_tokens
        prompts = encode_prompts(self, sources, explaining_prompt(self), limit)
        words = [self.task.verbalize(prediction.label) for prediction in found]
        after = explains_after_label(self)
        starts = [encode_label(self, one) if after else [] for one in words]
        written = self.rationale_engine.write(
            [prompt.ids for prompt in prompts], starts, self.record.max_rationale_tokens
        )
        return [
            rationale_in(self, self.tokenizer.decode(ids), one)
            for ids, one in zip(written, words, strict=True)
        ]

    def _scored_by_student(
        self,
        examples: Sequence[Example],
        explain: bool,
        on_progress: Callable[[int], None] | None,
    ) -> list[Prediction]:
        found = self.student.score(examples, explain=explain, on_progress=on_progress)
        probabilities = self._probabilities(score_matrix(found, self.task.labels))
        return [replace(p, probabilities=one) for p, one in zip(found, probabilities, strict=True)]

    def _probabilities(self, scores: Floats) -> list[dict[str, float]]:
        """Each row's probabilities of the labels, at the record's temperature."""
        table = probabilities_at(scores, self.record.temperature)
        return [dict(zip(self.task.labels, map(float, row), strict=True)) for row in table]
