"""The preflight: what it accepts, what it notices, and that it notices code that is wrong."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from families import make_folder, named

from tutelage.config.training_settings import LoraSettings, TrainSettings
from tutelage.core.errors import StudentError
from tutelage.core.task import NLI
from tutelage.data.synthetic import generate as synthetic
from tutelage.student.encoding import batching, packing
from tutelage.student.inference import plain_scores, score, shared_scores
from tutelage.student.model import lora
from tutelage.student.model.student import Student
from tutelage.student.preflight.examine import Preflight, examine_student
from tutelage.student.preflight.plain_model import Reference
from tutelage.student.preflight.subject import reference_of

ROWS = synthetic(6, 3)
OBJECTIVES = ("label", "label_then_rationale", "multitask", "rationale_then_label")


def _settings(*objectives: str, **changes: Any) -> list[TrainSettings]:
    limits = {"max_source_tokens": 200, "max_rationale_tokens": 24, "precision": "fp32"}
    return [TrainSettings(**{**limits, "objective": o, **changes}) for o in objectives]


@pytest.fixture
def folder(tokenizer_folder: Path, tmp_path: Path) -> Callable[..., str]:
    def make(name: str, **changes: Any) -> str:
        return str(make_folder(named(name), tmp_path / name, tokenizer_folder, **changes))

    return make


def _examine(folder: str, *objectives: str, **changes: Any) -> Preflight:
    return examine_student(folder, ROWS, NLI, _settings(*(objectives or OBJECTIVES), **changes))


@pytest.mark.parametrize("name", ["T5", "Llama", "Gemma 3"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_sound_student_is_accepted(folder: Callable[..., str], name: str, precision: str) -> None:
    found = _examine(folder(name), precision=precision, lora=LoraSettings(rank=2))
    # How far two roundings to bf16 are apart depends on the processor.
    assert [note for note in found.notes if not note.startswith("in bf16 the scores")] == []
    assert precision == "bf16" or found.notes == ()
    assert found.fast == "auto"
    assert found.longest > 40
    assert found.parameters > 10_000


@pytest.mark.parametrize("name", ["T5", "BART", "Qwen 2"])
def test_a_recipe_of_labels_alone_needs_no_more_room(folder: Callable[..., str], name: str) -> None:
    assert _examine(folder(name), "label").notes == ()


def test_what_is_slower_is_said_once(folder: Callable[..., str]) -> None:
    found = _examine(folder("GPT-Neo"), "label_then_rationale", "multitask")
    assert [note for note in found.notes if "not packed" in note]
    assert len(found.notes) == len(set(found.notes))


def test_a_row_beyond_the_trained_positions_is_noted(folder: Callable[..., str]) -> None:
    (note,) = _examine(folder("Llama", max_position_embeddings=64), "label").notes
    assert "names 64 positions" in note


def test_a_target_without_positions_is_refused(folder: Callable[..., str]) -> None:
    with pytest.raises(StudentError, match=r"positions for 128 tokens.*max_rationale_tokens"):
        _examine(folder("GPT-2", n_positions=128), "label", "label_then_rationale")
    with pytest.raises(StudentError, match=r"positions for 20 tokens.*lower max_rationale_tokens"):
        examine_student(
            folder("LED", max_decoder_position_embeddings=20),
            ROWS,
            NLI,
            _settings("label_then_rationale"),
        )


def test_a_tokenizer_of_a_larger_model_is_refused(folder: Callable[..., str]) -> None:
    with pytest.raises(StudentError, match=r"only 60 embeddings.*different models"):
        _examine(folder("Llama", vocab_size=60), "label")


def test_weights_that_are_not_finite_are_refused(
    folder: Callable[..., str], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    place = folder("T5")
    path = Path(place) / "model.safetensors"
    weights = load_file(path)
    weights["shared.weight"][3, 4] = float("nan")
    save_file(weights, path, {"format": "pt"})
    with pytest.raises(StudentError, match=r"\(shared.weight\) that are not finite"):
        _examine(place, "label")


@pytest.mark.parametrize("name", ["Llama", "GPT-2"])
def test_a_mask_that_shows_a_branch_to_another_is_caught(
    folder: Callable[..., str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    right = packing.branch_mask

    def wrong(student: Any, owners: torch.Tensor, positions: torch.Tensor) -> Any:
        return right(student, owners.clamp(max=1), positions)

    for module in (packing, shared_scores):
        monkeypatch.setattr(module, "branch_mask", wrong)
    place = folder(name)
    found = _examine(place, "label_then_rationale", "multitask")
    assert [note for note in found.notes if "not packed" in note]
    monkeypatch.undo()
    assert _examine(place, "label_then_rationale", "multitask").notes == ()


def test_labels_at_another_position_are_caught(
    folder: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    add = batching._Targets.add

    def later(targets: Any, row: int, columns: Any, sequence: Any) -> None:
        add(targets, row, [max(column - 1, 0) for column in columns], sequence)

    monkeypatch.setattr(batching._Targets, "add", later)
    for name in ("T5", "Llama"):
        with pytest.raises(StudentError, match="its loss"):
            _examine(folder(name), "label")


def test_scores_at_another_position_are_caught(
    folder: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong in the ways that are compared with each other, so that they agree."""
    right = plain_scores.score_plainly

    def wrong(student: Any, sources: Any, labels: Any, prefixes: Any = None) -> torch.Tensor:
        return right(student, [s[:-1] for s in sources], labels, prefixes)

    monkeypatch.setattr(plain_scores, "score_plainly", wrong)
    monkeypatch.setitem(score._WAYS, "batched", wrong)  # type: ignore[arg-type]
    with pytest.raises(StudentError, match="the scores of its labels"):
        _examine(folder("GPT-Neo"), "label")


