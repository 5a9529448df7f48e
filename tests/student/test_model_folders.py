"""Model folders that are damaged, incomplete or something else: one line each, and nothing run."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from families import REFUSED, make_folder, named
from safetensors.torch import load_file, save_file

from tutelage.core.errors import StudentError, TutelageError
from tutelage.core.task import NLI, Task
from tutelage.data.synthetic import generate as synthetic
from tutelage.student.encoding.prompts import label_ids
from tutelage.student.inference.generate import generate
from tutelage.student.inference.score import score_labels
from tutelage.student.model.loading import count_parameters, load_student
from tutelage.student.model.student import Student

DEV = synthetic(4, 2)


@pytest.fixture(params=["Llama", "T5"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, tokenizer_folder: Path) -> Path:
    return make_folder(named(request.param), tmp_path / "model", tokenizer_folder)


def _refused(folder: Path, match: str) -> str:
    with pytest.raises(TutelageError, match=match) as caught:
        load_student(str(folder))
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 700
    return message


def _rename(folder: Path, rename: Callable[[str], str | None]) -> None:
    """Rename the weights in the file; None: leave one out."""
    path = folder / "model.safetensors"
    weights = load_file(path)
    renamed = {rename(name): weight for name, weight in weights.items()}
    save_file({n: w for n, w in renamed.items() if n is not None}, path, {"format": "pt"})


def _configure(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | values), encoding="utf-8")


@pytest.mark.parametrize("family", REFUSED, ids=lambda family: family.name)
def test_models_that_see_later_tokens_are_refused(
    family: Any, tmp_path: Path, tokenizer_folder: Path
) -> None:
    message = _refused(make_folder(family, tmp_path, tokenizer_folder), "choose")
    assert "encoder-decoder" in message
    assert "decoder-only" in message


def test_an_encoder_without_a_head_for_text_is_refused_as_an_encoder(
    tmp_path: Path, tokenizer_folder: Path
) -> None:
    from transformers import AlbertConfig, AlbertModel, BertConfig, BertModel

    for number, (config, kind) in enumerate(((BertConfig, BertModel), (AlbertConfig, AlbertModel))):
        place = tmp_path / str(number)
        shutil.copytree(tokenizer_folder, place)
        model = kind(
            config(
                vocab_size=500,
                hidden_size=32,
                intermediate_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                embedding_size=16,
            )
        )
        model.save_pretrained(place)
        _refused(place, "(cannot write a text|write no text)")


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: f"module.{name}",
        lambda name: f"_orig_mod.{name}",
        lambda name: f"module._orig_mod.{name}",
        lambda name: f"_fsdp_wrapped_module.{name}",
        lambda name: name.replace(".0.", ".0._orig_mod.", 1),
        lambda name: name.replace(".1.", ".1._checkpoint_wrapped_module.", 1),
    ],
)
def test_names_that_wrappers_have_changed_are_understood(
    folder: Path, rename: Callable[[str], str], tmp_path: Path
) -> None:
    before = {n: w.clone() for n, w in load_student(str(folder)).model.state_dict().items()}
    names = set(load_file(folder / "model.safetensors"))
    _rename(folder, rename)
    student = load_student(str(folder))
    after = student.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    student.save(tmp_path / "again")
    assert set(load_file(tmp_path / "again" / "model.safetensors")) == names


@pytest.mark.parametrize(
    ("lost", "named_one"),
    [
        (lambda name: None if ".1." in name else name, ".1."),
        (lambda name: None if name.endswith("norm.weight") else name, "norm.weight"),
        (lambda name: f"net.{name}", "net."),
        (lambda name: name.replace(".0.", ".7."), ".0."),
    ],
)
def test_missing_weights_are_refused_by_name(
    folder: Path, lost: Callable[[str], str | None], named_one: str
) -> None:
    if not any(lost(name) != name for name in load_file(folder / "model.safetensors")):
        pytest.skip("this model has no such weight")
    _rename(folder, lost)
    assert named_one in _refused(folder, "its files lack")


@pytest.mark.parametrize("name", ["Llama", "T5 v1.1 (untied)", "BART"])
def test_a_missing_output_head_is_refused(
    name: str, tmp_path: Path, tokenizer_folder: Path
) -> None:
    place = make_folder(named(name), tmp_path, tokenizer_folder, tie_word_embeddings=False)
    load_student(str(place))
    _rename(place, lambda weight: None if weight == "lm_head.weight" else weight)
    assert "lm_head.weight" in _refused(place, "its files lack")


def test_what_the_model_has_no_use_for_is_named_once(folder: Path) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path) | {"vision.tower.weight": torch.ones(3), "old.bias": torch.ones(2)}
    save_file(weights, path, {"format": "pt"})
    (note,) = load_student(str(folder)).notes
    assert "2 weights (old.bias, vision.tower.weight)" in note
    weights |= {"model.layers.0.q_proj.lora_A.default.weight": torch.ones(2, 2)}
    save_file(weights, path, {"format": "pt"})
    _refused(folder, "adapter.*merge")


def test_an_adapter_alone_is_refused(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}', encoding="utf-8")
    _refused(folder, "adapter.*merge")


@pytest.mark.parametrize("known", [True, False])
def test_code_in_a_folder_is_never_run(
    folder: Path, known: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def asked(*_: object) -> str:
        raise AssertionError("something asks on standard input")

    monkeypatch.setattr("builtins.input", asked)
    seen = tmp_path / "seen"
    code = f"import pathlib; pathlib.Path({str(seen)!r}).touch()\n"
    for name in ("configuration_x", "modeling_x", "tokenization_x"):
        (folder / f"{name}.py").write_text(code, encoding="utf-8")
    own = {
        "AutoConfig": "configuration_x.XConfig",
        "AutoModelForCausalLM": "modeling_x.X",
        "AutoModelForSeq2SeqLM": "modeling_x.X",
    }
    _configure(folder, auto_map=own, **({} if known else {"model_type": "x"}))
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings["auto_map"] = {"AutoTokenizer": ["tokenization_x.X", None]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    for attempt in (load_student, count_parameters):
        try:
            attempt(str(folder))
        except StudentError as error:
            assert "\n" not in str(error)
    assert not seen.exists()


def test_weights_are_read_from_bin_files_and_written_as_safetensors(
    folder: Path, tmp_path: Path
) -> None:
    weights = load_student(str(folder)).model.state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    student = load_student(str(folder))
    assert all(torch.equal(w, weights[n]) for n, w in student.model.state_dict().items())
    student.save(tmp_path / "saved")
    assert (tmp_path / "saved" / "model.safetensors").exists()
    assert not list((tmp_path / "saved").glob("*.bin"))


class _Malice:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("/tmp/tutelage-test-malice"),))


@pytest.mark.parametrize("whole", [True, False])
def test_a_pickle_that_needs_code_is_refused(folder: Path, whole: bool) -> None:
    (folder / "model.safetensors").unlink()
    content = {"weight": _Malice()}
    if whole:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(content))
    else:
        torch.save(content, folder / "pytorch_model.bin")
    _refused(folder, "cannot be loaded")
    assert not Path("/tmp/tutelage-test-malice").exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "cannot be loaded"),
        (b"not weights at all" * 20, "cannot be loaded"),
        (bytes(range(256)) * 30, "cannot be loaded"),
        (None, "cannot be loaded"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
            "Git LFS pointer.*git lfs pull",
        ),
    ],
)
def test_damaged_weights_are_reported_in_one_line(
    folder: Path, suffix: str, content: bytes | None, match: str
) -> None:
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    if suffix == ".bin":
        torch.save(load_file(path), folder / "pytorch_model.bin")
        path.unlink()
        path = folder / "pytorch_model.bin"
        whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    _refused(folder, match)


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    _configure(folder, vocab_size=333)
    _refused(folder, "cannot be loaded")


@pytest.mark.parametrize(
    "settings",
    [
        {"quant_method": "bitsandbytes", "load_in_4bit": True},
        {"quant_method": "gptq", "bits": 4, "group_size": 128},
        {"quant_method": "awq", "bits": 4},
        {"quant_method": "some-new-method"},
        {"bits": 4},
    ],
)
def test_quantised_weights_are_refused(folder: Path, settings: dict[str, Any]) -> None:
    _configure(folder, quantization_config=settings)
    assert "without quantisation" in _refused(folder, "quantised")
    with pytest.raises(StudentError, match="quantised"):
        count_parameters(str(folder))


def test_a_tokenizer_without_its_files_is_reported(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()
    for file in folder.glob("special_tokens*"):
        file.unlink()
    _refused(folder, "(tokenizer|cannot be loaded)")


def test_a_configuration_that_cannot_be_read_is_reported(folder: Path) -> None:
    (folder / "config.json").write_text("{", encoding="utf-8")
    _refused(folder, "cannot be loaded")
    (folder / "config.json").write_text("[]", encoding="utf-8")
    _refused(folder, "cannot be loaded")


def test_labels_of_unknown_tokens_are_named(student: Student) -> None:
    """A tokenizer of words, which knows none of the labels' words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "</s>", "<unk>", "yes", "no", "Answer", ":"]
    plain = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    student.tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    with pytest.raises(StudentError, match=r"labels 'entailment'.*no tokens for their words"):
        label_ids(student, NLI)
    task = Task("x", ("text",), ("good", "bad"), verbalizers={"good": "yes ☺", "bad": "yes ☹"})
    with pytest.raises(StudentError, match="does not know all of their characters"):
        label_ids(student, task)
    assert label_ids(student, Task("x", ("text",), ("yes", "no"))) == [[3], [4]]


