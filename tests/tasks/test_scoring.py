"""Scoring leaves no trace."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fairseq.data import FairseqDataset
from fairseq.distributed import utils as distributed_utils
from sparse_adapter.errors import UsageError
from sparse_adapter.pruning import DegenerateScores
from sparse_adapter.tasks import prune_at_init, scoring
from sparse_adapter.tasks.options import PruneAtInitConfig
from sparse_adapter.tasks.prune_at_init import PruneAtInitMixin
from sparse_adapter.tasks.scoring import untouched
from torch import nn


def states() -> list:
    return [random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()]


def test_random_states_are_what_they_were():
    before = states()
    with untouched(nn.Dropout()):
        random.random(), np.random.rand(), torch.rand(3)
    assert states() == before


def test_modes_are_what_they_were_even_after_an_error():
    model = nn.Sequential(nn.Dropout(), nn.Dropout())
    model[1].eval()
    try:
        with untouched(model):
            assert not any(module.training for module in model.modules())
            raise RuntimeError
    except RuntimeError:
        pass
    assert [module.training for module in model.modules()] == [True, True, False]


def test_checkpointed_layers_are_scored_plain_and_checkpointed_again():
    from fairseq.modules.checkpoint_activations import checkpoint_wrapper

    layer = nn.Linear(3, 3)
    plain = layer.forward
    checkpointed = checkpoint_wrapper(layer).forward
    with untouched(layer):
        assert layer.forward == plain
        torch.autograd.grad(layer(torch.ones(1, 3)).sum(), layer.weight)
    assert layer.forward is checkpointed


def test_masks_are_broadcast_by_the_backend_s_device(monkeypatch):
    """NCCL knows no tensors of the CPU, where the model still is unless the pruner needs data."""
    sent = []
    monkeypatch.setattr(scoring, "_rank_and_world", lambda: (0, 2))
    monkeypatch.setattr(distributed_utils, "get_data_parallel_group", lambda: "group")
    monkeypatch.setattr(torch.distributed, "get_backend", lambda group: "nccl")
    monkeypatch.setattr(distributed_utils, "get_rank", lambda group: 0)
    monkeypatch.setattr(distributed_utils, "_broadcast_object_slow", lambda obj, rank, group, device: obj)
    monkeypatch.setattr(distributed_utils, "broadcast", lambda tensor, src, group: sent.append(tensor.device.type))
    to = torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *a: to(self, "meta") if "cuda" in str(a) else to(self, *a))
    masks = {"a": torch.tensor([[True, False]]), "b": torch.tensor([True, True, False])}
    received = scoring.broadcast_masks(masks)
    assert sent == ["meta"]  # which stands for the GPU
    assert all(torch.equal(received[name], mask) for name, mask in masks.items())


class SizedDataset(FairseqDataset):
    def __init__(self, sizes: np.ndarray):
        self.sizes = sizes

    def __len__(self) -> int:
        return len(self.sizes)


def test_pruning_scores_on_the_first_batches_of_a_shuffled_epoch():
    asked = {}
    batches = [{"id": torch.tensor([i]), "net_input": {"tokens": torch.full((1,), float(i))}} for i in range(5)]

    class Task:
        cfg = PruneAtInitConfig(prune_batches=3, prune_max_tokens=40)

        def load_dataset(self, split, **options):
            asked["split"] = split

        def dataset(self, split):
            return SizedDataset(np.full(5, 6))

        def max_positions(self):
            return 9

        def get_batch_iterator(self, **options):
            asked.update(options)
            return SimpleNamespace(next_epoch_itr=lambda shuffle: asked.update(shuffle=shuffle) or iter(batches))

    model = nn.Linear(1, 1)
    model.max_positions = lambda: 7
    dataset = SimpleNamespace(
        train_subset="train", max_tokens=400, batch_size=8, required_batch_size_multiple=1, valid_subset="valid"
    )
    cfg = SimpleNamespace(common=SimpleNamespace(cpu=True), dataset=dataset)
    objective = scoring.pruning_objective(
        Task(), model, lambda model, batch: (model(batch["net_input"]["tokens"]),), cfg, seed=5
    )
    expected = {"split": "train", "seed": 5, "shuffle": True, "max_tokens": 40, "max_sentences": 8, "epoch": 1}
    assert {name: asked[name] for name in expected} == expected
    assert objective.examples == 3
    assert [float(loss()) for loss in objective.losses] == [float(model(torch.full((1,), float(i)))) for i in range(3)]


def test_masks_do_not_depend_on_the_precision_of_training():
    former = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with untouched(nn.Linear(3, 3)):
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(former)


@pytest.mark.parametrize(
    "error, expected",
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB.\nMore about that"),
            "Tried to allocate 3 GiB.*give a --prune-max-tokens",
        ),
        (
            DegenerateScores("scores are not finite; use --pruner random"),
            "^scores are not finite; use --pruner random$",
        ),
    ],
    ids=["memory", "scores"],
)
def test_scoring_that_fails_is_one_line(model, monkeypatch, error, expected):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(prune_at_init, "prune", fail)
    task = SimpleNamespace(cfg=PruneAtInitConfig(pruner="random", sparsity=0.5))
    cfg = SimpleNamespace(common=SimpleNamespace(seed=1))
    with pytest.raises(UsageError, match=expected) as raised:
        PruneAtInitMixin._prune(task, model, None, cfg)
    assert "\n" not in str(raised.value)
