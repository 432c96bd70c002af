"""The order of examples that batches are cut from."""

import numpy as np
import pytest
from fairseq.data.data_utils import numpy_seed
from sparse_adapter.length_groups import GROUP, grouped_by_length


@pytest.mark.parametrize("count", [1, 5, GROUP, 3 * GROUP + 7])
def test_every_example_once_and_each_group_sorted(count):
    sizes = np.random.default_rng(0).integers(1, 100, count)
    order = grouped_by_length(sizes)
    assert sorted(order.tolist()) == list(range(count))
    for start in range(0, count, GROUP):
        assert (np.diff(sizes[order[start : start + GROUP]]) >= 0).all()


def test_a_group_holds_examples_of_all_lengths():
    sizes = np.arange(10 * GROUP)
    order = grouped_by_length(sizes)
    assert all(np.ptp(sizes[group]) > 8 * GROUP for group in order.reshape(10, GROUP))


def test_the_seed_settles_the_order():
    orders = []
    for seed in (1, 2, 1):
        with numpy_seed(seed):
            orders.append(grouped_by_length(np.full(100, 7)).tolist())
    assert orders[0] == orders[2] != orders[1]


def test_what_is_evaluated_has_one_order():
    orders = []
    for seed in (1, 2):
        with numpy_seed(seed):
            orders.append(grouped_by_length(np.full(100, 7), evaluated=True).tolist())
    assert orders[0] == orders[1] != list(range(100))
