#!/usr/bin/env python3
"""Lines a second that one Translator serves: all of one domain, and of two domains by turns.

The models are random and as large as asked for; an untrained model ends no translation, so that all have
--max-len tokens. Both mixes are the same lines, read in buffers, by turns in one process. Ratios are those of the
shortest times.

    python scripts/benchmark_serving.py                              # 6+6 layers, 512-dim; on a GPU where there is one
    python scripts/benchmark_serving.py --families lora prefix --buffer 200 --json serving.json
"""

import argparse
import logging
import os
import random
import statistics
import tempfile
import time
import warnings
from argparse import Namespace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
logging.disable(logging.INFO)
warnings.filterwarnings("ignore")

import sparse_adapter  # noqa: E402, F401  (registers the model)
import torch  # noqa: E402
from sparse_adapter.checkpoint.adapter_file import fresh_checkpoint, write_adapter_file  # noqa: E402
from sparse_adapter.checkpoint.adapter_only import whole_state  # noqa: E402
from sparse_adapter.checkpoint.rebuild import UnnamedDictionary, build_model, own_arguments  # noqa: E402
from sparse_adapter.files import write_json  # noqa: E402
from sparse_adapter.modules import is_adapter_key, prunable_weights  # noqa: E402
from sparse_adapter.pruning import apply_masks_, prune  # noqa: E402
from sparse_adapter.serving import PLAIN, Translator  # noqa: E402
from tabulate import tabulate  # noqa: E402
from torch import nn  # noqa: E402
from tqdm import tqdm  # noqa: E402

TARGET = 0.9  # share of one domain's speed that two domains by turns have to reach
LANGUAGES = {"source_lang": "source", "target_lang": "target"}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {
        "layers": (6, "encoder layers, and as many decoder layers"),
        "dim": (512, "embedding dimension; the FFN has four times as many"),
        "heads": (8, "attention heads"),
        "vocab": (8000, "size of the vocabulary"),
        "lines": (256, "lines of a run"),
        "buffer": (256, "lines that are read together"),
        "source": (32, "tokens of the longest line; the shortest has a quarter"),
        "max-len": (32, "tokens of every translation"),
        "beam": (5, "beam size"),
        "max-tokens": (2000, "source tokens of a batch"),
        "rounds": (5, "timed runs of each mix"),
        "threads": (torch.get_num_threads(), "threads of PyTorch on the CPU"),
    }
    for name, (default, text) in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{text} (default: {default})")
    families = ["houlsby", "houlsby"]
    text = f"adapters of the first and the second domain (default: {' '.join(families)})"
    parser.add_argument("--families", nargs=2, default=families, metavar="FAMILY", help=text)
    parser.add_argument("--sparsity", type=float, default=0.4, help="of the adapters (default: 0.4)")
    parser.add_argument("--cpu", action="store_true", help="use the CPU even where there is a GPU")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write everything measured to this file")
    args = parser.parse_args(argv)
    for name in sizes:
        if getattr(args, name.replace("-", "_")) < 1:
            parser.error(f"--{name} must be at least 1")
    return args


