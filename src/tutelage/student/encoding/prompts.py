"""Prompts and labels as token ids, the same in training, in scoring and in use. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.core.errors import StudentError
from tutelage.core.task import Task
from tutelage.core.types import Source
from tutelage.student.encoding.targets import LABEL_SEPARATOR, Prompt, parse_target
from tutelage.student.encoding.text_encoder import ANSWER_CUE, TextEncoder
from tutelage.student.encoding.truncation import EncodedSource, encode_sources

_PREFIXES: dict[Prompt, str] = {"answer": "predict: ", "explain": "explain: "}
"""Start of an encoder-decoder's input if it learns two tasks (as in arXiv 2305.02301)."""

_CUES: dict[Prompt, str] = {"answer": ANSWER_CUE, "explain": "\nExplanation:"}
"""End of a decoder-only student's prompt. At the end, so that both tasks share what precedes it."""


def encode_prompts(
    student: TextEncoder, sources: Sequence[Source], prompt: Prompt, limit: int
) -> list[EncodedSource]:
    """Inputs of at most `limit` tokens that ask the student for its label, or for its rationale."""
    if student.architecture == "encoder-decoder" and student.objective == "multitask":
        sources = [source.prefixed(_PREFIXES[prompt]) for source in sources]
    return encode_sources(student, sources, limit, _CUES[prompt])


def prompt_cue(prompt: Prompt) -> str:
    """The end of a decoder-only student's prompt."""
    return _CUES[prompt]


def encode_label(student: TextEncoder, words: str) -> list[int]:
    """Ids of a label's words, the same in training and in scoring; of a classifier, its class."""
    if student.architecture == "classifier":
        return [student.classes.index(words)]
    text = f" {words}" if student.architecture == "decoder-only" else words
    ids: list[int] = student.tokenizer(text, add_special_tokens=False).input_ids
    return ids


def encode_separator(student: TextEncoder) -> list[int]:
    """Ids of what stands between a rationale and the label after it."""
    text = f"\n{LABEL_SEPARATOR}" if student.architecture == "decoder-only" else LABEL_SEPARATOR
    ids: list[int] = student.tokenizer(text, add_special_tokens=False).input_ids
    return ids


def label_ids(student: TextEncoder, task: Task) -> list[list[int]]:
    """Token ids of each label of the task, in the task's order.

    Raises StudentError for a label that the tokenizer does not know, and if one label begins
    another.
    """
    ids = [encode_label(student, task.verbalize(label)) for label in task.labels]
    if student.architecture == "classifier":
        return ids
    unknown = [
        label
        for label, one in zip(task.labels, ids, strict=True)
        if not set(one) - {student.tokenizer.unk_token_id}
    ]
    if unknown:
        raise StudentError(
            f"labels {', '.join(map(repr, unknown))}: this student's tokenizer has no tokens for "
            "their words, so that it can neither learn nor score them: give them verbalizers in "
            "words that it knows, or choose another student"
        )
    for i, one in enumerate(ids):
        for j, other in enumerate(ids):
            if i != j and other[: len(one)] == one:
                blank = student.tokenizer.unk_token_id in one
                why = " (it does not know all of their characters)" if blank else ""
                raise StudentError(
                    f"labels {task.labels[i]!r} and {task.labels[j]!r}: under this student's "
                    f"tokenizer{why} the first begins the second, so that their scores do not "
                    "compete; give them other verbalizers"
                )
    return ids


def scoring_prompt(student: TextEncoder) -> Prompt:
    """The prompt after which labels are scored."""
    return "explain" if student.objective == "rationale_then_label" else "answer"


def explains_after_label(student: TextEncoder) -> bool:
    """Whether its rationale continues a text that begins with the predicted label."""
    return student.objective in ("label", "label_then_rationale")


def explaining_prompt(student: TextEncoder) -> Prompt:
    """The prompt after which the rationale of a prediction is generated."""
    return "answer" if explains_after_label(student) else "explain"


def rationale_in(student: TextEncoder, text: str, words: str) -> str:
    """The rationale in a text that was generated after `explaining_prompt`.

    words: the predicted label's, with which the target was started where the rationale follows it
    """
    if explains_after_label(student):
        text = parse_target([f"{words} {text}"], "label_then_rationale").rationale or ""
    return text.partition(LABEL_SEPARATOR)[0].strip()
