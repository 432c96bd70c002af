"""Batches of examples of similar length that are others in every epoch."""

import numpy as np
from fairseq.data import BaseWrapperDataset, FairseqDataset

GROUP = 512


def grouped_by_length(sizes: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """A random order, a new one in every epoch, in which each 512 examples are sorted by length.

    Batches cut from it need little padding. Sorting all examples would need less, but short and long ones would meet
    the same neighbours again and again: batches are then no random samples of the data.

    Args:
        sizes: ``(examples,)``, their lengths.

    Returns:
        ``(examples,)``, their indices.
    """
    order = np.random.default_rng((seed, epoch)).permutation(len(sizes))
    groups = np.split(order, range(GROUP, len(order), GROUP))
    return np.concatenate([group[np.argsort(sizes[group], kind="stable")] for group in groups])


class LengthGroupedDataset(BaseWrapperDataset):
    """Gives the examples of ``dataset`` in the order of :func:`grouped_by_length`."""

    can_reuse_epoch_itr_across_epochs = False  # or fairseq would keep the batches of the first epoch

    def __init__(self, dataset: FairseqDataset, sizes: np.ndarray, seed: int):
        super().__init__(dataset)
        self.lengths, self.seed, self.epoch = np.asarray(sizes), seed, 1

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        self.epoch = epoch

    def ordered_indices(self) -> np.ndarray:
        return grouped_by_length(self.lengths, self.seed, self.epoch)
