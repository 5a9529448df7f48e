"""The task: its input fields, its labels, and how each label is spelled.

Spellings of labels in data are recognised here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from tutelage.core.errors import UsageError
from tutelage.core.types import Source

_UNLABELLED = frozenset({"-1", "-", ""})
"""How data sets mark a row without a label: SNLI has -1 on the hub, `-` in the release."""


@dataclass(frozen=True)
class Task:
    """A classification task over named text fields.

    name:        for messages and prompts
    fields:      input fields, in the order of the student's input
    labels:      canonical labels, in the order in which probabilities are given
    spellings:   further spellings of labels in data files, lower case -> label
    verbalizers: label -> the words that the student writes for it; default: the label itself
    context:     the field that several examples may share (NLI: the premise). Splits keep its rows
                 together, statistics treat them as one group, and information extraction asks
                 about it alone. None where rows are independent.
    relations:   label -> the words that complete "explain why the text … " in a prompt

    The constructor raises UsageError with every problem found.
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
        if problems:
            raise UsageError(f"task {self.name!r}: " + "; ".join(problems))

    def verbalize(self, label: str) -> str:
        """The words that the student writes for `label`."""
        return self.verbalizers.get(label, label)

    def parse_label(self, value: object) -> str | None:
        """The task's label for a data file's value, or None for an unlabelled row.

        Recognises a label's name, its verbalizer, its further spellings and its number in the order
        of `labels`, in any case and with white space around. Raises ValueError for anything else;
        the message says what was found and what was expected.
        """
        if isinstance(value, bool):
            text = str(value).lower()
        elif isinstance(value, float) and value.is_integer():
            text = str(int(value))  # numbers become 0.0, 1.0, 2.0 in a column with gaps
        else:
            text = "" if value is None else str(value).strip().lower()
        if text not in self._recognised:
            text = text.removesuffix(".0")  # the same column, read as text from CSV
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
)

PRESETS: Mapping[str, Task] = {"nli": NLI}
