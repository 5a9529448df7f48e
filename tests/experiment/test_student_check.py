"""The student is examined before the teacher is asked, once, and what is found is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tutelage.config.recipe_file import parse_recipe
from tutelage.core.errors import StudentError
from tutelage.core.progress import Silent
from tutelage.experiment.prepare import load_splits
from tutelage.experiment.run import run
from tutelage.experiment.student_check import check_student
from tutelage.student.preflight import examine

Make = Callable[..., dict[str, Any]]


class Noting(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, line: str) -> None:
        self.notes.append(line)


def _folder(place: Path, kind: str) -> str:
    """A tiny model of that kind, with a tokenizer of the synthetic rows' words."""
    import transformers

    from tutelage.data.synthetic import generate
    from tutelage.student.model.scratch import train_tokenizer

    train_tokenizer([" ".join(e.fields.values()) for e in generate(30, 1)], place)
    shape = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2}
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=500, num_hidden_layers=1, initializer_range=0.2, **shape
    )
    name = "BertForMaskedLM" if kind == "Bert" else f"{kind}ForCausalLM"
    getattr(transformers, name)(config).save_pretrained(place)
    return str(place)


def _recipe(small_recipe: Make, model: str) -> Any:
    values = small_recipe()
    values["student"]["model"] = model
    return parse_recipe(values)


def test_what_cannot_be_a_student_is_refused_before_the_teacher_is_asked(
    small_recipe: Make, tmp_path: Path
) -> None:
    recipe = _recipe(small_recipe, _folder(tmp_path / "bert", "Bert"))
    ledger = tmp_path / "ledger.sqlite"
    with pytest.raises(StudentError, match="bert model tokens see those after them") as one:
        run(recipe, runs=tmp_path / "runs", ledger=ledger, workers=1)
    assert "\n" not in str(one.value)
    assert not ledger.exists()


def test_a_student_is_examined_once_and_again_when_it_changes(
    small_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    right = examine.examine_student

    def counted(spec: str, *rest: Any) -> examine.Preflight:
        seen.append(spec)
        found = right(spec, *rest)
        return replace(found, notes=("a note",), fast="off")

    monkeypatch.setattr(examine, "examine_student", counted)
    model = _folder(tmp_path / "llama", "Llama")
    recipe = _recipe(small_recipe, model)
    splits, ledger = load_splits(recipe), tmp_path / "ledger.sqlite"
    for _ in range(2):
        observer = Noting()
        going_on = check_student(recipe, splits, ledger, observer)
        assert observer.notes == [f"student {model}: a note"]
        # What the fast parts would change is computed without them.
        assert going_on.student.fast == "off"
        assert going_on.student.model_copy(update={"fast": "auto"}) == recipe.student
    assert seen == [model]
    weights = tmp_path / "llama" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    check_student(recipe, splits, ledger, Noting())
    longer = recipe.student.model_copy(update={"max_source_tokens": 77})
    check_student(recipe.model_copy(update={"student": longer}), splits, ledger, Noting())
    assert seen == [model] * 3
    # What it does not see changes nothing: it is trained for longer, with other batches.
    more = longer.model_copy(update={"epochs": 9, "batch_size": 2, "evaluate_every": 7})
    check_student(recipe.model_copy(update={"student": more}), splits, ledger, Noting())
    assert seen == [model] * 3


def test_a_new_student_is_examined_too(small_recipe: Make, tmp_path: Path) -> None:
    recipe = parse_recipe(small_recipe())
    observer = Noting()
    assert check_student(recipe, load_splits(recipe), tmp_path / "l.sqlite", observer) == recipe
    assert observer.notes == []
