"""`doctor` asks a recipe's teachers: is the server there, and is its answer what the arm needs?

One real request is made with the recipe's own parameters, within its budget. The answer is parsed
by the arm's own strategy and kept in the ledger, so that a run does not pay for it again.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from tutelage.config.recipe import Recipe
from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.errors import TeacherError
from tutelage.core.types import Example, Rationale
from tutelage.experiment.arm_strategies import strategy_of
from tutelage.planning.doctor_findings import Finding, check
from tutelage.strategies.lookup import Strategy
from tutelage.teacher.annotate import Options, annotate
from tutelage.teacher.cost.budget import budget_for
from tutelage.teacher.engine.failures import FaultKind, RetryPolicy
from tutelage.teacher.engine.requests import RequestBuilder
from tutelage.teacher.ledger import charges
from tutelage.teacher.ledger.store import Ledger, default_path
from tutelage.teacher.registry import open_teacher

if TYPE_CHECKING:
    from tutelage.teacher.clients.server_models import ListedModel

_SHOWN = 200
"""Characters of an answer that are shown."""
_QUICK = RetryPolicy(dict.fromkeys(FaultKind, 2), first_attempts=2, max_retry_after_s=10.0)


def check_teachers(recipe: Recipe, rows: Sequence[Example]) -> Iterator[Finding]:
    """Check each teacher of the recipe, and ask it once for each of its strategies.

    rows: training rows; empty where the data cannot be read: then nothing is asked
    """
    servers: dict[TeacherSettings, bool] = {}
    asked: set[object] = set()
    for arm in recipe.arms:
        first = recipe.teacher_of(arm) if arm.asks_teacher else None
        if arm.strategy is None or first is None or arm.annotation_key in asked:
            continue
        asked.add(arm.annotation_key)
        strategy = strategy_of(recipe, arm, rows)
        for settings in (first, arm.agrees_with):
            if settings is None:
                continue
            if settings.remote and settings not in servers:
                findings = list(_servers(settings))
                servers[settings] = all(finding.status != "missing" for finding in findings)
                yield from findings
            if servers.get(settings, True):
                yield check(
                    f"teacher {settings.model}", partial(_ask, recipe, settings, strategy, rows)
                )


def _servers(settings: TeacherSettings) -> Iterator[Finding]:
    """What each server says of itself, and whether they serve one model. `missing`: no request can
    be answered."""
    each = settings.each_server
    lists: dict[str, list[ListedModel]] = {}
    for place, one in enumerate(each, 1):
        findings = list(_server(one, lists))
        several = f", server {place} of {len(each)}" if len(each) > 1 else ""
        yield from (dataclasses.replace(found, what=found.what + several) for found in findings)
    if len(each) > 1:
        yield check(f"servers of {settings.model}", partial(_one_model, settings, lists))


def _one_model(settings: TeacherSettings, lists: dict[str, list[ListedModel]]) -> str:
    from tutelage.teacher.clients.server_pool import compare_models

    open_teacher(settings)  # refuses an address that is there twice
    notes = compare_models(settings.model.partition(":")[2].strip(), lists)
    if notes:
        return "; ".join(notes)
    count = sum(map(bool, lists.values()))
    return f"{count} of {len(settings.each_server)} list their models, and serve one model"


def _server(settings: TeacherSettings, lists: dict[str, list[ListedModel]]) -> Iterator[Finding]:
    """What a server says of itself, before a request. lists: of models, by address; filled here"""
    what = f"teacher {settings.model}"
    listed: list[ListedModel] = []

    def list_models() -> str:
        from tutelage.teacher.clients.access import Access
        from tutelage.teacher.clients.server_models import fetch_models

        access = Access(settings)
        listed.extend(fetch_models(access))
        lists[access.address] = listed
        if not listed:
            return f"{access.address} gives no list of models; whether it answers comes next"
        there = any(row.name == name for row in listed)
        here = "this one among them" if there else "not this one"
        return f"{access.address} lists {len(listed)} models, {here}"

    name = settings.model.partition(":")[2].strip().removeprefix("models/")
    found = check(what, list_models)
    yield found if listed or found.status != "ok" else dataclasses.replace(found, status="optional")
    if found.status == "ok":
        from tutelage.teacher.clients.server_models import shutdown_warning

        if ending := shutdown_warning(name, listed):
            yield Finding("missing" if ending[0] else "ok", what, ending[1])
        if settings.mode == "batch":
            yield check(f"batches of {settings.model}", partial(_batches, settings))


def _batches(settings: TeacherSettings) -> str:
    from tutelage.teacher.batch.native_servers import batch_server
    from tutelage.teacher.batch.server import CallFault

    server = batch_server(settings, _QUICK)
    try:
        count = sum(1 for _ in itertools.islice(server.batches(), 100))
    except (CallFault, TeacherError) as error:
        raise TeacherError(
            f"{server.address} has no batch API that lists batches ({error}): set mode: live for "
            "this teacher"
        ) from error
    finally:
        server.close()
    return f"{server.address} lists {count} batches"


def _ask(
    recipe: Recipe, settings: TeacherSettings, strategy: Strategy, rows: Sequence[Example]
) -> str:
    teacher = open_teacher(settings)
    if not teacher.paid:
        return "its answers are looked up"
    budget_for(teacher, recipe.name)
    if not rows:
        raise TeacherError("was not asked, because there are no rows: correct the data first")
    task = recipe.resolved_task()
    builder = RequestBuilder(strategy, task, teacher)
    with Ledger(default_path()) as ledger:
        row = next((row for row in rows[:1000] if _is_new(ledger, builder, row)), None)
        if row is None:
            return "has answered or refused the first rows already; nothing was asked"
        done = annotate(
            [row],
            strategy=strategy,
            teacher=settings.replace(mode="live"),
            task=task,
            ledger=ledger,
            options=Options(budget_name=recipe.name, policy=_QUICK),
        )
    return _judge(done.rationales[0], settings, done.summary.cost_usd)


def _is_new(ledger: Ledger, builder: RequestBuilder, row: Example) -> bool:
    key = builder.pending(row).key
    with ledger.reader() as connection:
        failed = charges.final_failures(connection, [key])
    return ledger.get(key) is None and not failed


def _judge(rationale: Rationale, settings: TeacherSettings, cost: float | None) -> str:
    """The answer in words. Raises TeacherError for one that an arm cannot learn from."""
    text = " ".join(rationale.text.split())
    text = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
    usage = rationale.usage
    tokens = "tokens are not counted" if usage.completion_tokens is None else (
        f"{usage.prompt_tokens} tokens in, {usage.completion_tokens} out"
    )  # fmt: skip
    paid = "" if not cost else f", ${cost:.6f}"
    if rationale.status == "ok":
        hidden = "; it reasoned first, which is charged as output" if rationale.reasoning else ""
        return f"answers {text!r} ({tokens}{paid}{hidden})"
    cures = {
        "truncated": f"raise teacher.max_tokens (now {settings.max_tokens}), or let it reason less "
        "with teacher.reasoning_effort",
        "empty": "let it reason less with teacher.reasoning_effort, or raise teacher.max_tokens",
        "refused": "try other rows with `tutelage plan --pilot 10`, or another model",
        "failed": "see the reason; `tutelage plan --pilot 10` tries more rows",
    }
    raise TeacherError(
        f"its answer to row {rationale.uid} is {rationale.status} ({rationale.detail or text!r}; "
        f"{tokens}{paid}): {cures[rationale.status]}"
    )
