import pytest
import torch
from sparse_adapter.modules import sparse_weights
from sparse_adapter.pruning import Objective, build_pruner
from torch.autograd.functional import hessian
from torch.nn import functional

from ..conftest import make_net, translation_loss


def grasp_scores(model, objective) -> dict[str, torch.Tensor]:
    weights = {name: weight.values for name, weight in sparse_weights(model).items()}
    return build_pruner("grasp").score(weights, objective, torch.Generator())


@pytest.mark.parametrize("batches", [1, 3])
def test_against_an_explicit_hessian(batches):
    """θ ⊙ Hg, where H and g belong to the sum of the losses and biases are held constant."""
    net = make_net().double()
    first, _, second = net
    data = [(torch.randn(6, 5).double(), torch.randn(6, 3).double()) for _ in range(batches)]

    def total_loss(theta: torch.Tensor) -> torch.Tensor:
        w1, w2 = theta[:20].view(4, 5), theta[20:].view(3, 4)
        outputs = [torch.tanh(x @ w1.T + first.bias) @ w2.T + second.bias for x, _ in data]
        return sum(((out - y) ** 2).sum() for out, (_, y) in zip(outputs, data, strict=True))

    theta = torch.cat([first.weight.values.flatten(), second.weight.values.flatten()]).detach().requires_grad_()
    gradient = torch.autograd.grad(total_loss(theta), theta)[0]
    expected = theta.detach() * (hessian(total_loss, theta.detach()) @ gradient)

    losses = [lambda x=x, y=y: functional.mse_loss(net(x), y, reduction="sum") for x, y in data]
    scores = grasp_scores(net, Objective(losses))
    torch.testing.assert_close(torch.cat([s.flatten() for s in scores.values()]), expected, rtol=1e-9, atol=1e-9)


def test_bart_against_differences_of_gradients(double_model, batch):
    """Hg = (∇L(θ + hg) − ∇L(θ − hg)) / 2h, through attention, whose fused kernel has no second derivative."""
    objective = Objective([lambda: translation_loss(double_model, batch)])
    weights = {name: weight.values for name, weight in sparse_weights(double_model).items()}
    tensors = list(weights.values())
    gradient = objective.gradient(tensors)
    step = 1e-6 / sum(g.square().sum() for g in gradient).sqrt().item()
    shifted = []
    for sign in (1, -2, 1):  # forwards, backwards, and to where they were
        for weight, g in zip(tensors, gradient, strict=True):
            weight.data += sign * step * g
        shifted.append(objective.gradient(tensors))
    scores = grasp_scores(double_model, objective)
    for weight, plus, minus, score in zip(tensors, *shifted[:2], scores.values(), strict=True):
        expected = weight.detach() * (plus - minus) / (2 * step)
        torch.testing.assert_close(score, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


def test_high_scores_carry_gradient_flow(net, net_objective):
    """Shrinking a weight by a small share changes |g|² by −2 · share · score: a high score is worth keeping."""
    scores = grasp_scores(net, net_objective)
    weights = sparse_weights(net)
    share = 1e-6

    def flow() -> torch.Tensor:
        return sum(g.square().sum() for g in net_objective.gradient([w.values for w in weights.values()]))

    before = flow()
    for name, weight in weights.items():
        index = int(scores[name].abs().argmax())
        weight.values.data.view(-1)[index] *= 1 - share
        change = (flow() - before).item()
        weight.values.data.view(-1)[index] /= 1 - share
        assert change == pytest.approx(-2 * share * scores[name].flatten()[index].item(), rel=1e-3)
