#!/usr/bin/env python3
"""What full fine-tuning, a dense adapter and a compact sparse adapter cost: time, memory, storage, pruning.

The three are trained in one process by fairseq's own Trainer (criterion, clipping, Adam), a step of each
in turn, so that whatever else the machine does slows all of them alike. Peak memory is a property of a
process, so each of them is also trained alone in a forked one, which first builds and prunes its model.
Weights and data are random. This is a measurement, not a test: it says which targets are met and exits
with 0 either way.

    python scripts/benchmark.py                                # 6+6 layers, 384-dim: the targets' model
    python scripts/benchmark.py --rounds 40 --json bench.json
    python scripts/benchmark.py --dim 768 --heads 12 --fp16    # other flags, here --fp16, go to fairseq
"""

import argparse
import copy
import ctypes
import io
import logging
import os
import platform
import re
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin would count as CPU time
logging.disable(logging.INFO)
warnings.filterwarnings("ignore")  # fairseq and hydra deprecate their own calls, at every build

import fairseq  # noqa: E402
import sparse_adapter  # noqa: E402, F401  (registers the task and the model)
import torch  # noqa: E402
from fairseq import criterions, options, utils  # noqa: E402
from fairseq.data import Dictionary  # noqa: E402
from fairseq.dataclass.utils import convert_namespace_to_omegaconf  # noqa: E402
from fairseq.trainer import Trainer  # noqa: E402
from sparse_adapter.files import write_json  # noqa: E402
from sparse_adapter.modules import is_adapter_key  # noqa: E402
from sparse_adapter.pruning import PRUNERS, DegenerateScores, Objective, apply_masks_, prune  # noqa: E402
from sparse_adapter.tasks.scoring import untouched  # noqa: E402
from sparse_adapter.tasks.translation import SparseAdapterTranslationTask  # noqa: E402
from tabulate import tabulate  # noqa: E402
from torch import nn  # noqa: E402
from tqdm import tqdm  # noqa: E402

SYSTEMS = {"full": "full fine-tuning", "dense": "dense adapter", "compact": "compact sparse adapter"}
WARM_UP = 2  # steps of each system before the clock runs: the first ones allocate


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    sizes = {
        "layers": (6, "encoder layers, and as many decoder layers"),
        "dim": (384, "embedding dimension; the FFN has four times as many"),
        "heads": (6, "attention heads"),
        "vocab": (8000, "size of the vocabulary"),
        "batch": (8, "examples in a batch"),
        "source": (256, "tokens of a source"),
        "target": (64, "tokens of a target"),
        "bottleneck": (64, "bottleneck dimension of the adapters"),
        "rounds": (20, "timed training steps of each system"),
        "prune-rounds": (3, "timed runs of each pruner"),
        "threads": (torch.get_num_threads(), "threads of PyTorch on the CPU"),
        "seed": (1, "seed of weights, data and random scores"),
    }
    for name, (default, text) in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{text} (default: {default})")
    parser.add_argument("--adapter", default="houlsby", help="adapter family (default: houlsby)")
    parser.add_argument("--sparsity", type=float, default=0.4, help="fraction removed (default: 0.4)")
    parser.add_argument("--pruner", choices=PRUNERS, default="snip", help="prunes the compact adapter (default: snip)")
    parser.add_argument("--pruners", nargs="*", choices=PRUNERS, default=list(PRUNERS), help="to time (default: all)")
    parser.add_argument("--cpu", action="store_true", help="use the CPU even where there is a GPU")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write everything measured to this file")
    args, args.fairseq = parser.parse_known_args(argv)
    for name in sizes:
        if getattr(args, name.replace("-", "_")) < 1:
            parser.error(f"--{name} must be at least 1")
    if args.vocab < 5:
        parser.error(f"--vocab {args.vocab}: four are special, so at least 5 are needed")
    if not 0 < args.sparsity < 1:
        parser.error(f"--sparsity {args.sparsity}: the fraction removed is above 0 and below 1")
    if args.adapter == "none":
        parser.error("--adapter none: full fine-tuning is measured anyway; name a family")
    if args.dim % args.heads:
        parser.error(f"--dim {args.dim} is not a multiple of --heads {args.heads}")
    if args.json and not args.json.resolve().parent.is_dir():
        parser.error(f"--json {args.json}: there is no folder {args.json.resolve().parent}")
    return args


