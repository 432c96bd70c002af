"""Batches of examples of similar length that are others in every epoch."""

import numpy as np
from fairseq.data import BaseWrapperDataset, FairseqDataset
from omegaconf import DictConfig, open_dict

GROUP = 512


def grouped_by_length(sizes: np.ndarray) -> np.ndarray:
    """A random order in which each 512 examples are sorted by length.

    Batches cut from it need little padding. Sorting all examples would need less, but short and long ones would meet
    the same neighbours again and again: batches are then no random samples of the data.

    Args:
        sizes: ``(examples,)``, their lengths.

    Returns:
        ``(examples,)``, their indices. numpy's random state, which fairseq seeds for each epoch, settles them.
    """
    order = np.random.permutation(len(sizes))
    groups = np.split(order, range(GROUP, len(order), GROUP))
    return np.concatenate([group[np.argsort(sizes[group], kind="stable")] for group in groups])


class LengthGroupedDataset(BaseWrapperDataset):
    """Gives the examples of ``dataset``, of the given lengths, in the order of :func:`grouped_by_length`."""

    def __init__(self, dataset: FairseqDataset, lengths: np.ndarray):
        super().__init__(dataset)
        self.lengths = np.asarray(lengths)

    def ordered_indices(self) -> np.ndarray:
        return grouped_by_length(self.lengths)


def rebuild_batches(cfg: DictConfig) -> None:
    """Have fairseq cut other batches in every epoch; by itself it shuffles those of the first.

    It asks the task's configuration (``FairseqTask.get_batch_iterator``). As a field of the dataclass, this would be
    a flag that turns it off.
    """
    with open_dict(cfg):
        cfg.rebuild_batches = True
