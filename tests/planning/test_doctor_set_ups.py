"""`doctor` on broken set-ups: each has a finding that says what is wrong and what to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from openai_server.faults import Reply, error
from openai_server.server import Server
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from typer.testing import CliRunner

from tutelage.cli.doctor import app
from tutelage.core.storage import as_json
from tutelage.planning import doctor
from tutelage.planning.doctor import Finding, examine
from tutelage.teacher.ledger.store import Ledger, default_path

Make = Callable[..., dict[str, Any]]
PRICE = {"input": 1, "output": 4}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUTELAGE_LEDGER", str(tmp_path / "ledger.sqlite"))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-nobody-000")


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(models=("m", "other"), text="Because it rains.") as running:
        yield running


class Setup:
    """A recipe that works against `server`, and what a case changes in it."""

    def __init__(self, make: Make, folder: Path, server: Server, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.server, self.patch = folder, server, patch
        self.teacher: dict[str, Any] = {
            "model": "openai:m", "base_url": server.base_url, "max_tokens": 60, "price": PRICE,
            "budget_usd": 1,
        }  # fmt: skip
        self.values = make(
            arms=[{"name": "labels"}, {"name": "why", "strategy": "informed_reasoning"}]
        )
        self.text: str | None = None

    def answer(self, reply: Reply) -> None:
        """Let the server answer every request with this."""
        self.server._behave = lambda body, before: reply

    def examine(self) -> list[Finding]:
        path = self.folder / "recipe.yaml"
        text = yaml.safe_dump({**self.values, "teacher": self.teacher})
        path.write_text(text if self.text is None else self.text, encoding="utf-8")
        return examine(str(path))


@pytest.fixture
def setup(
    small_recipe: Make, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> Setup:
    return Setup(small_recipe, tmp_path, server, monkeypatch)


def page() -> Reply:
    return Reply(body=b"<html><title>Sign in</title></html>", content_type="text/html")


def cut_weights(setup: Setup) -> None:
    folder = setup.folder / "student"
    folder.mkdir()
    (folder / "config.json").write_text(
        '{"model_type": "t5", "d_model": 8, "d_ff": 8, "num_layers": 1, "num_heads": 1, "d_kv": 8,'
        ' "vocab_size": 10, "architectures": ["T5ForConditionalGeneration"]}',
        encoding="utf-8",
    )
    words = ("<pad>", "</s>", "<unk>", *["Oslo", "lies", "in", "Norway"])
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(WordLevel(vocabulary, "<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>",'
        ' "pad_token": "<pad>", "eos_token": "</s>"}',
        encoding="utf-8",
    )
    (folder / "model.safetensors").write_bytes((1000).to_bytes(8, "little") + b'{"a":')
    setup.values["student"]["model"] = str(folder)


def no_space(setup: Setup) -> None:
    usage = shutil.disk_usage(setup.folder)
    setup.patch.setattr(doctor.shutil, "disk_usage", lambda folder: usage._replace(free=10**6))


def unwritable(setup: Setup) -> None:
    def refuse(**_: Any) -> Any:
        raise OSError(30, "Read-only file system")

    setup.patch.setattr(doctor.tempfile, "TemporaryFile", refuse)


def file(setup: Setup, name: str, content: bytes) -> str:
    path = setup.folder / name
    path.write_bytes(content)
    return str(path)


# name: (what breaks, the finding's name, what it says, what to do)
CASES: dict[str, tuple[Callable[[Setup], Any], str, str, str]] = {
    "no key": (
        lambda s: (s.patch.delenv("OPENAI_API_KEY"), s.teacher.update(base_url=None)),
        "teacher", "no key", "set the environment variable OPENAI_API_KEY"),
    "wrong key": (lambda s: s.server.change(api_key="sk-other-0000"), "teacher", "refuses the key",
                  "OPENAI_API_KEY"),
    "dead server": (lambda s: s.teacher.update(base_url="http://127.0.0.1:9/v1"), "teacher",
                    "cannot connect", "check that the server runs"),
    "wrong path": (lambda s: s.teacher.update(base_url=s.server.base_url[:-3]), "teacher",
                   "404", "set teacher.base_url to"),
    "the endpoint in the address": (
        lambda s: s.teacher.update(base_url=s.server.base_url + "/chat/completions"), "teacher",
        "the endpoint is added", "leave out /chat/completions"),
    "no address": (lambda s: s.teacher.update(base_url="localhost:8000"), "teacher",
                   "expected an address", "did you mean"),
    "wrong model": (lambda s: s.teacher.update(model="openai:n"), "teacher", "does not serve",
                    "set teacher.model to one of these"),
    "no batches": (lambda s: (s.teacher.update(mode="batch"), s.server.change(batch_list=False)),
                 "batches", "has no batch API", "set mode: live"),
    "no credit": (lambda s: s.answer(error(400, "Your credit balance is too low.")), "teacher",
                  "credit balance", "correct that and run again"),
    "shut down": (lambda s: s.server.change(shutdown_date="2026-01-31"), "teacher",
                  "shut down since 2026-01-31", "name another model"),
    "a limit by the day": (
        lambda s: s.answer(error(429, "You have reached your daily limit of requests.")), "teacher",
        "daily limit", "run again then"),
    "a sign-in page": (lambda s: s.answer(page()), "teacher", "a web page", "sign-in page"),
    "a redirect": (
        lambda s: s.answer(Reply(status=302, body=b"", headers={"Location": "https://x.example/"})),
        "teacher", "a redirect to https://x.example/", "set teacher.base_url"),
    "a body of brackets": (lambda s: s.answer(Reply(body=b"[" * 10**5)), "teacher",
                           "row", "max_tokens|plan --pilot|see the reason"),
    "a refused parameter": (
        lambda s: (s.teacher.update(seed=1), s.server.change(refuses=("seed",))), "teacher",
        "seed", r"remove teacher\.seed"),
    "hidden reasoning": (lambda s: s.answer(Reply(text="", finish_reason="length")), "teacher",
                         "truncated", r"teacher\.max_tokens"),
    "a refusal": (lambda s: s.answer(Reply(text="", finish_reason="content_filter")), "teacher",
                  "refused", "plan --pilot"),
    "no price": (lambda s: s.teacher.pop("price"), "teacher", "no price", r"set it in dollars"),
    "no budget": (lambda s: s.teacher.update(budget_usd=0), "teacher", "budget_usd",
                  "set budget_usd to"),
    "no certificates": (lambda s: s.teacher.update(ca_file="none.pem"), "teacher", "ca_file",
                        "expected a PEM file"),
    "a header's variable": (lambda s: s.teacher.update(headers={"X": "${NOT_SET_HERE}"}), "teacher",
                            "NOT_SET_HERE is not set", "set it"),
    "unreadable data": (
        lambda s: s.values["data"].update(train=file(s, "t.jsonl", b'{"premise": "p"\n')), "data",
        "t.jsonl", "expected|JSON"),
    "no data": (lambda s: s.values["data"].update(train="gone.jsonl"), "data", "gone.jsonl",
                "no such file|check"),
    "data of another kind": (
        lambda s: s.values["data"].update(train=file(s, "t.jsonl", b"\xff\xfe\x00")), "data",
        "t.jsonl", "UTF-8|expected"),
    "truncated weights": (cut_weights, "student", "damaged|cannot be read", "again"),
    "no student": (lambda s: s.values["student"].update(model="./gone"), "student", "gone", "."),
    "a full disk": (no_space, "disk", "1 MB are free", "make room"),
    "a folder that cannot be written to": (unwritable, "disk", "Read-only", "permissions"),
    "no ledger": (lambda s: file(s, "ledger.sqlite", b"not a database" * 100), "ledger",
                  "not a readable ledger", "TUTELAGE_LEDGER"),
    "no YAML": (lambda s: setattr(s, "text", "name: [\n"), "recipe", "YAML", "."),
    "an unknown key": (lambda s: s.values.update(sedes=[1]), "recipe", "sedes", "did you mean"),
    "no model file": (lambda s: s.teacher.update(model="gguf:gone.gguf"), "teacher", "gone.gguf",
                      "."),
    "no model in the file": (
        lambda s: s.teacher.update(model="gguf:" + file(s, "m.gguf", b"GGUF\x03" + bytes(90))),
        "teacher", "m.gguf|cannot be checked", "check the file|correct that"),
    "no recorded answers": (lambda s: s.teacher.update(model="recorded:gone.jsonl#k"), "teacher",
                            "gone.jsonl", "check the path"),
    "another scheme": (lambda s: s.teacher.update(model="chatgpt:x"), "teacher", "expected one of",
                       "did you mean"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_broken_set_up_has_its_finding(name: str, setup: Setup) -> None:
    import re

    breaks, what, said, cure = CASES[name]
    breaks(setup)
    findings = setup.examine()
    wrong = [f for f in findings if f.status == "missing" and f.what.startswith(what)]
    assert wrong, [f for f in findings if f.status != "optional"]
    assert any(re.search(said, f.found) and re.search(cure, f.found) for f in wrong), wrong
    for finding in findings:
        assert "\n" not in finding.found and "Traceback" not in finding.found
        assert "sk-of-nobody-000" not in str(as_json(finding))


def test_nothing_is_fine_about_a_server_that_is_not_there(setup: Setup) -> None:
    CASES["dead server"][0](setup)
    found = [f for f in setup.examine() if f.what.startswith("teacher")]
    assert found and not [f for f in found if f.status == "ok"]


def test_a_working_set_up_shows_an_answer_and_pays_for_it_once(setup: Setup) -> None:
    setup.server.change(input_price=10**6, output_price=4 * 10**6)
    first = [f for f in setup.examine() if f.what.startswith("teacher")]
    assert [f.status for f in first] == ["ok", "ok"]
    assert "lists 2 models, this one among them" in first[0].found
    assert "answers 'Because it rains.'" in first[1].found and "$" in first[1].found
    assert setup.server.bodies[0]["max_tokens"] == 60
    with Ledger(default_path()) as ledger:
        assert len(ledger) == 1
    setup.examine()
    assert len(set(setup.server.prompts)) == setup.server.requests == 2  # another row


def test_a_model_that_ends_soon_is_warned_of(setup: Setup) -> None:
    setup.server.change(shutdown_date="2999-01-31")
    found = [f for f in setup.examine() if f.what.startswith("teacher")]
    assert {f.status for f in found} == {"ok"} and "from 2999-01-31 on" in found[1].found


def test_the_command_prints_findings_and_exits_with_1(setup: Setup) -> None:
    setup.teacher["base_url"] = "http://127.0.0.1:9/v1"
    setup.examine()
    done = CliRunner().invoke(app, [str(setup.folder / "recipe.yaml")])
    assert done.exit_code == 1 and "MISSING teacher openai:m" in done.output
    done = CliRunner().invoke(app, ["no-such-recipe.yaml"])
    assert done.exit_code == 1 and "MISSING recipe" in done.output
