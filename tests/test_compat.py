"""The repairs of fairseq 0.12.3."""

import numpy as np
import pytest
import torch
from fairseq.data import TokenBlockDataset, data_utils
from sparse_adapter import compat


@pytest.mark.parametrize("count", [1, 7, 8, 13, 787])
@pytest.mark.parametrize("limits", [{"max_tokens": 12000}, {"max_tokens": 100}, {"max_sentences": 50}], ids=str)
def test_every_example_is_in_one_batch(count, limits):
    sizes = np.random.default_rng(1).integers(4, 20, count)
    batches = data_utils.batch_by_size(
        np.arange(count),
        num_tokens_fn=sizes.__getitem__,
        num_tokens_vec=sizes,
        required_batch_size_multiple=8,
        **limits,
    )
    assert np.concatenate(batches).tolist() == list(range(count))
    for batch in batches:
        if "max_tokens" in limits:
            assert len(batch) * sizes[batch].max() <= limits["max_tokens"]
        else:
            assert len(batch) <= limits["max_sentences"]


def test_applying_twice_changes_nothing():
    before = data_utils.batch_by_size
    compat.apply()
    assert data_utils.batch_by_size is before


def test_token_blocks_work_on_numpy_2():
    lines = [np.array([5, 6, 2]), np.array([7, 2])]
    blocks = TokenBlockDataset([torch.from_numpy(line) for line in lines], [3, 2], None, 1, 2, break_mode="eos")
    assert [block.tolist() for block in blocks] == [[5, 6, 2], [7, 2]]
