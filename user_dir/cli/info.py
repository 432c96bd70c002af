"""Say what a file holds: families, sites, sizes, density by layer.

sparse-adapter info checkpoints/xsum/checkpoint_best.pt
sparse-adapter info xsum.safetensors --plot density.png
sparse-adapter info xsum.safetensors --json report.json
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from tabulate import tabulate

from ..adapters.options import fixed_options
from ..adapters.sites import SITES
from ..checkpoint.adapter_file import SUFFIX, adapter_files
from ..checkpoint.adapter_only import trained_heads
from ..checkpoint.rebuild import dictionary_sizes, model_arguments, rebuild_adapters, task_section
from ..errors import UsageError
from ..files import write_json, written_at_once
from ..pruning import PRUNERS, sparsity_report
from .arguments import FILE_HELP, add_force, check_out, read_file


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help=FILE_HELP)
    parser.add_argument("--plot", type=Path, metavar="OUT.png", help="draw the density of every layer and site")
    parser.add_argument("--json", type=Path, metavar="OUT.json", help="write the whole report, matrix by matrix")
    add_force(parser)


def run(args: Namespace) -> None:
    files = adapter_files(args.file) if args.file.suffix == SUFFIX else (args.file,)
    for out in filter(None, (args.json, args.plot)):
        if out.resolve() in (file.resolve() for file in files):
            raise UsageError(f"{out} belongs to {args.file}: choose another name for what is written")
        check_out(out, args.force)
    state = read_file(args.file)
    model_args = model_arguments(state)
    report = read_report(state, model_args)
    print(format_info(report, model_args, task_section(state), args.file.stat().st_size))
    if args.json:
        write_json(args.json, report)
        print(f"written to {args.json}")
    if args.plot:
        plot_density(report, args.plot)
        print(f"drawn to {args.plot}")


def read_report(state: dict, args: Namespace) -> dict:
    """The sparsity report of a file's adapters and heads, and of the backbone as far as the file tells."""
    model = rebuild_adapters(state)
    report = sparsity_report(model, args.large_sparse)
    heads = trained_heads(model, state["model"])
    adapters = sum(report["trained"][kind] for kind in ("matrices", "biases", "layer_norms"))
    others = sum(value.numel() for value in heads.values())
    report["trained"] |= {"others": others, "total": adapters + others}
    if dictionary_sizes(args, state["model"]) is None:
        report |= {"backbone_parameters": None, "adapter_share_of_backbone": None}
    return report


def format_info(report: dict, args: Namespace, task: dict, file_bytes: int) -> str:
    total, trained, share = report["matrix_total"], report["trained"], report["adapter_share_of_backbone"]
    options = [f"{flag} {value}" for flag, value in fixed_options(args).items() if flag != "--adapter"]
    pruner = task.get("pruner") or "none"
    if pruner != "none":
        own = PRUNERS[pruner].allocation if pruner in PRUNERS else None
        pruner += ", shuffled" if task.get("prune_shuffle") else ""
        pruner += f", {own or task.get('prune_scope', 'global')}, sparsity {task.get('sparsity') or 0:.4g}"
    facts = [
        ("architecture", args.arch),
        ("adapter", args.adapter),
        ("options", " ".join(options)),
        ("pruner", pruner),
        ("backbone", f"{args.backbone or 'not recorded'} ({args.backbone_fingerprint[:16] or 'no fingerprint'})"),
        ("file", f"{file_bytes / 2**20:.2f} MiB"),
        ("matrices", f"{total['kept']:,} of {total['total']:,} weights (sparsity {1 - total['density']:.4f})"),
        ("biases, layer norms", f"{trained['biases']:,}, {trained['layer_norms']:,}"),
        ("heads", f"{trained['others']:,}"),
        ("trained", f"{trained['total']:,}" + (f", adapters {share:.2%} of the backbone" if share else "")),
        ("dead units", f"{report['dead_units']:,} of {report['units']:,}"),
        ("masks", report["mask_sha256"][:16]),
    ]
    if report["fused_parameters"]:
        facts.append(("fused", f"{report['fused_parameters']:,} parameters of other adapters, as they were trained"))
    if report["large_sparse"]:
        budget = report["large_sparse"]
        facts.append(("Large-Sparse", f"k = {budget['k']}, the dense k = 1 has {budget['dense_weights_of_k_1']:,}"))
    columns = _columns(report)
    table = []
    for layer, cells in density_grid(report).items():
        row = report["layers"][layer]
        shown = ["" if cells[c] is None else f"{cells[c]:.4f}" for c in columns]
        table.append([layer, *shown, f"{row['kept']:,}", f"{row['total']:,}", f"{row['density']:.4f}"])
    head = ["layer", *(" ".join(column) for column in columns), "kept", "total", "density"]
    align = ["left", *["right"] * (len(head) - 1)]
    return "\n\n".join(
        [
            tabulate(facts, tablefmt="plain", disable_numparse=True),
            tabulate(table, head, tablefmt="github", colalign=align, disable_numparse=True),
        ]
    )


def density_grid(report: dict) -> dict[str, dict[tuple[str, str], float | None]]:
    """Density by layer, and by family and site."""
    sums: dict[tuple, list[int]] = {}
    for row in report["matrices"]:
        cell = sums.setdefault((row["layer"], row["family"], row["site"]), [0, 0])
        cell[0] += row["kept"]
        cell[1] += row["total"]

    def density(*cell: str) -> float | None:
        kept, total = sums.get(cell, (0, 0))
        return kept / total if total else None

    return {layer: {c: density(layer, *c) for c in _columns(report)} for layer in report["layers"]}


def plot_density(report: dict, path: Path) -> None:
    """A heat map of density by layer and site.

    Raises:
        UsageError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("--plot needs matplotlib: pip install matplotlib") from error
    grid, columns = density_grid(report), _columns(report)
    values = [[float("nan") if cells[c] is None else cells[c] for c in columns] for cells in grid.values()]
    figure = Figure(figsize=(2.5 + 1.1 * len(columns), 1.5 + 0.32 * len(grid)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(values, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    axes.set_xticks(range(len(columns)), [f"{site}\n{family}" for family, site in columns])
    axes.set_yticks(range(len(grid)), list(grid))
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            if value == value:
                axes.text(x, y, f"{value:.2f}", ha="center", va="center", color="white" if value < 0.6 else "black")
    axes.set_title(f"density of the adapters, {report['matrix_total']['density']:.2f} overall")
    figure.colorbar(image, label="fraction of weights left")
    kind = path.suffix.lstrip(".").lower() or "png"
    if kind not in figure.canvas.get_supported_filetypes():
        raise UsageError(f"--plot {path}: use a suffix such as .png, .svg or .pdf")
    with written_at_once(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=150)


def _columns(report: dict) -> list[tuple[str, str]]:
    columns = dict.fromkeys((row["family"], row["site"]) for row in report["matrices"])
    return sorted(columns, key=lambda column: (column[0], SITES.index(column[1])))