def write_models(folder: Path, args: argparse.Namespace) -> Translator:
    """Write a random backbone, its dictionaries and two adapters, and serve them."""
    words = UnnamedDictionary(args.vocab)
    for language in LANGUAGES.values():
        words.save(str(folder / f"dict.{language}.txt"))
    sizes = {"layers": args.layers, "embed_dim": args.dim, "ffn_embed_dim": 4 * args.dim, "attention_heads": args.heads}
    stacks = {f"{stack}_{name}": size for stack in ("encoder", "decoder") for name, size in sizes.items()}
    task = {"_name": "sparse_adapter_translation", **LANGUAGES}
    common = {"arch": "sparse_adapter_bart_base", "task": task["_name"], **stacks}
    backbone = Namespace(**common, adapter="none")
    torch.manual_seed(1)
    weights = build_model(backbone, args.vocab, args.vocab).state_dict()
    torch.save(fresh_checkpoint({"model": backbone, "task": task}, weights), folder / "model.pt")
    files = {}
    for i, family in enumerate(args.families, start=1):
        own = Namespace(**common, adapter=family)
        model = build_model(own, args.vocab, args.vocab)
        for weight in prunable_weights(model).values():  # zero-initialised matrices too
            nn.init.normal_(weight.values, std=0.02)
        if args.sparsity:
            apply_masks_(model, prune(model, "random", args.sparsity, seed=i))
        files[f"domain{i}"] = folder / f"domain{i}.safetensors"
        tensors = {key: value for key, value in whole_state(model).items() if is_adapter_key(key)}
        sections = {"model": own_arguments(own), "task": task}
        write_adapter_file(files[f"domain{i}"], tensors, sections, {})
    device = "cuda" if torch.cuda.is_available() and not args.cpu else "cpu"
    limits = {"beam": args.beam, "max_len_b": args.max_len, "max_tokens": args.max_tokens}
    return Translator.load(folder / "model.pt", files, data=folder, device=device, progress=True, **limits)


def measure(translator: Translator, args: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of every timed run, by mix."""
    generator = random.Random(1)
    lengths = [generator.randint(max(args.source // 4, 1), args.source) - 1 for _ in range(args.lines)]
    texts = [" ".join(str(generator.randrange(args.vocab // 2)) for _ in range(length)) for length in lengths]
    first, second = (name for name in translator.domains if name != PLAIN)
    mixes = {
        "plain backbone": [(PLAIN, text) for text in texts],
        f"{first} ({args.families[0]})": [(first, text) for text in texts],
        f"{second} ({args.families[1]})": [(second, text) for text in texts],
        "both by turns": [((first, second)[i % 2], text) for i, text in enumerate(texts)],
    }
    seconds: dict[str, list[float]] = {name: [] for name in mixes}
    names = list(mixes)
    for i in tqdm(range(args.rounds + 1), desc="translating", unit="round", disable=None):
        for name in names[i % len(names) :] + names[: i % len(names)]:  # no mix always runs after the same one
            start = time.perf_counter()
            for line in range(0, args.lines, args.buffer):
                translator.translate_mixed(mixes[name][line : line + args.buffer])
            if i > 0:  # the first round allocates
                seconds[name].append(time.perf_counter() - start)
    return seconds


def summarize(seconds: dict[str, list[float]], args: argparse.Namespace) -> list[dict]:
    plain, one, other, both = (min(runs) for runs in seconds.values())
    expected = (one + other) / 2  # half of the lines are of either domain
    rows = []
    for name, runs in seconds.items():
        judged = name == list(seconds)[-1]
        rows.append(
            {
                "lines": name,
                "lines_per_second": round(args.lines / min(runs), 2),
                "median_lines_per_second": round(args.lines / statistics.median(runs), 2),
                "share_of_plain": round(plain / min(runs), 4),
                "share_of_one_domain": round(expected / both, 4) if judged else None,
                "target": TARGET if judged else None,
                "met": expected / both >= TARGET if judged else None,
            }
        )
    return rows


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        translator = write_models(Path(folder), args)
    rows = summarize(measure(translator, args), args)
    verdicts = {True: "met", False: "MISSED", None: ""}
    table = [
        [
            row["lines"],
            f"{row['lines_per_second']:,.1f}",
            f"{row['median_lines_per_second']:,.1f}",
            f"{row['share_of_plain']:.3f}",
            "" if row["target"] is None else f"{row['share_of_one_domain']:.3f}",
            "" if row["target"] is None else f">= {row['target']}",
            verdicts[row["met"]],
        ]
        for row in rows
    ]
    head = ["lines", "lines/s (best)", "(median)", "of the plain backbone", "of one domain", "target", ""]
    print(tabulate(table, head, tablefmt="github"))
    if args.json:
        settings = {key: value for key, value in vars(args).items() if key != "json"}
        write_json(args.json, {"settings": settings, "mixes": rows})
        print(f"written to {args.json}")


if __name__ == "__main__":
    main()
