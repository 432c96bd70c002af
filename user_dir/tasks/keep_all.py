"""Sets of which nothing is left out, unless it is asked for."""

import logging

import numpy as np
from fairseq.data import FairseqDataset

from ..errors import UsageError, one_line_errors

logger = logging.getLogger(__name__)


class KeepAllMixin:
    """A task that leaves no example out for its length: fairseq would train on the others with a warning in the log."""

    def filter_indices_by_size(
        self, indices: np.ndarray, dataset: FairseqDataset, max_positions=None, ignore_invalid_inputs: bool = False
    ) -> np.ndarray:
        fitting, too_long = dataset.filter_indices_by_size(indices, max_positions)
        if not len(too_long):
            return indices
        found = f"{len(too_long):,} of {len(indices):,} examples are"
        # fairseq asks so of the training set always, of others by --skip-invalid-size-inputs-valid-test.
        trained = any(dataset is own for name, own in self.datasets.items() if name.startswith("train"))
        if ignore_invalid_inputs and not trained:
            logger.warning("%s too long and left out of all scores", found)
            return fitting
        with one_line_errors():
            raise UsageError(
                f"{found} longer than {max_positions} tokens: that is --max-tokens, to be raised, or what the model "
                "has positions for; then cut them in preparation (MAX_LENGTH)"
            )
