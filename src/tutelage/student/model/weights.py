"""Reads the weights of a model folder, whole, or refuses it in one line.

nothing is run       no code of the folder, and no pickle beyond torch's weights-only reader
nothing is made up   a weight that the folder lacks is an error, never a random number
nothing is guessed   only names that wrappers of torch are known to add are read without them
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError

from tutelage.core.errors import RunFolderError, StudentError, TutelageError
from tutelage.core.model_files import check_model_folder

T = TypeVar("T")

_WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Parts of names that wrappers add: DistributedDataParallel, torch.compile, FSDP, activation
checkpointing. A model of transformers has none of these parts in its own names."""

_WITHOUT_WRAPPERS = {rf"\b{part}\.": "" for part in _WRAPPERS}
"""Patterns of names, and what takes their place; for `from_pretrained`."""

_ADAPTER = re.compile(r"\blora_[AB]\b|\blora_embedding|\bia3_l\b|\bprompt_encoder\b")
"""Names of an adapter's weights."""

_SHOWN = 3
"""Names that a message shows."""


def loading(spec: str, load: Callable[[], Any]) -> Any:
    """What `load` returns; whatever it raises becomes a StudentError of one line.

    A folder may hold anything, and the readers of weights, configurations and tokenizers raise
    errors of a dozen kinds. Interrupts are let through.
    """
    try:
        return load()
    except TutelageError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        cure = "expected a hub name, a folder, gguf:PATH, package:PACKAGE/FILE or scratch:t5-tiny"
        if isinstance(error, SafetensorError | UnpicklingError | EOFError):
            cure = "its weights cannot be read, a file may be cut: get the files again"
        raise StudentError(f"student {spec!r} cannot be loaded: {reason[:300]} ({cure})") from error


def computing(spec: str, compute: Callable[[], T]) -> T:
    """What `compute` returns; whatever a model's own code raises becomes a StudentError of one
    line. Out of memory is said to be that."""
    try:
        return compute()
    except TutelageError:
        raise
    except torch.OutOfMemoryError as error:
        raise StudentError(
            f"student {spec!r}: does not fit into the memory of the device: choose a smaller one, "
            "lower max_source_tokens, or train with lora"
        ) from error
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise StudentError(
            f"student {spec!r}: its model cannot be run or trained here: {reason[:300]}: choose "
            "another student"
        ) from error


def load_config(spec: str, name: str, options: Mapping[str, Any]) -> Any:
    """The configuration of the student that `name` holds.

    Raises StudentError as `read_config` does, and for a model that writes no text.
    """
    config = read_config(spec, name, options)
    if type(config) not in model_class(config)._model_mapping:
        raise StudentError(
            f"student {spec!r}: {config.model_type} models write no text: {WHAT_TO_USE}"
        )
    return config


def read_config(spec: str, name: str, options: Mapping[str, Any]) -> Any:
    """The configuration of the model that `name` holds, checked for what cannot be trained.

    Raises StudentError for quantised weights, and for an adapter without its model.
    """
    from transformers import AutoConfig

    if Path(name).is_dir():
        check_model_folder(Path(name))
    config = loading(
        spec, lambda: AutoConfig.from_pretrained(name, trust_remote_code=False, **options)
    )
    quantised = getattr(config, "quantization_config", None)
    if quantised is not None and "gguf_file" not in options:
        kind = quantised.get("quant_method") if isinstance(quantised, dict) else None
        raise StudentError(
            f"student {spec!r}: its weights are quantised ({kind or 'unknown method'}), and a "
            "student is trained in fp32 or bf16: choose the model without quantisation, or a GGUF "
            "file of it (gguf:PATH), which is converted"
        )
    return config


WHAT_TO_USE = (
    "choose an encoder-decoder (such as google-t5/t5-small) or a decoder-only model (such as "
    "HuggingFaceTB/SmolLM2-135M), and compare this one as a classifier: baselines: "
    "[{classifier: MODEL}]"
)
"""The advice where a model cannot be a student."""


def model_class(config: Any) -> Any:
    """The class of transformers that builds the model of `config`."""
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    return AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM


def load_weights(
    spec: str, name: str, config: Any, options: Mapping[str, Any], classifier: Any = None
) -> tuple[Any, list[str], list[str]]:
    """The model of `config` with the weights in `name`, in fp32.

    classifier: the class of transformers that gives it a head of a classifier; None: it writes text

    Returns the model, the names of weights that the files lack, and those of weights in the files
    that the model has no use for. Names that wrappers of torch have changed are understood.
    """
    kind = classifier or model_class(config)

    def load(mapping: Mapping[str, str] | None) -> tuple[Any, list[str], list[str]]:
        with _no_progress_bar():
            # Given its configuration, a GGUF file, which is slow to parse, is parsed once less.
            model, info = kind.from_pretrained(
                name,
                config=config,
                dtype=torch.float32,
                trust_remote_code=False,
                output_loading_info=True,
                key_mapping=mapping,
                # A head for other labels is replaced; what is not a head is checked below.
                ignore_mismatched_sizes=classifier is not None,
                **options,
            )
        if damaged := [n for n in _mismatched(info) if n.startswith(model.base_model_prefix + ".")]:
            raise StudentError(
                f"student {spec!r}: its files hold {_named(damaged)} of other sizes than its "
                "configuration says: get the whole model again"
            )
        return model, sorted(info["missing_keys"]), sorted(info["unexpected_keys"])

    found = loading(spec, lambda: load(None))
    if found[1] and any(part in _WRAPPERS for key in found[2] for part in key.split(".")):
        found = loading(spec, lambda: load(_WITHOUT_WRAPPERS))
        conversions = getattr(found[0], "_weight_conversions", None)
        if conversions is not None:
            # Otherwise the wrappers' names would be written again when the student is saved.
            found[0]._weight_conversions = conversions[len(_WITHOUT_WRAPPERS) :]
    model, missing, unexpected = found
    _own_memory(model)
    if not missing and "gguf_file" not in options and classifier is None:
        missing = loading(spec, lambda: _lost_head(model, name))
    # From here on a dequantised GGUF model is an ordinary one, and must be saved as one.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
        model.hf_quantizer = None
        model.is_quantized = False
    return model, missing, unexpected


