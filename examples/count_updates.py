#!/usr/bin/env python3
"""Print how many updates a fairseq-train command makes, from its arguments.

The learning-rate schedule needs the number before training starts. The batches are built as the trainer
builds them, by the task, and dealt out over processes and ``--update-freq``. Parsing the whole command
and loading its data here also means that a mistake in either ends the run before it leaves a trace, and an
example to validate on that is too long does so before an epoch is trained and lost.
"""

import argparse
import logging
import math
import sys

logging.disable(logging.INFO)

from fairseq import options, tasks, utils  # noqa: E402
from fairseq.dataclass.utils import convert_namespace_to_omegaconf  # noqa: E402
from omegaconf import DictConfig  # noqa: E402


def updates(argv: list[str]) -> int:
    """Updates until ``--max-epoch`` or ``--max-update`` is reached, whichever comes first."""
    parser = options.get_training_parser()
    parser.error = lambda message: sys.exit(f"error: {message}")  # without 200 lines of usage
    # Our schedule insists on the number that is sought here, and others do not know it.
    scheduler = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    scheduler.add_argument("--lr-scheduler")
    ours = scheduler.parse_known_args(argv)[0].lr_scheduler == "polynomial_decay"
    args = options.parse_args_and_arch(parser, input_args=[*(["--total-num-update", "1"] if ours else []), *argv])
    cfg = convert_namespace_to_omegaconf(args)
    task = tasks.setup_task(cfg.task)
    task.load_dataset(cfg.dataset.train_subset, combine=True, epoch=1)
    sides = [getattr(args, f"max_{side}_positions", None) for side in ("source", "target")]
    model_positions = getattr(args, "max_positions", None) if None in sides else tuple(sides)
    dataset, max_tokens = task.dataset(cfg.dataset.train_subset), cfg.dataset.max_tokens
    limits = [utils.resolve_max_positions(task.max_positions(), model_positions, *more) for more in ([], [max_tokens])]
    indices = dataset.ordered_indices()
    fitting, batched = (len(dataset.filter_indices_by_size(indices, limit)[0]) for limit in limits)
    if batched < fitting:
        sys.exit(
            f"error: {fitting - batched:,} of {len(indices):,} training examples are longer than --max-tokens "
            f"{max_tokens} and would be left out: raise MAX_TOKENS, or prepare the data shorter"
        )
    batches = task.get_batch_iterator(
        dataset=dataset,
        max_tokens=max_tokens,
        max_sentences=cfg.dataset.batch_size,
        max_positions=limits[1],
        ignore_invalid_inputs=True,
        required_batch_size_multiple=cfg.dataset.required_batch_size_multiple,
        seed=cfg.common.seed,
        num_shards=cfg.distributed_training.distributed_world_size,
        epoch=1,
    )
    if not len(batches):
        sys.exit("error: no training example is as short as the model's positions allow")
    check_validation(task, cfg.dataset, limits[0])
    each, round_off = cfg.optimization.update_freq, cfg.optimization.skip_remainder_batch
    batches_of_updates = (each[min(epoch, len(each) - 1)] for epoch in range(cfg.optimization.max_epoch))
    of_epochs = [(math.floor if round_off else math.ceil)(len(batches) / number) for number in batches_of_updates]
    total = min(sum(of_epochs) or math.inf, cfg.optimization.max_update or math.inf)
    if total == math.inf:
        sys.exit("error: neither --max-epoch nor --max-update ends the training")
    return total


def check_validation(task: tasks.FairseqTask, cfg: DictConfig, limit: tuple | int | None) -> None:
    """Exit where fairseq would end the training at its first validation, which comes before anything is saved."""
    if cfg.disable_validation:
        return
    combined = cfg.combine_valid_subsets or False
    for subset in ["valid"] if combined else cfg.valid_subset.split(","):
        task.load_dataset(subset, combine=combined, epoch=1)
        dataset = task.dataset(subset)
        fitting, too_long = dataset.filter_indices_by_size(dataset.ordered_indices(), limit)
        if len(too_long) and not cfg.skip_invalid_size_inputs_valid_test:
            sys.exit(
                f"error: {len(too_long):,} of {len(dataset):,} examples of {subset} are longer than the model's "
                f"positions, {limit}: prepare the data shorter, or pass --skip-invalid-size-inputs-valid-test"
            )
        try:
            dataset.batch_by_size(fitting, max_tokens=cfg.max_tokens_valid, max_sentences=cfg.batch_size_valid)
        except AssertionError:
            sys.exit(
                f"error: examples of {subset} are longer than --max-tokens-valid {cfg.max_tokens_valid}: raise it, or "
                "MAX_TOKENS, which it is by default"
            )


if __name__ == "__main__":
    print(updates(sys.argv[1:]))