def random_batch(args: argparse.Namespace) -> dict:
    """One batch as fairseq's collater makes it, every source and target of the full length."""
    generator = torch.Generator().manual_seed(args.seed)
    eos, first = 2, 4  # of a fairseq Dictionary: <s> <pad> </s> <unk>, then the symbols
    source = torch.randint(first, args.vocab, (args.batch, args.source), generator=generator)
    target = torch.randint(first, args.vocab, (args.batch, args.target), generator=generator)
    source[:, -1] = target[:, -1] = eos
    return {
        "id": torch.arange(args.batch),
        "nsentences": args.batch,
        "ntokens": target.numel(),
        "net_input": {
            "src_tokens": source,
            "src_lengths": torch.full((args.batch,), args.source),
            "prev_output_tokens": target.roll(1, dims=1),
        },
        "target": target,
    }


def build(system: str, args: argparse.Namespace) -> tuple:
    """What fairseq's Trainer takes, for one of ``SYSTEMS``, from the flags that fairseq-train would get.

    Returns:
        Configuration, task, model and criterion, the last two on the device.
    """
    flags = ["unused-data", "--task", "sparse_adapter_translation", "--arch", "sparse_adapter_bart_base"]
    for stack in ("encoder", "decoder"):
        flags += [f"--{stack}-layers", args.layers, f"--{stack}-embed-dim", args.dim]
        flags += [f"--{stack}-ffn-embed-dim", 4 * args.dim, f"--{stack}-attention-heads", args.heads]
    flags += ["--max-source-positions", args.source, "--max-target-positions", args.target]
    flags += ["--criterion", "label_smoothed_cross_entropy", "--label-smoothing", 0.1, "--clip-norm", 0.1]
    flags += ["--optimizer", "adam", "--weight-decay", 0.01, "--lr", 1e-4, "--batch-size", args.batch]
    flags += ["--seed", args.seed, "--distributed-world-size", 1, *(["--cpu"] if args.cpu else [])]
    flags += [*args.fairseq, "--adapter", "none" if system == "full" else args.adapter]
    flags += ["--adapter-bottleneck", args.bottleneck]
    parser = options.get_training_parser()
    cfg = convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, [str(flag) for flag in flags]))

    dictionary = Dictionary()
    for i in range(args.vocab - len(dictionary)):
        dictionary.add_symbol(str(i))
    utils.set_torch_seed(args.seed)
    task = SparseAdapterTranslationTask(cfg.task, dictionary, dictionary)
    device = torch.device("cuda" if torch.cuda.is_available() and not args.cpu else "cpu")
    model = task.build_model(cfg.model).to(device)
    # Not task.build_criterion: it would prune, and read the training set for that.
    criterion = criterions.build_criterion(cfg.criterion, task).to(device)
    if system == "compact":
        prune_(model, criterion, args.pruner, args)
    return cfg, task, model, criterion


def prune_(model: nn.Module, criterion: nn.Module, pruner: str, args: argparse.Namespace) -> None:
    """Prune the dense adapters of ``model`` on one batch, as the task does."""
    device = next(model.parameters()).device
    batch = random_batch(args)
    batch = utils.move_to_cuda(batch, device) if device.type == "cuda" else batch
    with untouched(model):
        objective = Objective([lambda: criterion(model, batch)[0]])
        masks = prune(model, pruner, args.sparsity, seed=args.seed, objective=objective)
    apply_masks_(model, masks)


def keep_freed_memory() -> None:
    """Stop glibc from giving freed memory back to the kernel after every step.

    In a process that trains three systems it depends on which one lies where in the heap who pays for
    faulting the pages in again: 0 to 5 % of a step on the CPU.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        trim_threshold, mmap_threshold = -1, -3
        libc.mallopt(trim_threshold, 2**30)
        libc.mallopt(mmap_threshold, 2**30)


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Wall-clock and CPU seconds of a call, until the GPU has finished too."""
    _synchronize()
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    _synchronize()
    return time.perf_counter() - wall, time.process_time() - cpu


def measure_steps(trainers: dict[str, Trainer], args: argparse.Namespace) -> dict[str, dict]:
    """Step times by system. The order rotates: no system always runs after the same other one."""
    batch = random_batch(args)
    times: dict[str, list] = {name: [] for name in trainers}
    for i in tqdm(range(WARM_UP + args.rounds), desc="training steps", unit="round"):
        names = list(trainers)
        for name in names[i % len(names) :] + names[: i % len(names)]:
            times[name].append(timed(partial(trainers[name].train_step, [batch])))
    measured = {}
    for name, pairs in times.items():
        wall, cpu = ([round(seconds, 6) for seconds in column] for column in zip(*pairs[WARM_UP:], strict=True))
        measured[name] = {
            "step_seconds_min": min(wall),
            "step_seconds_median": statistics.median(wall),
            "cpu_seconds_min": min(cpu),
            "cpu_seconds_median": statistics.median(cpu),
            "step_seconds": wall,
        }
    return measured


