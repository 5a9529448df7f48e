"""What bare transformers computes, from text: written without anything of the package.

One row, one label or one target at a time. The texts are those of docs/design.md.
"""

from __future__ import annotations

from typing import Any

import torch


class Bare:
    """A model and a tokenizer of transformers, loaded from a folder."""

    def __init__(self, folder: str) -> None:
        from transformers import (
            AutoConfig,
            AutoModelForCausalLM,
            AutoModelForSeq2SeqLM,
            AutoTokenizer,
        )

        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.has_encoder = AutoConfig.from_pretrained(folder).is_encoder_decoder
        kind = AutoModelForSeq2SeqLM if self.has_encoder else AutoModelForCausalLM
        self.model: Any = kind.from_pretrained(folder, dtype=torch.float32).eval()
        if self.has_encoder:
            self.start = getattr(self.model.config, "decoder_start_token_id", None)
            if self.start is None:
                shifted = self.model.prepare_decoder_input_ids_from_labels(torch.tensor([[5, 1]]))
                self.start = int(shifted[0, 0])

    def ids(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return found

    def source(self, text: str, cue: str = "Answer:") -> list[int]:
        if self.has_encoder:
            found: list[int] = self.tokenizer(text).input_ids
            return found
        return [*self.ids(text), *self.ids("\n" + cue)]

    def log_probabilities(self, source: list[int], target: list[int]) -> torch.Tensor:
        """log p of each target token."""
        if self.has_encoder:
            logits = self.model(
                input_ids=torch.tensor([source]),
                decoder_input_ids=torch.tensor([[self.start, *target[:-1]]]),
                use_cache=False,
            ).logits[0]
        else:
            logits = self.model(input_ids=torch.tensor([source + target]), use_cache=False).logits[
                0
            ]
            logits = logits[len(source) - 1 : -1]
        return torch.log_softmax(logits.float(), -1)[range(len(target)), target]

    def probabilities(self, text: str, labels: list[str]) -> list[float]:
        """The labels' probabilities."""
        space = "" if self.has_encoder else " "
        with torch.no_grad():
            scores = [
                self.log_probabilities(self.source(text), self.ids(space + label)).sum()
                for label in labels
            ]
        found: list[float] = torch.softmax(torch.stack(scores).double(), 0).tolist()
        return found

    def gradient(
        self, rows: list[tuple[str, str, str]], objective: str, weight: float
    ) -> dict[str, torch.Tensor]:
        """The gradient of a step over rows (text, label, rationale), by the formula."""
        parts = [part for row in rows for part in self._targets(*row, objective)]
        counts = [sum(len(p[k]) for p in parts for k in ks) for ks in ((1,), (2,))]
        self.model.zero_grad()
        for source, label, rationale, label_first in parts:
            target = [*label, *rationale] if label_first else [*rationale, *label]
            found = -self.log_probabilities(source, target)
            at = len(label) if label_first else len(rationale)
            first, second = found[:at].sum(), found[at:].sum()
            label_loss, rationale_loss = (first, second) if label_first else (second, first)
            loss = weight * label_loss / max(counts[0], 1)
            loss = loss + (1 - weight) * rationale_loss / max(counts[1], 1)
            loss.backward()
        return {n: p.grad.clone() for n, p in self.model.named_parameters() if p.grad is not None}

    def _targets(
        self, text: str, label: str, rationale: str, objective: str
    ) -> list[tuple[list[int], list[int], list[int], bool]]:
        """(source, tokens of the label segment, tokens of the rationale segment, label first)"""
        space, line = ("", "") if self.has_encoder else (" ", "\n")
        end = [int(self.tokenizer.eos_token_id)]
        answer = self.ids(space + label)
        why = self.ids(space + rationale)
        if objective == "label":
            return [(self.source(text), [*answer, *end], [], True)]
        if objective == "label_then_rationale":
            after = self.ids(f"{line}Rationale: {rationale}")
            return [(self.source(text), answer, [*after, *end], True)]
        if objective == "multitask":
            ask, explain = (
                ("predict: " + text, "explain: " + text) if self.has_encoder else (text, text)
            )
            return [
                (self.source(ask), [*answer, *end], [], True),
                (self.source(explain, "Explanation:"), [], [*why, *end], True),
            ]
        raise ValueError(objective)

    def generate(self, source: list[int], count: int) -> list[int]:
        """Greedily, by one forward pass for each token."""
        written: list[int] = []
        end = self.tokenizer.eos_token_id
        while len(written) < count:
            with torch.no_grad():
                if self.has_encoder:
                    logits = self.model(
                        input_ids=torch.tensor([source]),
                        decoder_input_ids=torch.tensor([[self.start, *written]]),
                    ).logits
                else:
                    logits = self.model(input_ids=torch.tensor([source + written])).logits
            token = int(logits[0, -1].argmax())
            if token == end:
                break
            written.append(token)
        return written
