import copy
import io

import pytest
import torch
from fairseq.dataclass.configs import EMAConfig
from fairseq.models.ema import EMA
from fairseq.optim.adam import Adam as FairseqAdam
from sparse_adapter.modules import MASK_KEY, SparseLinear, SparseWeight, sparse_weights
from sparse_adapter.modules.sparse_weight import WORD_BITS, pack_mask, unpack_mask
from torch import nn
from torch.nn import functional

SHAPE = (5, 13)  # 65 elements: not a multiple of 8, and more than one word of the mask


def test_the_format_of_masks_is_that_of_the_files_that_there_are():
    mask = torch.zeros(60, dtype=torch.bool)
    mask[[0, 57, 59]] = True
    assert pack_mask(mask).tolist() == [2**57 + 1, 2**56]


@pytest.fixture
def mask() -> torch.Tensor:
    return torch.rand(SHAPE) < 0.6


@pytest.fixture
def weight() -> SparseWeight:
    return SparseWeight(*SHAPE, init=nn.init.normal_)


@pytest.fixture
def compact(mask) -> SparseWeight:
    weight = SparseWeight(*SHAPE, init=nn.init.normal_)
    weight.prune_(mask)
    return weight


def fresh(state: dict | None = None) -> SparseWeight:
    """Another dense weight, into which ``state`` is loaded."""
    weight = SparseWeight(*SHAPE, init=nn.init.ones_)
    if state is not None:
        weight.load_state_dict(state)
    return weight


def test_dense_until_pruned(weight):
    assert not weight.is_compact
    assert weight() is weight.values
    assert weight.values.shape == SHAPE
    assert set(weight.state_dict()) == {"values"}
    assert weight.mask().all()


def test_pruning_keeps_the_survivors_in_row_major_order(weight, mask):
    dense = weight.values.detach().clone()
    weight.prune_(mask)
    assert weight.values.shape == (int(mask.sum()),)
    assert torch.equal(weight.values, dense[mask])
    assert torch.equal(weight(), dense * mask)
    assert torch.equal(weight.mask(), mask)
    assert set(weight.state_dict()) == {"values", MASK_KEY}


def test_pruning_again_removes_more(weight, mask):
    dense = weight.values.detach().clone()
    weight.prune_(mask)
    fewer = mask & (torch.rand(SHAPE) < 0.5)
    weight.prune_(fewer)
    assert torch.equal(weight(), dense * fewer)


def test_pruning_never_grows_weights_again(compact, mask):
    with pytest.raises(ValueError, match="pruned before"):
        compact.prune_(torch.ones_like(mask))


@pytest.mark.parametrize("shape", [(13, 5), (65,), (5, 12)])
def test_a_mask_of_another_shape_is_refused(weight, shape):
    with pytest.raises(ValueError, match="shape"):
        weight.prune_(torch.ones(shape, dtype=torch.bool))


@pytest.mark.parametrize("requires_grad", [True, False])
def test_pruning_and_loading_keep_requires_grad(weight, compact, mask, requires_grad):
    weight.requires_grad_(requires_grad)
    weight.prune_(mask)
    assert weight.values.requires_grad is requires_grad
    other = fresh().requires_grad_(requires_grad)
    other.load_state_dict(compact.state_dict())
    assert other.values.requires_grad is requires_grad


def test_counts(compact, mask):
    assert (compact.total, compact.kept) == (65, int(mask.sum()))
    assert sum(p.numel() for p in compact.parameters()) == int(mask.sum())
    assert f"kept={int(mask.sum())} of 65" in repr(compact)


