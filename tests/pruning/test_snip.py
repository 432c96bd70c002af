import torch
from sparse_adapter.modules import sparse_weights
from sparse_adapter.pruning import Objective, build_pruner, prune

from ..conftest import translation_loss

STEP = 1e-5


def snip_scores(model, objective) -> dict[str, torch.Tensor]:
    weights = {name: weight.values for name, weight in sparse_weights(model).items()}
    return build_pruner("snip").score(weights, objective, torch.Generator())


@torch.no_grad()
def mask_derivative(weight: torch.Tensor, index: int, objective: Objective) -> float:
    """|∂L/∂c| at c = 1 of one weight multiplied by c, by central differences."""
    flat, value = weight.data.view(-1), weight.data.view(-1)[index].item()
    losses = []
    for c in (1 + STEP, 1 - STEP):
        flat[index] = c * value
        losses.append(sum(loss().item() for loss in objective.losses))
    flat[index] = value
    return abs(losses[0] - losses[1]) / (2 * STEP)


def test_all_scores_against_finite_differences(net, net_objective):
    scores = snip_scores(net, net_objective)
    for name, weight in sparse_weights(net).items():
        expected = [mask_derivative(weight.values, i, net_objective) for i in range(weight.total)]
        expected = torch.tensor(expected).double().view(weight.shape)
        torch.testing.assert_close(scores[name], expected, rtol=1e-6, atol=1e-8)


def test_bart_against_finite_differences(double_model, batch):
    """Three weights of every matrix of every site, through attention, padding and the criterion."""
    objective = Objective([lambda: translation_loss(double_model, batch)])
    scores = snip_scores(double_model, objective)
    for name, weight in sparse_weights(double_model).items():
        for i in torch.randint(weight.total, (3,)).tolist():
            expected = mask_derivative(weight.values, i, objective)
            assert abs(scores[name].flatten()[i].item() - expected) < 1e-6 * max(1, expected)


def test_masks_keep_the_highest_scores(net, net_objective):
    masks = prune(net, "snip", 0.5, objective=net_objective)
    scores = torch.cat([s.flatten() for s in snip_scores(net, net_objective).values()])
    mask = torch.cat([m.flatten() for m in masks.values()])
    assert mask.sum() == 16
    assert scores[mask].min() > scores[~mask].max()
