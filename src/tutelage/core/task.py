"""What is to be learnt: the input fields, the labels, and how each label is spelled.

A label is recognised in its usual spellings here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from tutelage.core.errors import UsageError
from tutelage.core.types import Source

_UNLABELLED = frozenset({"-1", "-", ""})
"""How data sets write that nobody agreed: SNLI has -1 in the hub's copy, `-` in the release."""


@dataclass(frozen=True)
class Task:
    """A classification task over named text fields.

    name:        for messages and prompts
    fields:      input fields in the order in which the student reads them
    labels:      canonical labels, in the order in which probabilities are given
    spellings:   further ways to write a label in a data file, lower case -> label
    verbalizers: label -> the words that the student writes for it (default: the label itself)
    context:     the field that several examples may share (NLI: the premise). Splits keep its rows
                 together, statistics take it as the unit, information extraction asks about it
                 alone. None where rows are independent.
    relations:   label -> the words that complete "explain why the text … " in a prompt
    """

    name: str
    fields: tuple[str, ...]
    labels: tuple[str, ...]
    spellings: Mapping[str, str] = field(default_factory=dict)
    verbalizers: Mapping[str, str] = field(default_factory=dict)
    context: str | None = None
    relations: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problems = []
        if not self.fields:
            problems.append("fields: a task needs at least one input field")
        if len(self.labels) < 2:
            problems.append(f"labels: a task needs at least two, got {list(self.labels)}")
        for name, values in (("fields", self.fields), ("labels", self.labels)):
            if len(set(values)) != len(values):
                problems.append(f"{name}: {list(values)} names one twice")
        for name, mapping in (("verbalizers", self.verbalizers), ("relations", self.relations)):
            unknown = sorted(set(mapping) - set(self.labels))
            if unknown:
                problems.append(f"{name}: {unknown} are no labels of this task {list(self.labels)}")
        words = [self.verbalize(label).strip() for label in self.labels]
        if len(set(words)) != len(words) or not all(words):
            problems.append(f"verbalizers: each label needs words of its own, got {words}")
        if self.context is not None and self.context not in self.fields:
            problems.append(f"context: {self.context!r} is no field of {list(self.fields)}")
        if problems:
            raise UsageError(f"task {self.name!r}: " + "; ".join(problems))

    def verbalize(self, label: str) -> str:
        """The words that the student writes for `label`."""
        return self.verbalizers.get(label, label)

    def parse_label(self, value: object) -> str | None:
        """The task's label for a data file's value, or None for an unlabelled row.

        Recognised, in any case and with spaces around: a label's name, its verbalizer, its further
        spellings, its number in the order of `labels`. Raises ValueError for anything else,
        saying what was got and what was expected.
        """
        if isinstance(value, bool):
            text = str(value).lower()
        elif isinstance(value, float) and value.is_integer():
            text = str(int(value))  # a CSV column with gaps reads 0, 1, 2 as 0.0, 1.0, 2.0
        else:
            text = "" if value is None else str(value).strip().lower()
        if text not in self._recognised:
            text = text.removesuffix(".0")  # the same column as CSV text
        label = self._recognised.get(text)
        if label is None and text not in _UNLABELLED:
            raise ValueError(
                f"got {value!r}, expected one of {', '.join(self.labels)} "
                f"(or {', '.join(str(i) for i in range(len(self.labels)))})"
            )
        return label

    @property
    def _recognised(self) -> dict[str, str]:
        table = {str(index): label for index, label in enumerate(self.labels)}
        table |= {spelling.lower(): label for spelling, label in self.spellings.items()}
        table |= {self.verbalize(label).strip().lower(): label for label in self.labels}
        table |= {label.lower(): label for label in self.labels}
        return table

    def group(self, uid: str, fields: Mapping[str, str]) -> str:
        """The key of the unit that a row belongs to: its context field, or the row itself."""
        return uid if self.context is None else " ".join(fields[self.context].split())

    def without(self, omitted: Collection[str]) -> Task:
        """The same task for a student that does not see the fields `omitted`.

        Rows that share an omitted context are independent inputs to it: its context is None.
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

        What is cut first is the context field's text; without a context, the longest field's.
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
)

PRESETS: Mapping[str, Task] = {"nli": NLI}
