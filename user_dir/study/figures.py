"""The paper's Figures 1, 2 and 4, drawn from a study's runs: means over seeds, with bands of one standard deviation."""

from pathlib import Path

import pandas as pd

from ..errors import UsageError
from ..files import written_at_once
from .scores import FULL, Scores, dense, large_sparse, parameter_share, pruned
from .tables import FAMILY_LABELS, benchmarks

try:
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ImportError as error:
    raise UsageError("the figures of a study need matplotlib: pip install matplotlib") from error

# Okabe and Ito's palette, which colour-blind readers can tell apart; shapes say the same again.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK = (
    *("#0072B2", "#E69F00", "#009E73", "#D55E00"),
    *("#CC79A7", "#56B4E9", "#000000"),
)
COLOURS = (BLUE, RED, GREEN, ORANGE, PURPLE, SKY, BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), "-")
PRUNERS = {"random": "random", "snip": "SNIP", "grasp": "GraSP", "magnitude": "magnitude", "er": "ER"}
METRICS = {
    **dict.fromkeys(("accuracy", "acc"), "accuracy, %"),
    **dict.fromkeys(("matthews", "mcc"), "Matthews corr. × 100"),
    "pearson": "Pearson corr. × 100",
    "f1": "F1",
    "rouge2": "ROUGE-2",
    "bleu": "BLEU",
}
STYLE = {
    "font.size": 10,
    "axes.titlesize": 10,
    "legend.fontsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "sparse-adapter",
}
PANEL = (3.1, 2.6)  # inches
COLUMNS = 3


def draw_all(scores: Scores, out: Path) -> list[tuple[str, str]]:
    """Write ``OUT/figureN.png`` and ``.svg`` of those that the study has runs for.

    Returns:
        Name and caption of each.
    """
    drawn = []
    for name, draw in (("figure1", figure1), ("figure2", figure2), ("figure4", figure4)):
        with matplotlib.rc_context(STYLE):
            made = draw(scores)
            if made is None:
                continue
            figure, caption = made
            for suffix, options in ((".png", {"dpi": 160}), (".svg", {"metadata": {"Date": None}})):
                with written_at_once(out / f"{name}{suffix}") as temporary:
                    figure.savefig(temporary, format=suffix[1:], **options)
        drawn.append((name, caption))
    return drawn


def figure1(scores: Scores) -> tuple[Figure, str] | None:
    """Average score over trained parameters, of every system that was run on all tasks of a benchmark."""
    points = {
        (backbone, benchmark): _averages(scores, backbone, tasks)
        for backbone in scores.backbones
        for benchmark, tasks in benchmarks(scores, backbone).items()
        if benchmark == "GLUE" or len(benchmarks(scores, backbone)) == 1
    }
    points = {place: found for place, found in points.items() if len(found) > 1}
    if not points:
        return None
    figure, panels = _panels(len(points), width=4.6, height=3.6)
    for axes, ((backbone, benchmark), found) in zip(panels, points.items(), strict=False):
        for x, (label, _, cell, (colour, marker, filled)) in zip(_apart(found), found, strict=True):
            axes.errorbar(
                x, cell.mean, yerr=cell.sd, label=label, color=colour, marker=marker, capsize=3, linestyle="none",
                markersize=7, markerfacecolor=colour if filled else "white",
            )  # fmt: skip
        full = scores.average(scores.select(backbone=backbone, **FULL), benchmarks(scores, backbone)[benchmark])
        if full.mean is not None:
            axes.axhline(full.mean, color="#777777", linestyle=":", linewidth=1.4, label="full fine-tuning")
            spread = full.sd or 0.0
            axes.axhspan(full.mean - spread, full.mean + spread, color="#777777", alpha=0.1, linewidth=0)
        axes.set(title=backbone, xlabel="adapter parameters, % of the backbone", ylabel=f"average score, {benchmark}")
        axes.grid(alpha=0.3)
    _legend(figure, panels)
    caption = (
        "Figure 1: average score over adapter parameters. S-: pruned; LS-: Large-Sparse, k times larger and as many "
        "weights. Bars, and the stripe of full fine-tuning: ± one standard deviation over seeds. Points of the same "
        "size are drawn a little apart."
    )
    return figure, caption