def measure_storage(trainer: Trainer) -> dict[str, int]:
    """Trained parameters and bytes of what is kept and saved for them. Call after a training step."""
    model = trainer.get_model()
    adapters = {key: value for key, value in model.state_dict().items() if is_adapter_key(key)}
    file = io.BytesIO()
    torch.save(adapters, file)
    state = [t for group in trainer.optimizer.optimizer.state.values() for t in group.values() if torch.is_tensor(t)]
    with tempfile.TemporaryDirectory() as folder:
        trainer.consolidate_optimizer()
        checkpoint = Path(trainer.save_checkpoint(f"{folder}/checkpoint.pt", {}))
        checkpoint_bytes = checkpoint.stat().st_size
    return {
        "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "optimizer_state_bytes": sum(tensor.numel() * tensor.element_size() for tensor in state),
        "checkpoint_bytes": checkpoint_bytes,
        "adapter_checkpoint_bytes": file.tell() if adapters else 0,
    }


def measure_pruners(dense: Trainer, args: argparse.Namespace) -> dict[str, dict]:
    """Seconds of each pruner on one batch, from scores to compact weights, and in dense training steps."""
    if not args.pruners:
        return {}
    batch = random_batch(args)
    _, _, fresh, criterion = build("dense", args)
    times: dict[str, list[float]] = {name: [] for name in ["training step", *args.pruners]}
    for _ in tqdm(range(args.prune_rounds), desc="pruning", unit="round"):
        times["training step"].append(timed(partial(dense.train_step, [batch]))[0])
        for name in args.pruners:
            times[name].append(timed(partial(prune_, copy.deepcopy(fresh), criterion, name, args))[0])
    step = min(times.pop("training step"))
    return {
        name: {
            "seconds_min": round(min(seconds), 6),
            "seconds_median": round(statistics.median(seconds), 6),
            "training_steps": round(min(seconds) / step, 4),
        }
        for name, seconds in times.items()
    }


def peak_memory(system: str, args: argparse.Namespace) -> dict[str, int]:
    """Peak bytes of this process while it builds, prunes and trains one system; run it in its own process."""
    torch.set_num_threads(args.threads)
    before = _resident("VmRSS")
    trainer = Trainer(*build(system, args))
    trainer.cuda_env = None  # with which train_step begins to measure anew after each update
    batch = random_batch(args)
    for _ in range(3):
        trainer.train_step([batch])
    if trainer.cuda:
        return {"peak_memory_bytes": torch.cuda.max_memory_allocated(), "memory_before_bytes": 0}
    return {"peak_memory_bytes": _resident("VmHWM"), "memory_before_bytes": before}


def in_forked_process(function: Callable, *args: object):
    """The result of a call in a process of its own, which must be forked before any thread or CUDA is used."""
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        return pool.submit(function, *args).result()


def check_targets(systems: dict[str, dict], pruners: dict[str, dict], sparsity: float) -> list[dict]:
    """The targets, what was measured, and whether they are met. Step times are judged by their minima."""

    def ratio(field: str, other: str) -> float:
        return systems["compact"][field] / systems[other][field]

    share = 1 - sparsity + 0.05
    targets = [
        ("step time: compact / dense adapter", ratio("step_seconds_min", "dense"), 1.03),
        ("step time: compact / full fine-tuning", ratio("step_seconds_min", "full"), 0.75),
        ("optimizer state: compact / dense adapter", ratio("optimizer_state_bytes", "dense"), share),
        ("adapter part of checkpoint: compact / dense", ratio("adapter_checkpoint_bytes", "dense"), share),
    ]
    limits = {"snip": 2, "grasp": 6}
    targets += [
        (f"{name}, one batch, in training steps", pruners[name]["training_steps"], limit)
        for name, limit in limits.items()
        if name in pruners
    ]
    return [
        {"target": name, "measured": round(value, 4), "limit": round(limit, 4), "met": bool(value <= limit)}
        for name, value, limit in targets
    ]


