"""Why a model stopped writing, in OpenAI's words, whatever the server calls it.

    MAX_TOKENS -> length    SAFETY -> content_filter    END_TURN -> stop    network_error -> error

Servers have dozens of spellings, and new ones appear; so parts of words decide, not a list of
names. A reason that fits none is kept as it is, and is not taken for a regular end.
"""

from __future__ import annotations

import re
from functools import lru_cache

STOP, LENGTH, FILTERED, ERROR = "stop", "length", "content_filter", "error"

_PARTS: tuple[tuple[str, re.Pattern[str]], ...] = (
    # `eos_token` is a regular end: before the parts that it contains.
    (
        STOP,
        re.compile(
            r"^(?:eo[st]|im_end|stop(?:ped)?|end|done|finish(?:ed)?|completed?|normal|natural"
            r"|success|ok)"
            r"(?:_?(?:token|sequence|word|str(?:ing)?|id|turn|of_?\w+|normally|reason))*$"
        ),
    ),
    (
        FILTERED,
        re.compile(
            r"filter|safety|recit|block|prohibit|spii|refus|sensitiv|moderat|guard_?rail|censor"
            r"|flag|violat|polic|harm|unsafe|toxic|language|escalat|armor|jailbreak"
        ),
    ),
    (
        LENGTH,
        re.compile(r"length|token|limit|context|truncat|incomplete|max|budget|exceed|continu"),
    ),
    (
        ERROR,
        re.compile(
            r"error|fail|abort|cancel|timeout|time_?out|unavailable|insufficient|malformed"
            r"|overload|interrupt|disconnect|unexpected|invalid"
        ),
    ),
)


@lru_cache(maxsize=256)
def standard_reason(reason: str | None) -> str | None:
    """A finish reason in OpenAI's spelling: `stop`, `length`, `content_filter` or `error`.

    None stays None, and a reason of an unknown kind stays as it is, in lower case.
    """
    if reason is None:
        return None
    plain = re.sub(r"[^a-z0-9]+", "_", reason.casefold()).strip("_")
    plain = re.sub(r"^finish_reason_", "", plain)
    for standard, parts in _PARTS:
        if parts.search(plain):
            return standard
    return plain or None
