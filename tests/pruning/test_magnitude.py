import pytest
import torch
from sparse_adapter.modules import SparseWeight
from sparse_adapter.pruning import prune
from torch import nn


@pytest.fixture
def model() -> nn.Module:
    model = nn.ModuleDict({name: SparseWeight(2, 2, init=nn.init.zeros_) for name in ("a", "b")})
    model["a"].values.data = torch.tensor([[0.1, -0.9], [0.2, 0.3]])
    model["b"].values.data = torch.tensor([[-5.0, 4.0], [0.25, 0.0]])
    return model


def test_the_largest_absolute_values_stay(model):
    masks = prune(model, "magnitude", 0.5)
    assert masks["a"].tolist() == [[False, True], [False, True]]
    assert masks["b"].tolist() == [[True, True], [False, False]]


def test_in_each_matrix(model):
    masks = prune(model, "magnitude", 0.75, scope="matrix")
    assert masks["a"].tolist() == [[False, True], [False, False]]
    assert masks["b"].tolist() == [[True, False], [False, False]]
