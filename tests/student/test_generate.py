"""Generation takes the most likely token each time, whatever the model's own settings are."""

from __future__ import annotations

import pytest
import torch

from tutelage.student.inference.generate import generate
from tutelage.student.model.student import Student

SOURCES = [[5, 7, 11, 13], [6, 8]]


def _by_hand(student: Student, source: list[int], limit: int) -> list[int]:
    written: list[int] = []
    while len(written) < limit:
        with torch.no_grad():
            if student.architecture == "encoder-decoder":
                logits = student.model(
                    input_ids=torch.tensor([source]),
                    decoder_input_ids=torch.tensor([[student.decoder_start_id, *written]]),
                ).logits
            else:
                logits = student.model(input_ids=torch.tensor([source + written])).logits
        token = int(logits[0, -1].argmax())
        if token == student.eos_id:
            break
        written.append(token)
    return written


@pytest.mark.parametrize(
    "setting",
    [
        {},
        {"forced_bos_token_id": 9},
        {"forced_eos_token_id": 9},
        {"repetition_penalty": 3.0},
        {"no_repeat_ngram_size": 1},
        {"suppress_tokens": list(range(20))},
        {"num_beams": 3, "num_return_sequences": 2, "length_penalty": 2.0},
    ],
)
def test_generation_is_greedy_and_ignores_the_models_settings(
    student: Student, setting: dict[str, object]
) -> None:
    wanted = [_by_hand(student, source, 6) for source in SOURCES]
    config = student.model.generation_config
    for name, value in setting.items():
        setattr(config, name, value)
    assert generate(student, SOURCES, [], 6) == wanted
    assert student.model.generation_config is config
    for name, value in setting.items():
        assert getattr(config, name) == value
