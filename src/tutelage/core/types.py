"""The values that flow through the pipeline: frozen, slotted, and all but free of behaviour.

Example -> Request -> Completion -> Rationale -> TrainingExample -> Prediction
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

RationaleStatus = Literal["ok", "refused", "truncated", "empty", "failed"]
"""What became of one question to the teacher. Only `ok` text is trained on; all are counted."""

RATIONALE_STATUSES: tuple[RationaleStatus, ...] = ("ok", "refused", "truncated", "empty", "failed")

Parameter = float | int | str | Mapping[str, Any]

ObjectiveName = Literal["label", "label_then_rationale", "rationale_then_label", "multitask"]
ControlName = Literal["shuffled", "shuffled_within_label", "label_echo", "filler"]


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled text.

    fields:     the task's input fields by name
    label:      a label of the task
    reason:     the data's own explanation of the label, where it has one
    tags:       kinds of inference, or any other names to break accuracy down by
    references: answers known beforehand, by strategy name (synthetic data carry them)
    """

    uid: str
    fields: Mapping[str, str]
    label: str
    reason: str | None = None
    tags: tuple[str, ...] = ()
    references: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the teacher's server counted them; None where it did not say.

    completion_tokens: all that were written, hidden reasoning too
    cached_tokens:     those of the prompt that the server had at hand, at a lower price
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a teacher.

    strategy and example say what it is about, for teachers that look answers up (recorded,
    scripted). They are no part of its identity: two examples with equal messages are one question.
    parameters: sampling parameters as the API names them; only those that were set. With
                `response_format` among them where the answer is to be JSON of a schema.
    sample:     number of the sample, where one question is asked several times.
    """

    model: str
    messages: tuple[Message, ...]
    strategy: str
    example: Example
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    sample: int = 0


@dataclass(frozen=True, slots=True)
class Completion:
    """What a teacher answered.

    finish_reason: as in the OpenAI API (`stop`, `length`, …)
    pico:          what it cost, in pico-dollars (1e-12 US dollars); None where nobody knows
    label:         the teacher's own label as it wrote it, where an answer was recorded with one
    """

    text: str
    finish_reason: str | None = None
    usage: Usage = Usage()
    pico: int | None = None
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Rationale:
    """A teacher's explanation for one example, as one strategy read it.

    text:     what the student is to learn; empty unless status is `ok` or `truncated`
    label:    the teacher's own label, where the answer holds one
    detail:   why it is not `ok`, in a few words; empty where it is
    cost_usd: None where no price is known
    """

    uid: str
    strategy: str
    text: str
    status: RationaleStatus
    label: str | None = None
    usage: Usage = Usage()
    cost_usd: float | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """What the student is to write: a label segment, then a rationale segment (maybe none)."""

    label: str
    rationale: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """What the student reads, as text.

    cut: start and end, in characters of `text`, of what is shortened first where the whole is too
         long (see `student.sources`)
    """

    text: str
    cut: tuple[int, int]

    def prefixed(self, prefix: str) -> Source:
        """The same with `prefix` in front."""
        start, end = (place + len(prefix) for place in self.cut)
        return Source(prefix + self.text, (start, end))


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """One row as the student sees it."""

    uid: str
    source: Source
    target: Target


@dataclass(frozen=True, slots=True)
class Prediction:
    """A student's reading of one example.

    probabilities: one for each label of the task, summing to 1
    gold:          the example's label, kept beside it so that a file of predictions stands alone
    truncated:     True where the input had to be cut to fit the student
    rationale:     only where somebody asked for it
    cut_tokens:    how many tokens of the input were cut
    cut_beyond:    of these, those outside the field that is cut first (see `student.sources`)
    """

    uid: str
    label: str
    probabilities: Mapping[str, float]
    gold: str
    truncated: bool = False
    rationale: str | None = None
    cut_tokens: int = 0
    cut_beyond: int = 0


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a student wrote for itself about one example.

    text:   its rationale; empty where it wrote none
    label:  the task's label that it wrote beside it; None where that is none of the task's, or
            where its objective writes the rationale alone
    tokens: that it wrote, label and separators included
    cut:    whether it came to the bound before it came to an end
    """

    uid: str
    text: str
    label: str | None
    tokens: int
    cut: bool
