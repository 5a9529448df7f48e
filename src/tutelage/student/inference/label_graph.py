"""A student's label scores as one OpenVINO graph: token ids in, log p(label | input) out.

The input is computed once for all labels. Labels that begin alike share the tokens that they have
in common, and the output head runs only where a label's token is predicted.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tutelage.core.errors import StudentError
from tutelage.student.model.student import Student

_LOWEST = -1e9
"""Added to the attention scores of what must not be attended to."""

_ATTENTION = "tutelage_shared_input"
"""Name of our attention under transformers' registry."""


class _Prefixes:
    """The texts before each label token, shared between labels.

    branches: label beginnings that are no other's beginning, as token ids
    nodes:    every distinct beginning, () first, and where it ends: (branch, tokens)
    """

    def __init__(self, labels: Sequence[Sequence[int]]) -> None:
        before = {tuple(ids[:-1]) for ids in labels}
        self.branches: list[tuple[int, ...]] = []
        for one in sorted(before, key=len, reverse=True):
            if not any(branch[: len(one)] == one for branch in self.branches):
                self.branches.append(one)
        self.nodes: dict[tuple[int, ...], tuple[int, int]] = {}
        for number, branch in enumerate(self.branches):
            for length in range(len(branch) + 1):
                self.nodes.setdefault(branch[:length], (number, length))


