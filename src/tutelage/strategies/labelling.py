"""The teacher's own label, without or with worked examples: a baseline, not a rationale.

    Premise: … Hypothesis: …, the labels and what they mean  ->  "**Neutral**."  ->  neutral

The worked examples are earlier turns of the chat. No arm learns from these answers: the strategy
`label` of recipes, which labels rows to learn from, is `row_label`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.core.task import Task
from tutelage.core.types import Completion, Example, Message, Rationale
from tutelage.strategies.reasoning import separate
from tutelage.strategies.strategy import render_fields, status_of

_INSTRUCTIONS = """\
Choose the label that fits. The labels are:
{labels}

Answer with one of these labels and nothing else."""

_FENCE = re.compile(r"^```\w*\s*|\s*```$")
_AROUND = " \t\r\n*_#`\"'“”‘’«»().,:;!?-–—>[]{}"
_CUE = (
    r"\b(?:label(?:\s+that\s+fits)?|answer|verdict|classification)\W{0,4}"
    r"(?:\s+(?:is|would\s+be|should\s+be))?\W{0,5}"
)
_NEGATED = re.compile(
    r"(?:\b(?:not|no|never|nor|neither|cannot|without)|n['’]t)\s+(?:[\w'’-]+\s+){0,3}\W*$",
    re.IGNORECASE,
)


class Labelling:
    """One request per row: which label fits? The answer is parsed into `Rationale.label`.

    shots: worked examples that every prompt begins with, in this order; their labels are written in
           the task's words (`task.verbalize`)
    """

    name = "label"
    asks_teacher = True
    labels_rows = True

    def __init__(self, task: Task, shots: Sequence[Example] = ()) -> None:
        self.schema: Mapping[str, Any] | None = label_schema(task)
        instructions = _INSTRUCTIONS.format(
            labels="\n".join(f"- {label_meaning(label, task)}" for label in task.labels)
        )
        self._shots = tuple(
            message
            for shot in shots
            for message in (
                Message("user", render_fields(shot, task)),
                Message("assistant", render_label(shot.label, task)),
            )
        )
        self._instructions = instructions

    def render(self, example: Example, task: Task) -> tuple[Message, ...]:
        """Every input field and all labels, never which one is the row's; worked examples first."""
        first, *rest = (*self._shots, Message("user", render_fields(example, task)))
        return (Message("user", f"{self._instructions}\n\n{first.content}"), *rest)

    def parse(self, completion: Completion, example: Example, task: Task) -> Rationale:
        """The answer and its label; `failed` where no label can be found in it.

        A truncated answer keeps its label where it begins with one: the rest does not matter.
        """
        status, detail = status_of(completion)
        text, label = "", None
        if status in ("ok", "truncated"):
            text = completion.text.strip()
            label = parse_label(text, task, whole=status == "ok")
            if label is None and status == "ok":
                status, detail = "failed", "no label can be found in it"
        return Rationale(
            example.uid, self.name, text, status, label, usage=completion.usage, detail=detail
        )


def render_label(label: str, task: Task) -> str:
    """A label as an answer writes it. `parse_label` is the inverse."""
    return task.verbalize(label).strip()


def parse_label(text: str, task: Task, *, whole: bool = True) -> str | None:
    """The label in an answer, or None where it has none, or more than one.

    whole: False for a truncated answer, which then has to begin with its label

    Tried in this order: the whole answer; `{"label": …}`; a label at the beginning, followed by
    punctuation or the end of the line; labels after words such as "the answer is"; labels, or their
    meanings ("contradicts the hypothesis"), anywhere, if all are the same label and none is
    negated. The number of a label and the further spellings of a data file do not count: the prompt
    does not offer them.
    """
    answer, text = text, _FENCE.sub("", separate(text).answer.strip()).strip()
    named = _Named(task)
    for said in (answer, text, _structured(text)):
        if said is not None and (label := named.exactly(said)) is not None:
            return label
    if (label := named.at_the_beginning(text)) is not None or not whole:
        return label
    return named.after_a_cue(text) or named.alone(text)


