#!/usr/bin/env python3
"""Tokens a second that beam search makes: the plain backbone, and every adapter family but fusion.

All systems decode the same batch by turns in one process, with fairseq's own generator after
``prepare_for_inference_``, as ``fairseq-generate`` does; every hypothesis has the same length. Weights and
data are random. Ratios are those of the shortest times.

    python scripts/benchmark_generation.py                             # 6+6 layers, 768-dim: bart.base
    python scripts/benchmark_generation.py --dim 256 --layers 4 --heads 4 --json generation.json
"""

import argparse
import logging
import os
import statistics
import time
import warnings
from argparse import Namespace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
logging.disable(logging.INFO)
warnings.filterwarnings("ignore")

import sparse_adapter  # noqa: E402, F401  (registers the model)
import torch  # noqa: E402
from fairseq.sequence_generator import SequenceGenerator  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402
from sparse_adapter.checkpoint.rebuild import UnnamedDictionary, build_model  # noqa: E402
from sparse_adapter.files import write_json  # noqa: E402
from sparse_adapter.modules import prunable_weights  # noqa: E402
from sparse_adapter.pruning import apply_masks_, prune  # noqa: E402
from tabulate import tabulate  # noqa: E402
from torch import nn  # noqa: E402
from tqdm import tqdm  # noqa: E402

PLAIN = "plain backbone"
SYSTEMS = {  # name: (adapter, sparsity)
    PLAIN: ("none", 0.0),
    "houlsby, dense": ("houlsby", 0.0),
    "houlsby": ("houlsby", 0.4),
    "pfeiffer": ("pfeiffer", 0.4),
    "parallel": ("parallel", 0.4),
    "lora": ("lora", 0.4),
    "prefix": ("prefix", 0.4),
    "mam": ("mam", 0.4),
}
TARGETS = {"houlsby": 0.9, "pfeiffer": 0.9, "parallel": 0.9, "lora": 0.98}  # share of the plain backbone's speed


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {
        "layers": (6, "encoder layers, and as many decoder layers"),
        "dim": (768, "embedding dimension; the FFN has four times as many"),
        "heads": (12, "attention heads"),
        "vocab": (8000, "size of the vocabulary"),
        "batch": (8, "sentences in a batch"),
        "source": (128, "tokens of a source"),
        "target": (32, "tokens of every hypothesis"),
        "beam": (4, "beam size"),
        "bottleneck": (64, "bottleneck dimension"),
        "rounds": (8, "timed runs of each system"),
        "threads": (torch.get_num_threads(), "threads of PyTorch on the CPU"),
    }
    for name, (default, text) in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{text} (default: {default})")
    parser.add_argument("--cpu", action="store_true", help="use the CPU even where there is a GPU")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write everything measured to this file")
    args = parser.parse_args(argv)
    for name in sizes:
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1")
    return args


def build(adapter: str, sparsity: float, args: argparse.Namespace) -> nn.Module:
    """A random model, pruned and ready for inference."""
    sizes = {"layers": args.layers, "embed_dim": args.dim, "ffn_embed_dim": 4 * args.dim, "attention_heads": args.heads}
    stacks = {f"{stack}_{name}": size for stack in ("encoder", "decoder") for name, size in sizes.items()}
    positions = {"max_source_positions": args.source + 2, "max_target_positions": args.target + 2}
    options = {"adapter": adapter, "adapter_bottleneck": args.bottleneck, "task": "translation"}
    torch.manual_seed(1)
    model = build_model(
        Namespace(arch="sparse_adapter_bart_base", **stacks, **positions, **options), args.vocab, args.vocab
    )
    for weight in prunable_weights(model).values():  # zero-initialised matrices too
        nn.init.normal_(weight.values, std=0.02)
    if sparsity:
        apply_masks_(model, prune(model, "random", sparsity))
    model.eval()
    generation = {"beam": args.beam, "no_beamable_mm": False, "print_alignment": None}
    model.prepare_for_inference_(OmegaConf.create({"generation": generation}))
    return model


def measure(args: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of every timed run, by system."""
    device = torch.device("cuda" if torch.cuda.is_available() and not args.cpu else "cpu")
    dictionary = UnnamedDictionary(args.vocab)
    source = torch.randint(dictionary.nspecial, args.vocab, (args.batch, args.source), device=device)
    source[:, -1] = dictionary.eos()
    lengths = torch.full((args.batch,), args.source, device=device)
    sample = {"net_input": {"src_tokens": source, "src_lengths": lengths}}
    generators = {}
    for name, (adapter, sparsity) in tqdm(SYSTEMS.items(), desc="building", unit="model"):
        length = {"max_len_a": 0, "max_len_b": args.target, "min_len": args.target}
        model = build(adapter, sparsity, args).to(device)
        generators[name] = SequenceGenerator([model], dictionary, beam_size=args.beam, **length)
    seconds: dict[str, list[float]] = {name: [] for name in SYSTEMS}
    names = list(SYSTEMS)
    for i in tqdm(range(args.rounds + 1), desc="decoding", unit="round"):
        for name in names[i % len(names) :] + names[: i % len(names)]:  # no system always runs after the same one
            start = time.perf_counter()
            hypotheses = generators[name].generate([generators[name].model.models[0]], sample)
            if device.type == "cuda":
                torch.cuda.synchronize()
            if i > 0:  # the first round allocates
                seconds[name].append(time.perf_counter() - start)
            assert all(len(beam[0]["tokens"]) == args.target + 1 for beam in hypotheses)
    return seconds


def summarize(seconds: dict[str, list[float]], args: argparse.Namespace) -> list[dict]:
    tokens, rows = args.batch * args.target, []
    for name, runs in seconds.items():
        share = min(seconds[PLAIN]) / min(runs)
        target = TARGETS.get(name)
        rows.append(
            {
                "system": name,
                "sparsity": SYSTEMS[name][1],
                "tokens_per_second": round(tokens / min(runs), 2),
                "median_tokens_per_second": round(tokens / statistics.median(runs), 2),
                "share_of_plain": round(share, 4),
                "target": target,
                "met": None if target is None else share >= target,
            }
        )
    return rows


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    torch.set_num_threads(args.threads)
    rows = summarize(measure(args), args)
    verdicts = {True: "met", False: "MISSED", None: ""}
    table = [
        [
            row["system"],
            row["sparsity"],
            f"{row['tokens_per_second']:,.1f}",
            f"{row['median_tokens_per_second']:,.1f}",
            f"{row['share_of_plain']:.3f}",
            "" if row["target"] is None else f">= {row['target']}",
            verdicts[row["met"]],
        ]
        for row in rows
    ]
    head = ["system", "sparsity", "tokens/s (best)", "(median)", "of the plain backbone", "target", ""]
    print(tabulate(table, head, tablefmt="github"))
    if args.json:
        write_json(args.json, {"settings": {k: v for k, v in vars(args).items() if k != "json"}, "systems": rows})
        print(f"written to {args.json}")


if __name__ == "__main__":
    main()
