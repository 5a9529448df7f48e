"""What a plain model computes, row by row and label by label.

Written without the code that it is compared with: no batches, no padding, no packed rows, no cache,
no positions of targets kept anywhere. It knows token ids and transformers' forward pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from tutelage.student.encoding.targets import LABEL
from tutelage.student.encoding.tokenise import EncodedExample
from tutelage.student.model.agreement import TOLERANCE, agree, same


@dataclass(frozen=True)
class Reference:
    """A plain model.

    start:      the token that its decoder starts from; None: it has no encoder
    classifies: whether a target is the place of a class, not tokens
    """

    model: Any
    start: int | None
    classifies: bool = False

    def log_probabilities(self, source: Sequence[int], target: Sequence[int]) -> torch.Tensor:
        """log p of each token of `target` [T], given `source` and the tokens before it."""
        return self._forward(source, target)[0]

    def _forward(
        self, source: Sequence[int], target: Sequence[int], states: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """log p of each token of `target` [T], and what the encoder made of the source.

        states: what it made of it before, [1, S, width]; None: it is run
        """
        encoded: torch.Tensor | None = None
        device = next(self.model.parameters()).device
        if self.classifies:
            logits = self.model(input_ids=torch.tensor([list(source)], device=device)).logits
        elif self.start is None:
            row = torch.tensor([[*source, *target]], device=device)
            logits = self.model(input_ids=row, use_cache=False).logits[0]
            # The logits at a position predict the next one.
            logits = logits[len(source) - 1 : len(source) + len(target) - 1]
        else:
            row = torch.tensor([list(source)], device=device)
            decoder = torch.tensor([[self.start, *target[:-1]]], device=device)
            found = self.model(
                **({"input_ids": row} if states is None else {"encoder_outputs": (states,)}),
                attention_mask=torch.ones_like(row),
                decoder_input_ids=decoder,
                use_cache=False,
            )
            logits, encoded = found.logits[0], found.encoder_last_hidden_state
        every = functional.log_softmax(logits.float(), dim=-1)
        places, tokens = torch.arange(len(target)), torch.tensor(list(target))
        return every[places.to(device), tokens.to(device)], encoded

    def scores(
        self, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], last: int = 0
    ) -> torch.Tensor:
        """log p of the end of each target [sources, targets], fp32.

        last: number of the target's first tokens that are given, not scored

        The encoder runs once for each source, if the model gives the same numbers with what it then
        made of it.
        """
        shares = self.start is not None and not self.classifies
        rows: list[torch.Tensor] = []
        with torch.no_grad():
            for source in sources:
                first, states = self._forward(source, targets[0])
                if shares and not rows:
                    shares = same(partial(self._repeats, source, targets[0], states, first))
                others = [
                    self._forward(source, target, states if shares else None)[0]
                    for target in targets[1:]
                ]
                rows.append(torch.stack([found[last:].sum() for found in (first, *others)]))
        return torch.stack(rows).float()

    def _repeats(
        self,
        source: Sequence[int],
        target: Sequence[int],
        states: torch.Tensor | None,
        wanted: torch.Tensor,
    ) -> bool:
        """Whether the decoder gives the same numbers for what the encoder made before."""
        return states is not None and agree(
            self._forward(source, target, states)[0], wanted, TOLERANCE / 10
        )

    def loss(
        self, examples: Sequence[EncodedExample], weight: float
    ) -> tuple[float, Mapping[str, torch.Tensor]]:
        """The loss of one step over `examples`, and the gradient of each weight, by name.

        weight: of the labels' tokens; 1 − weight is that of the rationales'
        """
        sequences = [sequence for example in examples for sequence in example.sequences]
        kinds = [kind for sequence in sequences for kind in sequence.segments]
        labels = sum(kind == LABEL for kind in kinds)
        each = {True: weight / max(labels, 1), False: (1 - weight) / max(len(kinds) - labels, 1)}
        self.model.zero_grad(set_to_none=True)
        losses = []
        for sequence in sequences:
            found = self.log_probabilities(sequence.source, sequence.target)
            shares = torch.tensor([each[kind == LABEL] for kind in sequence.segments])
            losses.append(-(found * shares.to(found.device)).sum())
        # One backward pass, since memory for all gradients is needed once for each.
        loss = torch.stack(losses).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach()), gradients(self.model)


def gradients(model: Any) -> dict[str, torch.Tensor]:
    """The gradient of each weight that has one, by name; they are taken from the model."""
    found = {
        name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None
    }
    model.zero_grad(set_to_none=True)
    return found
