"""Separate what a model thought from what it answered.

Many models write their reasoning into the text, in a mark-up of their own, and many servers leave
it there:

    <think>It rains, so …</think>It is wet because it rains.  ->  It is wet because it rains.

The reasoning is never the answer: a student would be trained on it. An unclosed one means that the
model was cut before it answered. The server's text is kept as it came, so a mark-up that becomes
known later separates answers that were paid for earlier.

Not a list of models: a delimiter counts if it looks like one (`<…>`, `<|…|>`, `[…]`, `◁…▷`) and its
name says that this is thinking. The formats with named channels (`<|channel|>analysis<|message|>…`)
and two with headings instead of delimiters have a rule each.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence

from tutelage.core.types import Completion

Markup = tuple[str, str]
"""A mark-up of one's own: what begins a stretch of reasoning, and what ends it."""

_NAME = (
    r"(?:[a-z0-9]+[:_▁-])*"
    r"(?:(?:ant|inner|internal|self)?think(?:ing)?|thoughts?|reasoning|reflection|reflect"
    r"|scratch_?pad|analysis|cot|chain[_ -]of[_ -]thought|(?:inner[_ -])?monologue|deliberation"
    r"|planning|思考|思考过程)"
    r"(?:[_▁-](?:process|block|section|content|steps?|trace))?"
)
_SQUARE = r"(?:think(?:ing)?|thoughts?)"  # "[analysis]" may well be an answer's own heading
_BEGINS, _ENDS = r"[<＜]\s*[|｜]?\s*", r"\s*[|｜]?\s*[>＞]"


def _delimiter(*, closing: bool) -> re.Pattern[str]:
    """A pattern for a delimiter of reasoning, in any of the usual brackets."""

    def named(name: str) -> str:
        gap = "[_▁]"
        if closing:
            return rf"(?:/\s*{name}|end{gap}(?:of{gap})?{name}|{name}{gap}end|inner_suffix)"
        start = rf"(?:start|begin){gap}(?:of{gap})?"
        return rf"(?:(?:{start})?{name}|{name}{gap}(?:start|begin)|inner_prefix)"

    attributes = "" if closing else r"(?:\s[^<>\[\]]{0,80})?"
    name = named(_NAME)
    return re.compile(
        rf"{_BEGINS}{name}{attributes}{_ENDS}|&lt;{name}&gt;|\[{named(_SQUARE)}\]"
        rf"|◁{name}▷|⟨{name}⟩|【{name}】",
        re.IGNORECASE,
    )


_OPEN, _CLOSE = _delimiter(closing=False), _delimiter(closing=True)

_CHANNEL = re.compile(
    r"(?:<\|start\|>\s*\w*\s*)?<(?:\|channel\||channel)>\s*(?P<name>\w+)"
    r"(?:\s*<\|constrain\|>\s*\w+)?(?:[^<]*<\|?message\|?>)?",
    re.IGNORECASE,
)
_CHANNEL_END = re.compile(
    r"<\|?(?:end|return|channel|call|start)\|?>\s*(?:assistant\s*)?$", re.IGNORECASE
)
_ANSWER_CHANNELS = frozenset({"final", "answer", "response", "output", "content"})

# The special tokens of channels are sometimes removed, and their names left behind.
_BARE_CHANNEL = re.compile(r"^\s*(?:assistant)?analysis(?=[\sA-Z\"'(])(?!\s+of\b)")
_BARE_FINAL = re.compile(r"assistant\s?final(?=\W|[A-Z]|$)|(?<=[.!?\"')])final(?=[A-Z])")

