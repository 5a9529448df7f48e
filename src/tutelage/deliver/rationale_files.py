"""Converts a checkpoint for CTranslate2, and compares what it computes with the plain model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tutelage.core.errors import StudentError
from tutelage.core.storage import read_json, write_json
from tutelage.deliver.rationale_engine import RATIONALES, RationaleEngine
from tutelage.student.model.student import Student

TOLERANCE = {"f32": 1e-3, "int8": 0.2}
"""Largest difference of a token's log-probability; of int8, the mean difference."""


def convert(checkpoint: Path, folder: Path, *, int8: bool) -> None:
    """Write the checkpoint's model for CTranslate2 into an export's folder.

    Raises StudentError for a kind of model that it does not know.
    """
    from ctranslate2.converters import TransformersConverter

    class Converter(TransformersConverter):  # type: ignore[misc]
        def load_model(self, model_class: Any, name: str, **options: Any) -> Any:
            model = super().load_model(model_class, name, **options)
            # The converter scales a T5's outputs where this key is true. transformers sets it for
            # every T5, scaled or not: so the model itself is tried out.
            if model.config.is_encoder_decoder and hasattr(model.config, "d_kv"):
                model.config.tie_word_embeddings = _scales_outputs(model)
            # Keys of BART's configuration that transformers 5 no longer has, with its values.
            for key, value in (("normalize_before", False), ("normalize_embedding", True)):
                if not hasattr(model.config, key):
                    setattr(model.config, key, value)
            return model

    try:
        Converter(str(checkpoint)).convert(
            str(folder / RATIONALES), quantization="int8" if int8 else "float32", force=True
        )
    except Exception as error:
        # The converter raises whatever its reading of the model raises.
        line = " ".join(str(error).split())[:200]
        raise StudentError(f"CTranslate2 cannot convert this model ({line})") from error
    # A tokenizer without one of these tokens leaves a null, which CTranslate2 cannot read. None of
    # them is used: a target's start is given, and every token is in the vocabulary.
    path = folder / RATIONALES / "config.json"
    values = read_json(path)
    present = next(v for k, v in values.items() if k.endswith("_token") and isinstance(v, str))
    for key, value in values.items():
        if key.endswith("_token") and value is None:
            values[key] = present
    write_json(path, values)


def _scales_outputs(model: Any) -> bool:
    """Whether a T5 multiplies its decoder's outputs by a constant before the output head."""
    import torch

    seen: dict[str, torch.Tensor] = {}

    def of_decoder(_module: Any, _inputs: Any, output: Any) -> None:
        seen["decoder"] = output[0]

    def of_head(_module: Any, inputs: Any) -> None:
        seen["head"] = inputs[0]

    hooks = [
        model.get_decoder().register_forward_hook(of_decoder),
        model.get_output_embeddings().register_forward_pre_hook(of_head),
    ]
    ids = torch.tensor([[1, 2, 3]])
    try:
        with torch.no_grad():
            model.eval()(input_ids=ids, decoder_input_ids=ids)
    finally:
        for hook in hooks:
            hook.remove()
    return not torch.allclose(seen["decoder"], seen["head"])


def compare_rationales(
    student: Student,
    engine: RationaleEngine,
    sources: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
) -> tuple[float, float]:
    """The largest and the mean difference of the log-probabilities of the targets' tokens between
    an engine and the plain model."""
    largest = total = 0.0
    count = 0
    found = engine.log_probabilities(sources, targets)
    for source, target, ours in zip(sources, targets, found, strict=True):
        wanted = _plainly(student, source, target)
        if len(wanted) != len(ours):
            raise StudentError(f"CTranslate2 scored {len(ours)} of {len(wanted)} tokens")
        for one, other in zip(wanted, ours, strict=True):
            largest, total, count = (
                max(largest, abs(one - other)),
                total + abs(one - other),
                count + 1,
            )
    return largest, total / max(count, 1)


def _plainly(student: Student, source: Sequence[int], target: Sequence[int]) -> list[float]:
    """log p of each token of a target, in one forward pass of the plain model."""
    import torch

    with torch.no_grad():
        if student.architecture == "encoder-decoder":
            logits = student.model(
                input_ids=torch.tensor([list(source)]),
                decoder_input_ids=torch.tensor([[student.decoder_start_id, *target[:-1]]]),
                use_cache=False,
            ).logits[0]
        else:
            ids = torch.tensor([[*source, *target[:-1]]])
            logits = student.model(input_ids=ids, use_cache=False).logits[0, len(source) - 1 :]
        chosen = torch.log_softmax(logits.float(), -1)
        return [float(chosen[t, token]) for t, token in enumerate(target)]
