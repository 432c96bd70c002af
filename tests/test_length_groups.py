"""The order of examples that batches are cut from."""

import numpy as np
import pytest
from fairseq.data import ListDataset
from sparse_adapter.length_groups import GROUP, LengthGroupedDataset, grouped_by_length


@pytest.mark.parametrize("count", [1, 5, GROUP, 3 * GROUP + 7])
def test_every_example_once_and_each_group_sorted(count):
    sizes = np.random.default_rng(0).integers(1, 100, count)
    order = grouped_by_length(sizes, seed=1, epoch=1)
    assert sorted(order.tolist()) == list(range(count))
    for start in range(0, count, GROUP):
        assert (np.diff(sizes[order[start : start + GROUP]]) >= 0).all()


def test_seed_and_epoch_settle_the_order():
    sizes = np.full(100, 7)
    first = grouped_by_length(sizes, 1, 1)
    assert (first == grouped_by_length(sizes, 1, 1)).all()
    assert (first != grouped_by_length(sizes, 1, 2)).any() and (first != grouped_by_length(sizes, 2, 1)).any()


def test_a_group_holds_examples_of_all_lengths():
    sizes = np.arange(10 * GROUP)
    order = grouped_by_length(sizes, seed=1, epoch=1)
    assert all(np.ptp(sizes[group]) > 8 * GROUP for group in order.reshape(10, GROUP))


def test_batches_change_with_the_epoch():
    sizes = np.random.default_rng(0).integers(1, 30, 64)
    dataset = LengthGroupedDataset(ListDataset(list(range(64)), sizes), sizes, seed=1)
    orders = []
    for epoch in (1, 2, 1):
        dataset.set_epoch(epoch)
        orders.append(dataset.ordered_indices().tolist())
    assert orders[0] == orders[2] != orders[1] and not dataset.can_reuse_epoch_itr_across_epochs
