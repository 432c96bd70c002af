import pytest
import torch
from sparse_adapter.modules import SparseWeight
from sparse_adapter.pruning import prune
from sparse_adapter.pruning.erdos_renyi import erdos_renyi_quotas
from torch import nn


def shapes(**sizes) -> dict[str, torch.Size]:
    return {name: torch.Size(size) for name, size in sizes.items()}


def test_closed_form():
    """ε = 80 / (40 + 40 + 105), and ε · (n_in + n_out) is 17.3, 17.3 and 45.4."""
    assert erdos_renyi_quotas(shapes(a=(10, 30), b=(20, 20), c=(5, 100)), 80) == {"a": 17, "b": 17, "c": 46}


def test_a_saturated_matrix_is_dense_and_epsilon_solved_again():
    """At ε = 1000 / 458, a would keep 17.5 of 16; for the rest ε = 984 / 450."""
    assert erdos_renyi_quotas(shapes(a=(4, 4), b=(100, 100), c=(50, 200)), 1000) == {"a": 16, "b": 437, "c": 547}


def test_one_saturated_matrix_can_saturate_the_next():
    """At ε = 1110 / 224 only a is full (b: 99.1 of 100); at ε = 1106 / 220 b is too (100.5); c gets the rest."""
    assert erdos_renyi_quotas(shapes(a=(2, 2), b=(10, 10), c=(100, 100)), 1110) == {"a": 4, "b": 100, "c": 1006}


def water_level(sizes: dict[str, torch.Size], kept: int) -> dict[str, float]:
    """min(n, ε · (n_in + n_out)) with ε found by bisection."""
    low, high = 0.0, 1e6
    for _ in range(200):
        epsilon = (low + high) / 2
        shares = {name: min(size.numel(), epsilon * sum(size)) for name, size in sizes.items()}
        low, high = (epsilon, high) if sum(shares.values()) < kept else (low, epsilon)
    return shares


@pytest.mark.parametrize("density", [0.0, 0.01, 0.1, 0.3, 0.5, 0.8, 0.95, 0.999, 1.0])
def test_against_bisection(density):
    generator = torch.Generator().manual_seed(3)
    for _ in range(20):
        sizes = torch.randint(1, 60, (6, 2), generator=generator).tolist()
        named = {str(i): torch.Size(size) for i, size in enumerate(sizes)}
        kept = round(density * sum(size.numel() for size in named.values()))
        quotas = erdos_renyi_quotas(named, kept)
        assert sum(quotas.values()) == kept
        for name, share in water_level(named, kept).items():
            assert abs(quotas[name] - share) < 1 + 1e-6
            assert 0 <= quotas[name] <= named[name].numel()


@pytest.mark.parametrize("scope", ["global", "matrix"])
def test_masks_have_the_quotas_in_either_scope(scope):
    sizes = {"a": (4, 4), "b": (100, 100), "c": (50, 200)}
    model = nn.ModuleDict({name: SparseWeight(*size, init=nn.init.zeros_) for name, size in sizes.items()})
    masks = prune(model, "er", 1 - 1000 / 20016, scope=scope)
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {"a": 16, "b": 437, "c": 547}


def test_random_inside_a_matrix():
    model = nn.ModuleList([SparseWeight(10, 10, init=nn.init.zeros_)])
    kept = sum(prune(model, "er", 0.4, seed=seed)["0"].int() for seed in range(400))
    assert (kept - 240).abs().max() < 5 * 9.8  # binomial(400, 0.6)
