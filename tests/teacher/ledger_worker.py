"""Annotates in a process of its own, which tests kill at random moments; a `Spec` describes it.

`Worker(spec)` starts a process: forked from one that has imported everything already, so that
hundreds of them cost little.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.config.teacher_settings import PriceOverride, TeacherSettings
from tutelage.core.errors import BudgetError, TutelageError
from tutelage.core.task import NLI
from tutelage.core.types import Example, Request
from tutelage.strategies.lookup import get_strategy
from tutelage.teacher.annotate import Options, annotate_to_file
from tutelage.teacher.cost.prices import PICO
from tutelage.teacher.engine.failures import FaultKind, RetryPolicy
from tutelage.teacher.ledger.store import Ledger, request_key

STRATEGY = "informed_reasoning"
PROVIDER = "test"

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    ["tutelage.teacher.annotate", "tutelage.teacher.clients.http_api", "aiohttp"]
)


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One annotation.

    topic:  rows of another topic are other requests; length: bytes of a premise at most
    cap:    of the budget, in pico-dollars; a multiple of a million, to be exact as a float
    price:  of input and output, in pico-dollars per token; a multiple of a thousand, likewise
    wait_s: the longest delay between two attempts at a request
    """

    base_url: str
    ledger: Path
    output: Path
    rows: int
    topic: str = "Premise"
    length: int = 100
    concurrency: int = 8
    max_tokens: int = 50
    timeout_s: float = 30.0
    cap: int | None = None
    price: tuple[int, int] | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    minute_s: float = 60.0
    attempts: int = 8
    wait_s: float = 0.05

    def settings(self) -> TeacherSettings:
        price = None
        if self.price is not None:
            price = PriceOverride(input=self.price[0] / 10**6, output=self.price[1] / 10**6)
        return TeacherSettings(
            model="openai:m",
            base_url=self.base_url,
            provider=PROVIDER,
            concurrency=self.concurrency,
            max_tokens=self.max_tokens,
            timeout_s=self.timeout_s,
            budget_usd=None if self.cap is None else self.cap / PICO,
            price=price,
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
            max_failed="never",  # rows that fail are what some of these runs are about
        )

    def policy(self) -> RetryPolicy:
        return RetryPolicy(
            dict.fromkeys(FaultKind, self.attempts),
            first_attempts=self.attempts,
            base_s=self.wait_s / 4,
            cap_s=self.wait_s,
        )

    def examples(self) -> Iterator[Example]:
        for number in range(self.rows):
            size = random.Random(f"{self.topic} {number}").randint(0, self.length)
            fields = {
                "premise": f"{self.topic} {number}. " + "x" * size,
                "hypothesis": "It is so.",
            }
            yield Example(f"r{number}", fields, NLI.labels[number % 3])

    def requests(self) -> Iterator[tuple[str, Request]]:
        """The request of each row, with its key in the ledger."""
        strategy, settings = get_strategy(STRATEGY, task=NLI), self.settings()
        for example in self.examples():
            messages = strategy.render(example, NLI)
            request = Request("m", messages, STRATEGY, example, settings.parameters)
            yield request_key(PROVIDER, request), request

    def prompts(self) -> dict[str, str]:
        """The prompt of each request, as the test server counts it, by key."""
        return {
            key: "\n".join(message.content for message in request.messages)
            for key, request in self.requests()
        }

    def run(self) -> dict[str, Any]:
        """The whole annotation; returns its result."""
        try:
            with Ledger(self.ledger) as ledger:
                summary = annotate_to_file(
                    self.examples,
                    self.output,
                    strategy=STRATEGY,
                    teacher=self.settings(),
                    task=NLI,
                    ledger=ledger,
                    options=Options(
                        budget_name="run", policy=self.policy(), minute_s=self.minute_s
                    ),
                )
        except BudgetError as error:
            return {"end": "budget", "error": str(error)}
        except TutelageError as error:
            return {"end": "error", "error": f"{type(error).__name__}: {error}"}
        return {
            "end": "done",
            "counts": dict(summary.counts),
            "failures": dict(summary.failures),
            "requests": summary.requests,
            "cached": summary.cached,
            "attempts": summary.attempts,
        }


def _run(spec: Spec, result: Path) -> None:
    try:
        result.write_text(json.dumps(spec.run()), encoding="utf-8")
    except KeyboardInterrupt:
        sys.exit(130)  # without a traceback: a test has interrupted it


class Worker:
    """One process that annotates a spec."""

    def __init__(self, spec: Spec) -> None:
        self._result = spec.output.with_name(f"{spec.output.name}.{time.monotonic_ns()}.result")
        self._process = _context.Process(target=_run, args=(spec, self._result))
        self._process.start()

    @property
    def ended(self) -> bool:
        return self._process.exitcode is not None

    def kill(self) -> bool:
        """Send SIGKILL; returns whether the process was still alive."""
        self._process.kill()
        self._process.join()
        return self._process.exitcode == -signal.SIGKILL

    def interrupt(self) -> None:
        """Send SIGINT, as Ctrl-C does."""
        if not self.ended and self._process.pid is not None:
            os.kill(self._process.pid, signal.SIGINT)

    def terminate(self) -> None:
        """Send SIGTERM, as Slurm and Docker do."""
        if not self.ended:
            self._process.terminate()

    def wait(self, timeout_s: float = 60.0) -> dict[str, Any]:
        """Wait for its result: only the exit code where it was killed. Raises TimeoutError."""
        self._process.join(timeout_s)
        if not self.ended:
            self.kill()
            raise TimeoutError(f"still running after {timeout_s:.0f} s")
        result = self._result.read_text() if self._result.exists() else "{}"
        self._result.unlink(missing_ok=True)
        return {"exit": self._process.exitcode, **json.loads(result)}