_HEADINGS = (
    # (what begins, what ends): at the beginning of the text alone.
    (
        re.compile(
            r"^\s*here(?:'|’)?(?:s| is| are) my (?:thought|thinking|reasoning) (?:process|steps):?",
            re.I,
        ),
        re.compile(
            r"here(?:'|’)?(?:s| is) my (?:response|answer):?|\[BEGIN FINAL (?:RESPONSE|ANSWER)\]",
            re.I,
        ),
    ),
    (
        re.compile(r"^\s*#{1,4}\s*(?:thinking|thoughts?|thought process)\s*:?\s*\n", re.I),
        re.compile(r"^#{1,4}\s*(?:final\s+)?(?:response|answer)\s*:?\s*$", re.I | re.M),
    ),
    (re.compile(r"^\s*<unused\d+>\s*thought\b"), re.compile(r"<unused\d+>")),
    (re.compile(r"^\s*<\|channel>\s*thought\b"), re.compile(r"<channel\|>")),
    (
        re.compile(r"^\s*thinking\.\.\.\s*\n", re.I),
        re.compile(r"^\.\.\.done thinking\.?", re.I | re.M),
    ),
    (
        re.compile(r"^\s*```(?:think(?:ing)?|thoughts?|reasoning)[ \t]*\n", re.I),
        re.compile(r"^```[ \t]*$", re.M),
    ),
    (
        re.compile(
            r"^\s*<details(?:[^<>]*\breasoning\b[^<>]*>"
            r"|[^<>]*>\s*<summary>[^<]*\b(?:think|thought|reason)\w*[^<]*</summary>)",
            re.I,
        ),
        re.compile(r"</details>", re.I),
    ),
)

_ANSWER = (
    r"(?:(?:start|begin(?:_of)?)_)?(?:answer|response|solution|final(?:_(?:answer|response))?"
    r"|output|content|box)"
)
_ANSWER_OPENS = re.compile(rf"{_BEGINS}{_ANSWER}{_ENDS}", re.IGNORECASE)
_ANSWER_CLOSES = re.compile(
    rf"(?:{_BEGINS}(?:/\s*|end_(?:of_)?){_ANSWER}{_ENDS}|\[END FINAL (?:RESPONSE|ANSWER)\])\s*$",
    re.IGNORECASE,
)
_TURN_ENDS = re.compile(
    r"[<＜][|｜](?:im_end|eo[tm](?:_id)?|end(?:[_▁]?of[_▁]?(?:turn|text|sentence|message))?(?:_token)?"
    r"|endoftext|return)[|｜][>＞]|<eos>|<end_of_turn>|</(?:s|assistant)>\s*$",
    re.IGNORECASE,
)
"""Where a turn ends. What a server leaves after such a token is no part of the answer."""


_START = re.compile(r"\s*(?:here|#|`|thinking|assistant|analysis)", re.IGNORECASE)


@dataclasses.dataclass(frozen=True, slots=True)
class Separated:
    """A text in two parts. unclosed: the reasoning does not end, so there is no answer after it."""

    answer: str
    reasoning: str
    unclosed: bool = False


def separate(text: str, own: Markup | None = None) -> Separated:
    """The answer and the reasoning in a text. A text without reasoning is returned unchanged.

    own: a further mark-up
    """
    if own is None and _is_plain(text):
        return Separated(text, "")
    thoughts: list[str] = []
    unclosed = False
    found = False
    for begin, end in _patterns(own):
        if not (begin.search(text) or end.search(text)):
            continue
        found = True
        text, more, unclosed = _by_delimiters(text, begin, end)
        thoughts += more
        opens = list(_ANSWER_OPENS.finditer(thoughts[-1])) if unclosed else []
        if opens:  # the answer's own delimiter ends the reasoning, where nothing else does
            text += thoughts[-1][opens[-1].start() :]
            thoughts[-1] = thoughts[-1][: opens[-1].start()]
            unclosed = False
        if unclosed:
            return Separated(text.strip(), _joined(thoughts), True)
    for split in (_by_headings, _by_channels, _by_bare_channels):
        parts = split(text)
        if parts is not None:
            found = True
            text, unclosed = parts.answer, parts.unclosed
            thoughts.append(parts.reasoning)
            break
    answer = _unwrapped(text, alone=not found)
    return Separated(answer, _joined(thoughts), unclosed)


