"""LoRA (arXiv 2106.09685): training small matrices while a student's weights stay frozen.

An adapted layer computes W x + s B A x with s = alpha / rank. Only A and B are trained, so that
gradients, masters and moments exist for a few percent of the weights. The model that is evaluated
and saved is the plain one, with W + s B A in place of W: loading a checkpoint needs no peft.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from tutelage.config.training_settings import LoraSettings
from tutelage.core.errors import StudentError
from tutelage.student.model.agreement import evaluating
from tutelage.student.model.loading import meta_model
from tutelage.student.model.student import Student

_NAME = "default"
"""peft's own name for a layer's only adapter."""


class Adapters:
    """The adapters of one student under training; none if `settings` is None.

    They are inserted into the model in place, in the weights' dtype, so that it keeps its class,
    its names and its hooks. Raises StudentError for target modules that the student does not have.

    seed: of A; B starts at zero, so that the student starts unchanged
    """

    def __init__(self, student: Student, settings: LoraSettings | None, seed: int) -> None:
        self._model = student.model
        self._trainable = [p for p in self._model.parameters() if p.requires_grad]
        self._layers: dict[str, Any] = {}
        if settings is not None:
            self._layers = _insert(student, settings, seed)

    @contextmanager
    def merged(self) -> Iterator[None]:
        """Inside, the student's model is the plain, merged one, which can be evaluated and saved.

        The weights under training are not touched, because merging and separating them would round
        them. Needs a second copy of the adapted layers' weights while it lasts.
        """
        try:
            for name, layer in self._layers.items():
                self._model.set_submodule(name, _merged(layer))
            yield
        finally:
            for name, layer in self._layers.items():
                self._model.set_submodule(name, layer)

    def remove(self) -> None:
        """Restore the student's own layers, without what the adapters have learnt."""
        if not self._layers:
            return
        for name, layer in self._layers.items():
            self._model.set_submodule(name, layer.base_layer)
        for weight in self._trainable:
            weight.requires_grad_(True)
        del self._model.peft_config
        self._layers = {}


def merge_for_good(model: Any) -> None:
    """Put merged layers in the place of adapted ones, as an evaluation does for its time. A model
    without adapters stays as it is."""
    from peft.tuners.lora import LoraLayer

    layers = [
        (name, layer) for name, layer in model.named_modules() if isinstance(layer, LoraLayer)
    ]
    for name, layer in layers:
        model.set_submodule(name, _merged(layer))


def check_targets(spec: str, settings: LoraSettings) -> None:
    """Raise StudentError if the student that `spec` names lacks a target module, or has no layer
    that can be adapted.

    Loads no weights, so that it can run before anything is paid for. A new student (`scratch:`)
    is not checked: it cannot be built before it has a tokenizer.
    """
    if not spec.startswith("scratch:"):
        _matching_layers(meta_model(spec), settings.target_modules)


def _insert(student: Student, settings: LoraSettings, seed: int) -> dict[str, Any]:
    """Insert adapters into the student's model; returns the adapted layers by name."""
    from peft import LoraConfig, inject_adapter_in_model
    from peft.tuners.lora import LoraLayer
    from transformers.pytorch_utils import Conv1D

    model = student.model
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=_matching_layers(model, settings.target_modules, _bypassed(student)),
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
    )
    torch.manual_seed(seed)
    try:
        # Of a layer that it cannot adapt peft says so in any of these, by the kind of layer.
        inject_adapter_in_model(config, model, adapter_name=_NAME)
    except (ValueError, NotImplementedError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise StudentError(f"lora: no adapters for this student: {reason[:300]}") from error
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, LoraLayer)}


def _bypassed(student: Student) -> frozenset[str]:
    """Names of the linear layers whose weight the model uses without calling the layer (Mamba's
    dt_proj): an adapter there would change the merged model and not the one under training.

    Tried out with one forward pass.
    """
    called: set[str] = set()

    def remember(name: str) -> Callable[..., None]:
        return lambda *_: called.add(name)

    layers = {n: m for n, m in student.model.named_modules() if isinstance(m, torch.nn.Linear)}
    handles = [layer.register_forward_hook(remember(name)) for name, layer in layers.items()]
    try:
        with evaluating(student), torch.enable_grad():
            logits = student.model(**student.probe_inputs(), use_cache=False).logits
    finally:
        for handle in handles:
            handle.remove()
    silent = [n for n, m in layers.items() if n not in called and m.weight.requires_grad]
    if not silent or not logits.requires_grad:
        return frozenset()
    weights = [layers[name].weight for name in silent]
    used = torch.autograd.grad(logits.float().sum(), weights, allow_unused=True)
    return frozenset(name for name, grad in zip(silent, used, strict=True) if grad is not None)


def _matching_layers(
    model: Any, targets: Sequence[str] | None, excluded: Collection[str] = ()
) -> list[str]:
    """Full names of the linear layers whose names end with one of `targets`, as in peft; None: of
    all of them.

    A layer that shares its weight with another one does not match: merged, it would no longer share
    it, and the checkpoint would be a different model. Nor does the output head, whose weight the
    loss uses directly, without an adapter; nor a layer for which peft has no adapter because its
    model uses the weight directly, nor one that is `excluded`.
    """
    from transformers.pytorch_utils import Conv1D

    uses: dict[int, int] = {}
    for _, weight in model.named_parameters(remove_duplicate=False):
        uses[id(weight)] = uses.get(id(weight), 0) + 1
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, (torch.nn.Linear, Conv1D))
        and uses[id(module.weight)] == 1
        and module is not model.get_output_embeddings()
        and name not in excluded
        and _has_adapter(model, name)
    ]
    known = sorted({name.rpartition(".")[2] for name in names})
    if not names:
        raise StudentError(
            "lora: this student has no linear layers that adapters can be trained for: remove lora"
        )
    if targets is None:
        return names
    found = {end: [n for n in names if f".{n}".endswith(f".{end}")] for end in targets}
    unknown = [end for end, matches in found.items() if not matches]
    if unknown:
        raise StudentError(
            f"lora.target_modules: got {', '.join(map(repr, unknown))}, expected linear layers of "
            f"this student: {', '.join(known)}; without the key all of them are adapted"
        )
    return sorted({name for matches in found.values() for name in matches})


def _has_adapter(model: Any, name: str) -> bool:
    """Whether peft adapts the layer `name`; of Mamba's layers, for one, it refuses some."""
    from peft import LoraConfig, LoraModel

    try:
        LoraModel._check_target_module_compatiblity(
            None, LoraConfig(target_modules=[name]), model, name.rpartition(".")[2]
        )
    except ValueError:
        return False
    return True


@torch.no_grad()
def _merged(layer: Any) -> Any:
    """A plain layer that computes the same as the adapted one: W + s B A, added in fp32 and rounded
    once, to W's dtype. It shares the layer's bias and nothing else."""
    base = layer.base_layer
    a, b = (part[_NAME].weight.float() for part in (layer.lora_A, layer.lora_B))
    change = layer.scaling[_NAME] * (b @ a)
    if layer.fan_in_fan_out:
        change = change.T
    weight = torch.nn.Parameter((base.weight.float() + change).to(base.weight.dtype))
    # Everything else in the layer is copied; these two are used as they are.
    return copy.deepcopy(base, {id(base.weight): weight, id(base.bias): base.bias})
