"""The models that a server lists, with the dates on which they end; and where its API may be."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from tutelage.teacher.clients.access import Access, endpoint
from tutelage.teacher.clients.values import parse_json
from tutelage.teacher.clients.wire import without_folder

if TYPE_CHECKING:
    import aiohttp

_TIMEOUT_S = 10.0
_ENDS = ("shutdown_date", "deprecation_date", "shutdown_at", "retirement_date", "retires_at")
SOON_DAYS = 90
"""A model that is shut down within this many days is warned of."""


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model in a server's list.

    shutdown: the day from which on it is not served, where named
    root:     what the name stands for on that server, such as a folder, where it says so
    """

    name: str
    shutdown: date | None = None
    root: str | None = None


async def list_models(
    session: aiohttp.ClientSession, access: Access, base: str | None = None
) -> list[ListedModel]:
    """The models that `GET {base}/models` lists; empty where it does not answer.

    base: an address to try instead of the teacher's own; never of another host
    """
    import aiohttp

    try:
        async with session.get(
            access.endpoint("models") if base is None else endpoint(base, "models"),
            params=access.dialect.models_query,
            proxy=access.proxy(),
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
        ) as response:
            text = access.clean((await response.read()).decode("utf-8", "replace"))
    except (aiohttp.ClientError, OSError, TimeoutError):  # the list only improves a message
        return []
    answer = parse_json(text)
    rows = (answer.get("data") or answer.get("models")) if isinstance(answer, dict) else None
    found = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    names = [row.get("id") or row.get("name") for row in found]
    return [
        ListedModel(
            without_folder(name.removeprefix("models/")),
            _shutdown(row),
            access.line(root) if isinstance(root := row.get("root"), str) else None,
        )
        for name, row in zip(names, found, strict=True)
        if isinstance(name, str)
    ]


def fetch_models(access: Access) -> list[ListedModel]:
    """`list_models` from synchronous code, with a connection of its own. Opens `access`.

    Works where an event loop is running already, as in a notebook.
    """
    import aiohttp

    async def fetch() -> list[ListedModel]:
        access.open()
        connector = aiohttp.TCPConnector(ssl=access.certificates())
        async with aiohttp.ClientSession(connector=connector, headers=access.headers) as session:
            return await list_models(session, access)

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, fetch()).result()


def _shutdown(row: Mapping[str, Any]) -> date | None:
    for name in _ENDS:
        value = row.get(name)
        try:
            if isinstance(value, str) and value:
                return datetime.fromisoformat(value).date()
            if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
                return datetime.fromtimestamp(value, UTC).date()
        except (ValueError, OverflowError, OSError):
            continue
    return None


def shutdown_warning(
    model: str, listed: Sequence[ListedModel], today: date | None = None
) -> tuple[bool, str] | None:
    """Whether a model is gone (else it will be), and that in words; None where no date is known."""
    ends = next((row.shutdown for row in listed if row.name == model), None)
    if ends is None:
        return None
    days = (ends - (today or datetime.now(UTC).date())).days
    if days <= 0:
        return True, f"the server lists {model!r} as shut down since {ends}: name another model"
    when = f"the server lists {model!r} as shut down from {ends} on"
    near = f", in {days} days: choose another model for what is to be repeated later"
    return False, when + (near if days <= SOON_DAYS else "")


async def other_address(session: aiohttp.ClientSession, access: Access) -> str | None:
    """An address on the same server that lists models, where the teacher's own may be wrong."""
    parts = urlsplit(access.base)
    path = parts.path.rstrip("/")
    up, own = path.rpartition("/")[0], urlsplit(access.dialect.base_url).path
    for candidate in dict.fromkeys(
        (
            f"{path}{own}",
            f"{up}{own}",
            f"{path}/v1",
            f"{up}/v1",
            f"{path}/openai/v1",
            "/v1",
            "/api/v1",
        )
    ):
        if candidate == path:
            continue
        base = urlunsplit(parts._replace(path=candidate))
        if await list_models(session, access, base):
            return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], candidate, "", ""))
    return None


def models_hint(model: str, served: Sequence[ListedModel]) -> str:
    """What to set instead of a model that is not served."""
    names = [row.name for row in served]
    if not names:
        return "check teacher.model, and the end of teacher.base_url in the server's manual"
    near = difflib.get_close_matches(model, names, n=3)
    shown = [*near, *(name for name in sorted(names) if name not in near)][:8]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return f"it serves {', '.join(shown)}{more}: set teacher.model to one of these"
