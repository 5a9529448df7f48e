"""Which arithmetic a student runs in, and the optimiser that goes with it.

bf16 means: weights and arithmetic in bf16, and a copy of the weights in fp32 that the optimiser
changes. (Autocast, which keeps fp32 weights and casts them in every pass, trained SmolLM2 at three
quarters of that speed here: docs/performance.md.) Never fp16, in which T5 overflows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch

from tutelage.core.errors import StudentError
from tutelage.student.fast.memory import KEPT_BELOW
from tutelage.student.fast.parts import prepare_model
from tutelage.student.model.load import meta_model
from tutelage.student.model.student import Student

Precision = Literal["fp32", "bf16"]

_SMALL = 5_000_000
"""Below this many weights a CPU spends its time between the matrix products, not in them."""

_NOT_COMPILED = "compile: true is for decoder-only students with one list of layers: leave it out"


def choose_device(asked: str = "auto") -> torch.device:
    """`auto` is a CUDA GPU where there is one, else the CPU."""
    if asked != "auto":
        return torch.device(asked)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_precision(asked: str, device: torch.device, parameters: int) -> Precision:
    """What `asked` ("auto", "fp32", "bf16") means here.

    auto: bf16 on a GPU that has it, and on a CPU with AMX or AVX512-BF16 for models that are not
    tiny; fp32 otherwise.
    """
    if asked == "fp32":
        return "fp32"
    if asked == "bf16":
        return "bf16"
    if device.type == "cuda":
        # Older cards only emulate it.
        has_it = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16" if has_it else "fp32"
    if device.type != "cpu" or parameters < _SMALL:
        return "fp32"
    # Older releases of torch cannot say.
    features: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bf16" if features.get("amx_bf16") or features.get("avx512_bf16") else "fp32"


def prepare(student: Student, precision: str, *, compiled: bool = False) -> None:
    """Put the student's weights into `precision`; on a CPU, use what is faster there."""
    chosen = choose_precision(precision, student.device, student.parameter_count)
    student.model.to(torch.bfloat16 if chosen == "bf16" else torch.float32)
    if student.fast == "auto" and student.device.type == "cpu":
        prepare_model(student.model)
    if compiled:
        _compile_layers(student)


def _compile_layers(student: Student) -> None:
    """Compile each layer for any length: fuses what lies between the matrix products."""
    layers = getattr(student.model.base_model, "layers", None)
    if layers is None:
        raise StudentError(_NOT_COMPILED)
    for layer in layers:
        layer.forward = torch.compile(layer.forward, dynamic=True)


def check_compiled(spec: str) -> None:
    """Raise StudentError where the layers of the student that `spec` names cannot be compiled.

    Loads no weights, so that it can be asked before anything is paid for. A new student
    (`scratch:`), which is an encoder-decoder, is refused without a look.
    """
    if spec.startswith("scratch:") or not hasattr(meta_model(spec).base_model, "layers"):
        raise StudentError(_NOT_COMPILED)


class Optimizer:
    """AdamW over fp32 weights, which are the model's own or masters of its bf16 ones."""

    def __init__(self, student: Student, learning_rate: float, weight_decay: float) -> None:
        self.weights = [p for p in student.model.parameters() if p.requires_grad]
        self.masters = [
            w if w.dtype == torch.float32 else w.detach().float().requires_grad_()
            for w in self.weights
        ]
        self._kept: dict[int, torch.Tensor] = {}
        self.adamw = torch.optim.AdamW(
            self.masters, lr=learning_rate, weight_decay=weight_decay, fused=True
        )

    def step(
        self,
        learning_rate: float,
        max_grad_norm: float,
        complete: Callable[[Sequence[torch.Tensor]], None] | None = None,
    ) -> None:
        """Clip the gradients' norm, take one step, and clear the gradients.

        complete: adds to the fp32 gradients, before they are clipped, what other processes hold
        """
        for group in self.adamw.param_groups:
            group["lr"] = learning_rate
        for place, (weight, master) in enumerate(zip(self.weights, self.masters, strict=True)):
            if master is not weight and weight.grad is not None:
                master.grad = self._room(place).copy_(weight.grad)
                weight.grad = None
        if complete is not None:
            complete(self.masters)
        torch.nn.utils.clip_grad_norm_(self.masters, max_grad_norm)
        self.adamw.step()
        self.adamw.zero_grad(set_to_none=True)
        self._publish()

    def _room(self, place: int) -> torch.Tensor:
        """Where the gradient of the master at `place` goes: large ones always to the same memory,
        which would otherwise be given back and cleared in every step (`keep_freed_memory`)."""
        room = self._kept.get(place)
        if room is None:
            room = torch.empty_like(self.masters[place])
            if room.nbytes >= KEPT_BELOW:
                self._kept[place] = room
        return room

    @torch.no_grad()
    def _publish(self) -> None:
        """Round the masters into the model's weights."""
        for weight, master in zip(self.weights, self.masters, strict=True):
            if master is not weight:
                weight.copy_(master)

    def state(self) -> dict[str, Any]:
        """Weights and moments, as tensors and plain values."""
        return {"masters": [m.detach() for m in self.masters], "adamw": self.adamw.state_dict()}

    @torch.no_grad()
    def load(self, state: dict[str, Any]) -> None:
        """The inverse of `state`; the model's weights follow."""
        for master, saved in zip(self.masters, state["masters"], strict=True):
            master.copy_(saved)
        self.adamw.load_state_dict(state["adamw"])
        self._publish()