def _unwrapped(text: str, *, alone: bool) -> str:
    """An answer without the end of its turn, and without delimiters around all of it.

    alone: without reasoning: then the delimiters must be a pair
    """
    ended = _TURN_ENDS.search(text)
    if ended is not None and text[: ended.start()].strip():
        text = text[: ended.start()]
    elif alone and _ANSWER_CLOSES.search(text) is None:
        return text
    plain = re.sub(r"^\s*<\|begin\|>\s*assistant", "", text).strip()
    opened, closed = _ANSWER_OPENS.match(plain), _ANSWER_CLOSES.search(plain)
    if closed is not None and (opened is not None or not alone):
        plain = plain[: closed.start()]
    if opened is not None and (closed is not None or not alone):
        plain = plain[opened.end() :]
    return plain.strip()


def _is_plain(text: str) -> bool:
    """Whether a text has no reasoning by a quick look, as most have none."""
    if "<" in text or "[" in text or "&lt;" in text:
        return False
    if not text.isascii() and any(mark in text for mark in "◁⟨【＜"):
        return False
    return _START.match(text) is None


def without_reasoning(completion: Completion, own: Markup | None = None) -> Completion:
    """The completion with the answer alone as its text, and all reasoning kept apart.

    One whose reasoning does not end counts as cut at the token limit.
    """
    if own is None and _is_plain(completion.text):
        return completion
    parts = separate(completion.text, own)
    if parts.answer is completion.text:
        return completion
    return dataclasses.replace(
        completion,
        text=parts.answer,
        reasoning=_joined([completion.reasoning, parts.reasoning]),
        finish_reason="length" if parts.unclosed else completion.finish_reason,
    )


def _patterns(own: Markup | None) -> Iterator[tuple[re.Pattern[str], re.Pattern[str]]]:
    if own is not None:
        yield re.compile(re.escape(own[0])), re.compile(re.escape(own[1]))
    yield _OPEN, _CLOSE


def _by_delimiters(
    text: str, begin: re.Pattern[str], end: re.Pattern[str]
) -> tuple[str, list[str], bool]:
    """The text without its reasoning, the reasoning, and whether the last stretch does not end.

    A closing delimiter without an opening one ends a stretch that began with the text: chat
    templates put the opening one into the prompt. An opening one inside a stretch is part of it.
    """
    marks = sorted(
        [(m.start(), m.end(), True) for m in begin.finditer(text)]
        + [(m.start(), m.end(), False) for m in end.finditer(text)]
    )
    kept: list[str] = []
    thoughts: list[str] = []
    thinking, at = False, 0
    for start, after, opens in marks:
        if start < at or (opens and thinking):
            continue
        stretch = text[at:start]
        if opens:
            kept.append(stretch)
        elif thinking:
            thoughts.append(stretch)
        else:
            thoughts += [*kept, stretch]
            kept = []
        thinking, at = opens, after
    (thoughts if thinking else kept).append(text[at:])
    return "".join(kept), thoughts, thinking


def _by_channels(text: str) -> Separated | None:
    """`<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…`"""
    heads = list(_CHANNEL.finditer(text))
    if not heads:
        return None
    answers, thoughts = [], [text[: heads[0].start()]]
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        body = text[head.end() : None if following is None else following.start()]
        while body != (shorter := _CHANNEL_END.sub("", body.rstrip())):
            body = shorter
        if head["name"].casefold() in _ANSWER_CHANNELS:
            answers.append(body)
        else:
            thoughts.append(body)
    return Separated("".join(answers), _joined(thoughts), not "".join(answers).strip())


def _by_bare_channels(text: str) -> Separated | None:
    begin = _BARE_CHANNEL.match(text)
    if begin is None:
        return None
    finals = list(_BARE_FINAL.finditer(text))
    if finals:
        return Separated(text[finals[-1].end() :], text[begin.end() : finals[-1].start()])
    # "analysisWe need to …" without an end. "Analysis shows that …" is an answer.
    if text[begin.end()].isspace():
        return None
    return Separated("", text[begin.end() :], True)


def _by_headings(text: str) -> Separated | None:
    for begin, end in _HEADINGS:
        started = begin.match(text)
        if started is None:
            continue
        ended = end.search(text, started.end())
        if ended is None:
            return Separated("", text[started.end() :], True)
        return Separated(text[ended.end() :], text[started.end() : ended.start()])
    return None


def _joined(parts: Sequence[str]) -> str:
    return "\n".join(part.strip() for part in parts if part.strip())
