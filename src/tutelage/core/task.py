"""The task: its input fields, its labels, and how each label is spelled."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from tutelage.core.errors import UsageError
from tutelage.core.labels import LabelReader, Spellings
from tutelage.core.types import Source


@dataclass(frozen=True)
class Task:
    """A classification task over named text fields.

    name:        for messages and prompts
    fields:      input fields, in the order of the student's input
    labels:      canonical labels, in the order in which probabilities are given
    spellings:   further spellings of labels in data files -> label
    verbalizers: label -> the words that the student writes for it; default: the label itself
    context:     the field that several examples may share (NLI: the premise). Splits keep its rows
                 together, statistics treat them as one group, and information extraction asks
                 about it alone. None where rows are independent.
    relations:   label -> the words that complete "explain why the text … " in a prompt
    positions:   names of the numbers 0, 1, 2, … where data have numbers in place of labels; empty:
                 a number is a label only if it is spelled like one

    The constructor raises UsageError with every problem found.
    """

    name: str
    fields: tuple[str, ...]
    labels: tuple[str, ...]
    spellings: Mapping[str, str] = field(default_factory=dict)
    verbalizers: Mapping[str, str] = field(default_factory=dict)
    context: str | None = None
    relations: Mapping[str, str] = field(default_factory=dict)
    positions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        problems = []
        if not self.fields:
            problems.append("fields: a task needs at least one input field")
        if len(self.labels) < 2:
            problems.append(f"labels: a task needs at least two, got {list(self.labels)}")
        for name, values in (("fields", self.fields), ("labels", self.labels)):
            if len(set(values)) != len(values):
                problems.append(f"{name}: {list(values)} lists a name twice")
        for name, mapping in (("verbalizers", self.verbalizers), ("relations", self.relations)):
            unknown = sorted(set(mapping) - set(self.labels))
            if unknown:
                problems.append(f"{name}: got {unknown}, expected labels of {list(self.labels)}")
        words = [self.verbalize(label).strip() for label in self.labels]
        if len(set(words)) != len(words) or not all(words):
            problems.append(f"verbalizers: got {words}, expected different words for each label")
        if self.context is not None and self.context not in self.fields:
            problems.append(f"context: got {self.context!r}, expected one of {list(self.fields)}")
        problems += self._spellings.problems(self.spellings)
        if problems:
            raise UsageError(f"task {self.name!r}: " + "; ".join(problems))

    def verbalize(self, label: str) -> str:
        """The words that the student writes for `label`."""
        return self.verbalizers.get(label, label)

    def label_reader(
        self,
        names: Sequence[str] = (),
        unlabelled: Sequence[str] = (),
        *,
        only_positions: bool = False,
    ) -> LabelReader:
        """The reader of this task's labels in data (see `core.labels`).

        names:      of the numbers 0, 1, 2, …, which the data declare; empty: the task's `positions`
        unlabelled: values of rows without a label
        only_positions: whether the source's numbers are always positions

        Raises UsageError where they contradict the labels.
        """
        try:
            return LabelReader(
                self._spellings,
                names or self.positions,
                unlabelled,
                only_positions=only_positions,
            )
        except ValueError as error:
            raise UsageError(str(error)) from error

    def parse_label(self, value: object) -> str | None:
        """The task's label for a value of data that declare nothing further, or None for a row
        without a label. Raises ValueError for anything else."""
        return self._plain_reader.read(value)

    @cached_property
    def _spellings(self) -> Spellings:
        return Spellings(self.labels, self.spellings, self.verbalizers)

    @cached_property
    def _plain_reader(self) -> LabelReader:
        return LabelReader(self._spellings, self.positions)

    def group(self, uid: str, fields: Mapping[str, str]) -> str:
        """The key of the group that a row belongs to: its context field, or its own uid."""
        return uid if self.context is None else " ".join(fields[self.context].split())

    def without(self, omitted: Collection[str]) -> Task:
        """The task of a student that does not see the fields `omitted`.

        Its context is None where that is omitted: such rows are independent inputs.
        """
        if not omitted:
            return self
        return replace(
            self,
            fields=tuple(name for name in self.fields if name not in omitted),
            context=None if self.context in omitted else self.context,
        )

    def source(self, fields: Mapping[str, str]) -> Source:
        """The student's input: `Premise: … Hypothesis: …`.

        The context field's text is cut first where the input is too long; without a context, the
        longest field's.
        """
        texts = {name: fields[name].strip() for name in self.fields}
        shortened = self.context or max(texts, key=lambda name: len(texts[name]))
        parts: list[str] = []
        length = start = 0
        for name, text in texts.items():
            part = f"{name.capitalize()}: {text}"
            if name == shortened:
                start = length + len(part) - len(text)
            parts.append(part)
            length += len(part) + 1
        return Source(" ".join(parts), (start, start + len(texts[shortened])))


NLI = Task(
    name="nli",
    fields=("premise", "hypothesis"),
    labels=("entailment", "neutral", "contradiction"),
    spellings={"e": "entailment", "n": "neutral", "c": "contradiction"},
    context="premise",
    relations={
        "entailment": "entails the hypothesis",
        "neutral": "is neutral to the hypothesis",
        "contradiction": "contradicts the hypothesis",
    },
    positions=("entailment", "neutral", "contradiction"),
)

SENTIMENT = Task(
    name="sentiment",
    fields=("text",),
    labels=("positive", "negative"),
    spellings={"pos": "positive", "neg": "negative"},
    relations={"positive": "is positive", "negative": "is negative"},
)

YES_NO = Task(
    name="yes_no",
    fields=("passage", "question"),
    labels=("yes", "no"),
    spellings={"true": "yes", "false": "no", "y": "yes", "n": "no"},
    context="passage",
    relations={
        "yes": "answers it with yes",
        "no": "answers it with no",
    },
)

PresetName = Literal["nli", "sentiment", "yes_no"]

PRESETS: Mapping[PresetName, Task] = {"nli": NLI, "sentiment": SENTIMENT, "yes_no": YES_NO}
