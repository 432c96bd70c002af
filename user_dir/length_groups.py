"""Batches of examples of similar length that are others in every epoch."""

from collections.abc import Sequence

import numpy as np
from fairseq.data import BaseWrapperDataset, FairseqDataset
from omegaconf import DictConfig, open_dict

GROUP = 512


def grouped_by_length(sizes: np.ndarray, evaluated: bool = False) -> np.ndarray:
    """A random order in which each 512 examples are sorted by length.

    Batches cut from it need little padding. Sorting all examples would need less, but short and long ones would meet
    the same neighbours again and again: batches are then no random samples of the data.

    Args:
        sizes: ``(examples,)``, their lengths.
        evaluated: the same order each time: fairseq counts epochs of validation, too, and ``--max-valid-steps`` would
            score other examples in each.

    Returns:
        ``(examples,)``, their indices. Of training, numpy's random state settles them, which fairseq seeds for each
        epoch.
    """
    order = (np.random.default_rng(0) if evaluated else np.random).permutation(len(sizes))
    groups = np.split(order, range(GROUP, len(order), GROUP))
    return np.concatenate([group[np.argsort(sizes[group], kind="stable")] for group in groups])


def in_fixed_random_order(batches: Sequence) -> list:
    """Shuffled, and the same way each time: fairseq leaves the batches of validation in their order, of which
    ``--max-valid-steps`` takes the first. Of groups sorted by length, these are the shortest.
    """
    return [batches[i] for i in np.random.default_rng(0).permutation(len(batches))]


class LengthGroupedDataset(BaseWrapperDataset):
    """Gives the examples of ``dataset``, of the given lengths, in the order of :func:`grouped_by_length`.

    Args:
        evaluated: its batches are the same each time, and come as they are: fairseq shuffles those of training alone.
    """

    def __init__(self, dataset: FairseqDataset, lengths: np.ndarray, evaluated: bool):
        super().__init__(dataset)
        self.lengths, self.evaluated = np.asarray(lengths), evaluated

    def ordered_indices(self) -> np.ndarray:
        return grouped_by_length(self.lengths, self.evaluated)

    def batch_by_size(self, *args, **kwargs) -> list:
        batches = super().batch_by_size(*args, **kwargs)
        return in_fixed_random_order(batches) if self.evaluated else batches


def rebuild_batches(cfg: DictConfig) -> None:
    """Have fairseq cut other batches in every epoch; by itself it shuffles those of the first.

    It asks the task's configuration (``FairseqTask.get_batch_iterator``). As a field of the dataclass, this would be
    a flag that turns it off.
    """
    with open_dict(cfg):
        cfg.rebuild_batches = True
