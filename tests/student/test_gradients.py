from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tutelage.student.fast.gradients import add_gradients_in_place, add_rows, add_to, adds_in_place
from tutelage.student.model.student import Student


def test_rows_of_one_id_are_added_up_before_they_are_rounded() -> None:
    weight = torch.zeros(5, 2, dtype=torch.bfloat16)
    weight.grad = torch.full_like(weight, 256.0)
    # 256 and 1 are 256 in bfloat16, however often; 256 and 8 are not.
    add_rows(weight, torch.tensor([3, 1] + [3] * 7), torch.ones(9, 2, dtype=torch.bfloat16))
    assert weight.grad[:, 0].tolist() == [256.0, 256.0, 256.0, 264.0, 256.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_of_another_type_are_added_in_parts(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    monkeypatch.setattr("tutelage.student.fast.gradients._PART", 4)
    total, gradient = torch.randn(3, 7), torch.randn(7, 3).t().to(dtype)
    expected = total + gradient.float()
    add_to(total, gradient)
    assert torch.equal(total, expected)


@pytest.mark.parametrize("padding", [None, 5])
def test_an_embedding_learns_the_same_in_place(padding: int | None) -> None:
    model = _Model(padding)
    plain = copy.deepcopy(model)
    add_gradients_in_place(model)
    assert type(model.words) is not nn.Embedding and type(plain.words) is nn.Embedding
    assert adds_in_place(model.head) and not adds_in_place(plain.head)
    shares = torch.randn(2, 4, 3)
    for ids in ([[5, 9, 9, 0], [1, 5, 9, 30]], [[2, 2, 2, 2], [39, 0, 5, 2]]):
        for one in (model, plain):
            (one.words(torch.tensor(ids)) * shares).sum().backward()
    assert plain.words.weight.grad is not None
    torch.testing.assert_close(model.words.weight.grad, plain.words.weight.grad)


def test_an_embedding_of_which_most_is_read_is_left_to_torch() -> None:
    model = _Model(None)
    add_gradients_in_place(model)
    many = torch.arange(11)[None]
    assert model.words(many).grad_fn.name() == "EmbeddingBackward0"
    assert "Lookup" in model.words(many[:, :10]).grad_fn.name()


def test_positions_and_frozen_words_are_left_alone(encoder_decoder: Student) -> None:
    model = encoder_decoder.model
    add_gradients_in_place(model)
    changed = {name for name, m in model.named_modules() if "_Embedding" in type(m).__name__}
    assert changed == {"shared", "encoder.embed_tokens", "decoder.embed_tokens"}
    model.get_input_embeddings().weight.requires_grad_(False)
    assert not model.get_input_embeddings()(torch.tensor([[1]])).requires_grad


class _Model(nn.Module):
    """Words, and a head that shares their weight, as models of transformers have them."""

    def __init__(self, padding: int | None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(40, 3, padding_idx=padding)
        self.head = nn.Linear(3, 40, bias=False)
        self.head.weight = self.words.weight

    def get_input_embeddings(self) -> nn.Embedding:
        return self.words

    def get_output_embeddings(self) -> nn.Linear:
        return self.head
