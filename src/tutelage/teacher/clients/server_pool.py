"""Several servers of one model: a `base_url` that is a list.

The pool opens and closes its servers and checks that they serve one model. Which of them takes a
request is the balancer's decision (`engine.balancer`).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Self

from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.errors import ModelNotServedError, TeacherError, UsageError
from tutelage.core.types import Completion, Request
from tutelage.teacher.clients.http_api import ServerTeacher
from tutelage.teacher.clients.server_models import ListedModel
from tutelage.teacher.clients.wire import without_folder
from tutelage.teacher.engine.failures import Action, Fault


class ServerPool:
    """A model behind several servers.

    servers: one teacher for each address, in the order of the list
    on_note: called with each line of information for the user

    Raises UsageError for an address that cannot be one, or that is there twice.
    """

    paid = True

    def __init__(self, model: str, settings: TeacherSettings) -> None:
        self.model = model
        self.settings = settings
        self.identity = pool_identity(settings)
        self.servers = [ServerTeacher(model, one) for one in settings.each_server]
        self.on_note: Callable[[str], None] = lambda line: None
        self._turns = itertools.cycle(self.servers)
        self._open = AsyncExitStack()
        addresses = [server.address for server in self.servers]
        if twice := sorted({one for one in addresses if addresses.count(one) > 1}):
            raise UsageError(
                f"teacher.base_url lists {twice[0]!r} twice: name each server once (`concurrency` "
                "says how many requests it has in flight)"
            )

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opened:
            for server in self.servers:
                await opened.enter_async_context(server)
            lists = await asyncio.gather(*(server.listed_models() for server in self.servers))
            addresses = [server.address for server in self.servers]
            for note in compare_models(self.model, dict(zip(addresses, lists, strict=True))):
                self.on_note(note)
            self._open = opened.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def complete(self, request: Request) -> Completion:
        """One attempt at the answer, at each server in turn. Raises Fault where there is none."""
        server = next(self._turns)
        try:
            completion = await server.complete(request)
        except Fault as fault:
            fault.server = server
            raise
        return completion

    async def explain(self, fault: Fault) -> TeacherError:
        """The error that ends the run: in the words of the server that the fault comes from."""
        server = self.servers[0] if fault.server is None else fault.server
        error: TeacherError = await server.explain(fault)
        if fault.action is Action.JUDGE:
            return error
        return type(error)(f"{error} (none of {len(self.servers)} servers answers requests)")


def pool_identity(settings: TeacherSettings) -> str:
    """Whose answers a pool's are: no address is part of it, so that the list may change."""
    if settings.provider:
        return settings.provider
    return "pool" if settings.scheme == "openai" else f"{settings.scheme}:pool"


def compare_models(model: str, lists: Mapping[str, Sequence[ListedModel]]) -> list[str]:
    """Check that servers serve one model, by their lists. Returns what the user should know.

    lists: by address; empty where a server lists none, which is then not compared

    Many servers answer to any name. So where no list has the model, equal lists are one model.

    Raises ModelNotServedError in one line where a server lacks a model that another one lists, and
    where their lists differ and none has it.
    """
    names = {model.removeprefix("models/"), without_folder(model)}
    found = {address: listed for address, listed in lists.items() if listed}
    serving = {
        address: one
        for address, listed in found.items()
        if (one := next((one for one in listed if one.name in names), None)) is not None
    }
    if serving and len(serving) < len(found):
        lacks = next(address for address in found if address not in serving)
        raise ModelNotServedError(
            f"{lacks} does not list the model {model!r} ({_shown(found[lacks])}), but "
            f"{next(iter(serving))} does: the servers of one list serve one model; remove the "
            "address from teacher.base_url, or start the model there"
        )
    sets = {address: frozenset(one.name for one in listed) for address, listed in found.items()}
    if not serving and len(set(sets.values())) > 1:
        first, *rest = found
        other = next(address for address in rest if sets[address] != sets[first])
        raise ModelNotServedError(
            f"{first} lists {_shown(found[first])} and {other} lists {_shown(found[other])}, "
            f"neither of them {model!r}: the servers of one list serve one model; set teacher.model"
            " to a model of all, or remove addresses from teacher.base_url"
        )
    roots = {address: one.root for address, one in serving.items() if one.root is not None}
    if len(set(roots.values())) > 1:
        said = ", ".join(f"{address} from {root!r}" for address, root in roots.items())
        return [f"the servers say that they serve {model!r} from different places: {said}"]
    return []


def _shown(listed: Sequence[ListedModel], most: int = 5) -> str:
    names = [one.name for one in listed]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
