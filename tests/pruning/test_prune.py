"""Every registered pruner on a tiny BART: density, determinism, and no trace left in the model."""

import math
from collections import defaultdict

import pytest
import torch
from sparse_adapter.errors import UsageError
from sparse_adapter.modules import SparseWeight, sparse_weights, split_adapter_key
from sparse_adapter.pruning import PRUNERS, SCOPES, DegenerateScores, Objective, prune, register_pruner
from sparse_adapter.pruning.prune import zeros_drawn
from sparse_adapter.pruning.random import Random
from torch import nn

from ..conftest import make_batch, randomize, state_copy, translation_loss

SCORED = [name for name, pruner in PRUNERS.items() if pruner.needs_data]


def test_the_five_pruners_of_the_paper_are_registered():
    assert set(PRUNERS) >= {"random", "magnitude", "er", "snip", "grasp"}


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("pruner", PRUNERS)
def test_the_density_is_exact(model, objective, pruner, scope):
    weights = sparse_weights(model)
    total = sum(weight.values.numel() for weight in weights.values())
    for sparsity in (0.2, 0.4, 0.6, 0.8):
        masks = prune(model, pruner, sparsity, scope=scope, objective=objective)
        assert {name: mask.shape for name, mask in masks.items()} == {n: w.shape for n, w in weights.items()}
        assert sum(int(mask.sum()) for mask in masks.values()) == round((1 - sparsity) * total)
        if PRUNERS[pruner].allocation is None:
            for group in groups(masks, scope):
                kept = torch.cat([masks[name].flatten() for name in group])
                assert abs(int(kept.sum()) - (1 - sparsity) * len(kept)) < 1


def groups(names, scope: str) -> list[list[str]]:
    part = {"global": slice(0), "layer": 0, "family": 1, "site": 2, "matrix": slice(None)}[scope]
    found = defaultdict(list)
    for name in names:
        found[split_adapter_key(name)[part]].append(name)
    return list(found.values())


@pytest.mark.parametrize("scope, number", [("global", 1), ("family", 2), ("site", 3), ("layer", 4), ("matrix", 44)])
def test_a_scope_ranks_what_it_names(build_bart, scope, number):
    """Of each group by itself, the largest weights stay."""
    model = randomize(build_bart(adapter="houlsby+lora"))
    sizes = {name: weight.values.detach().abs() for name, weight in sparse_weights(model).items()}
    masks = prune(model, "magnitude", 0.6, scope=scope)
    assert len(groups(masks, scope)) == number
    for group in groups(masks, scope):
        size, kept = (torch.cat([of[name].flatten() for name in group]) for of in (sizes, masks))
        assert size[kept].min() > size[~kept].max()


@pytest.mark.parametrize("pruner", ["magnitude", "er", "snip"])
def test_a_shuffle_keeps_the_density_of_every_matrix_and_nothing_else(model, objective, pruner):
    chosen = prune(model, pruner, 0.6, objective=objective)
    shuffled = prune(model, pruner, 0.6, objective=objective, shuffle=True)
    again = prune(model, pruner, 0.6, objective=objective, shuffle=True)
    assert {name: int(mask.sum()) for name, mask in shuffled.items()} == {n: int(m.sum()) for n, m in chosen.items()}
    assert all(torch.equal(again[name], mask) for name, mask in shuffled.items())
    both = sum(int((mask & chosen[name]).sum()) for name, mask in shuffled.items())
    expected = sum(int(mask.sum()) ** 2 / mask.numel() for mask in chosen.values())  # by chance
    assert both == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("pruner", PRUNERS)
def test_pruning_leaves_the_model_alone(model, objective, pruner):
    before = state_copy(model)
    requires_grad = {name: p.requires_grad for name, p in model.named_parameters()}
    prune(model, pruner, 0.5, objective=objective)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert {name: p.requires_grad for name, p in model.named_parameters()} == requires_grad
    assert not model.training


@pytest.mark.parametrize("pruner", PRUNERS)
def test_the_global_random_state_neither_matters_nor_changes(model, objective, pruner):
    first = prune(model, pruner, 0.5, objective=objective)
    torch.manual_seed(12345)
    state = torch.get_rng_state()
    second = prune(model, pruner, 0.5, objective=objective)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("pruner", PRUNERS)
def test_the_seed_decides_random_scores_only(model, objective, pruner):
    """And those that are equal at the threshold, as the zeros of units that are off: at 0.8, these are below it."""
    first, second = (prune(model, pruner, 0.8, seed=seed, objective=objective) for seed in (1, 2))
    same = all(torch.equal(first[name], second[name]) for name in first)
    assert same != issubclass(PRUNERS[pruner], Random)