def figure2(scores: Scores) -> tuple[Figure, str] | None:
    """Score over sparsity of every pruner that was run at more than one, with the dense adapter as a line."""
    plain = {"family": "houlsby", "large_sparse": 1}
    pruners = [
        name for name in PRUNERS if len([s for s in scores.values("sparsity", pruner=name, **plain) if s > 0]) > 1
    ]
    if not pruners:
        return None
    places = _places(scores, {"family": "houlsby", "pruner": pruners[0], "large_sparse": 1})
    figure, panels = _panels(len(places))
    for axes, (task, backbone) in zip(panels, places, strict=False):
        at = {"task": task, "backbone": backbone}
        for name in pruners:
            frame = scores.select(pruner=name, **plain, **at)
            _band(axes, frame.assign(x=100 * frame["sparsity"]), "x", "score", PRUNERS[name], list(PRUNERS).index(name))
        _level(axes, scores.select(**dense(), **at), "dense adapter", BLACK, "--")
        _level(axes, scores.select(**FULL, **at), "full fine-tuning", "#777777", ":")
        axes.set(title=_title(scores, task, backbone), xlabel="sparsity, %", ylabel=_metric(scores, at))
        axes.grid(alpha=0.3)
    _legend(figure, panels)
    caption = (
        "Figure 2: score over sparsity. Lines: means over seeds; bands and, of the dense adapter and full "
        "fine-tuning, shaded stripes: ± one standard deviation."
    )
    return figure, caption


def figure4(scores: Scores) -> tuple[Figure, str] | None:
    """Validation score over training progress, of the dense adapter and Large-Sparse."""
    factors = [k for k in scores.values("large_sparse", family="houlsby", pruner=scores.pruner) if k > 1]
    systems = {"dense adapter": dense()} | {f"Large-Sparse {k}×": large_sparse(scores.pruner, k) for k in factors}
    caption = "Figure 4: validation score over training progress, dense adapter and Large-Sparse."
    if not factors:  # the next best thing: what pruning alone does to convergence
        systems["sparse adapter"] = pruned(scores.pruner, scores.sparsity)
        caption = "Figure 4: validation score over training progress, dense and sparse adapter."
    curves = {name: _with_curve(scores, selector) for name, selector in systems.items()}
    curves = {name: frame for name, frame in curves.items() if not frame.empty}
    if "dense adapter" not in curves or len(curves) < 2:
        return None
    shown = [set(zip(frame["task"], frame["backbone"], strict=True)) for frame in curves.values()]
    places = [place for place in _places(scores, dense()) if sum(place in have for have in shown) > 1]
    if not places:
        return None
    figure, panels = _panels(len(places))
    for axes, (task, backbone) in zip(panels, places, strict=False):
        metric = ""
        for i, (name, frame) in enumerate(curves.items()):
            own = frame[(frame["task"] == task) & (frame["backbone"] == backbone)]
            metric = own["metric"].iloc[0] if len(own) else metric
            _band(axes, own.assign(x=(100 * own["progress"]).round(1)), "x", "value", name, i)
        label = METRICS.get(metric, metric)
        axes.set(title=_title(scores, task, backbone), xlabel="training progress, %", ylabel=label)
        axes.grid(alpha=0.3)
    _legend(figure, panels)
    return figure, f"{caption} Lines: means over seeds; bands: ± one standard deviation."