def exact_label(text: str, task: Task) -> str | None:
    """The label that the text is, apart from case, punctuation and markup around it."""
    return _Named(task).exactly(text)


def first_label(text: str, task: Task) -> str | None:
    """The label that begins the text before punctuation: "neutral, because …"."""
    return _Named(task).at_the_beginning(text)


def label_schema(task: Task, before: Sequence[str] = ()) -> Mapping[str, Any]:
    """The JSON schema of an answer with a label in the task's words.

    before: further keys, texts, which the answer writes before the label
    """
    words = [task.verbalize(label) for label in task.labels]
    texts = {name: {"type": "string"} for name in before}
    return {
        "type": "object",
        "properties": {**texts, "label": {"type": "string", "enum": words}},
        "required": [*before, "label"],
        "additionalProperties": False,
    }


def label_meaning(label: str, task: Task, words: str | None = None) -> str:
    """A label's words, and what it means where the task says so: `neutral: the premise is …`.

    words: how the label is written; None: as an answer writes it
    """
    relation = task.relations.get(label)
    words = render_label(label, task) if words is None else words
    return words if relation is None else f"{words}: the {task.context or 'text'} {relation}"


def _structured(text: str) -> str | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    said = value.get("label") if isinstance(value, dict) else None
    return said if isinstance(said, str) else None


class _Named:
    """The ways in which a text can name a task's labels."""

    def __init__(self, task: Task) -> None:
        # The words in the prompt come last, so that they take precedence over a label's own name.
        self._exact = {label: label for label in task.labels}
        self._exact |= {render_label(label, task): label for label in task.labels}
        folded: dict[str, set[str]] = {}
        for words, label in self._exact.items():
            folded.setdefault(_fold(words), set()).add(label)
        self._folded = {words: next(iter(of)) for words, of in folded.items() if len(of) == 1}
        relations = {_fold(words): label for label, words in task.relations.items()}
        self._any = relations | self._folded
        self._labels = _alternatives(self._folded)
        self._mentions = _alternatives(self._any)

    def exactly(self, text: str) -> str | None:
        """The label where the text is nothing else, apart from punctuation and markup around it."""
        for said in (text.strip(), text.strip(_AROUND)):
            if said in self._exact:
                return self._exact[said]
        return self._folded.get(_fold(text)) or self._folded.get(_fold(text.strip(_AROUND)))

    def at_the_beginning(self, text: str) -> str | None:
        """The label that begins the text before punctuation: "neutral, because …", not
        "neutral or"."""
        listed = rf",(?!\W*(?:(?:or|and)\b|{self._labels}))"
        stop = rf"[*_`\"'”’)]*\s*(?:{listed}|[.;:!\n(–—]|-\s|$)"
        found = re.match(rf"\W*({self._labels}){stop}", text, re.IGNORECASE)
        return None if found is None else self._folded.get(_fold(found[1]))

    def after_a_cue(self, text: str) -> str | None:
        """The label after words such as "the answer is", if it is the same each time."""
        found = re.findall(rf"{_CUE}({self._labels})", text, re.IGNORECASE)
        return _only({self._folded.get(_fold(words)) for words in found})

    def alone(self, text: str) -> str | None:
        """The label that the text names, if it names only one and never negates it."""
        found = list(re.finditer(self._mentions, text, re.IGNORECASE))
        if any(_NEGATED.search(_clause(text[: match.start()])) for match in found):
            return None
        return _only({self._any.get(_fold(match.group())) for match in found})


def _fold(words: str) -> str:
    return " ".join(words.split()).casefold()


def _alternatives(words: Mapping[str, str]) -> str:
    """A pattern for any of the words, the longest first, with no letter next to it."""
    longest = sorted(words, key=len, reverse=True)
    patterns = (r"\s+".join(map(re.escape, one.split())) for one in longest)
    return rf"(?<!\w)(?:{'|'.join(patterns)})(?!\w)"


def _clause(text: str) -> str:
    return re.split(r"[.,;:!?\n]", text)[-1]


def _only(labels: set[str | None]) -> str | None:
    return next(iter(labels)) if len(labels) == 1 else None
