"""The audit gives the numbers that the run's results.json has later."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tutelage.config.recipe import Recipe
from tutelage.config.recipe_file import parse_recipe
from tutelage.config.training_settings import TrainSettings
from tutelage.core.errors import DataError
from tutelage.core.progress import Silent
from tutelage.experiment.prepare import annotate_recipe
from tutelage.experiment.run import run
from tutelage.planning.audit import audit_file, audit_recipe
from tutelage.student.encoding.token_lengths import Cut

Make = Callable[..., dict[str, Any]]


@pytest.fixture
def recipe(small_recipe: Make) -> Recipe:
    """Inputs and rationales of up to about 45 and 40 tokens, in windows of 26 and 16."""
    values = small_recipe(search={"learning_rate": [3e-3], "label_weight": [0.3]}, seeds=[0, 1])
    values["student"].update(epochs=1, max_source_tokens=26, max_rationale_tokens=16)
    return parse_recipe(values)


def test_the_run_counts_what_the_audit_counted(recipe: Recipe, tmp_path: Path) -> None:
    annotate_recipe(recipe, tmp_path / "runs", tmp_path / "ledger.sqlite", Silent())
    before = sorted(tmp_path.rglob("*"))
    audit = audit_recipe(recipe, tmp_path / "runs", Silent())
    assert sorted(tmp_path.rglob("*")) == before  # it writes nothing
    assert audit.notes == ()
    assert (audit.student, audit.architecture) == ("scratch:t5-tiny", "encoder-decoder")

    done = run(recipe, runs=tmp_path / "runs", ledger=tmp_path / "ledger.sqlite", workers=1)
    cut = {split.name: split.cut for split in audit.splits}
    assert list(cut) == ["train", "dev", "test"]
    for found, arm in zip(audit.arms, done.results.arms, strict=True):
        counted = arm.training
        assert (found.name, found.objective, found.rows) == (arm.name, arm.objective, 90)
        assert found.sources == cut["train"]
        assert found.sources == Cut(
            26,
            counted.truncated_sources,
            counted.source_tokens_cut,
            counted.sources_cut_beyond,
        )
        assert found.rationales == Cut(16, counted.truncated_targets, counted.target_tokens_cut)
        assert found.rationale.count == counted.with_rationale
        for name, found_on in (("dev", arm.dev), ("test", arm.test)):
            assert cut[name] == Cut(
                26, found_on.truncated, found_on.tokens_cut, found_on.cut_beyond
            )
    assert cut["train"].rows > 40
    assert cut["test"].tokens > cut["test"].rows > 20
    assert audit.arms[1].rationales.tokens > audit.arms[1].rationales.rows > 20


def test_missing_rationales_are_reported(recipe: Recipe, tmp_path: Path) -> None:
    audit = audit_recipe(recipe, tmp_path, Silent())
    assert [arm.name for arm in audit.arms] == ["labels"]
    assert [split.rows for split in audit.splits] == [90, 30, 45]
    missing, tokenizer = audit.notes
    assert "reasoning, reasoning-shuffled" in missing
    assert "tutelage annotate" in missing
    assert "tokenizer" in tokenizer


def test_inputs_that_lose_more_than_the_first_field_are_counted(
    small_recipe: Make, tmp_path: Path
) -> None:
    values = small_recipe()
    values["student"]["max_source_tokens"] = 8
    audit = audit_recipe(parse_recipe(values), tmp_path, Silent())
    for split in audit.splits:
        assert 0 < split.cut.rows_beyond <= split.cut.rows == split.rows


def test_a_file_with_the_rationales_of_other_rows(recipe: Recipe, tmp_path: Path) -> None:
    annotate_recipe(recipe, tmp_path, tmp_path / "ledger.sqlite", Silent())
    rationales = tmp_path / "small" / "rationales" / "reasoning.jsonl"

    def audit(data: str) -> Any:
        return audit_file(data, rationales, "scratch:t5-tiny", TrainSettings(), Silent())

    found = audit("synthetic:nli?n=90&seed=1")
    assert (found.arms[0].rationale.count, found.notes) == (90, ())
    with pytest.raises(DataError, match="belong to no training example"):
        audit("synthetic:nli?n=90&seed=8")