def test_more_tokens_than_positions_are_refused_with_the_limit(
    tmp_path: Path, tokenizer_folder: Path
) -> None:
    rows = [*DEV]
    for name, key in (
        ("GPT-2", "n_positions"),
        ("OPT", "max_position_embeddings"),
        ("BART", "max_position_embeddings"),
    ):
        place = make_folder(named(name), tmp_path / name, tokenizer_folder, **{key: 24})
        student = load_student(str(place))
        with pytest.raises(StudentError, match=r"positions for 24 tokens.*lower max_source_tokens"):
            score_labels(student, rows, NLI)
        assert len(score_labels(student, rows, NLI, max_source_tokens=16)) == len(rows)


@pytest.mark.parametrize("name", ["T5", "BART", "mT5"])
def test_a_model_that_names_no_first_token_starts_from_one_everywhere(
    name: str, tmp_path: Path, tokenizer_folder: Path
) -> None:
    """In training, in scoring and in generation alike."""
    place = make_folder(named(name), tmp_path, tokenizer_folder, decoder_start_token_id=None)
    (place / "generation_config.json").unlink(missing_ok=True)
    student = load_student(str(place))
    assert student.model.config.decoder_start_token_id is None
    source = student.tokenizer("two dogs").input_ids
    written: list[int] = []
    for _ in range(3):
        decoder = torch.tensor([[student.decoder_start_id, *written]])
        logits = student.model(input_ids=torch.tensor([source]), decoder_input_ids=decoder).logits
        written.append(int(logits[0, -1].argmax()))
    found = generate(student, [source, source[:1]], [], 3)[0]
    assert found == written[: len(found)]
    assert len(score_labels(student, DEV, NLI, max_source_tokens=64)) == len(DEV)
