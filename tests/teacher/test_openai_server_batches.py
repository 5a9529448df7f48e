"""Files and batches of the scripted server, through OpenAI's own client."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai
import pytest
from openai_server.calls import CALLS
from openai_server.server import Server


@contextmanager
def opened(**settings: Any) -> Iterator[tuple[Server, openai.OpenAI]]:
    with Server(**settings) as server:
        # _strict_response_validation: a field of a wrong type raises instead of passing.
        client = openai.OpenAI(
            base_url=server.base_url,
            api_key="k",
            max_retries=0,
            timeout=5,
            _strict_response_validation=True,
        )
        with client:
            yield server, client


def line(number: int, **more: Any) -> dict[str, Any]:
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": f"request {number}"}],
        "max_tokens": 20,
    }
    request = {"custom_id": f"r{number}", "method": "POST", "url": "/v1/chat/completions"}
    return {**request, "body": body, **more}


def upload(client: openai.OpenAI, lines: list[Any]) -> str:
    data = "".join(json.dumps(value) + "\n" for value in lines).encode()
    file = client.files.create(file=("in.jsonl", data), purpose="batch")
    assert (file.bytes, file.purpose, file.filename) == (len(data), "batch", "in.jsonl")
    return file.id


def create(client: openai.OpenAI, lines: list[Any], **metadata: str) -> Any:
    return client.batches.create(
        input_file_id=upload(client, lines),
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata=metadata or None,
    )


def finish(client: openai.OpenAI, batch: Any) -> tuple[Any, list[str]]:
    """The batch after it has ended, and the states in which it was seen."""
    seen = [batch.status]
    while batch.status not in ("completed", "failed", "expired", "cancelled"):
        batch = client.batches.retrieve(batch.id)
        if batch.status != seen[-1]:
            seen.append(batch.status)
    return batch, seen


def read(client: openai.OpenAI, file_id: str | None) -> dict[str, Any]:
    if file_id is None:
        return {}
    rows = [json.loads(text) for text in client.files.content(file_id).text.splitlines()]
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["custom_id"]: row for row in rows}


def test_a_batch_goes_through_its_states_and_costs_half() -> None:
    prices = {"input_price": 400_000, "output_price": 1_600_001, "api_key": "k"}
    with opened(**prices) as (server, client):
        batch, seen = finish(client, create(client, [line(i) for i in range(40)], tag="t"))
        output = read(client, batch.output_file_id)
    assert seen == ["validating", "in_progress", "finalizing", "completed"]
    assert batch.error_file_id is None
    assert batch.metadata == {"tag": "t"}
    assert (batch.request_counts.total, batch.request_counts.completed) == (40, 40)
    assert output.keys() == {f"r{i}" for i in range(40)}
    assert list(output) != [f"r{i}" for i in range(40)]  # lines come in any order
    spent = 0
    for name, row in output.items():
        answer = row["response"]["body"]
        assert row["response"]["status_code"] == 200 and row["error"] is None
        assert answer["choices"][0]["message"]["content"].endswith(f"request {name[1:]}")
        usage = answer["usage"]
        full = usage["prompt_tokens"] * 400_000 + usage["completion_tokens"] * 1_600_001
        spent += (full + 1) // 2
    assert server.counts.billed_pico == spent
    assert batch.usage.total_tokens == sum(
        row["response"]["body"]["usage"]["total_tokens"] for row in output.values()
    )
    assert server.counts.batch_requests == server.counts.batch_answered == 40
    assert server.counts.requests == 0
    assert set(server.counts.asked.values()) == {1}


def test_an_expired_batch_bills_and_delivers_what_was_processed() -> None:
    with opened(batch_ends=("expired",), batch_done_share=0.3, output_price=1) as (
        server,
        client,
    ):
        batch, seen = finish(client, create(client, [line(i) for i in range(10)]))
        output, failed = read(client, batch.output_file_id), read(client, batch.error_file_id)
    assert seen[-1] == "expired" and batch.expired_at is not None
    assert output.keys() == {"r0", "r1", "r2"}
    assert failed.keys() == {f"r{i}" for i in range(3, 10)}
    assert {(row["response"], row["error"]["code"]) for row in failed.values()} == {
        (None, "batch_expired")
    }
    assert server.counts.batch_requests == server.counts.billed_requests == 3
    assert (batch.request_counts.completed, batch.request_counts.failed) == (3, 0)


def test_a_cancelled_batch_goes_through_cancelling_and_keeps_its_part() -> None:
    with opened(batch_ends=("stuck",)) as (_, client):
        batch = create(client, [line(i) for i in range(6)])
        for _ in range(5):
            batch = client.batches.retrieve(batch.id)
        assert batch.status == "in_progress"
        assert batch.request_counts.completed == 3
        assert client.batches.cancel(batch.id).status == "cancelling"
        batch, _ = finish(client, client.batches.retrieve(batch.id))
        assert batch.status == "cancelled" and batch.cancelled_at is not None
        assert len(read(client, batch.output_file_id)) == 3
        codes = {row["error"]["code"] for row in read(client, batch.error_file_id).values()}
        assert codes == {"batch_cancelled"}
        with pytest.raises(openai.ConflictError):
            client.batches.cancel(batch.id)


def test_requests_of_a_batch_can_fail_and_lines_can_be_malformed() -> None:
    kinds = ["400", "500", "reset", "refusal", "line_missing", "line_twice", "line_mangled"]
    shares = dict.fromkeys(kinds, 0.1)
    with opened(batch_faults=shares) as (server, client):
        batch, _ = finish(client, create(client, [line(i) for i in range(300)]))
        failed = read(client, batch.error_file_id)
        assert batch.output_file_id is not None
        output = client.files.content(batch.output_file_id).text.splitlines()
    statuses = [row["response"] and row["response"]["status_code"] for row in failed.values()]
    assert min(statuses.count(400), statuses.count(500), statuses.count(None)) > 10
    assert batch.request_counts.failed == len(failed)
    assert batch.request_counts.completed == 300 - len(failed)
    names, mangled = [], 0
    for text in output:
        try:
            names.append(json.loads(text)["custom_id"])
        except ValueError:
            mangled += 1
    assert mangled > 10
    assert len(names) - len(set(names)) > 10
    assert 300 - len(failed) - len(set(names)) - mangled > 10  # missing
    assert server.counts.batch_requests == 300
    assert server.counts.batch_answered == len(set(names))


@pytest.mark.parametrize(
    ("lines", "code", "at"),
    [
        ([], "empty_file", None),
        ([line(1), line(1)], "duplicate_custom_id", 2),
        ([line(1), line(2, url="/v1/embeddings")], "url_mismatch", 2),
        ([line(1), "text"], "missing_required_parameter", 2),
        ([line(1, body={**line(1)["body"], "model": "?"})], "model_not_found", 1),
        ([line(1), line(2, body={**line(2)["body"], "model": "n"})], "model_mismatch", 2),
        ([line(i) for i in range(5)], "too_many_tasks", None),
        ([line(i) for i in range(4)], "token_limit_exceeded", None),
    ],
)
def test_an_invalid_file_fails_in_validation(lines: list[Any], code: str, at: Any) -> None:
    limits = {"batch_max_requests": 4, "batch_max_tokens": 35, "models": ("m", "n")}
    with opened(**limits) as (server, client):
        batch, seen = finish(client, create(client, lines))
    assert seen == ["validating", "failed"]
    assert [(error.code, error.line) for error in batch.errors.data] == [(code, at)]
    assert server.counts.batch_requests == 0


def test_batches_are_listed_page_by_page_the_newest_first() -> None:
    with opened(batch_step_s=0.0) as (server, client):
        made = [create(client, [line(0)], tag=str(i)).id for i in range(5)]
        page = client.batches.list(limit=2)
        assert [batch.id for batch in page.data] == made[:2:-1]
        assert page.has_more
        assert [batch.id for batch in client.batches.list(limit=2)] == made[::-1]
        assert {batch.status for batch in client.batches.list()} == {"completed"}
        calls = server.counts.calls["list"]
        assert calls == 1 + 3 + 1
        server.change(batch_list=False)
        with pytest.raises(openai.NotFoundError):
            client.batches.list()


def test_a_batch_can_change_its_state_with_time_and_without_polls() -> None:
    with opened(batch_step_s=0.1) as (_, client):
        batch = create(client, [line(0)])
        assert client.batches.retrieve(batch.id).status == "validating"
        time.sleep(0.31)
        assert client.batches.retrieve(batch.id).status == "completed"


def test_files_are_stored_refused_and_deleted() -> None:
    with opened(batch_max_bytes=1000) as (_, client):
        name = upload(client, [line(0)])
        assert client.files.retrieve(name).status == "processed"
        assert json.loads(client.files.content(name).text)["custom_id"] == "r0"
        assert [file.id for file in client.files.list()] == [name]
        assert client.files.delete(name).deleted
        with pytest.raises(openai.NotFoundError):
            client.files.content(name)
        with pytest.raises(openai.APIStatusError) as refused:
            upload(client, [line(i) for i in range(10)])
        assert refused.value.status_code == 413
        with pytest.raises(openai.BadRequestError):
            client.batches.create(
                input_file_id=name, endpoint="/v1/chat/completions", completion_window="24h"
            )
        with pytest.raises(openai.BadRequestError):
            create(client, [line(0)], tag="x" * 513)


def test_a_batch_may_be_accepted_and_its_answer_lost() -> None:
    with opened(call_faults={"create": ["lost", "silent", "500"]}) as (server, client):
        with pytest.raises(openai.APIConnectionError):
            create(client, [line(0)], tag="lost")
        with pytest.raises(openai.APITimeoutError):
            create(client.with_options(timeout=0.3), [line(0)], tag="silent")
        with pytest.raises(openai.InternalServerError):
            create(client, [line(0)], tag="refused")
        create(client, [line(0)], tag="good")
        tags = [(batch.metadata or {})["tag"] for batch in client.batches.list()]
    assert tags == ["good", "silent", "lost"]
    assert server.counts.calls["create"] == 4


@pytest.mark.parametrize("call", [name for name in CALLS if name not in ("files", "create")])
def test_any_call_can_fail_before_it_has_an_effect(call: str) -> None:
    with opened() as (server, client):
        batch = create(client, [line(0)])
        acts = {
            "upload": lambda: upload(client, [line(0)]),
            "file": lambda: client.files.retrieve(batch.input_file_id),
            "content": lambda: client.files.content(batch.input_file_id),
            "delete": lambda: client.files.delete(batch.input_file_id),
            "retrieve": lambda: client.batches.retrieve(batch.id),
            "list": lambda: client.batches.list(),
            "cancel": lambda: client.batches.cancel(batch.id),
        }
        start = server.counts.calls[call]
        script = ["ok"] * start + ["503", "429_retry_after", "reset", "401"]
        server.change(call_faults={call: script})
        for error in (
            openai.InternalServerError,
            openai.RateLimitError,
            openai.APIConnectionError,
            openai.AuthenticationError,
        ):
            with pytest.raises(error):
                acts[call]()
        acts[call]()


def test_a_download_can_break_off_in_the_middle() -> None:
    with opened(call_faults={"content": ["cut"]}) as (_, client):
        name = upload(client, [line(i) for i in range(20)])
        with pytest.raises(openai.APIConnectionError):
            client.files.content(name)
        assert len(client.files.content(name).text.splitlines()) == 20
