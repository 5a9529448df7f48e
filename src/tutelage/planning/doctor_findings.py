"""The findings of `doctor`, and the one way to make one: a check never fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tutelage.core.errors import TutelageError

Status = Literal["ok", "missing", "optional"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `missing` prevents a run; `optional` prevents only some."""

    status: Status
    what: str
    found: str


def check(what: str, attempt: Callable[[], str], otherwise: Status = "missing") -> Finding:
    """The finding of an attempt: what it returns, or the error that it raises, in one line.

    otherwise: the status after an error. An error that is not ours is a finding as well: its type,
    its text and what to do.
    """
    try:
        return Finding("ok", what, attempt())
    except TutelageError as error:
        return Finding(otherwise, what, " ".join(str(error).split()))
    except Exception as error:  # noqa: BLE001  broken set-ups fail in any way
        said = " ".join(str(error).split())[:300]
        return Finding(
            otherwise,
            what,
            f"cannot be checked ({type(error).__name__}: {said}): correct that, or report it if "
            "nothing is wrong there",
        )
