import torch
from sparse_adapter.modules import sparse_weights
from sparse_adapter.pruning import Objective


def weights_of(net) -> list[torch.Tensor]:
    return [weight.values for weight in sparse_weights(net).values()]


def test_the_gradient_is_that_of_the_sum_and_writes_no_grad(net, net_objective):
    gradient = net_objective.gradient(weights_of(net))
    assert all(weight.grad is None for weight in net.parameters())
    sum(loss() for loss in net_objective.losses).backward()
    for weight, g in zip(weights_of(net), gradient, strict=True):
        torch.testing.assert_close(g, weight.grad)
        assert not g.requires_grad


def test_gradients_are_enabled_whatever_the_caller_does(net, net_objective):
    expected = net_objective.gradient(weights_of(net))
    with torch.no_grad():
        assert all(map(torch.equal, net_objective.gradient(weights_of(net)), expected))


def test_what_the_loss_does_not_depend_on_has_no_derivative(net):
    first, _, second = net
    objective = Objective([lambda: first(torch.ones(2, 5).double()).square().sum()])
    gradient = objective.gradient(weights_of(net))
    product = objective.hessian_vector_product(weights_of(net), gradient)
    assert gradient[0].any() and product[0].any()
    assert not gradient[1].any() and not product[1].any()


def test_a_linear_loss_has_no_curvature(net):
    objective = Objective([lambda: net[0](torch.ones(2, 5).double()).sum()])
    ones = [torch.ones_like(weight) for weight in weights_of(net)]
    assert not any(product.any() for product in objective.hessian_vector_product(weights_of(net), ones))


def test_its_size_is_that_of_all_processes(net_objective):
    losses = net_objective.losses
    twice = Objective(losses, lambda tensor: tensor.mul_(2), examples=7)
    assert twice.size(torch.device("cpu")) == {"batches": 2 * len(losses), "examples": 14}


def test_reduce_sums_once_over_processes(net, net_objective):
    alone = net_objective.gradient(weights_of(net))
    doubled = Objective(net_objective.losses, reduce=lambda tensor: tensor.mul_(2)).gradient(weights_of(net))
    for one, two in zip(alone, doubled, strict=True):
        torch.testing.assert_close(two, 2 * one)
