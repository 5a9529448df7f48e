"""Writes a decoder-only student's weights and sizes as a GGUF file, with the package `gguf`.

The names of the weights are that package's own tables. What a family computes that its GGUF
architecture does not is looked up in the configuration and refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tutelage.config.export_settings import GgufPrecision
from tutelage.core.errors import StudentError
from tutelage.deliver.gguf.gguf_vocabulary import Vocabulary
from tutelage.student.model.student import Student

Array = npt.NDArray[np.float32]

_BLOCK = 32
"""Weights of a row that `q8_0` scales together."""


@dataclass(frozen=True)
class Family:
    """A family of models that llama.cpp computes.

    architecture: its name in `gguf.MODEL_ARCH`
    must:         keys of the configuration, and the values that llama.cpp computes
    interleaved:  whether llama.cpp rotates neighbouring dimensions, and transformers halves
    transposed:   whether its linear layers are stored as [inputs, outputs] (transformers' Conv1D)
    in_16_bits:   whether llama.cpp computes some of it in 16 bits, whatever the file holds
    """

    architecture: str
    must: dict[str, tuple[Any, ...]]
    interleaved: bool = False
    transposed: bool = False
    in_16_bits: bool = False


_ROTARY: dict[str, tuple[Any, ...]] = {"hidden_act": ("silu", "swish"), "sliding_window": (None,)}

FAMILIES = {
    "llama": Family("LLAMA", _ROTARY, interleaved=True),
    "mistral": Family("LLAMA", _ROTARY, interleaved=True),
    "qwen2": Family("QWEN2", {**_ROTARY, "use_sliding_window": (False,)}),
    "qwen3": Family("QWEN3", {**_ROTARY, "use_sliding_window": (False,)}),
    "gpt2": Family(
        "GPT2",
        {
            "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
            "scale_attn_weights": (True,),
            "scale_attn_by_inverse_layer_idx": (False,),
        },
        transposed=True,
        in_16_bits=True,  # GELU is looked up in a table of f16
    ),
}
"""Families by `model_type`."""


def family_of(config: Any) -> Family:
    """The family of a model by its configuration.

    Raises StudentError for a model that llama.cpp would compute otherwise.
    """
    kind = config.model_type
    if kind not in FAMILIES:
        raise StudentError(
            f"gguf: this student is a {kind!r}, and files are written for {', '.join(FAMILIES)}"
        )
    family = FAMILIES[kind]
    for key, allowed in family.must.items():
        found = getattr(config, key, allowed[0])
        if found not in allowed:
            raise StudentError(
                f"gguf: this student's {key} is {found!r}, and llama.cpp's {kind!r} has "
                f"{' or '.join(map(repr, allowed))}"
            )
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if rope != "default":
        raise StudentError(f"gguf: this student scales its rotary positions ({rope!r}): not known")
    return family


def write_gguf_file(
    path: Path, student: Student, vocabulary: Vocabulary, precision: GgufPrecision, name: str
) -> None:
    """Write a student as one GGUF file.

    precision: of matrices; vectors, and GPT-2's positions, are f32. A matrix whose rows `q8_0`
               cannot divide into blocks is f16.

    Raises StudentError for weights that have no name in the architecture.
    """
    import gguf

    config = student.model.config
    family = family_of(config)
    architecture = getattr(gguf.MODEL_ARCH, family.architecture)
    blocks = int(config.num_hidden_layers)
    names = gguf.get_tensor_name_map(architecture, blocks)
    writer: Any = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[architecture])
    kinds = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "q8_0": "MOSTLY_Q8_0"}
    writer.add_name(name)
    writer.add_file_type(getattr(gguf.LlamaFileType, kinds[precision]))
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _add_sizes(writer, config, len(vocabulary.tokens))
    _add_vocabulary(writer, vocabulary)
    unnamed = []
    for own, weights in _weights(student.model, family):
        known = names.get_name(own, try_suffixes=(".weight", ".bias"))
        if known is None:
            unnamed.append(own)
            continue
        written, kind = _in_precision(known, weights, precision, gguf)
        writer.add_tensor(known, written, raw_dtype=kind)
    if unnamed:
        raise StudentError(
            f"gguf: {len(unnamed)} weights (first: {unnamed[0]}) have no name in llama.cpp's "
            f"{family.architecture}"
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_sizes(writer: Any, config: Any, vocabulary: int) -> None:
    width, heads = int(config.hidden_size), int(config.num_attention_heads)
    writer.add_vocab_size(vocabulary)
    writer.add_context_length(int(config.max_position_embeddings))
    writer.add_embedding_length(width)
    writer.add_block_count(int(config.num_hidden_layers))
    writer.add_head_count(heads)
    if config.model_type == "gpt2":
        writer.add_head_count_kv(heads)
        writer.add_feed_forward_length(int(config.n_inner or 4 * width))
        writer.add_layer_norm_eps(float(config.layer_norm_epsilon))
        return
    each = int(getattr(config, "head_dim", None) or width // heads)
    writer.add_head_count_kv(int(config.num_key_value_heads))
    writer.add_feed_forward_length(int(config.intermediate_size))
    writer.add_layer_norm_rms_eps(float(config.rms_norm_eps))
    writer.add_key_length(each)
    writer.add_value_length(each)
    writer.add_rope_dimension_count(each)
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))


def _add_vocabulary(writer: Any, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    writer.add_token_merges(vocabulary.merges)
    writer.add_eos_token_id(vocabulary.eos_id)
    # A file that names none gets token 11 from llama.cpp.
    begin = vocabulary.bos_id
    writer.add_bos_token_id(vocabulary.eos_id if begin is None else begin)
    writer.add_add_bos_token(begin is not None)
    writer.add_add_eos_token(False)


def _weights(model: Any, family: Family) -> Iterator[tuple[str, Array]]:
    """Each weight with its name in transformers, as llama.cpp stores it. A head that is the
    embeddings themselves comes once, as the embeddings."""
    config = model.config
    of_queries = int(config.num_attention_heads)
    of_keys = int(getattr(config, "num_key_value_heads", of_queries))
    for name, parameter in model.named_parameters():
        weights: Array = parameter.detach().float().cpu().numpy()
        if family.transposed and ".h." in name and weights.ndim == 2:
            weights = weights.T
        if family.interleaved and (".q_proj." in name or ".k_proj." in name):
            weights = _interleaved(weights, of_queries if ".q_proj." in name else of_keys)
        yield name, np.ascontiguousarray(weights)


def _interleaved(weights: Array, heads: int) -> Array:
    """Outputs of each head reordered, so that the pairs which are rotated together are neighbours:
    [heads · 2 · half, …] -> [heads · half · 2, …]."""
    rest = weights.shape[1:]
    apart = weights.reshape(heads, 2, weights.shape[0] // heads // 2, *rest)
    return apart.swapaxes(1, 2).reshape(weights.shape)


def _in_precision(
    name: str, weights: Array, precision: GgufPrecision, gguf: Any
) -> tuple[npt.NDArray[Any], Any]:
    """A weight as it is stored, and its type in the file (None: as numpy says)."""
    if precision == "f32" or weights.ndim < 2 or name.startswith("position_embd"):
        return weights, None
    if precision == "q8_0" and weights.shape[-1] % _BLOCK == 0:
        kind = gguf.GGMLQuantizationType.Q8_0
        quantize: Callable[..., npt.NDArray[Any]] = gguf.quantize
        return quantize(weights, kind), kind
    return weights.astype(np.float16), None
