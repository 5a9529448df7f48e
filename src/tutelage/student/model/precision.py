"""The arithmetic in which a student runs, and the optimiser that goes with it.

bf16 means that weights and arithmetic are bf16, and that the optimiser changes an fp32 copy of the
weights, the masters. (Autocast, which keeps fp32 weights and casts them in every forward pass,
trained SmolLM2 at three quarters of that speed: docs/performance.md.) fp16 is never used: T5
overflows in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch

from tutelage.core.errors import StudentError
from tutelage.student.fast.memory import KEPT_BELOW
from tutelage.student.fast.parts import prepare_model
from tutelage.student.model.loading import meta_model
from tutelage.student.model.student import Student

Precision = Literal["fp32", "bf16"]

SMALL = 5_000_000
"""Number of weights below which a CPU spends its time between the matrix products, not in them."""

_NOT_COMPILED = "compile: true is for decoder-only students with one list of layers: leave it out"


def choose_device(name: str = "auto") -> torch.device:
    """The device of this name; `auto`: a CUDA GPU if there is one, else the CPU."""
    if name != "auto":
        return torch.device(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_precision(name: str, device: torch.device, parameters: int) -> Precision:
    """The precision that `name` ("auto", "fp32", "bf16") stands for.

    auto: bf16 on a GPU that supports it, and on a CPU with AMX or AVX512-BF16 unless the model is
    tiny; otherwise fp32
    """
    if name == "fp32":
        return "fp32"
    if name == "bf16":
        return "bf16"
    if device.type == "cuda":
        # Older cards only emulate bf16.
        supported = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16" if supported else "fp32"
    if device.type != "cpu" or parameters < SMALL:
        return "fp32"
    # Older releases of torch do not report capabilities.
    features: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bf16" if features.get("amx_bf16") or features.get("avx512_bf16") else "fp32"


def prepare(student: Student, precision: str, *, compiled: bool = False) -> None:
    """Convert the weights to `precision`, apply the fast parts, and compile the layers if asked.

    Raises StudentError if the layers cannot be compiled.
    """
    chosen = choose_precision(precision, student.device, student.parameter_count)
    student.precision = chosen
    _convert(student.model, torch.bfloat16 if chosen == "bf16" else torch.float32)
    if student.fast == "auto" and student.device.type == "cpu":
        prepare_model(student.model)
    if compiled:
        _compile_layers(student)


def _convert(model: Any, dtype: torch.dtype) -> None:
    """Convert a model to `dtype`: its weights, and of its buffers those that transformers itself
    would load in that type.

    Others it keeps in fp32, such as the frequencies of rotary positions: rounded to bf16 they would
    place a token hundreds of positions away in another place.
    """
    if model.dtype == dtype:
        return
    with torch.device("meta"):
        plain = dict(type(model)._from_config(model.config, dtype=dtype).named_buffers())
    kept = [
        (module, name, buffer)
        for path, module in model.named_modules()
        for name, buffer in module.named_buffers(recurse=False)
        if (own := plain.get(f"{path}.{name}".removeprefix("."))) is not None
        and own.dtype == buffer.dtype
    ]
    model.to(dtype)
    for module, name, buffer in kept:
        setattr(module, name, buffer)


def _compile_layers(student: Student) -> None:
    """Compile each layer for any length. This fuses the operations between matrix products."""
    layers = getattr(student.model.base_model, "layers", None)
    if layers is None:
        raise StudentError(_NOT_COMPILED)
    for layer in layers:
        layer.forward = torch.compile(layer.forward, dynamic=True)


def check_compiled(spec: str) -> None:
    """Raise StudentError if the layers of the student that `spec` names cannot be compiled.

    Loads no weights, so that it can run before anything is paid for. A new student (`scratch:`) is
    an encoder-decoder and always refused.
    """
    if spec.startswith("scratch:") or not hasattr(meta_model(spec).base_model, "layers"):
        raise StudentError(_NOT_COMPILED)


class Optimizer:
    """AdamW over fp32 weights: the model's own, or masters of its bf16 weights."""

    def __init__(self, student: Student, learning_rate: float, weight_decay: float) -> None:
        self.weights = [p for p in student.model.parameters() if p.requires_grad]
        self.masters = [
            w if w.dtype == torch.float32 else w.detach().float().requires_grad_()
            for w in self.weights
        ]
        self._keeps_memory = student.uses("memory")
        self._buffers: dict[int, torch.Tensor] = {}
        self.adamw = torch.optim.AdamW(
            self.masters, lr=learning_rate, weight_decay=weight_decay, fused=True
        )

    def step(
        self,
        learning_rate: float,
        max_grad_norm: float,
        collect_gradients: Callable[[Sequence[torch.Tensor]], None] | None = None,
    ) -> torch.Tensor:
        """Clip the gradients' norm, take one step, and clear the gradients.

        Returns the norm before clipping, still on the device.

        collect_gradients: called with the masters before clipping; adds the gradients that other
                           threads and processes hold
        """
        for group in self.adamw.param_groups:
            group["lr"] = learning_rate
        for index, (weight, master) in enumerate(zip(self.weights, self.masters, strict=True)):
            if master is not weight and weight.grad is not None:
                master.grad = self._buffer(index).copy_(weight.grad)
                weight.grad = None
        if collect_gradients is not None:
            collect_gradients(self.masters)
        norm = torch.nn.utils.clip_grad_norm_(self.masters, max_grad_norm)
        self.adamw.step()
        self.adamw.zero_grad(set_to_none=True)
        self._update_weights()
        return norm

    def _buffer(self, index: int) -> torch.Tensor:
        """Memory for the gradient of a master.

        A large one keeps its memory, which would otherwise go back to the kernel and be cleared in
        every step (`fast.memory`).
        """
        buffer = self._buffers.get(index)
        if buffer is None:
            buffer = torch.empty_like(self.masters[index])
            if self._keeps_memory and buffer.nbytes >= KEPT_BELOW:
                self._buffers[index] = buffer
        return buffer

    @torch.no_grad()
    def _update_weights(self) -> None:
        """Round the masters to the model's weights."""
        for weight, master in zip(self.weights, self.masters, strict=True):
            if master is not weight:
                weight.copy_(master)

    def state(self) -> dict[str, Any]:
        """Weights and moments, as tensors and plain values."""
        return {"masters": [m.detach() for m in self.masters], "adamw": self.adamw.state_dict()}

    @torch.no_grad()
    def load(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned, the model's weights included."""
        for master, saved in zip(self.masters, state["masters"], strict=True):
            master.copy_(saved)
        self.adamw.load_state_dict(state["adamw"])
        self._update_weights()