@pytest.mark.parametrize("pruner", SCORED)
def test_the_data_decides_the_scores(model, dictionary, pruner):
    def masks(seed):
        batch = make_batch(dictionary, seed)
        return prune(model, pruner, 0.5, objective=Objective([lambda: translation_loss(model, batch)]))

    first, second = masks(0), masks(1)
    assert any(not torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("pruner", SCORED)
def test_scores_are_summed_over_processes(model, objective, pruner):
    """Two processes with a batch each, the sum taken by ``reduce``, choose as one with both batches does."""
    parts = [Objective([loss]) for loss in objective.losses]
    weights = [weight.values for weight in sparse_weights(model).values()]
    gradient = parts[1].gradient(weights)
    product = parts[1].hessian_vector_product(weights, objective.gradient(weights))
    others = iter([*gradient, *product])
    first_process = Objective(parts[0].losses, reduce=lambda tensor: tensor.add_(next(others)))
    masks, expected = (prune(model, pruner, 0.5, objective=o) for o in (first_process, objective))
    agreement = sum(int((masks[name] == expected[name]).sum()) for name in masks)
    assert agreement / sum(mask.numel() for mask in masks.values()) > 0.999


@pytest.mark.parametrize("pruner", PRUNERS)
def test_zero_initialised_matrices_are_scored_as_if_they_were_drawn(build_bart, batch, pruner):
    """Exact density, something left of every matrix, zeros again afterwards, and all of it from the seed."""
    model = build_bart(adapter_init="zero-up", dropout=0.0)
    objective = Objective([lambda: translation_loss(model, batch)])
    masks = prune(model, pruner, 0.4, objective=objective, seed=3)
    assert sum(int(mask.sum()) for mask in masks.values()) == round(0.6 * 10 * 2 * 8 * 32)
    assert all(mask.any() for mask in masks.values())
    assert not any(weight.values.any() for name, weight in sparse_weights(model).items() if ".up." in name)
    again = prune(model, pruner, 0.4, objective=objective, seed=3)
    assert all(torch.equal(mask, again[name]) for name, mask in masks.items())
    if pruner in SCORED:
        other = prune(model, pruner, 0.4, objective=objective, seed=4)
        assert not all(torch.equal(mask, other[name]) for name, mask in masks.items())


def test_the_draw_is_normal_and_only_of_matrices_that_are_zero_throughout(net):
    kept, zero = sparse_weights(net).values()
    kept.values.data[0] = 0
    zero.values.data.zero_()
    before = kept.values.clone()
    big = SparseWeight(200, 100, init=torch.nn.init.zeros_)
    with pytest.raises(RuntimeError, match="while scoring"), zeros_drawn([kept, zero, big], seed=1):
        assert torch.equal(kept.values, before)
        assert zero.values.all()
        assert big.values.std().item() == pytest.approx(0.02, rel=0.02)
        raise RuntimeError("while scoring")
    assert not zero.values.any() and not big.values.any()


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("pruner", SCORED)
def test_a_loss_that_is_not_finite_is_refused(model, batch, pruner, value):
    objective = Objective([lambda: translation_loss(model, batch) * value])
    with pytest.raises(DegenerateScores, match=rf"{pruner}: .*not finite.*--pruner random"):
        prune(model, pruner, 0.4, objective=objective)


@pytest.mark.parametrize("pruner", SCORED)
def test_no_batches_are_refused(model, pruner):
    with pytest.raises(DegenerateScores):
        prune(model, pruner, 0.4, objective=Objective([]))


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.5, math.nan])
def test_a_sparsity_out_of_range_is_refused(net, sparsity):
    with pytest.raises(ValueError, match="fraction removed"):
        prune(net, "random", sparsity)


def test_a_sparsity_that_leaves_nothing_is_refused(net):
    with pytest.raises(UsageError, match=r"--sparsity 0.99999 leaves none of the adapters' \d+ weights"):
        prune(net, "random", 0.99999)


def test_other_mistakes_are_refused(net):
    with pytest.raises(ValueError, match="unknown pruner 'best'; choose one of .*snip"):
        prune(net, "best", 0.5)
    with pytest.raises(ValueError, match="unknown prune scope 'model'; choose one of global, family, .*matrix"):
        prune(net, "random", 0.5, scope="model")
    with pytest.raises(ValueError, match="needs an objective"):
        prune(net, "snip", 0.5)
    with pytest.raises(ValueError, match="no prunable weights"):
        prune(nn.Linear(2, 2), "random", 0.5)
    with pytest.raises(ValueError, match="registered twice"):
        register_pruner("snip")(PRUNERS["snip"])