def test_a_fast_way_that_is_wrong_is_not_taken(
    folder: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = shared_scores.score_with_cache
    monkeypatch.setitem(score._WAYS, "fast", lambda *given: right(*given).flip(1))
    (note,) = _examine(folder("T5"), "label", "label_then_rationale").notes
    assert "scored one by one" in note


def test_the_plain_model_encodes_a_source_once_where_that_changes_nothing(
    encoder_decoder: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[Any] = []
    encoder_decoder.model.eval()
    encoder_decoder.model.get_encoder().register_forward_hook(lambda *given: runs.append(given))
    reference = reference_of(encoder_decoder)
    sources, targets = [[5, 6, 7, 8], [9, 10]], [[3, 4], [5], [6, 7]]
    shared = reference.scores(sources, targets)
    assert len(runs) == len(sources)
    monkeypatch.setattr(Reference, "_repeats", lambda *_: False)
    apart = reference.scores(sources, targets)
    assert len(runs) == len(sources) + len(sources) * len(targets)
    torch.testing.assert_close(shared, apart)


@pytest.mark.parametrize("name", ["T5", "Llama", "GPT-2"])
def test_a_wrong_merge_of_adapters_is_caught(
    folder: Callable[..., str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def unscaled(layer: Any) -> Any:
        base = copy.deepcopy(layer.base_layer)
        a, b = (part["default"].weight for part in (layer.lora_A, layer.lora_B))
        change = (b @ a).T if layer.fan_in_fan_out else b @ a
        base.weight = torch.nn.Parameter((base.weight + change).detach())  # without alpha / rank
        return base

    monkeypatch.setattr(lora, "_merged", unscaled)
    with pytest.raises(StudentError, match="merged adapters"):
        _examine(folder(name), "label_then_rationale", lora=LoraSettings(rank=2))


@pytest.mark.parametrize("name", ["Mamba", "Qwen 3 MoE", "Mixtral"])
def test_adapters_without_named_layers_work_for_every_student(
    folder: Callable[..., str], name: str
) -> None:
    assert _examine(folder(name), "label", lora=LoraSettings(rank=2)).parameters


def test_a_refusal_is_one_line_that_names_the_student(folder: Callable[..., str]) -> None:
    with pytest.raises(StudentError) as caught:
        _examine(folder("BERT"), "label")
    assert "BERT" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_keep_their_own_limits(folder: Callable[..., str]) -> None:
    short = [s.replace(max_source_tokens=24) for s in _settings("label")]
    long = [replace(e, fields={**e.fields, "premise": e.fields["premise"] * 20}) for e in ROWS]
    assert examine_student(folder("Llama"), long, NLI, short).longest == 24
