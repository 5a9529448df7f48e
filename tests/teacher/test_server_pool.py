"""Several servers behind one `base_url`: every row ends, whatever happens to some of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from scripted_server import Reply, ScriptedServer, error, prompt
from small_rows import rows

from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.errors import AuthenticationError, ModelNotServedError, UsageError
from tutelage.core.task import NLI
from tutelage.core.types import Example, Message, Request
from tutelage.planning.teacher_check import _servers
from tutelage.teacher.annotate import Annotation, Options, annotate
from tutelage.teacher.clients.server_models import ListedModel
from tutelage.teacher.clients.server_pool import compare_models
from tutelage.teacher.engine.failures import FaultKind, RetryPolicy
from tutelage.teacher.engine.prefixes import prefix_of
from tutelage.teacher.ledger.charges import charged
from tutelage.teacher.ledger.store import Ledger
from tutelage.teacher.registry import open_teacher

QUICK = RetryPolicy(dict.fromkeys(FaultKind, 6), base_s=0.01, cap_s=0.1)


def pool(servers: Sequence[ScriptedServer], **more: Any) -> TeacherSettings:
    urls = tuple(server.base_url for server in servers)
    return TeacherSettings(model="openai:m", base_url=urls, **{"concurrency": 4, **more})


def ask(
    examples: Sequence[Example],
    teacher: TeacherSettings,
    ledger: Ledger,
    notes: list[str] | None = None,
) -> Annotation:
    note = (lambda line: None) if notes is None else notes.append
    return annotate(
        examples,
        strategy="informed_reasoning",
        teacher=teacher,
        task=NLI,
        ledger=ledger,
        options=Options(policy=QUICK, on_note=note),
    )


def by_server(ledger: Ledger) -> Counter[str | None]:
    with ledger.reader() as connection:
        return Counter(dict(connection.execute("SELECT server, count(*) FROM answers GROUP BY 1")))


def slowly(seconds: float) -> Any:
    return lambda body, before: Reply(f"because of {prompt(body)}", delay_s=seconds)


def busy(body: dict[str, Any], before: int) -> Reply:
    return error(429, "slow down", headers={"Retry-After": "0.2"})


def test_one_is_killed_one_is_slow_and_one_is_busy(ledger: Ledger) -> None:
    count = 60
    with (
        ScriptedServer(slowly(0.1)) as slow,
        ScriptedServer(busy) as throttled,
        ExitStack() as life,
    ):
        killed = life.enter_context(ScriptedServer(slowly(0.01)))

        def kill() -> None:
            while killed.counts.requests < 15:
                time.sleep(0.002)
            life.close()

        killer = threading.Thread(target=kill)
        killer.start()
        done = ask(rows(count), pool([killed, slow, throttled]), ledger)
        killer.join()
        assert done.counts["ok"] == count
        # Paid twice is at most what was in flight at the server that was killed.
        asked = killed.counts.asked + slow.counts.asked
        assert asked.total() <= count + 4
        assert slow.counts.asked.total() == slow.answered  # nothing is given up for being slow
        assert killed.answered + slow.answered >= count
        assert throttled.requests <= 10  # it rests, instead of being asked for each row
        sent = killed.requests + slow.requests + throttled.requests
        assert done.summary.attempts >= sent > count
        found = by_server(ledger)
        assert found[slow.base_url] == slow.answered
        assert set(found) == {slow.base_url, killed.base_url}
        assert sum(found.values()) == count

        assert ask(rows(count), pool([throttled, slow]), ledger).cached == count


def test_a_faster_server_gets_more(ledger: Ledger) -> None:
    with ScriptedServer(slowly(0.0)) as fast, ScriptedServer(slowly(0.4)) as slow:
        assert ask(rows(60), pool([slow, fast]), ledger).counts["ok"] == 60
        assert fast.requests > 2 * slow.requests > 0
        assert fast.most_in_flight <= 4
        assert slow.most_in_flight <= 4


def test_rows_with_one_premise_go_to_one_server(ledger: Ledger) -> None:
    examples = [
        Example(f"{p}-{h}", {"premise": f"Premise {p}.", "hypothesis": f"Claim {h}."}, "neutral")
        for p in range(14)
        for h in range(5)
    ]
    with ScriptedServer(slowly(0.01)) as one, ScriptedServer(slowly(0.02)) as other:
        assert ask(examples, pool([one, other]), ledger).counts["ok"] == len(examples)
        seen = [
            {p for p in range(14) if any(f"Premise {p}." in text for text in server.prompts)}
            for server in (one, other)
        ]
    assert not seen[0] & seen[1]
    assert all(seen)


def test_the_shared_prefix_ends_with_the_first_text_of_a_row() -> None:
    def prefix(said: str, **fields: str) -> int | None:
        return prefix_of(Request("m", (Message("user", said),), "s", Example("e", fields, "l")))

    first = prefix("Of P: H, say.", premise="P", hypothesis="H")
    assert first == prefix("Of P: I, say.", premise="P", hypothesis="I")
    assert first != prefix("Of Q: H, say.", premise="Q", hypothesis="H")
    assert prefix("Of P, say.", text="P") is None  # every row is its own


def test_keys_do_not_depend_on_the_list() -> None:
    urls = ("http://a:1/v1", "http://b:1/v1", "http://c:1/v1")

    def identity(base_url: Any, **more: Any) -> str:
        return open_teacher(TeacherSettings(model="openai:m", base_url=base_url, **more)).identity

    assert {identity(urls), identity(urls[::-1]), identity(urls[:2]), identity(urls[:1])} == {
        "pool"
    }
    assert identity(urls, provider="ours") == identity(urls[0], provider="ours") == "ours"
    assert identity(urls[0]) == urls[0]
    # Answers of the first server, asked before it had company.
    assert identity(urls, provider=urls[0]) == identity(urls[0])


def test_a_server_that_refuses_everything_leaves_and_the_last_one_ends_the_run(
    ledger: Ledger,
) -> None:
    refuse = lambda body, before: error(401, "no such key", "invalid_api_key")  # noqa: E731
    notes: list[str] = []
    with (
        ScriptedServer(refuse) as locked,
        ScriptedServer(refuse) as also,
        ScriptedServer(slowly(0.005)) as good,
    ):
        assert ask(rows(20), pool([locked, good]), ledger, notes).counts["ok"] == 20
        assert (locked.requests, good.answered) == (1, 20)
        assert [line for line in notes if "gets no more requests" in line] == notes
        assert locked.base_url in notes[0]
        with pytest.raises(AuthenticationError, match="none of 2 servers"):
            ask(rows(5, start=50), pool([locked, also]), ledger)


def test_a_refusal_is_the_rows_own_only_when_every_server_refuses_it(ledger: Ledger) -> None:
    def odd(body: dict[str, Any], before: int) -> Reply:
        mine = "Premise 3." in prompt(body)
        return error(400, "zork") if mine else Reply(f"because of {prompt(body)}")

    with ScriptedServer(lambda b, n: error(400, "zork")) as broken, ScriptedServer(odd) as good:
        done = ask(rows(30), pool([broken, good], max_failed=5), ledger)
        assert (done.counts["ok"], done.counts["failed"]) == (29, 1)
        assert broken.requests < 15  # it rests after three refusals in a row


def test_a_server_that_is_out_for_the_day_leaves_the_rest_to_the_others(ledger: Ledger) -> None:
    day = lambda b, n: error(429, "come back", headers={"Retry-After": "40000"})  # noqa: E731
    with ScriptedServer(day) as spent, ScriptedServer(slowly(0.005)) as good:
        assert ask(rows(15), pool([spent, good]), ledger).counts["ok"] == 15
        assert spent.requests == 1


def test_a_pool_serves_one_model(ledger: Ledger) -> None:
    with ScriptedServer(models=("m", "n")) as one, ScriptedServer(models=("n",)) as other:
        with pytest.raises(ModelNotServedError, match=f"{other.base_url} does not list .*'m'"):
            ask(rows(3), pool([one, other]), ledger)
        assert one.requests + other.requests == 0
        findings = list(_servers(pool([one, other])))
    assert [found.what for found in findings if found.status == "ok"] == [
        "teacher openai:m, server 1 of 2",
        "teacher openai:m, server 2 of 2",
    ]
    assert findings[-1].status == "missing"


def test_lists_are_compared_where_there_are_some() -> None:
    one, other = ListedModel("m", root="/a"), ListedModel("m", root="/b")
    assert compare_models("m", {"x": [one], "y": [], "z": [one]}) == []
    (note,) = compare_models("m", {"x": [one], "y": [other]})
    assert "x from '/a', y from '/b'" in note
    # A server that answers to any name lists its file.
    assert compare_models("m", {"x": [ListedModel("f")], "y": [ListedModel("f")]}) == []
    with pytest.raises(ModelNotServedError, match="x lists f and y lists g"):
        compare_models("m", {"x": [ListedModel("f")], "y": [ListedModel("g")]})


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"base_url": ["http://a/v1", "http://b/v1"], "mode": "batch"}, "name one address"),
        ({"base_url": []}, "base_url"),
        ({"base_url": ["http://a/v1", 3]}, "base_url"),
        ({"base_url": ["http://a/v1", "http://a:80/v1/"]}, "twice"),
        ({"base_url": ["http://a/v1", "b:80"]}, "did you mean"),
    ],
)
def test_a_wrong_list_is_one_line(values: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says) as found:
        open_teacher(TeacherSettings(**{"model": "openai:m", **values}))
    assert "\n" not in str(found.value)


def test_a_kill_in_the_middle_keeps_the_budget_and_the_answers(tmp_path: Path) -> None:
    count, cap = 60, 0.02
    path = tmp_path / "ledger.sqlite"
    with ScriptedServer(slowly(0.03)) as one, ScriptedServer(slowly(0.06)) as other:
        servers = [one, other]
        worker = subprocess.Popen(
            [
                *(sys.executable, str(Path(__file__).parent / "annotate_worker.py")),
                *(",".join(s.base_url for s in servers), str(path), str(count), str(cap)),
            ],
            stdout=subprocess.DEVNULL,
        )
        while one.requests + other.requests < 24:
            assert worker.poll() is None
            time.sleep(0.005)
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
        for server in servers:
            server.wait_idle()
        before = one.requests + other.requests
        assert before < count
        teacher = pool(servers, budget_usd=cap, price={"input": 1, "output": 1}, max_tokens=20)
        examples = [
            Example(f"r{i}", {"premise": f"Premise {i}.", "hypothesis": "It is so."}, "neutral")
            for i in range(count)
        ]
        with Ledger(path) as ledger:
            done = ask(examples, teacher, ledger)
            assert done.counts["ok"] == count
            asked = one.counts.asked + other.counts.asked
            assert asked.total() <= count + 2 * 4  # in flight at the kill, at both
            tokens = 10 * asked.total()  # 7 of prompt and 3 of output, by the servers' own count
            assert tokens * 10**6 <= charged(ledger, "annotate") <= cap * 10**12