def _averages(scores: Scores, backbone: str, tasks: list[str]) -> list[tuple]:
    """Label, parameter share, cell and style of every system with runs on all of the tasks."""
    sparse = {"pruner": scores.pruner, "sparsity": scores.sparsity}
    found = []
    for colour, (family, label) in zip(COLOURS, FAMILY_LABELS.items(), strict=True):
        factors = [k for k in scores.values("large_sparse", family=family, pruner=scores.pruner) if k > 1]
        systems = {label: (dense(family), "o", True)}
        systems[f"S-{label}"] = ({"family": family, "large_sparse": 1, **sparse}, "s", False)
        systems |= {f"LS-{label} {k}×": (large_sparse(scores.pruner, k, family), "^vD<>"[j % 5], True)
                    for j, k in enumerate(factors)}  # fmt: skip
        for name, (selector, marker, filled) in systems.items():
            frame = scores.select(backbone=backbone, **selector)
            frame = frame[frame["task"].isin(tasks)]
            cell, share = scores.average(frame, tasks), parameter_share(frame)
            if cell.mean is not None and share:
                found.append((name, share, cell, (colour, marker, filled)))
    return found


def _apart(points: list[tuple]) -> list[float]:
    """Where on the x axis points go: at their share, and those of nearly the same share side by side."""
    shares = [point[1] for point in points]
    width = (max(shares) - min(shares) or max(shares)) * 0.025
    near = [[j for j, other in enumerate(shares) if abs(other - share) < width / 2] for share in shares]
    places = [group.index(i) - (len(group) - 1) / 2 for i, group in enumerate(near)]
    return [share + width * place for share, place in zip(shares, places, strict=True)]


def _with_curve(scores: Scores, selector: dict) -> pd.DataFrame:
    runs = scores.select(**selector)[["run", "task", "backbone", "seed"]]
    return runs.merge(scores.curves, on="run")


def _places(scores: Scores, selector: dict) -> list[tuple[str, str]]:
    frame = scores.select(**selector)
    have = set(zip(frame["task"], frame["backbone"], strict=True))
    return [(task, backbone) for backbone in scores.backbones for task in scores.tasks if (task, backbone) in have]


def _panels(count: int, width: float = PANEL[0], height: float = PANEL[1]) -> tuple[Figure, list[Axes]]:
    columns = min(count, 2 if count == 4 else COLUMNS)
    rows = -(-count // columns)
    figure = Figure(figsize=(max(columns * width, 4.6), rows * height + 0.7), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for empty in panels[count:]:
        empty.set_visible(False)
    return figure, panels[:count]


def _band(axes: Axes, frame: pd.DataFrame, x: str, y: str, label: str, index: int) -> None:
    if frame.empty:
        return
    groups = frame.groupby(x)[y]
    mean, sd = groups.mean(), groups.std(ddof=1).fillna(0)
    colour, marker, line = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)], LINES[index % len(LINES)]
    markers = marker if len(mean) <= 15 else None
    shape = {"marker": markers, "linestyle": line, "markersize": 4.5, "linewidth": 1.6}
    axes.plot(mean.index, mean, label=label, color=colour, **shape)
    axes.fill_between(mean.index, mean - sd, mean + sd, color=colour, alpha=0.18, linewidth=0)


def _level(axes: Axes, frame: pd.DataFrame, label: str, colour: str, line: str) -> None:
    if frame.empty:
        return
    mean, sd = frame["score"].mean(), frame["score"].std(ddof=1) if len(frame) > 1 else 0.0
    axes.axhline(mean, color=colour, linestyle=line, linewidth=1.4, label=label)
    axes.axhspan(mean - sd, mean + sd, color=colour, alpha=0.08, linewidth=0)


def _legend(figure: Figure, panels: list[Axes]) -> None:
    entries: dict[str, object] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    rows = -(-len(entries) // max(1, int(figure.get_figwidth() / 1.75)))
    columns = -(-len(entries) // max(1, rows))
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns, frameon=False)


def _title(scores: Scores, task: str, backbone: str) -> str:
    return f"{scores.tasks[task]}, {backbone}" if len(scores.backbones) > 1 else scores.tasks[task]


def _metric(scores: Scores, at: dict) -> str:
    found = scores.select(**at)["metric"]
    return METRICS.get(found.iloc[0], str(found.iloc[0])) if len(found) else "score"
