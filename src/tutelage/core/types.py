"""The values that flow through the pipeline, as frozen dataclasses with almost no behaviour.

Example -> Request -> Completion -> Rationale -> TrainingExample -> Prediction
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

RationaleStatus = Literal["ok", "refused", "truncated", "empty", "failed"]
"""The result of one request to the teacher. Only `ok` text is trained on; all are counted."""

RATIONALE_STATUSES: tuple[RationaleStatus, ...] = ("ok", "refused", "truncated", "empty", "failed")

Parameter = float | int | str | bool | Sequence[Any] | Mapping[str, Any] | None

ObjectiveName = Literal["label", "label_then_rationale", "rationale_then_label", "multitask"]
ControlName = Literal[
    "shuffled",
    "shuffled_within_label",
    "scrambled",
    "filler",
    "label_echo",
    "self_training",
    "rationale_dropped",
    "random_filter",
]
"""Kinds of control arms. The last three belong to arms that learn rows which the teacher labelled:
the same rows with the labels of a student of labels alone; the same labels without rationales; as
many rows of the same labels, whether or not the two teachers agree on them."""


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled text.

    fields:     the task's input fields by name
    label:      a label of the task
    reason:     the data's own explanation of the label, where it has one
    tags:       kinds of inference, or other names by which accuracy is broken down
    references: known answers by strategy name, which synthetic data have
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
    """Token counts as the teacher's server reports them; None where it does not.

    completion_tokens: all generated tokens, including hidden reasoning
    cached_tokens:     prompt tokens from the server's cache, which cost less
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One request to a teacher.

    strategy, example: what the request is about, for teachers that look answers up (recorded,
                scripted). They are not part of its identity: two examples with equal messages make
                one request.
    parameters: sampling parameters that were set, by their names in the API; with
                `response_format` where the answer must be JSON of a schema
    sample:     number of the sample, where one request is made several times
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

    text:          the answer. As the ledger keeps it, it may still contain reasoning in a mark-up
                   (`strategies.reasoning` separates it before an answer is parsed)
    finish_reason: as in the OpenAI API (`stop`, `length`, …)
    pico:          cost in pico-dollars (1e-12 US dollars); None where it is unknown
    label:         the teacher's own label as written, where the answer was recorded with one
    reasoning:     what the model thought before it answered, where the server shows it; never part
                   of the answer
    served:        the model that the reply names; None where it names none
    server:        the address that answered, where it was one of several; else None
    """

    text: str
    finish_reason: str | None = None
    usage: Usage = Usage()
    pico: int | None = None
    label: str | None = None
    reasoning: str = ""
    served: str | None = None
    server: str | None = None


@dataclass(frozen=True, slots=True)
class Rationale:
    """A teacher's explanation of one example, as one strategy parsed it.

    text:     the text to learn; empty unless status is `ok` or `truncated`
    label:    the teacher's own label, where the answer contains one
    detail:   why the status is not `ok`, in a few words; else empty
    cost_usd: None where no price is known
    reasoning: what the teacher thought before it answered, where it shows that; never trained on
    """

    uid: str
    strategy: str
    text: str
    status: RationaleStatus
    label: str | None = None
    usage: Usage = Usage()
    cost_usd: float | None = None
    detail: str = ""
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """The text that a student learns to write: a label segment and, optionally, a rationale one."""

    label: str
    rationale: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """The student's input, as text.

    cut: start and end, in characters of `text`, of the part that is cut first where the input is
         too long (see `student.encoding.truncation`)
    """

    text: str
    cut: tuple[int, int]

    def prefixed(self, prefix: str) -> Source:
        """This source with `prefix` in front."""
        start, end = (place + len(prefix) for place in self.cut)
        return Source(prefix + self.text, (start, end))


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """One row as a student's input and target."""

    uid: str
    source: Source
    target: Target


@dataclass(frozen=True, slots=True)
class Prediction:
    """A student's prediction for one example.

    probabilities: one for each label of the task, summing to 1
    gold:          the example's label, kept so that a file of predictions is complete in itself
    truncated:     whether the input was cut to fit the student
    rationale:     the student's own; None unless it was requested
    cut_tokens:    number of input tokens that were cut
    cut_beyond:    those of them outside the part that is cut first (see `Source.cut`)
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
    """A student's own explanation of one example.

    text:   its rationale; empty where it wrote none
    label:  the label that it wrote with it; None where that is not one of the task's labels, or
            where the objective generates the rationale alone
    tokens: number of tokens written, including label and separators
    cut:    whether it reached the token limit before it ended
    """

    uid: str
    text: str
    label: str | None
    tokens: int
    cut: bool
