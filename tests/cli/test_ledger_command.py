"""`tutelage ledger` on the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

sys.path.insert(0, str(Path(__file__).parents[1] / "teacher"))

from batch_worker import batches, pending_requests
from openai_server.server import Server

from tutelage.cli.main import app
from tutelage.core.errors import TutelageError
from tutelage.core.types import Completion, Example, Message, Request
from tutelage.teacher.ledger.charges import Claim, Session, mark_lost
from tutelage.teacher.ledger.store import Ledger, request_key


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["ledger", *map(str, arguments)])


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(batch_polls=0, input_price=400, output_price=1600, batch_ends=("stuck",)) as s:
        yield s


@pytest.fixture
def path(tmp_path: Path, server: Server) -> Path:
    """A ledger with two answers, and a batch of two requests that will not end by itself."""
    path = tmp_path / "ledger.sqlite"
    with (
        Ledger(path) as book,
        Session(book) as session,
        batches(session, server.base_url) as ours,
    ):
        ours.submit(pending_requests(4))
        while len(ours.collect(wait=False).open) > 1:
            pass
    return path


def test_show(path: Path) -> None:
    done = call("show", "--ledger", path)
    assert done.exit_code == 0
    for words in (
        "2 answers",
        "reasoning",
        "budget of run",
        "held for 2 requests in flight",
        "in_progress",
    ):
        assert words in done.stdout
    found = json.loads(call("show", "--ledger", path, "--json").stdout)
    (group,) = found["answers"]
    assert (group["answers"], group["strategy"]) == (2, "reasoning")
    assert found["batches"][0]["requests"] == 2
    assert found["budgets"][0]["paid_usd"] == pytest.approx(group["usd"])
    assert "failed" not in found
    assert json.loads(call("show", "--ledger", path, "--json", "--failures").stdout)["failed"] == []


def test_export_and_import(path: Path, tmp_path: Path) -> None:
    file, other = tmp_path / "answers.jsonl", tmp_path / "other.sqlite"
    assert call("export", file, "--ledger", path).stdout == f"{file}: 2 answers\n"
    assert call("import", file, "--ledger", other).stdout == (
        "2 answers imported, 0 already known\n"
    )
    assert call("import", file, "--ledger", other).stdout.startswith(
        "0 answers imported, 2 already"
    )


def test_prune_counts_first_and_deletes_with_yes(path: Path) -> None:
    done = call("prune", "--ledger", path, "--strategy", "reasoning")
    assert "2 answers, which cost $" in done.stdout and "--yes" in done.stdout
    with Ledger(path) as ledger:
        assert len(ledger) == 2
    assert call("prune", "--ledger", path, "--strategy", "reasoning", "--yes").exit_code == 0
    with Ledger(path) as ledger:
        assert len(ledger) == 0
    assert call("prune", "--ledger", path).exception is not None


def test_a_batch_is_cancelled_and_its_answers_are_kept(path: Path, server: Server) -> None:
    done = call("batches", "--ledger", path)
    assert done.stdout.startswith("batch 1 (batch_") and "in_progress" in done.stdout
    assert "will end" in call("batches", "--ledger", path, "--cancel", 1).stdout
    with (
        Ledger(path) as book,
        Session(book) as session,
        batches(session, server.base_url) as ours,
    ):
        assert ours.collect(wait=True).answered == 1
    assert call("batches", "--ledger", path).stdout == "No batch is open.\n"
    assert json.loads(call("batches", "--ledger", path, "--json").stdout) == []


def test_a_batch_is_abandoned(path: Path) -> None:
    assert "2 requests can be made again" in call("batches", "--ledger", path, "--forget", 1).stdout
    shown = call("show", "--ledger", path).stdout
    assert "for 2 lost requests" in shown and "batch 1" not in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cancel", 9], "no open batch has this number"),
        (["--forget", 9], "batch 9"),
        (["--adopt", "1"], "expected NUMBER=ID"),
        (["--adopt", "1=batch_1"], "expected a batch in the state 'creating'"),
        (["--adopt", "1=b", "--cancel", 1], "at a time"),
    ],
)
def test_wrong_calls(path: Path, arguments: list[object], words: str) -> None:
    done = call("batches", "--ledger", path, *arguments)
    assert isinstance(done.exception, TutelageError) and done.exception.exit_code == 2
    assert words in str(done.exception)


def test_a_missing_ledger_is_not_created(tmp_path: Path) -> None:
    for arguments in (["show"], ["batches"], ["export", tmp_path / "x"]):
        done = call(*arguments, "--ledger", tmp_path / "none.sqlite")
        assert "there is no such ledger" in str(done.exception)
    assert list(tmp_path.iterdir()) == []


def test_a_model_files_digest_is_shown_and_accepted_shortened(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    digests = ["gguf-sha256:" + digit * 64 for digit in "ab"]
    with Ledger(path) as ledger:
        for identity in (*digests, "https://a.example/v1", "https://a.example/v12"):
            key, request = keyed_request(identity)
            ledger.put(key, request, Completion("so"), identity=identity)
    shown = call("show", "--ledger", path).stdout
    assert f" gguf-sha256:{'a' * 12} " in shown and "a" * 13 not in shown
    assert "unknown" in shown and "$0" not in shown  # nobody knows what these cost
    for short, count in (
        (f"gguf-sha256:{'a' * 12}", 1),
        (f"gguf-sha256:{'a' * 64}", 1),
        ("gguf-sha256:a", 0),  # might be many
        ("https://a.example/v1", 1),
    ):
        said = call("prune", "--ledger", path, "--identity", short).stdout
        assert said.startswith(f"{count} answers, which cost")


def test_budgets_without_cost_are_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    with Ledger(path) as ledger, Session(ledger) as session:
        for scope, worst in (("free", 0), ("dear", 10**12)):
            (held,) = ledger.transact(
                lambda c, s=scope, w=worst: session.reserve(
                    c, [Claim(keyed_request(s)[0], w)], scope=s, cap=None
                )
            )
            ledger.transact(lambda c, h=held: mark_lost(c, [h.charge]))
    shown = call("show", "--ledger", path).stdout
    assert "budget of dear: $1.00 charged" in shown and "free" not in shown


def keyed_request(text: str) -> tuple[str, Request]:
    request = Request("gguf", (Message("user", text),), "s", Example("e", {}, "l"))
    return request_key(text, request), request
