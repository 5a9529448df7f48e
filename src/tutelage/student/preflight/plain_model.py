"""What a plain model computes, row by row and label by label.

Written without the code that it is compared with: no batches, no padding, no packed rows, no cache,
no positions of targets kept anywhere. It knows token ids and transformers' forward pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from tutelage.student.encoding.targets import LABEL
from tutelage.student.encoding.tokenise import EncodedExample


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
            logits = self.model(
                input_ids=row,
                attention_mask=torch.ones_like(row),
                decoder_input_ids=decoder,
                use_cache=False,
            ).logits[0]
        every = functional.log_softmax(logits.float(), dim=-1)
        return torch.stack([every[place, token] for place, token in enumerate(target)])

    def scores(
        self, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], last: int = 0
    ) -> torch.Tensor:
        """log p of the end of each target [sources, targets], fp32.

        last: number of the target's first tokens that are given, not scored
        """
        with torch.no_grad():
            return torch.stack(
                [
                    torch.stack([self.log_probabilities(s, t)[last:].sum() for t in targets])
                    for s in sources
                ]
            ).float()

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
        total = 0.0
        for sequence in sequences:
            found = self.log_probabilities(sequence.source, sequence.target)
            shares = torch.tensor([each[kind == LABEL] for kind in sequence.segments])
            loss = -(found * shares.to(found.device)).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        return total, gradients(self.model)


def gradients(model: Any) -> dict[str, torch.Tensor]:
    """The gradient of each weight that has one, by name; they are taken from the model."""
    found = {
        name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None
    }
    model.zero_grad(set_to_none=True)
    return found
