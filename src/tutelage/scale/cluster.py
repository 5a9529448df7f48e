"""Ray: a cluster that is there or is started here, the keeper as an actor, and its calls."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from tutelage.config.scale_settings import ScaleSettings
from tutelage.core.errors import MissingExtraError, TutelageError, UsageError
from tutelage.scale.keeper import JobSpec, Keeper, Ruling
from tutelage.scale.keeper_calls import KeeperCalls
from tutelage.scale.rate_leases import RateCall
from tutelage.teacher.ledger.charges import Claim, Failure, Reservation

_STORE_BYTES = 150 * 2**20
"""Shared memory of a cluster that is started here: blocks of rows are small."""


def require_ray(purpose: str) -> None:
    """Raise MissingExtraError where Ray is not installed. For calls before anything is done."""
    from importlib.util import find_spec

    for package in ("ray", "pyarrow"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "scale", purpose)


@contextmanager
def cluster(settings: ScaleSettings, processors: int | None = None) -> Iterator[Any]:
    """The module `ray`, connected to the cluster that the settings name.

    Where none is named and none is connected, one is started on this machine and ended at the end.

    processors: that Ray is told such a machine has; None: as many as the workers need
    """
    # Workers see the devices that this process sees.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.use_datasource_v2 = False
    ours = not ray.is_initialized()
    if ours:
        try:
            _start(ray, settings, processors)
        except Exception as error:  # Ray raises Exception itself where a start takes too long
            raise UsageError(
                f"ray_address {settings.ray_address!r}: no cluster could be reached or started "
                f"({' '.join(str(error).split())[:200]})"
            ) from error
    try:
        yield ray
    finally:
        if ours:
            ray.shutdown()


def _start(ray: Any, settings: ScaleSettings, processors: int | None) -> None:
    common = {"logging_level": logging.ERROR, "log_to_driver": False}
    if settings.ray_address is not None:
        ray.init(address=settings.ray_address, **common)
        return
    ray.init(
        address="local",
        # A worker waits for its server most of the time: as many fit as are wanted.
        num_cpus=processors or settings.workers + 2,
        object_store_memory=_STORE_BYTES,
        include_dashboard=False,
        _system_config={"prestart_worker_first_driver": False},
        **common,
    )


def progress_queue() -> Any:
    """A queue for processes of the cluster: `put`, `get_nowait` (queue.Empty), `shutdown`."""
    from ray.util.queue import Queue

    return Queue(actor_options={"num_cpus": 0})


def start_keeper(ray: Any, job: JobSpec) -> Any:
    """The keeper as an actor on this machine, which has the ledger. Ray starts it again where it
    ends, and repeats the calls that had no reply."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)(
        KeeperActor
    )
    return actor.remote(job)


class KeeperActor:
    """The keeper, with the lines that workers have for the user, and errors as values: Ray would
    wrap them."""

    def __init__(self, job: JobSpec) -> None:
        self._keeper = Keeper(job)
        self._notes: list[str] = []

    def call(self, name: str, *arguments: Any) -> tuple[bool, Any]:
        """Whether a call of the keeper succeeded, and its result or its error."""
        try:
            return True, getattr(self._keeper, name)(*arguments)
        except TutelageError as error:
            return False, error

    def note(self, line: str) -> None:
        """A line for the user, from a worker."""
        if line not in self._notes:
            self._notes.append(line)

    def take_notes(self) -> list[str]:
        """The lines since the last call."""
        lines, self._notes = self._notes, []
        return lines

    def ready(self) -> int:
        """The process that the keeper runs in."""
        return os.getpid()


class _Handle(Protocol):
    call: Any
    note: Any


class RemoteKeeper(KeeperCalls):
    """The keeper's calls from another process; each waits until the keeper is there."""

    def __init__(self, actor: _Handle) -> None:
        self._actor = actor

    def _call(self, name: str, *arguments: Any) -> Any:
        import ray

        done, result = ray.get(self._actor.call.remote(name, *arguments))
        if not done:
            raise result
        return result

    def register(self, actor: str, place: str) -> int:
        """See Keeper."""
        return int(self._call("register", actor, place))

    def beat(self, session: int) -> None:
        """See Keeper."""
        self._call("beat", session)

    def settle_ended(self, session: int) -> list[int]:
        """See Keeper."""
        return list(self._call("settle_ended", session))

    def begin_block(self, session: int, block: int, missing: int) -> Ruling:
        """See Keeper."""
        return Ruling(*self._call("begin_block", session, block, missing))

    def end_block(self, session: int, block: int, sent: int) -> None:
        """See Keeper."""
        self._call("end_block", session, block, sent)

    def engine_died(self, reason: str) -> None:
        """See Keeper."""
        self._call("engine_died", reason)

    def rates(self, session: int, call: RateCall) -> tuple[float, float]:
        """See Keeper."""
        amount, wait_s = self._call("rates", session, call)
        return amount, wait_s

    def stop(self, kind: str, message: str) -> None:
        """See Keeper."""
        self._call("stop", kind, message)

    def proven(self) -> bool:
        """See Keeper."""
        return bool(self._call("proven"))

    def note(self, line: str) -> None:
        """See KeeperActor."""
        self._actor.note.remote(line)

    def look_up(self, keys: Sequence[str]) -> tuple[list[str], dict[str, Failure]]:
        """See Keeper."""
        answered, failed = self._call("look_up", keys)
        return answered, failed

    def lease(
        self,
        session: int,
        claims: Sequence[tuple[int, Claim]],
        scope: str,
        cap: int | None,
        lost: Sequence[int],
    ) -> list[Reservation]:
        """See Keeper."""
        return list(self._call("lease", session, claims, scope, cap, lost))

    def charged(self, scope: str) -> tuple[int, int, int]:
        """See Keeper."""
        charged, lost, pico = self._call("charged", scope)
        return charged, lost, pico

    def report(self, session: int, shard: str) -> None:
        """See Keeper."""
        self._call("report", session, shard)


def own_place() -> tuple[str, str]:
    """The actor's id, which it keeps when it begins again, and where it runs."""
    import ray

    context = ray.get_runtime_context()
    return context.get_actor_id(), f"{socket.gethostname()}-{context.get_node_id()[:12]}"
