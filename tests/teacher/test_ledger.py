import hashlib
import json
import multiprocessing
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.core.errors import RunFolderError
from tutelage.core.types import Completion, Example, Message, Request, Usage
from tutelage.teacher.ledger.store import Ledger, RequestKeys, default_path, request_key


def request_for(text="Why?", **more):
    return Request("m", (Message("user", text),), "s", Example("e", {}, "l"), **more)


def name(text):
    """A key: 64 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


ANSWER = Completion("Därum \N{SNOWMAN}\nja.", "stop", Usage(5, None, 2))


def test_an_answer_is_restored_exactly(tmp_path):
    with Ledger(tmp_path / "deep" / "ledger.sqlite") as ledger:
        assert ledger.get(name("k")) is None
        ledger.put(name("k"), request_for(), ANSWER)
    with Ledger(tmp_path / "deep" / "ledger.sqlite") as ledger:
        assert ledger.get(name("k")) == ANSWER
        assert len(ledger) == 1


def test_the_first_answer_stays(tmp_path):
    with Ledger(tmp_path / "l") as ledger:
        ledger.put(name("k"), request_for(), ANSWER)
        ledger.put(name("k"), request_for(), Completion("another"))
        assert ledger.get(name("k")) == ANSWER


def test_many_keys_at_once(tmp_path):
    with Ledger(tmp_path / "l") as ledger:
        for i in range(0, 1300, 2):
            ledger.put(name(f"k{i}"), request_for(), Completion(str(i)))
        found = ledger.get_many(name(f"k{i}") for i in range(1300))
    assert {key: c.text for key, c in found.items()} == {
        name(f"k{i}"): str(i) for i in range(0, 1300, 2)
    }


def test_the_key_depends_on_the_request_and_on_nothing_else():
    key = request_key("url", request_for(parameters={"temperature": 0.2, "seed": 1}))
    same = Request(
        "m", (Message("user", "Why?"),), "another", Example("f", {"a": "b"}, "k"),
        parameters={"seed": 1, "temperature": 0.2},
    )  # fmt: skip
    assert request_key("url", same) == key
    others = [
        request_key("other", same),
        request_key("url", request_for()),
        request_key("url", request_for("Why", parameters={"temperature": 0.2, "seed": 1})),
        request_key("url", request_for(parameters={"temperature": 0.3, "seed": 1})),
        request_key("url", request_for(parameters={"temperature": 0.2, "seed": 1}, sample=1)),
    ]
    assert len({key, *others}) == 6
    assert request_key("u", request_for(parameters={"temperature": 0.0})) == request_key(
        "u", request_for(parameters={"temperature": 0})
    )


def test_a_key_stays_the_same_between_releases():
    # All users' answers are found by it: after a change they would pay for all of them again.
    key = request_key("https://api.openai.com/v1", request_for(parameters={"temperature": 0.2}))
    body = (
        '{"identity":"https://api.openai.com/v1","messages":[{"content":"Why?","role":"user"}],'
        '"model":"m","parameters":{"temperature":0.2},"sample":0}'
    )
    assert key == hashlib.sha256(body.encode()).hexdigest()


def slow_key(identity, request):
    """The definition of a key, computed from plain values."""

    def plain(value):
        if isinstance(value, Mapping):
            return {name: plain(part) for name, part in value.items()}
        return [plain(part) for part in value] if isinstance(value, (list, tuple)) else value

    def canonical(value):
        whole = isinstance(value, float) and value.is_integer()
        return int(value) if whole else plain(value)

    body = {
        "identity": identity,
        "model": request.model,
        "messages": [{"role": m.role, "content": m.content} for m in request.messages],
        "parameters": {name: canonical(value) for name, value in request.parameters.items()},
        "sample": request.sample,
    }
    text = json.dumps(body, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


anything = st.text(st.characters())  # half surrogate pairs, quotes, line separators, NUL
numbers = st.one_of(st.booleans(), st.integers(), st.floats())
schemas = st.recursive(
    st.one_of(st.none(), numbers, anything),
    lambda part: st.one_of(
        st.lists(part, max_size=3),
        st.lists(part, max_size=3).map(tuple),
        st.dictionaries(anything, part, max_size=3),
        st.dictionaries(anything, part, max_size=3).map(MappingProxyType),
    ),
    max_leaves=8,
)
parameter_sets = st.dictionaries(
    st.one_of(st.sampled_from(["temperature", "max_tokens", "seed", "top_p"]), anything),
    st.one_of(numbers, anything, st.dictionaries(anything, schemas, max_size=3)),
    max_size=4,
)
messages = st.builds(Message, st.sampled_from(["system", "user", "assistant"]), anything)


@settings(max_examples=300, deadline=None)
@given(
    anything, anything, parameter_sets, st.lists(st.lists(messages, max_size=3), max_size=3),
    st.integers(0, 1 << 70),
)  # fmt: skip
def test_keys_equal_those_of_the_definition(identity, model, parameters, prompts, sample):
    keys = RequestKeys(identity, model, parameters)  # one for many requests, as in a run
    for prompt in prompts:
        request = Request(
            model, tuple(prompt), "s", Example("e", {}, "l"), parameters=parameters, sample=sample
        )
        slow = slow_key(identity, request)
        assert keys.of(request.messages, sample) == request_key(identity, request) == slow


@pytest.mark.parametrize("junk", [b"not a database at all, but long enough" * 50, b"\x00" * 4096])
def test_a_file_that_is_not_a_database_is_reported_in_one_line(tmp_path, junk):
    path = tmp_path / "l"
    path.write_bytes(junk)
    with pytest.raises(RunFolderError) as caught:
        Ledger(path)
    assert str(path) in str(caught.value) and "TUTELAGE_LEDGER" in str(caught.value)
    assert path.read_bytes() == junk


def test_the_database_of_another_program_is_left_alone(tmp_path):
    path = tmp_path / "l"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs (x)")
    with pytest.raises(RunFolderError, match="not a ledger of Tutelage"):
        Ledger(path)


def test_a_newer_ledger_is_refused(tmp_path):
    path = tmp_path / "l"
    Ledger(path).close()
    with sqlite3.connect(path) as newer:
        newer.execute("PRAGMA user_version = 99")
    with pytest.raises(RunFolderError, match="version 99"):
        Ledger(path)


def test_a_folder_that_cannot_be_created(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunFolderError, match="TUTELAGE_LEDGER"):
        Ledger(tmp_path / "file" / "l")
    with pytest.raises(RunFolderError):
        Ledger(tmp_path)


def test_a_damaged_page_is_reported_in_one_line(tmp_path):
    path = tmp_path / "l"
    with Ledger(path) as ledger:
        for i in range(200):
            ledger.put(name(f"k{i}"), request_for(), Completion("x" * 500))
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(RunFolderError, match="not a readable ledger"), Ledger(path) as ledger:
        ledger.get_many(name(f"k{i}") for i in range(200))


def test_default_path(monkeypatch):
    monkeypatch.delenv("TUTELAGE_LEDGER", raising=False)
    assert default_path() == Path(".tutelage/ledger.sqlite")
    monkeypatch.setenv("TUTELAGE_LEDGER", "/somewhere/l")
    assert default_path() == Path("/somewhere/l")


def test_a_ledger_in_memory_creates_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Ledger(":memory:") as ledger:
        ledger.put(name("k"), request_for(), ANSWER)
        assert ledger.get(name("k")) == ANSWER
    assert list(tmp_path.iterdir()) == []


def _write(path, who, count):
    with Ledger(path) as ledger:
        for i in range(count):
            ledger.put(name(f"{who}-{i}"), request_for(), Completion(who))


def test_several_processes_can_create_and_write_one_ledger(tmp_path):
    context = multiprocessing.get_context("spawn")
    path = tmp_path / "l"
    workers = [context.Process(target=_write, args=(path, f"w{n}", 100)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    with Ledger(path) as ledger:
        assert len(ledger) == 400


# The schema of the version before; its answers were paid for.
VERSION_1 = """
CREATE TABLE answers (
    key               TEXT PRIMARY KEY,
    identity          TEXT NOT NULL,
    model             TEXT NOT NULL,
    strategy          TEXT NOT NULL,
    messages          TEXT NOT NULL,
    parameters        TEXT NOT NULL,
    sample            INTEGER NOT NULL,
    text              TEXT NOT NULL,
    finish_reason     TEXT,
    prompt_tokens     INTEGER,
    completion_tokens INTEGER,
    created           REAL NOT NULL
) WITHOUT ROWID;
PRAGMA application_id = 0x7475746C;
PRAGMA user_version = 1;
PRAGMA journal_mode = WAL;
"""


def make_version_1(path, texts):
    with sqlite3.connect(path) as old:
        old.executescript(VERSION_1)
        for number, text in enumerate(texts):
            body = request_for(text, parameters={"temperature": 0.2})
            row = (request_key("t", body), "t", "m", "s", "[]", "{}", 0, f"as {text}", "stop")
            old.execute(
                f"INSERT INTO answers VALUES ({','.join('?' * 12)})", (*row, 5, None, float(number))
            )
    old.close()


def test_a_ledger_of_version_1_keeps_its_answers(tmp_path):
    path, texts = tmp_path / "l", [f"Why {n} \N{SNOWMAN}?" for n in range(700)]
    make_version_1(path, texts)
    for _ in range(2):  # migrated the first time, current the second time
        with Ledger(path) as ledger:
            assert len(ledger) == 700
            for text in texts:
                found = ledger.get(
                    request_key("t", request_for(text, parameters={"temperature": 0.2}))
                )
                assert found == Completion(f"as {text}", "stop", Usage(5, None, None), None)
            with ledger.reader() as connection:
                kept = connection.execute("SELECT text FROM answers ORDER BY id").fetchall()
                assert kept == [(f"as {text}",) for text in texts]
                assert connection.execute("PRAGMA user_version").fetchone() == (5,)
                assert connection.execute("SELECT count(*) FROM charges").fetchone() == (0,)


def test_a_ledger_that_cannot_be_migrated_is_left_unchanged(tmp_path):
    path = tmp_path / "l"
    make_version_1(path, ["Why?"])
    with sqlite3.connect(path) as old:
        old.execute("UPDATE answers SET key = 'no digest'")
    old.close()
    with pytest.raises(RunFolderError, match="TUTELAGE_LEDGER"):
        Ledger(path)
    with sqlite3.connect(path) as old:
        assert old.execute("PRAGMA user_version").fetchone() == (1,)
        assert old.execute("SELECT key, text FROM answers").fetchall() == [("no digest", "as Why?")]
    old.close()


def _count(path, answers):
    with Ledger(path) as ledger:
        answers.put(len(ledger))


def test_several_processes_can_migrate_one_ledger(tmp_path):
    context = multiprocessing.get_context("spawn")
    path = tmp_path / "l"
    make_version_1(path, [f"Why {n}?" for n in range(300)])
    answers = context.Queue()
    workers = [context.Process(target=_count, args=(path, answers)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [answers.get(timeout=5) for _ in workers] == [300] * 3
