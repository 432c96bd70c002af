"""Scoring inside fairseq: which batches, on which device, over all processes, and without a trace."""

import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from fairseq import utils
from fairseq.data import FairseqDataset
from fairseq.distributed import utils as distributed_utils
from fairseq.models import BaseFairseqModel
from omegaconf import DictConfig
from torch import Tensor

from ..errors import UsageError
from ..pruning import Objective


def pruning_objective(task, model: BaseFairseqModel, criterion, cfg: DictConfig, seed: int) -> Objective:
    """The criterion's summed loss over ``task.cfg.prune_batches`` training batches.

    The batches are the first ones of a shuffled epoch (by ``seed``), dealt out to the processes, so that
    several processes score on the batches that one would. Must be called within ``untouched``, which
    also moves the model to the device that it is going to be trained on.
    """
    rank, world = _rank_and_world()
    if not cfg.common.cpu and torch.cuda.is_available():
        model.to(torch.device("cuda"))
        criterion.to(torch.device("cuda"))
    device = next(model.parameters()).device

    task.load_dataset(cfg.dataset.train_subset, epoch=1, combine=True)
    dataset = task.dataset(cfg.dataset.train_subset)
    limits = utils.resolve_max_positions(task.max_positions(), model.max_positions(), cfg.dataset.max_tokens)
    if task.cfg.prune_max_tokens:
        limits = _scored_limits(dataset, limits, task.cfg.prune_max_tokens)
    epoch = task.get_batch_iterator(
        dataset=dataset,
        max_tokens=task.cfg.prune_max_tokens or cfg.dataset.max_tokens,
        max_sentences=cfg.dataset.batch_size,
        max_positions=limits,
        ignore_invalid_inputs=True,
        required_batch_size_multiple=cfg.dataset.required_batch_size_multiple,
        seed=seed,
        num_shards=world,
        shard_id=rank,
        num_workers=0,
        epoch=1,
        disable_iterator_cache=True,
    ).next_epoch_itr(shuffle=True)
    share = len(range(rank, task.cfg.prune_batches, world))
    batches = [utils.move_to_cuda(b, device) if device.type == "cuda" else b for b in itertools.islice(epoch, share)]
    batches = [batch for batch in batches if batch]
    if not batches and world == 1:
        raise UsageError(f"the training set {cfg.dataset.train_subset!r} has no batch to score on")
    losses = [_loss(model, criterion, batch) for batch in batches]
    return Objective(losses, _sum_over_processes if world > 1 else None, sum(len(batch["id"]) for batch in batches))


def _scored_limits(dataset: FairseqDataset, limits: tuple | int | None, prune_max_tokens: int) -> tuple | int:
    """The lengths of examples that fit a batch of scoring.

    Raises:
        UsageError: some that are within the ``limits`` of training do not.
    """
    scored = utils.resolve_max_positions(limits, prune_max_tokens)
    trained, _ = dataset.filter_indices_by_size(np.arange(len(dataset)), limits)
    _, too_long = dataset.filter_indices_by_size(trained, scored)
    if len(too_long):
        raise UsageError(
            f"--prune-max-tokens {prune_max_tokens}: {len(too_long):,} of {len(trained):,} examples are longer and "
            "would not be scored: raise it, or cut them shorter in preparation"
        )
    return scored


def broadcast_masks(masks: dict[str, Tensor]) -> dict[str, Tensor]:
    """The masks of the first process, whatever floating-point ties made of them elsewhere."""
    if _rank_and_world()[1] == 1:
        return masks
    flat = torch.cat([mask.flatten() for mask in masks.values()]).to(torch.uint8).cpu()
    # By way of the GPU where the processes talk through NCCL: the model may still be on the CPU.
    (flat,) = distributed_utils.broadcast_tensors([flat], 0, distributed_utils.get_data_parallel_group())
    parts = flat.bool().split([mask.numel() for mask in masks.values()])
    return {name: part.view(mask.shape) for (name, mask), part in zip(masks.items(), parts, strict=True)}


@contextmanager
def untouched(model: BaseFairseqModel) -> Iterator[None]:
    """Evaluation mode and exact products inside; afterwards modes, precision and random states are what they were."""
    modes = {module: module.training for module in model.modules()}
    python_state, numpy_state = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    # Activation checkpointing recomputes in backward(), which torch.autograd.grad does not allow.
    checkpointed = {m: m.forward for m in model.modules() if hasattr(m, "precheckpoint_forward")}
    for module in checkpointed:
        module.forward = module.precheckpoint_forward
    model.eval()
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            for module, forward in checkpointed.items():
                module.forward = forward
            for module, mode in modes.items():
                module.training = mode
            torch.set_float32_matmul_precision(precision)
            random.setstate(python_state)
            np.random.set_state(numpy_state)


def _loss(model: BaseFairseqModel, criterion, batch: dict) -> Callable[[], Tensor]:
    return lambda: criterion(model, batch)[0]


def _rank_and_world() -> tuple[int, int]:
    if not torch.distributed.is_initialized():
        return 0, 1
    return distributed_utils.get_data_parallel_rank(), distributed_utils.get_data_parallel_world_size()


def _sum_over_processes(tensor: Tensor) -> None:
    distributed_utils.all_reduce(tensor, group=distributed_utils.get_data_parallel_group())
