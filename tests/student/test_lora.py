from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tutelage.config.recipe_file import parse_recipe
from tutelage.config.training_settings import LoraSettings, TrainSettings
from tutelage.core.errors import StudentError
from tutelage.core.results import load_results
from tutelage.core.task import NLI
from tutelage.core.types import Prediction, Rationale
from tutelage.data.synthetic import generate
from tutelage.experiment.run import run
from tutelage.student.encoding.batching import collate
from tutelage.student.encoding.targets import build_training_examples
from tutelage.student.encoding.tokenise import encode_examples
from tutelage.student.inference.explain import explain
from tutelage.student.inference.score import score_labels
from tutelage.student.model.loading import load_student
from tutelage.student.model.lora import Adapters, check_targets, merge_for_good
from tutelage.student.model.precision import Optimizer, prepare
from tutelage.student.model.student import Student
from tutelage.student.training.loss import target_logits
from tutelage.student.training.trainer import train

TRAIN, DEV = generate(48, 1), generate(16, 2)
ROWS = build_training_examples(
    TRAIN,
    NLI,
    [Rationale(e.uid, "human", e.reason or "", "ok") for e in TRAIN],
    "label_then_rationale",
)
LORA = LoraSettings(rank=4, alpha=8.0, dropout=0.1)
SETTINGS = TrainSettings(
    learning_rate=2e-2,
    label_weight=0.3,
    epochs=2,
    batch_size=8,
    warmup_steps=2,
    evaluate_every=4,
    tokens_per_micro_batch=600,
    max_source_tokens=24,
    max_rationale_tokens=16,
    precision="fp32",
    lora=LORA,
)


class Killed(Exception):
    pass


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def folder_of(student: Student, tmp_path: Path) -> str:
    """The student of either architecture, saved: each training here starts from it."""
    student.save(tmp_path / "start")
    return str(tmp_path / "start")


