"""Examples that are too long: an error, but for other sets than the training set on request."""

from types import SimpleNamespace

import numpy as np
import pytest
from sparse_adapter.tasks.keep_all import KeepAllMixin


def test_too_long_examples_are_left_out_of_other_sets_on_request_only(caplog):
    dataset = SimpleNamespace(filter_indices_by_size=lambda indices, limit: (indices[:2], [2]))
    other = SimpleNamespace(filter_indices_by_size=dataset.filter_indices_by_size)
    task = KeepAllMixin()
    task.datasets = {"train": dataset, "valid": other}
    indices = np.arange(3)
    for asked, of in ((True, dataset), (False, other)):  # fairseq asks so of the training set always
        with pytest.raises(SystemExit, match="1 of 3 examples are longer than 512 tokens"):
            task.filter_indices_by_size(indices, of, 512, ignore_invalid_inputs=asked)
    with caplog.at_level("WARNING"):
        assert task.filter_indices_by_size(indices, other, 512, ignore_invalid_inputs=True).tolist() == [0, 1]
    assert "1 of 3 examples are too long and left out" in caplog.text
