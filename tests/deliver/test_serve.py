"""An exported model over HTTP: its answers, its limits, and what it does with hostile clients."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from serving_app import Served, serving
from students import ROWS, TASK, Made

from tutelage import Student

ROW = dict(ROWS[5].fields)
LONG = {"note": "the red door is near a window and a lamp " * 20, "claim": "the door is red"}


@pytest.fixture(scope="module")
def folder(made: Callable[[str], Made]) -> Path:
    return made("t5").export.folder


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Served]:
    with serving(folder, threshold=0.4, max_rows=20, max_explained=3) as found:
        yield found


def test_one_row_and_many_are_answered_as_predict_answers(served: Served, folder: Path) -> None:
    rows = [dict(e.fields) for e in ROWS[:12]] + [LONG]
    wanted = Student.load(folder).predict(rows)
    status, _, many = served.predict({"rows": rows})
    assert status == 200
    for answer, prediction in zip(many["predictions"], wanted, strict=True):
        assert answer["label"] == prediction.label
        assert answer["probabilities"] == pytest.approx(dict(prediction.probabilities), abs=1e-5)
        assert answer["cut_tokens"] == prediction.cut_tokens
        highest = max(prediction.probabilities.values())
        assert answer["trusted"] is (highest >= 0.4)
        assert answer["rationale"] is None
    assert many["predictions"][-1]["cut_tokens"] > 100
    record = Student.load(folder).record
    assert many["model"] == {
        "sha256": record.weights_sha256,
        "engine": "openvino",
        "precision": "f32",
        "temperature": record.temperature,
        "threshold": 0.4,
    }
    one = served.predict({"row": rows[0]})[2]
    first = many["predictions"][0]
    assert one["prediction"]["label"] == first["label"] and one["model"] == many["model"]
    assert one["prediction"]["probabilities"] == pytest.approx(first["probabilities"], abs=1e-5)


def test_rationales_are_written_on_request(served: Served, folder: Path) -> None:
    (wanted,) = Student.load(folder).predict([ROW], explain=True)
    answer = served.predict({"row": ROW, "explain": True})[2]["prediction"]
    assert answer["rationale"] == wanted.rationale


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"{", 422, "not valid JSON"),
        (b'{"row": {}, "row": {}}', 422, "'row' is there twice"),
        (b'{"row": {"premise": "a", "premise": "b"}}', 422, "'premise' is there twice"),
        (b'{"row": "\xff"}', 422, "not UTF-8 (byte 9)"),
        (b"[" * 200_000, 422, "JSON|nested"),
        (b"[]", 422, "got an empty list, expected an object"),
        (b"null", 422, "got null"),
        ({}, 422, "either row (an object) or rows"),
        ({"row": ROW, "rows": [ROW]}, 422, "either row"),
        ({"rows": []}, 422, "got an empty list"),
        ({"rows": ROW}, 422, "got an object, expected a list"),
        ({"rows": [ROW] * 21}, 413, "got 21, at most 20"),
        ({"rows": [ROW] * 4, "explain": True}, 413, "got 4, at most 3 are taken with explain"),
        ({"row": [1]}, 422, "row: got a list, expected an object with 'note', 'claim'"),
        ({"row": {"note": "a"}}, 422, "field 'claim' is missing"),
        ({"rows": [ROW, {**ROW, "claim": 3}]}, 422, "rows[1].claim: got a number, expected a text"),
        ({"row": {**ROW, "claim": " "}}, 422, "row.claim: is empty"),
        ({"row": {**ROW, "more": "x"}}, 422, "unknown field 'more'"),
        ({"row": ROW, "explain": "yes"}, 422, "explain: got a text"),
        ({"row": ROW, "x" * 500: 1}, 422, "unknown key"),
        (b'{"row": {"note": "\\ud800", "claim": "a"}}', 422, "half of a character"),
        ({"row": {**ROW, "note": "a" * 50_001}}, 413, "has 50,001 characters, at most 50,000"),
        (b" " * 1_000_001, 413, "more than 1,000,000 bytes"),
        (b'{"row": NaN}', 422, "got a number"),
    ],
)
def test_a_body_that_is_not_taken_is_explained(
    served: Served, body: Any, status: int, says: str
) -> None:
    found, _, answer = served.predict(body)
    assert found == status
    assert any(part in answer["detail"] for part in says.split("|")), answer
    assert len(answer["detail"]) < 400


def test_other_content_methods_and_paths_are_refused(served: Served) -> None:
    assert served.call("POST", "/predict", b"{}", {"content-type": "text/plain"})[0] == 415
    assert served.call("GET", "/predict")[0] == 405
    assert served.call("GET", "/../../etc/passwd")[0] == 404
    answer = served.predict({"row": ROW}, origin="https://evil.example")
    assert "access-control-allow-origin" not in answer[1]  # no other site's page may read it


def test_a_chunked_body_is_cut_off_at_the_limit(served: Served) -> None:
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    head = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    head += b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    assert served.raw(head + chunk * 17 + b"0\r\n\r\n").startswith(b"HTTP/1.1 413")


def test_health_metrics_description_and_log(served: Served) -> None:
    before = len(served.lines())
    assert served.call("GET", "/healthz")[2] == {"status": "ok"}
    assert served.call("GET", "/readyz")[2] == {"status": "ready"}
    served.predict({"rows": [ROW, LONG]})
    served.call("GET", "/no/such/path")
    text = served.call("GET", "/metrics")[2]
    assert 'tutelage_requests_total{path="/predict",status="200"}' in text
    assert 'tutelage_requests_total{path="other",status="404"}' in text
    assert "/no/such/path" not in text
    described = served.call("GET", "/openapi.json")[2]
    assert set(described["paths"]) >= {"/predict", "/info", "/healthz", "/readyz", "/metrics"}
    docs = served.call("GET", "/docs")
    assert "POST /predict" in docs[2] and "http" not in docs[2].lower().replace("/openapi", "")
    lines = served.lines(before + 3)[before:]
    assert [(line["path"], line["status"]) for line in lines][:3] == [
        ("/healthz", 200), ("/readyz", 200), ("/predict", 200),
    ]  # fmt: skip
    predicted = lines[2]
    assert (predicted["rows"], predicted["cut_rows"]) == (2, 1)
    assert "lamp" not in json.dumps(lines)  # no text of a request is kept


def test_texts_are_logged_only_where_asked(folder: Path) -> None:
    with serving(folder, log_texts=True) as served:
        served.predict({"row": ROW})
        assert served.lines(1)[0]["texts"] == [ROW]


def test_the_token_is_needed_where_it_is_set(folder: Path) -> None:
    with serving(folder, token="secret-ä") as served:
        right = "Bearer secret-ä".encode().decode("latin-1")
        assert served.predict({"row": ROW})[0] == 401
        assert served.predict({"row": ROW})[1]["www-authenticate"] == "Bearer"
        for wrong in ("Bearer secret", "Bearer ", "secret-a", right + "x", "Basic c2VjcmV0"):
            assert served.predict({"row": ROW}, authorization=wrong)[0] == 401
        for path in ("/info", "/metrics", "/openapi.json", "/docs", "/nothing"):
            assert served.call("GET", path)[0] == 401
        assert served.predict({"row": ROW}, authorization=right)[0] == 200
        assert served.call("GET", "/healthz")[0] == 200
        assert served.call("GET", "/readyz")[0] == 200


def test_named_origins_may_call(folder: Path) -> None:
    with serving(folder, cors_origins=["https://ours.example"]) as served:
        ours = served.predict({"row": ROW}, origin="https://ours.example")[1]
        assert ours["access-control-allow-origin"] == "https://ours.example"
        theirs = served.predict({"row": ROW}, origin="https://evil.example")[1]
        assert "access-control-allow-origin" not in theirs


def test_a_full_queue_refuses_and_says_when_to_come_again(folder: Path) -> None:
    with serving(folder, queue_rows=40, max_rows=30) as served:
        model = served.app.state
        assert model is not None
        body = {"rows": [dict(e.fields) for e in ROWS[:30]]}
        with ThreadPoolExecutor(12) as pool:
            found = list(pool.map(lambda _: served.predict(body), range(24)))
        statuses = {status for status, _, _ in found}
        assert statuses == {200, 429}
        for status, headers, answer in found:
            if status == 429:
                assert int(headers["retry-after"]) >= 1 and "try again" in answer["detail"]
        # Nothing stays behind: afterwards it takes requests again.
        assert served.predict(body)[0] == 200
        assert "tutelage_waiting_rows 0.0" in served.call("GET", "/metrics")[2]


def test_rows_of_many_clients_share_batches(folder: Path) -> None:
    with serving(folder) as served:
        rows = [dict(e.fields) for e in ROWS]
        with ThreadPoolExecutor(20) as pool:
            found = list(pool.map(lambda row: served.predict({"row": row})[2], rows * 3))
        wanted = Student.load(folder).predict(rows)
        for answer, prediction in zip(found, [*wanted] * 3, strict=True):
            assert answer["prediction"]["label"] == prediction.label
        text = served.call("GET", "/metrics")[2]
        batches = float(text.split("tutelage_batch_rows_count ")[1].split()[0])
        assert float(text.split("tutelage_batch_rows_sum ")[1].split()[0]) == 120
        assert batches < 120


def test_slow_and_half_open_clients_are_cut_off_while_others_are_answered(folder: Path) -> None:
    with serving(folder, receive_seconds=1.0) as served:
        head = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        starts = [b"", b"POST /pre", head, head + b"content-length: 90\r\n\r\n{"]
        slow = []
        for number in range(60):
            connection = socket.create_connection(("127.0.0.1", served.port), timeout=20)
            connection.sendall(starts[number % 4])
            slow.append(connection)
        begun = time.monotonic()
        open_ones = list(slow)
        ends: dict[int, bytes] = {}
        while open_ones and time.monotonic() - begun < 10:
            assert served.call("GET", "/healthz")[0] == 200
            for connection in list(open_ones):
                try:
                    connection.sendall(b"a")  # a byte, again and again
                except OSError:
                    open_ones.remove(connection)
                    continue
                connection.setblocking(False)
                try:
                    part = connection.recv(9999)
                    ends[slow.index(connection)] = ends.get(slow.index(connection), b"") + part
                    if not part:
                        open_ones.remove(connection)
                except BlockingIOError:
                    pass
                except OSError:
                    open_ones.remove(connection)
                finally:
                    connection.setblocking(True)
            time.sleep(0.1)
        assert not open_ones and time.monotonic() - begun < 6
        assert any(end.startswith(b"HTTP/1.1 408") for end in ends.values())
        for connection in slow:
            connection.close()
        assert served.predict({"row": ROW})[0] == 200


def test_an_idle_or_slowly_used_connection_is_not_cut_off_between_requests(folder: Path) -> None:
    from http.client import HTTPConnection

    with serving(folder, receive_seconds=0.4) as served:
        connection = HTTPConnection("127.0.0.1", served.port, timeout=20)
        for _ in range(3):
            connection.request(
                "POST", "/predict", json.dumps({"row": ROW}), {"content-type": "application/json"}
            )
            answer = connection.getresponse()
            assert answer.status == 200
            answer.read()
            time.sleep(0.6)
        connection.close()


def test_garbage_is_refused(served: Served) -> None:
    for garbage in (
        b"\x00\xff\r\n\r\n",
        b"GET\r\n\r\n",
        b"POST / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01",
    ):
        found = served.raw(garbage + b"\r\n\r\n")
        assert found == b"" or found.startswith(b"HTTP/1.1 4")
    assert served.call("GET", "/healthz")[0] == 200


def test_sigterm_lets_a_request_finish(folder: Path) -> None:
    command = [sys.executable, "-c", "from tutelage.cli.main import main; main()"]
    process = subprocess.Popen(
        [*command, "serve", str(folder), "--port", "0", "--shutdown-seconds", "10"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TUTELAGE_TOKEN": "abc"},
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    port = int(line.split("http://127.0.0.1:")[1].split(" ")[0])
    found = Served(port, None, None, None)  # type: ignore[arg-type]
    assert found.predict({"row": ROW})[0] == 401
    answers: list[int] = []
    body = {"rows": [LONG] * 200}

    def ask() -> None:
        answers.append(found.predict(body, authorization="Bearer abc")[0])

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.15)
    process.send_signal(signal.SIGTERM)
    asking.join(30)
    assert process.wait(30) in (0, -signal.SIGTERM)
    assert answers == [200]


def test_the_task_is_described_to_the_page(served: Served) -> None:
    said = served.call("GET", "/info")[2]
    assert said["task"] == {
        "name": "rooms", "fields": list(TASK.fields), "labels": list(TASK.labels),
    }  # fmt: skip
    assert said["examples"][0] == dict(ROWS[0].fields)
    policy = served.call("GET", "/")[1]["content-security-policy"]
    assert "default-src 'none'" in policy