class _LabelScores(nn.Module):
    """Token ids and their mask [B, S] -> log p(label | input) [B, labels]."""

    node_of: torch.Tensor
    token: torch.Tensor
    sums: torch.Tensor

    def __init__(self, student: Student, labels: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.model = student.model
        self.prefixes = _Prefixes(labels)
        nodes = {ids: number for number, ids in enumerate(self.prefixes.nodes)}
        steps = [
            (k, tuple(ids[:t]), ids[t]) for k, ids in enumerate(labels) for t in range(len(ids))
        ]
        sums = torch.zeros(len(steps), len(labels))
        for step, (label, _, _) in enumerate(steps):
            sums[step, label] = 1.0
        self.register_buffer("node_of", torch.tensor([nodes[before] for _, before, _ in steps]))
        self.register_buffer("token", torch.tensor([token for _, _, token in steps]))
        self.register_buffer("sums", sums)

    def _total(self, logits: torch.Tensor) -> torch.Tensor:
        """logits [B, nodes, vocabulary] -> [B, labels]."""
        logits = logits.float()
        at = self.node_of * logits.shape[-1] + self.token
        chosen = logits.flatten(1).index_select(1, at)
        normalisers = torch.logsumexp(logits, -1).index_select(1, self.node_of)
        return (chosen - normalisers) @ self.sums

    @contextmanager
    def _head_at(self, pick: Any) -> Iterator[None]:
        """Inside, the output head receives `pick` of its input."""
        head = self.model.get_output_embeddings()
        handle = head.register_forward_pre_hook(lambda _, inputs: (pick(inputs[0]), *inputs[1:]))
        try:
            yield
        finally:
            handle.remove()


class EncoderDecoderScores(_LabelScores):
    """Runs the encoder once, and the decoder over all labels.

    shared: whether the decoder's rows share the keys and values of the encoder's states; else these
            are repeated for each branch
    """

    decoder_ids: torch.Tensor
    places: torch.Tensor

    def __init__(
        self, student: Student, labels: Sequence[Sequence[int]], *, shared: bool = True
    ) -> None:
        super().__init__(student, labels)
        self.shared = shared
        branches = self.prefixes.branches
        self.count = len(branches)
        self.width = 1 + max(map(len, branches))
        rows = [
            [student.decoder_start_id, *branch, *[student.pad_id] * (self.width - 1 - len(branch))]
            for branch in branches
        ]
        self.register_buffer("decoder_ids", torch.tensor(rows))
        places = [branch * self.width + t for branch, t in self.prefixes.nodes.values()]
        self.register_buffer("places", torch.tensor(places))

    def forward(self, input_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """See the class."""
        rows = input_ids.shape[0]
        additive = (1.0 - mask[:, None, None, :].float()) * _LOWEST
        states = self.model.get_encoder()(
            input_ids=input_ids, attention_mask=additive
        ).last_hidden_state
        if not self.shared:
            states = states.repeat_interleave(self.count, dim=0)
            additive = additive.repeat_interleave(self.count, dim=0)

        def pick(hidden: torch.Tensor) -> torch.Tensor:
            flat = hidden.reshape(rows, self.count * self.width, hidden.shape[-1])
            return flat.index_select(1, self.places)

        with self._head_at(pick):
            logits = self.model(
                encoder_outputs=(states,),
                attention_mask=additive,
                decoder_input_ids=self.decoder_ids.repeat(rows, 1),
                use_cache=False,
            ).logits
        return self._total(logits)


class DecoderOnlyScores(_LabelScores):
    """Runs the input and all labels after it in one row; each label attends to the input and to
    itself."""

    tail: torch.Tensor
    tail_positions: torch.Tensor
    tail_mask: torch.Tensor
    places: torch.Tensor

    def __init__(self, student: Student, labels: Sequence[Sequence[int]]) -> None:
        super().__init__(student, labels)
        branches = [branch for branch in self.prefixes.branches if branch]
        ids = [token for branch in branches for token in branch]
        positions = [t for branch in branches for t in range(len(branch))]
        owners = torch.tensor([n for n, branch in enumerate(branches) for _ in branch])
        at = torch.tensor(positions)
        own = (owners[:, None] == owners[None]) & (at[:, None] >= at[None])
        starts = [sum(map(len, branches[:n])) for n in range(len(branches))]
        # Node 0 is the end of the input; the others are tokens of the tail.
        places = [0] + [starts[n] + t - 1 for n, t in list(self.prefixes.nodes.values())[1:]]
        self.register_buffer("tail", torch.tensor(ids, dtype=torch.long))
        self.register_buffer("tail_positions", at.long())
        self.register_buffer("tail_mask", own.float().reshape(len(ids), len(ids)))
        self.register_buffer("places", torch.tensor(places))

    def forward(self, input_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """See the class."""
        rows, width, more = input_ids.shape[0], input_ids.shape[1], self.tail.shape[0]
        lengths = mask.sum(1, keepdim=True)
        inside = torch.arange(width, device=input_ids.device)
        causal = (inside[:, None] >= inside[None]).float()
        ids = torch.cat([input_ids, self.tail[None].repeat(rows, 1)], dim=1)
        positions = torch.cat(
            [inside[None].repeat(rows, 1), lengths + self.tail_positions[None]], dim=1
        )
        of_input = torch.cat([causal, torch.zeros(width, more)], dim=1)[None].repeat(rows, 1, 1)
        of_tail = torch.cat(
            [
                mask[:, None, :].float().repeat(1, more, 1),
                self.tail_mask[None].repeat(rows, 1, 1),
            ],
            dim=2,
        )
        allowed = torch.cat([of_input, of_tail], dim=1)[:, None]

        def pick(hidden: torch.Tensor) -> torch.Tensor:
            last = (lengths - 1)[:, :, None].expand(rows, 1, hidden.shape[-1])
            end = hidden.gather(1, last)
            if len(self.places) == 1:
                return end
            return torch.cat([end, hidden[:, width:].index_select(1, self.places[1:])], dim=1)

        with self._head_at(pick):
            logits = self.model(
                input_ids=ids,
                attention_mask=(1.0 - allowed) * _LOWEST,
                position_ids=positions,
                use_cache=False,
            ).logits
        return self._total(logits)


def shared_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    position_bias: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention in which several queries' rows may share a row of keys.

    query [B · n, H, T, d]; key, value [B, H, S, d]; position_bias, attention_mask: added to scores

    The n rows of queries of one row of keys become n · T queries of it: nothing is repeated.
    """
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    rows, heads, width = key.shape[0], query.shape[1], query.shape[3]
    apart = query.shape
    folded = int(query.shape[0]) != int(key.shape[0])
    if folded:
        count = int(query.shape[0]) // int(key.shape[0])
        query = query.reshape(rows, count, heads, -1, width).transpose(1, 2)
        query = query.reshape(rows, heads, -1, width)
    scores = query @ key.transpose(-1, -2) * scale
    if position_bias is not None and not folded:
        scores = scores + position_bias
    if attention_mask is not None:
        scores = scores + attention_mask
    found = torch.softmax(scores, -1) @ value
    if folded:
        found = found.reshape(rows, heads, count, -1, width).transpose(1, 2).reshape(apart)
    return found.transpose(1, 2).contiguous(), None


@contextmanager
def _attention(student: Student, name: str) -> Iterator[None]:
    """Inside, the student's model computes attention as `name` says."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    AttentionInterface.register(_ATTENTION, shared_attention)
    AttentionMaskInterface.register(_ATTENTION, eager_mask)
    before = student.model.config._attn_implementation
    student.model.set_attn_implementation(name)
    try:
        yield
    finally:
        student.model.set_attn_implementation(before)


def build_graph(student: Student, labels: Sequence[list[int]]) -> Any:
    """The OpenVINO model that scores these labels, with inputs `input_ids` and `mask` [B, S] and
    one output [B, labels], in fp32.

    Raises StudentError for a student that no form of the graph computes as the plain model does.
    """
    from tutelage.student.inference.plain_scores import score_alone
    from tutelage.student.model.agreement import agree, in_fp32

    if student.objective == "rationale_then_label":
        raise StudentError("it writes its rationale before the label, which one graph cannot")
    if not student.head_can_be_narrowed:
        raise StudentError("its output head does not treat each position by itself")
    reasons: list[str] = []
    with in_fp32(student) as twin, torch.no_grad():
        sources = [twin.any_tokens(9), twin.any_tokens(5, 1), twin.any_tokens(7, 2)]
        width = max(map(len, sources))
        ids = torch.tensor([[*s, *[twin.pad_id] * (width - len(s))] for s in sources])
        mask = torch.tensor([[1] * len(s) + [0] * (width - len(s)) for s in sources])
        wanted = score_alone(twin, sources, labels)
        for attention, scores in _forms(twin, labels):
            try:
                with _attention(twin, attention), _quiet():
                    if agree(scores(ids, mask), wanted):
                        return _converted(scores, ids, mask)
                reasons.append("its scores differ from the plain model's")
            except Exception as error:  # noqa: BLE001  a model's code may refuse anything
                reasons.append(" ".join(str(error).split())[:160])
    raise StudentError("; ".join(dict.fromkeys(reasons)))


def _forms(student: Student, labels: Sequence[list[int]]) -> Iterator[tuple[str, _LabelScores]]:
    """Forms of the graph, the fastest first, each with the attention that it needs."""
    if student.architecture == "decoder-only":
        yield "eager", DecoderOnlyScores(student, labels).eval()
        return
    yield _ATTENTION, EncoderDecoderScores(student, labels).eval()
    yield "eager", EncoderDecoderScores(student, labels, shared=False).eval()


def _converted(scores: nn.Module, ids: torch.Tensor, mask: torch.Tensor) -> Any:
    """The graph of a module, of any number of rows and tokens.

    Through the frontend itself: `openvino.convert_model` reports each call to OpenVINO's makers.
    """
    import openvino as ov
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    traced = torch.jit.trace(  # type: ignore[no-untyped-call]
        scores, (ids, mask), check_trace=False, strict=False
    )
    decoder = TorchScriptPythonDecoder(traced, example_input=(ids, mask))
    frontend = FrontEndManager().load_by_framework("pytorch")
    graph = frontend.convert(frontend.load(decoder))
    inputs = [port for port in graph.inputs if port.get_node().get_type_name() == "Parameter"]
    for port, name in zip(inputs, ("input_ids", "mask"), strict=True):
        port.get_node().set_element_type(ov.Type.i64)
        port.get_node().set_partial_shape(ov.PartialShape([-1, -1]))
        port.get_tensor().set_names({name})
    graph.validate_nodes_and_infer_types()
    return graph


def save_graph(graph: Any, path: Path, *, int8: bool = False) -> None:
    """Write a graph; path: of its .xml file, next to which its weights go as .bin.

    int8: keep the matrices of weights in 8 bits, with a scale for each row (compresses `graph`
          itself)
    """
    import openvino as ov

    if int8:
        _compress(graph)
    path.parent.mkdir(parents=True, exist_ok=True)
    ov.save_model(graph, str(path), compress_to_fp16=False)


def _compress(graph: Any) -> None:
    """Replace every matrix of weights that is multiplied or looked up by int8 and scales."""
    import numpy as np
    import openvino as ov
    from openvino import opset13 as opset

    done: dict[str, Any] = {}
    for operation in graph.get_ordered_ops():
        kind = operation.get_type_name()
        if kind not in ("MatMul", "Gather"):
            continue
        port = operation.input(1 if kind == "MatMul" else 0)
        weights = port.get_source_output().get_node()
        if weights.get_type_name() != "Constant" or weights.get_element_type() != ov.Type.f32:
            continue
        values = weights.data
        if values.ndim != 2 or values.size < 1024:
            continue
        # One scale for each output of the matrix: along the axis that is not summed.
        summed = 1
        if kind == "MatMul" and not operation.get_attributes()["transpose_b"]:
            summed = 0
        key = f"{weights.get_friendly_name()} {summed}"
        if key not in done:
            scale = np.abs(values).max(axis=summed, keepdims=True) / 127
            scale[scale == 0] = 1
            whole = np.clip(np.round(values / scale), -127, 127).astype(np.int8)
            small = opset.convert(opset.constant(whole, dtype=np.int8), "f32")
            done[key] = opset.multiply(small, opset.constant(scale.astype(np.float32)))
        port.replace_source_output(done[key].output(0))
    graph.validate_nodes_and_infer_types()


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, neither the tracer nor transformers warns of what is checked here."""
    from transformers import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)
