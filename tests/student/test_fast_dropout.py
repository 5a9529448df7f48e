from __future__ import annotations

import pytest
import torch

from tutelage.student.fast import dropout
from tutelage.student.fast.dropout import use_fast_dropout
from tutelage.student.model.student import Student


@pytest.mark.parametrize("rate", [0.1, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_drops_its_share_and_scales_the_rest(rate: float, dtype: torch.dtype) -> None:
    layer = dropout._Dropout(rate)
    values = torch.ones(501, 333, dtype=dtype, requires_grad=True)
    torch.manual_seed(1)
    found = layer(values)
    found.sum().backward()
    kept = torch.tensor(1 / (1 - rate), dtype=dtype)
    tolerance = 0.0 if dtype == torch.bfloat16 else 1e-6
    assert bool(((found == 0) | ((found - kept).abs() <= tolerance)).all())
    dropped = (found == 0).double()
    sigma = (rate * (1 - rate) / dropped.numel()) ** 0.5
    assert abs(dropped.mean().item() - rate) < 4 * sigma
    # No pattern along either dimension, as wrong bits would leave.
    for places in (dropped[:-1] * dropped[1:], dropped[:, :-1] * dropped[:, 1:]):
        assert abs(places.mean().item() - rate**2) < 5 * rate / places.numel() ** 0.5
    assert values.grad is not None and torch.equal(values.grad == 0, found == 0)
    torch.manual_seed(1)
    assert torch.equal(layer(values), found)
    assert not torch.equal(layer(values), found)
    assert layer.eval()(values) is values


def test_a_t5_without_dropout_computes_the_same(encoder_decoder: Student) -> None:
    model = encoder_decoder.model.train()
    model.set_attn_implementation("eager")
    ids = torch.tensor([[5, 9, 12, 40, 1], [7, 8, 1, 0, 0]])
    inputs = {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": ids}

    def run() -> list[torch.Tensor]:
        model.zero_grad()
        output = model(**inputs)
        output.loss.backward()
        return [output.logits.detach(), *(p.grad.clone() for p in model.parameters())]

    before = run()
    use_fast_dropout(model)
    assert model.encoder.config._attn_implementation == dropout._EAGER
    for one, other in zip(before, run(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_t5_drops_in_its_attention_too(encoder_decoder: Student) -> None:
    model = encoder_decoder.model.train()
    use_fast_dropout(model)
    attention = model.encoder.block[0].layer[0].SelfAttention
    states = torch.randn(2, 6, model.config.d_model)
    attention.dropout = 0.5
    one, other = attention(states)[0], attention(states)[0]
    assert not torch.equal(one, other)
    model.eval()
    assert torch.equal(attention(states)[0], attention(states)[0])
