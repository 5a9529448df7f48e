"""The overview of a ledger, exporting and importing its answers, and pruning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.core.errors import DataError, RunFolderError, UsageError
from tutelage.core.types import Completion, Example, Message, Request, Usage
from tutelage.teacher.cost.prices import PICO
from tutelage.teacher.engine.requests import PendingRequest
from tutelage.teacher.ledger import maintenance
from tutelage.teacher.ledger.charges import (
    Claim,
    Failure,
    Session,
    charged,
    final_failures,
    mark_lost,
    mark_sent,
    store_answer,
    store_failure,
)
from tutelage.teacher.ledger.export import export_answers, import_answers
from tutelage.teacher.ledger.store import INSERT_ANSWER, Ledger, answer_row, request_key

IDENTITY = "https://teacher.example/v1"


def pending(text: str, **changes: Any) -> PendingRequest:
    values: dict[str, Any] = {
        "model": "m",
        "messages": (Message("system", "Be brief."), Message("user", text)),
        "strategy": "reasoning",
        "example": Example("u", {}, "yes"),
        "parameters": {"temperature": 0.2, "max_tokens": 20},
        **changes,
    }
    request = Request(**values)
    return PendingRequest(request_key(IDENTITY, request), request)


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    """Two paid answers, one lost charge, one open, one failure of each kind."""
    with Ledger(tmp_path / "ledger.sqlite") as opened, Session(opened) as session:
        requests = [pending(f"q{n}", strategy="reasoning" if n else "other") for n in range(4)]

        def work(connection: Any) -> None:
            claims = [Claim(key, PICO) for key, _ in requests]
            charges = [
                one.charge for one in session.reserve(connection, claims, scope="run", cap=None)
            ]
            mark_sent(connection, charges)
            for number, cost in ((0, PICO // 4), (1, None)):
                usage = Usage(10, 20, 5) if cost else Usage()
                completion = Completion(f"a{number}\u2028é", "stop", usage)
                store_answer(
                    connection, charges[number], *requests[number], completion,
                    identity=IDENTITY, cost=cost,
                )  # fmt: skip
            mark_lost(connection, charges[2:3])
            store_failure(
                connection, requests[2][0], "reasoning", Failure("slow", "no answer", True)
            )
            store_failure(connection, "ab" * 32, "other", Failure("refused", "HTTP 400: no", False))

        opened.transact(work)
        yield opened


def test_an_overview_adds_up(ledger: Ledger) -> None:
    found = maintenance.overview(ledger)
    assert [
        (g.strategy, g.answers, g.prompt_tokens, g.uncounted, g.usd) for g in found.answers
    ] == [
        ("other", 1, 10, 0, 0.25),
        ("reasoning", 1, 0, 1, 1.0),
    ]
    (budget,) = found.budgets
    assert (budget.charged_usd, budget.paid_usd) == (3.25, 1.25)
    assert (budget.held_usd, budget.held, budget.lost_usd, budget.lost) == (1.0, 1, 1.0, 1)
    assert {(f.reason, f.final, f.requests) for f in found.failures} == {
        ("slow", False, 1),
        ("refused", True, 1),
    }
    assert {line.detail for line in maintenance.failures(ledger)} == {"no answer", "HTTP 400: no"}


def test_answers_are_restored_exactly(ledger: Ledger, tmp_path: Path) -> None:
    first, second = tmp_path / "first.jsonl", tmp_path / "deep" / "second.jsonl"
    assert export_answers(ledger, first) == 2
    with Ledger(tmp_path / "other.sqlite") as other:
        assert import_answers(other, first) == (2, 0)
        assert import_answers(other, first) == (0, 2)
        assert export_answers(other, second) == 2
        assert charged(other, "run") == 0
        rows = []
        for opened in (ledger, other):
            with opened.reader() as connection:
                rows.append(connection.execute("SELECT * FROM answers").fetchall())
    assert rows[0] == rows[1] and first.read_bytes() == second.read_bytes()
    assert [path.name for path in tmp_path.glob(".*")] == []


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    prompts=st.lists(texts, min_size=1, max_size=4, unique=True),
    answer=texts,
    parameters=st.dictionaries(
        st.sampled_from(["temperature", "seed", "top_p", "stop"]),
        st.one_of(st.integers(-9, 1 << 62), st.floats(-2, 2), texts),
    ),
    counts=st.lists(st.one_of(st.none(), st.integers(0, 1 << 40)), min_size=4, max_size=4),
)
def test_any_answer_is_restored_exactly(
    prompts: list[str],
    answer: str,
    parameters: dict[str, Any],
    counts: list[int | None],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("export")
    with Ledger(":memory:") as one, Ledger(":memory:") as two:
        for prompt in prompts:
            key, request = pending(prompt, parameters=parameters, sample=counts[0] or 0)
            completion = Completion(answer, None, Usage(*counts[:3]))
            row = answer_row(key, request, completion, identity=IDENTITY, pico=counts[3])
            one.transact(lambda connection, row=row: connection.execute(INSERT_ANSWER, row))
        export_answers(one, folder / "a")
        assert import_answers(two, folder / "a") == (len(prompts), 0)
        export_answers(two, folder / "b")
    assert (folder / "a").read_bytes() == (folder / "b").read_bytes()


def test_export_of_one_strategy(ledger: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    assert export_answers(ledger, path, ["other"]) == 1
    assert json.loads(path.read_text())["text"] == "a0\u2028é"
    assert export_answers(ledger, path, ["other", "reasoning"]) == 2
    assert export_answers(ledger, path, ["none"]) == 0 and path.read_text() == ""


def test_an_imported_answer_ends_a_failure_and_never_replaces_an_answer(
    ledger: Ledger, tmp_path: Path
) -> None:
    path = tmp_path / "out.jsonl"
    mine, failed = pending("q1"), pending("q2")
    with Ledger(":memory:") as other:
        for key, request in (mine, failed):
            other.put(key, request, Completion("theirs"), identity=IDENTITY)
        export_answers(other, path)
    before = charged(ledger, "run")
    assert import_answers(ledger, path) == (1, 1)
    kept, new = ledger.get(mine[0]), ledger.get(failed[0])
    assert kept is not None and kept.text == "a1\u2028é"
    assert new is not None and new.text == "theirs"
    assert charged(ledger, "run") == before
    with ledger.reader() as connection:
        assert final_failures(connection, [failed[0]]) == {}


WRONG: dict[str, tuple[Any, str]] = {
    "no JSON": ("{", "Expecting"),
    "no object": ("[]", "is not a JSON object"),
    "empty line": ("", "Expecting"),
    "a field less": ({"text": ...}, "lacks ['text']"),
    "a field more": ({"api_key": "sk"}, "unknown fields ['api_key']"),
    "a changed request": ({"model": "another"}, "key does not match its request"),
    "a changed key": ({"key": "0" * 64}, "key does not match its request"),
    "no key": ({"key": "zz"}, "field 'key' is 'zz', expected 64"),
    "tokens below 0": ({"prompt_tokens": -1}, "field 'prompt_tokens'"),
    "true for a number": ({"pico": True}, "field 'pico'"),
    "too large a number": ({"completion_tokens": 1 << 63}, "field 'completion_tokens'"),
    "no messages": ({"messages": [{"role": "user"}]}, "field 'messages'"),
    "a strange role": ({"messages": [{"role": "tool", "content": ""}]}, "field 'messages'"),
    "half a character": ({"text": "\ud800"}, "field 'text'"),
    "no time": ({"created": float("nan")}, "field 'created'"),
    "no number for a parameter": ({"parameters": {"seed": float("nan")}}, "field 'parameters'"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_line_is_reported_and_nothing_is_imported(
    what: str, ledger: Ledger, tmp_path: Path
) -> None:
    change, complaint = WRONG[what]
    path = tmp_path / "out.jsonl"
    export_answers(ledger, path)
    good, line = path.read_text().split("\n")[:2]
    if isinstance(change, dict):
        value = json.loads(line) | change
        change = json.dumps({k: v for k, v in value.items() if v is not ...})
    path.write_text(f"{good}\n{change}\n")
    with Ledger(tmp_path / "other.sqlite") as other:
        with pytest.raises(DataError) as caught:
            import_answers(other, path)
        assert len(other) == 0
    message = str(caught.value)
    assert message.startswith(f"{path}:2: ") and complaint in message and "\n" not in message
    assert "nothing was imported" in message


def test_missing_files(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        import_answers(ledger, tmp_path / "none.jsonl")
    with pytest.raises(UsageError, match="there is no such ledger"):
        maintenance.open_existing(tmp_path / "none.sqlite")
    assert not (tmp_path / "none.sqlite").exists()
    with pytest.raises(RunFolderError):
        maintenance.open_existing(tmp_path)


@pytest.mark.parametrize(
    ("which", "left"),
    [
        ({"strategy": "other"}, {"reasoning"}),
        ({"strategy": "other", "model": "another"}, {"reasoning", "other"}),
        ({"model": "m"}, set()),
        ({"identity": IDENTITY, "strategy": "reasoning"}, {"other"}),
        ({"identity": "another"}, {"reasoning", "other"}),
        ({"older_than_days": 1.0}, {"reasoning"}),
        ({"older_than_days": 0.0}, set()),
    ],
)
def test_pruning_deletes_what_is_selected_and_no_charges(
    which: dict[str, Any], left: set[str], ledger: Ledger
) -> None:
    ledger.transact(
        lambda c: c.execute("UPDATE answers SET created = created - 1e5 WHERE strategy = 'other'")
    )
    before, budgets = charged(ledger, "run"), maintenance.overview(ledger).budgets
    count, usd = maintenance.would_prune(ledger, maintenance.Pruning(**which))
    assert len(ledger) == 2
    assert maintenance.prune(ledger, maintenance.Pruning(**which)) == count == 2 - len(left)
    assert {group.strategy for group in maintenance.overview(ledger).answers} == left
    assert charged(ledger, "run") == before and maintenance.overview(ledger).budgets == budgets
    assert usd == 1.25 - sum({"other": 0.25, "reasoning": 1.0}[name] for name in left)


def test_pruning_shrinks_the_file(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        for number in range(30):
            key, request = pending(f"{number}" * 20_000)
            ledger.put(key, request, Completion("so"), identity=IDENTITY)
        maintenance.prune(ledger, maintenance.Pruning(model="m"))
    assert path.stat().st_size < 200_000


def test_pruning_everything_by_accident_is_refused() -> None:
    with pytest.raises(UsageError, match="--older-than"):
        maintenance.Pruning()
    with pytest.raises(UsageError, match="expected 0 or more"):
        maintenance.Pruning(older_than_days=-1)