def _adapted(student: Student, precision: str = "fp32") -> Adapters:
    """Adapters that have learnt something: their B is no longer zero."""
    prepare(student, precision)
    adapters = Adapters(student, LORA, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in student.model.named_parameters():
            if ".lora_B." in name:
                weight.copy_(0.1 * torch.randn(weight.shape, generator=generator))
    student.model.eval()
    return adapters


def _logits(student: Student) -> torch.Tensor:
    rows = encode_examples(student, ROWS[:8], max_source_tokens=64, max_rationale_tokens=16)
    with torch.no_grad():
        return target_logits(student, collate(student, rows)).float()


def _log(folder: Path) -> list[dict[str, float]]:
    return [
        json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    ]


def _train_then_kill(student: Student, folder: Path, stop: int, settings: TrainSettings) -> None:
    def kill(step: int, total: int) -> None:
        if step == stop:
            raise Killed

    with pytest.raises(Killed):
        train(student, ROWS, DEV, NLI, settings, folder, kill)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_only_the_adapters_change(student: Student, precision: str, tmp_path: Path) -> None:
    prepare(student, precision)
    before = {name: weight.clone() for name, weight in student.model.state_dict().items()}
    # Killed between two evaluations on dev: the adapters are still in place.
    settings = SETTINGS.replace(precision=precision, evaluate_every=2)
    _train_then_kill(student, tmp_path, 3, settings)
    learnt = 0
    for name, weight in student.model.named_parameters():
        if weight.requires_grad:
            assert ".lora_" in name
            learnt += ".lora_B." in name and bool(weight.any())
        else:
            assert torch.equal(weight, before[name.replace(".base_layer", "")])
    assert learnt == sum(".lora_B." in name for name, _ in student.model.named_parameters())
    assert student.model.get_input_embeddings().weight is student.model.lm_head.weight


def test_merged_in_fp32_the_model_computes_the_same(student: Student) -> None:
    plain = _logits(student)
    adapters = _adapted(student)
    adapted = _logits(student)
    with adapters.merged():
        merged = _logits(student)
    assert (adapted - plain).abs().max() > 0.5  # the adapters change the logits
    torch.testing.assert_close(merged, adapted, rtol=1e-4, atol=1e-4)


def test_merged_for_good_it_is_the_model_that_is_evaluated_and_saved(
    student: Student, tmp_path: Path
) -> None:
    adapters = _adapted(student)
    with adapters.merged():
        merged = _logits(student)
    merge_for_good(student.model)
    assert not any("lora" in name for name, _ in student.model.named_parameters())
    assert torch.equal(_logits(student), merged)
    student.save(tmp_path / "saved")
    again = _logits(load_student(str(tmp_path / "saved")))
    torch.testing.assert_close(again, merged, rtol=1e-4, atol=1e-5)


def test_merged_in_bf16_the_model_differs_by_rounding_only(student: Student) -> None:
    plain = score_labels(student, DEV, NLI)
    adapters = _adapted(student, "bf16")
    adapted = score_labels(student, DEV, NLI)
    with adapters.merged():
        assert student.model.dtype == torch.bfloat16
        merged = score_labels(student, DEV, NLI)

    def largest(ones: list[Prediction], others: list[Prediction]) -> float:
        pairs = zip(ones, others, strict=True)
        return max(
            abs(a.probabilities[k] - b.probabilities[k]) for a, b in pairs for k in NLI.labels
        )

    assert largest(adapted, plain) > 0.15
    # W + s B A is rounded once more, to eight bits, and so are its products.
    assert largest(adapted, merged) < 0.05


def test_merging_is_exact_up_to_one_rounding(student: Student) -> None:
    adapters = _adapted(student, "bf16")
    parts = {name: weight.detach() for name, weight in student.model.named_parameters()}
    stems = [name.removesuffix(".base_layer.weight") for name in parts if ".base_layer." in name]
    assert stems
    with adapters.merged():
        for stem in stems:
            a, b = (parts[f"{stem}.lora_{half}.default.weight"].double() for half in "AB")
            whole = parts[f"{stem}.base_layer.weight"].double() + LORA.alpha / LORA.rank * b @ a
            merged = student.model.get_parameter(f"{stem}.weight")
            torch.testing.assert_close(merged.double(), whole, rtol=2**-8, atol=1e-6)


def test_a_layer_that_keeps_its_weights_transposed_is_merged(tokenizer_folder: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(tokenizer_folder)
    torch.manual_seed(0)
    shape = GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=1, n_head=2, n_positions=256)
    student = Student(GPT2LMHeadModel(shape), tokenizer, "decoder-only")
    student.model.eval()
    plain = _logits(student)
    adapters = _adapted(student)
    adapted = _logits(student)
    with adapters.merged():
        merged = _logits(student)
    assert (adapted - plain).abs().max() > 0.1
    torch.testing.assert_close(merged, adapted, rtol=1e-4, atol=1e-4)


def test_merging_leaves_the_weights_under_training_alone(student: Student) -> None:
    adapters = _adapted(student, "bf16")
    weights = list(student.model.named_parameters())
    before = [weight.detach().clone() for _, weight in weights]
    with pytest.raises(Killed), adapters.merged():
        assert not any("lora" in name for name, _ in student.model.named_parameters())
        raise Killed
    after = list(student.model.named_parameters())
    assert [name for name, _ in after] == [name for name, _ in weights]
    for (_, weight), (_, now), value in zip(weights, after, before, strict=True):
        assert now is weight
        assert torch.equal(now, value)


def test_the_head_still_runs_at_target_positions_only(student: Student) -> None:
    _adapted(student)
    assert student.head_can_be_narrowed


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_checkpoint_is_a_plain_model(
    folder_of: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = load_student(folder_of)
    settings = SETTINGS.replace(precision=precision, epochs=4, evaluate_every=12)
    result = train(student, ROWS, DEV, NLI, settings, tmp_path / "run")
    losses = [line["loss"] for line in _log(tmp_path / "run") if "loss" in line]
    assert losses[-1] < losses[0] - 0.5
    model = tmp_path / "run" / "model"
    saved, start = (load_file(Path(f) / "model.safetensors") for f in (model, folder_of))
    assert saved.keys() == start.keys()
    assert {w.dtype for w in saved.values()} == {student.model.dtype}
    assert any(
        not torch.equal(saved[n].float(), start[n].to(saved[n].dtype).float()) for n in saved
    )
    plain = {p.name for p in Path(folder_of).iterdir()}
    assert {p.name for p in model.iterdir()} == {*plain, "tutelage.json"}
    # The student in memory equals the checkpoint, and so does one loaded without peft.
    monkeypatch.setitem(sys.modules, "peft", None)
    again = load_student(str(model))
    prepare(again, precision)
    assert {n for n, _ in again.model.named_parameters()} == {
        n for n, w in student.model.named_parameters() if w.requires_grad
    }
    left = score_labels(student, DEV, NLI, **settings.inference_limits)
    assert left == score_labels(again, DEV, NLI, **settings.inference_limits)
    assert sum(p.label == p.gold for p in left) / len(DEV) == result.dev_accuracy
    assert explain(student, DEV[:2], left[:2], NLI, max_rationale_tokens=8) == explain(
        again, DEV[:2], left[:2], NLI, max_rationale_tokens=8
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_interrupted_run_ends_bit_equal(folder_of: str, precision: str, tmp_path: Path) -> None:
    settings = SETTINGS.replace(precision=precision, max_steps=4, evaluate_every=2)
    whole = train(load_student(folder_of), ROWS, DEV, NLI, settings, tmp_path / "whole")
    _train_then_kill(load_student(folder_of), tmp_path / "parts", 3, settings)
    torch.manual_seed(99)  # must not matter
    steps: list[int] = []
    parts = train(
        load_student(folder_of),
        *(ROWS, DEV, NLI, settings, tmp_path / "parts"),
        lambda step, _: steps.append(step),
    )
    assert steps[0] == 3
    assert replace(parts, seconds=0) == replace(whole, seconds=0)
    assert _log(tmp_path / "parts") == _log(tmp_path / "whole")
    one, other = (load_file(tmp_path / f / "model/model.safetensors") for f in ("whole", "parts"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_state_holds_only_the_adapters(folder_of: str, tmp_path: Path) -> None:
    sizes = {}
    for name, lora in (("full", None), ("lora", LoraSettings(rank=1))):
        student = load_student(folder_of)
        settings = SETTINGS.replace(lora=lora, evaluate_every=2)
        _train_then_kill(student, tmp_path / name, 3, settings)
        state = torch.load(tmp_path / name / "state.pt", weights_only=True)
        weights = [w for w in student.model.parameters() if w.requires_grad]
        masters = state["optimizer"]["masters"]
        assert [m.shape for m in masters] == [w.shape for w in weights]
        sizes[name] = sum(m.numel() for m in masters), (tmp_path / name / "state.pt").stat().st_size
    assert sizes["lora"][0] < sizes["full"][0] / 15
    assert (
        sizes["lora"][1] < sizes["full"][1] / 3
    )  # a tiny model's state is mostly names and headers


def test_adapters_in_bf16_have_fp32_masters(decoder_only: Student) -> None:
    adapters = _adapted(decoder_only, "bf16")
    optimizer = Optimizer(decoder_only, learning_rate=1e-5, weight_decay=0.0)
    assert {w.dtype for w in optimizer.weights} == {torch.bfloat16}
    assert {m.dtype for m in optimizer.masters} == {torch.float32}
    adapters.remove()
    assert not any("lora" in name for name, _ in decoder_only.model.named_modules())
    assert all(w.requires_grad for w in decoder_only.model.parameters())


def test_only_the_seed_decides_the_adapters_initial_values(folder_of: str) -> None:
    def begin(seed: int, before: int) -> list[torch.Tensor]:
        student = load_student(folder_of)
        torch.manual_seed(before)
        Adapters(student, LORA, seed)
        return [w for n, w in student.model.named_parameters() if ".lora_A." in n]

    first, same, other = begin(3, 0), begin(3, 1), begin(4, 0)
    assert all(torch.equal(a, b) for a, b in zip(first, same, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_target_modules_are_ends_of_names(decoder_only: Student) -> None:
    Adapters(decoder_only, LORA.replace(target_modules=("q_proj", "layers.1.mlp.up_proj")), 0)
    adapted = {n for n, m in decoder_only.model.named_modules() if hasattr(m, "lora_A")}
    layers = "model.layers"
    assert adapted == {f"{layers}.{i}.self_attn.q_proj" for i in (0, 1)} | {
        f"{layers}.1.mlp.up_proj"
    }


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ["q_prj", "proj", "embed_tokens", "lm_head", "mlp"])
def test_a_missing_layer_is_reported_in_one_line(
    decoder_only: Student, name: str, tied: bool
) -> None:
    if not tied:
        head = decoder_only.model.lm_head
        head.weight = torch.nn.Parameter(head.weight.detach().clone())
    with pytest.raises(StudentError) as caught:
        Adapters(decoder_only, LORA.replace(target_modules=("v_proj", name)), 0)
    assert str(caught.value) == (
        f"lora.target_modules: got '{name}', expected linear layers of this student: down_proj, "
        "gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj; without the key all of them are "
        "adapted"
    )


def _recipe(small_recipe: Callable[..., dict[str, Any]], **student: Any) -> dict[str, Any]:
    values = small_recipe(seeds=[0], search={"learning_rate": [1e-2], "label_weight": [0.3]})
    values["arms"] = values["arms"][:2]
    values["student"] |= student
    return values


def test_a_misspelt_layer_is_reported_before_the_teacher_is_called(
    small_recipe: Callable[..., dict[str, Any]], decoder_only: Student, tmp_path: Path
) -> None:
    decoder_only.save(tmp_path / "llama")
    lora = {"target_modules": ["q_proj", "v_prj"]}
    values = _recipe(small_recipe, model=str(tmp_path / "llama"), lora=lora)
    ledger = tmp_path / "ledger.sqlite"
    with pytest.raises(StudentError, match=r"got 'v_prj', expected .*q_proj.* v_proj"):
        run(parse_recipe(values), runs=tmp_path / "runs", ledger=ledger, workers=1)
    assert not ledger.exists()
    check_targets(str(tmp_path / "llama"), LoraSettings(target_modules=("q_proj",)))


def test_a_whole_experiment_with_adapters(
    small_recipe: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    recipe = parse_recipe(_recipe(small_recipe, lora={"rank": 4, "target_modules": ["q", "wo"]}))
    done = run(recipe, runs=tmp_path, ledger=tmp_path / "ledger.sqlite", workers=1)
    results = load_results(done.folder / "results.json")
    assert results.finished
    assert [arm.name for arm in results.arms] == ["labels", "reasoning"]
    assert all(arm.test.n == 45 for arm in results.arms)
    assert results.student.settings["lora"]["target_modules"] == ["q", "wo"]
    models = list(done.folder.glob("arms/*/*/seed-0/model/model.safetensors"))
    assert len(models) == 2
    one, other = (load_file(path) for path in models)
    changed = {name for name in one if not torch.equal(one[name], other[name])}
    assert changed
    assert all(name.split(".")[-2] in ("q", "wo") for name in changed)