@pytest.mark.parametrize("numel", [1, 7, 8, 9, 57, 58, 59, 64, 65, 116, 1000])
def test_packed_masks_unpack_to_themselves(numel):
    for mask in (torch.rand(numel) < 0.5, torch.ones(numel).bool(), torch.zeros(numel).bool()):
        packed = pack_mask(mask)
        assert packed.numel() == -(-numel // WORD_BITS)
        assert torch.equal(unpack_mask(packed, mask.shape), mask)


def test_a_packed_mask_of_another_length_is_refused(compact):
    with pytest.raises(ValueError, match="does not fit"):
        unpack_mask(getattr(compact, MASK_KEY), torch.Size([5, 26]))
    with pytest.raises(RuntimeError, match="does not fit a weight of shape .5, 26."):  # as torch tells of other shapes
        SparseWeight(5, 26, init=nn.init.zeros_).load_state_dict(compact.state_dict())


@pytest.mark.parametrize("keep", [True, False])
def test_all_and_nothing_can_be_kept(weight, keep):
    dense = weight.values.detach().clone()
    weight.prune_(torch.full(SHAPE, keep))
    assert torch.equal(weight(), dense * keep)
    weight().sum().backward()
    assert torch.equal(fresh(weight.state_dict())(), weight())


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=0.05, weight_decay=0.1)


def adam_with_coupled_decay(parameters):
    return torch.optim.Adam(parameters, lr=0.05, weight_decay=0.1)


def fairseq_adam(parameters):
    return FairseqAdam(parameters, lr=0.05, weight_decay=0.1)


@pytest.mark.parametrize("optimizer", [adamw, adam_with_coupled_decay, fairseq_adam])
def test_training_equals_masked_dense_training(optimizer, mask):
    """Twenty clipped steps of W x + b, against a dense W whose gradient is masked before clipping."""
    x, y = torch.randn(20, 8, 13), torch.randn(20, 8, 5)
    linear = SparseLinear(13, 5, nn.init.normal_)
    dense = nn.Parameter(linear.weight.values.detach() * mask)
    bias = nn.Parameter(linear.bias.detach().clone())
    linear.weight.prune_(mask)
    ours, reference = optimizer(linear.parameters()), optimizer([bias, dense])
    for i in range(20):
        ours.zero_grad()
        functional.mse_loss(linear(x[i]), y[i]).backward()
        norm = nn.utils.clip_grad_norm_(linear.parameters(), 0.3)
        ours.step()

        reference.zero_grad()
        functional.mse_loss(x[i] @ dense.T + bias, y[i]).backward()
        dense.grad *= mask
        assert torch.isclose(norm, nn.utils.clip_grad_norm_([bias, dense], 0.3))
        assert norm > 0.3
        reference.step()
        dense.data *= mask
    torch.testing.assert_close(linear.weight(), dense, rtol=0, atol=1e-6)
    torch.testing.assert_close(linear.bias, bias, rtol=0, atol=1e-6)
    state = ours.state[linear.weight.values]
    assert {t.numel() for t in state.values() if torch.is_tensor(t) and t.dim()} == {int(mask.sum())}


def test_gradient_reaches_the_survivors_only(compact, mask):
    factor = torch.randn(SHAPE)
    (compact() * factor).sum().backward()
    assert torch.equal(compact.values.grad, factor[mask])


def test_dense_state_into_dense(weight):
    other = fresh(weight.state_dict())
    assert not other.is_compact
    assert torch.equal(other(), weight())


def test_compact_state_into_dense_makes_it_compact(compact, mask):
    other = fresh(compact.state_dict())
    assert other.is_compact
    assert torch.equal(other.mask(), mask)
    assert torch.equal(other(), compact())


def test_dense_state_into_compact_fills_in_the_survivors(weight, compact, mask):
    compact.load_state_dict(weight.state_dict())
    assert torch.equal(compact(), weight() * mask)


def test_compact_state_into_the_same_mask_keeps_the_parameter(compact):
    """An optimizer or DDP may hold it."""
    before = compact.values
    state = {key: value.clone() for key, value in compact.state_dict().items()}
    state["values"] += 1
    compact.load_state_dict(state)
    assert compact.values is before
    assert torch.equal(compact.values, state["values"])