def machine(args: argparse.Namespace, load_average: float) -> dict:
    cuda = torch.cuda.is_available() and not args.cpu
    model = re.search(r"^model name\s*: (.*)", _read("/proc/cpuinfo"), re.MULTILINE)
    return {
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "cpu": model.group(1) if model else platform.machine(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": round(load_average, 2),
        "torch": torch.__version__,
        "fairseq": fairseq.__version__,
        "python": platform.python_version(),
    }


def format_tables(report: dict) -> str:
    """The report for the terminal."""
    systems, pruners = report["systems"], report["pruners"]
    memory = "GPU memory allocated" if report["machine"]["device"] != "cpu" else "memory of the process (RSS)"
    rows = [
        ("step time, min", "step_seconds_min", "ms"),
        ("step time, median", "step_seconds_median", "ms"),
        ("CPU time of a step, min", "cpu_seconds_min", "ms"),
        ("CPU time of a step, median", "cpu_seconds_median", "ms"),
        (f"peak {memory}", "peak_memory_bytes", "MB"),
        ("trained parameters", "trained_parameters", ""),
        ("optimizer state", "optimizer_state_bytes", "MB"),
        ("checkpoint", "checkpoint_bytes", "MB"),
        ("adapter part of the checkpoint", "adapter_checkpoint_bytes", "MB"),
    ]
    table = []
    for label, field, unit in rows:
        full, dense, compact = (systems[name][field] for name in SYSTEMS)
        cells = [_quantity(value, unit) for value in (full, dense, compact)]
        ratios = [f"{compact / other:.3f}" if other else "-" for other in (dense, full)]
        table.append([label, *cells, *ratios])
    in_rounds = [f"{_median_ratio(systems['compact'], systems[name]):.3f}" for name in ("dense", "full")]
    table.insert(2, ["step time, median ratio within rounds", "", "", "", *in_rounds])
    settings = report["settings"]
    title = (
        f"{settings['layers']}+{settings['layers']} layers, {settings['dim']}-dim, vocabulary {settings['vocab']}, "
        f"batch {settings['batch']}, {settings['source']} -> {settings['target']} tokens; {settings['adapter']} "
        f"r={settings['bottleneck']}, s={settings['sparsity']} by {settings['pruner']}; "
        + ", ".join(f"{key} {value}" for key, value in report["machine"].items())
    )
    head = ["", *SYSTEMS.values(), "compact / dense", "compact / full"]
    parts = [title, _table(table, head)]
    if pruners:
        body = [
            [name, *(_quantity(p[f"seconds_{kind}"], "ms") for kind in ("min", "median")), f"{p['training_steps']:.2f}"]
            for name, p in pruners.items()
        ]
        parts.append(_table(body, ["pruner, one batch", "min", "median", "in training steps (dense adapter)"]))
    body = [
        [t["target"], f"{t['measured']:.3f}", f"<= {t['limit']:.3g}", "met" if t["met"] else "MISSED"]
        for t in report["targets"]
    ]
    parts.append(_table(body, ["target", "measured", "limit", "verdict"]))
    unrest = max(s["step_seconds_median"] / s["step_seconds_min"] for s in systems.values()) - 1
    if unrest > 0.1:
        parts.append(f"The machine was busy (medians up to {unrest:.0%} above minima): trust ratios within rounds.")
    return "\n\n".join(parts)


def _synchronize() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _resident(field: str) -> int:
    """``VmRSS`` or ``VmHWM``, its high-water mark, in bytes. Where there is no /proc, the latter for both."""
    found = re.search(rf"^{field}:\s*(\d+) kB", _read("/proc/self/status"), re.MULTILINE)
    return int(found.group(1)) * 1024 if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _median_ratio(system: dict, reference: dict) -> float:
    """Of step times in the same round: it stays right where the machine was busy in some rounds only."""
    pairs = zip(system["step_seconds"], reference["step_seconds"], strict=True)
    return statistics.median(a / b for a, b in pairs)


def _read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8") if Path(path).exists() else ""


def _quantity(value: float, unit: str) -> str:
    if unit == "ms":
        return f"{1e3 * value:,.1f} ms"
    return f"{value / 1e6:,.2f} MB" if unit == "MB" else f"{value:,}"


def _table(rows: list[list[str]], head: list[str]) -> str:
    align = ("left", *["right"] * (len(head) - 1))
    return tabulate(rows, head, tablefmt="github", colalign=align, disable_numparse=True)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    if args.cpu:  # fairseq would clip gradients on a GPU that there is
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    load_average = os.getloadavg()[0]
    # First, while this process is small and has started neither threads nor CUDA.
    bar = tqdm(SYSTEMS, desc="peak memory, each system alone", unit="system")
    try:
        systems = {name: in_forked_process(peak_memory, name, args) for name in bar}
        torch.set_num_threads(args.threads)
        keep_freed_memory()
        trainers = {name: Trainer(*build(name, args)) for name in SYSTEMS}
        steps = measure_steps(trainers, args)
        for name, trainer in trainers.items():
            systems[name] = steps[name] | systems[name] | measure_storage(trainer)
        pruners = measure_pruners(trainers["dense"], args)
    except DegenerateScores as error:
        raise SystemExit(f"error: {error}") from error
    report = {
        "machine": machine(args, load_average),
        "settings": {name: value for name, value in vars(args).items() if name != "json"},
        "systems": systems,
        "pruners": pruners,
        "targets": check_targets(systems, pruners, args.sparsity),
    }
    print(format_tables(report))
    if args.json:
        write_json(args.json, report)
        print(f"\nwritten to {args.json}")


if __name__ == "__main__":
    main()