def _mismatched(info: Mapping[str, Any]) -> list[str]:
    """Names of the weights whose sizes in the files are not the model's."""
    return sorted(one if isinstance(one, str) else one[0] for one in info["mismatched_keys"])


_ALIGNMENT = 64
"""Bytes to which torch aligns its own memory."""


@torch.no_grad()
def _own_memory(model: Any) -> None:
    """Copy weights that lie in a mapped file to memory of torch's own.

    There they are aligned, so that matrix products add up in the same order wherever the weights
    came from; and the file may be replaced.
    """
    for weight in model.parameters():
        if weight.device.type == "cpu" and weight.data_ptr() % _ALIGNMENT:
            weight.data = weight.data.clone()


def _lost_head(model: Any, name: str) -> list[str]:
    """The name of an output head that is not in the files, although the configuration says that
    it is not the embeddings: transformers then takes these (T5)."""
    values, _ = type(model.config).get_config_dict(name)
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    if values.get("tie_word_embeddings") is not False or head is None:
        return []
    if head.weight is not embeddings.weight:
        return []
    return [f"{path}.weight" for path, module in model.named_modules() if module is head]


def check_complete(spec: str, missing: Sequence[str], unexpected: Sequence[str]) -> None:
    """Raise StudentError for weights that the files lack, or that belong to an adapter.

    Unexpected ones alone are harmless: old buffers, or a part of a larger model.
    """
    if missing:
        renamed = f"; the files hold {_named(unexpected)} instead" if unexpected else ""
        raise StudentError(
            f"student {spec!r}: its files lack {_named(missing)}{renamed}: they would be random "
            "numbers: get the whole model, with its own names"
        )
    adapters = [key for key in unexpected if _ADAPTER.search(key)]
    if adapters:
        raise StudentError(
            f"student {spec!r}: its files hold the weights of an adapter ({_named(adapters)}), "
            "which would be left out: merge the adapter into the model first (peft: "
            "merge_and_unload), and save that"
        )


def check_finite(spec: str, model: Any) -> None:
    """Raise StudentError for weights that are not numbers."""
    broken = [
        name for name, weight in model.named_parameters() if not bool(torch.isfinite(weight).all())
    ]
    if broken:
        raise StudentError(
            f"student {spec!r}: its files hold {_named(broken)} that are not finite: they are "
            "damaged: get them again"
        )


def _named(keys: Collection[str]) -> str:
    shown = ", ".join(sorted(keys)[:_SHOWN])
    more = len(keys) - _SHOWN
    noun = "weight" if len(keys) == 1 else "weights"
    return f"{len(keys)} {noun} ({shown}{f' and {more} more' if more > 0 else ''})"


def describe_unexpected(unexpected: Sequence[str]) -> list[str]:
    """One line on the weights in the files that the model has no use for, if there are any."""
    return [f"its files also hold {_named(unexpected)}, not used"] if unexpected else []


def restore_weights(model: Any, folder: Path) -> None:
    """Load the weights that `model` was saved with in `folder` back into it, in its own dtype.

    They are read by transformers, which knows under which names it has saved them: those of
    mixture-of-experts models and some others are not the names in memory.

    Raises RunFolderError if they are not this model's.
    """
    from transformers import logging

    logging.disable_progress_bar()
    try:
        saved, info = type(model).from_pretrained(
            folder, dtype=model.dtype, output_loading_info=True
        )
    except Exception as error:
        reason = " ".join(str(error).split())
        raise RunFolderError(
            f"{folder}: the checkpoint cannot be read ({reason[:300]}): delete the training's "
            "folder to train again"
        ) from error
    missing, unexpected = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    weights = saved.state_dict()
    shapes = {name: tensor.shape for name, tensor in weights.items()}
    own = {name: tensor.shape for name, tensor in model.state_dict().items()}
    if missing or unexpected or shapes != own:
        different = sorted(name for name in shapes.keys() & own if shapes[name] != own[name])
        raise RunFolderError(
            f"{folder}: holds other weights than this student's: without {missing[:_SHOWN]}, with "
            f"{unexpected[:_SHOWN]}, of other shapes {different[:_SHOWN]}"
        )
    # In place, so that weights that were shared still are, and no others.
    model.load_state_dict(weights)


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Inside, transformers' GGUF reader shows no progress bar: it has no switch for it, and would
    draw between ours."""
    from transformers import modeling_gguf_pytorch_utils as reader

    shown = getattr(reader, "tqdm", None)
    reader.tqdm = lambda tensors, **_: tensors
    try:
        yield
    finally:
        reader.tqdm = shown