def test_compact_state_into_another_mask(compact):
    other = fresh()
    other.prune_(torch.rand(SHAPE) < 0.3)
    other.load_state_dict(compact.state_dict())
    assert torch.equal(other(), compact())


def test_a_state_with_too_few_values_is_refused(compact):
    state = compact.state_dict()
    state["values"] = state["values"][:-1]
    with pytest.raises(RuntimeError, match="size mismatch"):
        fresh(state)


def test_half_keeps_the_mask(compact, mask):
    expected = compact().half()
    compact.half()
    assert torch.equal(compact.mask(), mask)
    assert torch.equal(compact(), expected)
    assert torch.equal(fresh(compact.state_dict())(), expected.float())


def test_deepcopy_is_independent(compact, mask):
    before = compact().detach().clone()
    other = copy.deepcopy(compact)
    other.values.data += 1
    assert torch.equal(other(), before + mask.float())
    assert torch.equal(compact(), before)
    assert torch.equal(other.mask(), mask)


def test_safe_loading_from_a_file(compact):
    file = io.BytesIO()
    torch.save(compact.state_dict(), file)
    file.seek(0)
    assert torch.equal(fresh(torch.load(file, weights_only=True))(), compact())


@pytest.mark.parametrize("count", [2, 10, 32])
def test_averaged_checkpoints(weight, count):
    """As fairseq's average_checkpoints.py: sum, then divide; integers by floor division."""
    mask = torch.ones(SHAPE, dtype=torch.bool)  # all bits set: the largest sum there can be
    mask[0, 0] = False
    weight.prune_(mask)
    states = []
    for _ in range(count):
        weight.values.data = torch.randn_like(weight.values)
        states.append({key: value.clone() for key, value in weight.state_dict().items()})
    mean = {key: value.clone() for key, value in states[0].items()}
    for state in states[1:]:
        for key, value in state.items():
            mean[key] += value
    for key, value in mean.items():
        mean[key] = value.div_(count) if value.is_floating_point() else value // count
    averaged = fresh(mean)
    assert torch.equal(averaged.mask(), mask)
    torch.testing.assert_close(averaged.values, torch.stack([s["values"] for s in states]).mean(0))


@pytest.mark.parametrize("fp32", [True, False])
def test_fairseqs_moving_average(compact, mask, fp32):
    model = nn.ModuleDict({"weight": compact})
    before = compact().detach().clone()
    ema = EMA(model, EMAConfig(store_ema=True, ema_decay=0.75, ema_fp32=fp32))
    compact.values.data += 1
    ema.step(model)
    average = ema.get_model()["weight"]
    torch.testing.assert_close(average(), before + 0.25 * mask)
    assert torch.equal(average.mask(), mask)
    assert torch.equal(ema.reverse(model)["weight"](), average())


def test_materialized_weight_is_the_same_until_training(compact):
    compact.eval()
    expected = compact().detach().clone()
    compact.materialize_()
    assert compact() is compact()  # made once
    assert torch.equal(compact(), expected)
    assert not any("materialized" in key for key in compact.state_dict())
    compact.train()
    compact.values.data += 1
    assert torch.equal(compact(), expected + compact.mask())


def test_materialized_weight_is_undone_by_loading_and_pruning(compact, weight, mask):
    compact.eval().materialize_()
    compact.load_state_dict(weight.state_dict())
    assert torch.equal(compact(), weight() * mask)
    compact.materialize_()
    fewer = mask & (torch.rand(SHAPE) < 0.5)
    compact.prune_(fewer)
    assert torch.equal(compact(), weight() * fewer)


def test_materialized_weight_follows_half(compact):
    compact.eval().materialize_()
    expected = compact().half()
    assert torch.equal(compact.half()(), expected)


def test_sparse_weights_names_all_of_a_model(compact, weight):
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": compact, "c": nn.ModuleList([weight])})
    assert sparse_weights(model) == {"b": compact, "c.0": weight}
