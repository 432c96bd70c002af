"""The paper's Figures 1, 2 and 4, drawn from a study's runs: means over seeds, with bands of one standard deviation."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from ..errors import UsageError
from ..files import written_at_once
from .scores import FULL, Cell, Scores, dense, large_sparse, parameter_share, pruned
from .tables import FAMILY_LABELS, GLUE, METRIC_LABELS, benchmarks

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
STYLE = {
    "font.size": 10,
    "axes.titlesize": 10,
    "legend.fontsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "sparse-adapter",
    "text.parse_math": False,  # labels are a user's
}
Place = tuple[str, str, float]  # task, backbone and bottleneck, 0 where that is the example's default
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
    points = {}
    for backbone in scores.backbones:
        found = benchmarks(scores, backbone, [scores.select(backbone=backbone)])
        for benchmark in [one for one in found if one.name == GLUE] or (found if len(found) == 1 else []):
            systems = _averages(scores, backbone, benchmark.tasks)
            if len(systems) > 1:
                points[backbone] = benchmark, systems
    if not points:
        return None
    figure, panels = _panels(len(points), width=4.6, height=3.6)
    seeds = []
    for axes, (backbone, (benchmark, found)) in zip(panels, points.items(), strict=False):
        for x, (label, _, cell, style) in zip(_apart(found), found, strict=True):
            axes.errorbar(x, cell.mean, yerr=cell.sd, label=label, capsize=3, linestyle="none", **style)
        full = scores.average(scores.select(backbone=backbone, **FULL), benchmark.tasks)
        _level(axes, full, "full fine-tuning", "#777777", ":")
        label = f"average score, {benchmark.name}{benchmark.remark}"
        axes.set(title=backbone, xlabel="adapter parameters, % of the backbone", ylabel=label)
        axes.grid(alpha=0.3)
        seeds += [cell.seeds for cell in (full, *(cell for _, _, cell, _ in found)) if cell.n]
    _legend(figure, panels)
    caption = (
        "Figure 1: average score over adapter parameters. S-: pruned; LS-: Large-Sparse, k times larger and as many "
        "weights. Bars, and the stripe of full fine-tuning: ± one standard deviation over seeds. Points of the same "
        f"size are drawn a little apart.{_remarks(seeds, 'bar')}"
    )
    return figure, caption


def figure2(scores: Scores) -> tuple[Figure, str] | None:
    """Score over sparsity of every pruner that was run at more than one, with the dense adapter as a line."""
    plain = {"family": "houlsby", "large_sparse": 1}
    labels = scores.named("pruner", PRUNERS, **plain)
    pruners = [
        name for name in labels if len([s for s in scores.values("sparsity", pruner=name, **plain) if s > 0]) > 1
    ]
    if not pruners:
        return None
    runs = scores.select(**plain)
    places = _places(scores, runs[runs["pruner"].isin(pruners)])
    figure, panels = _panels(len(places))
    seeds = []
    for axes, place in zip(panels, places, strict=False):
        for i, (name, label) in enumerate(labels.items()):
            frame = _at(scores.select(pruner=name, **plain), place)
            if name in pruners and len(frame):
                _band(axes, frame.assign(x=100 * frame["sparsity"]), "x", "score", label, i)
                seeds += _seeds(frame)
        task, backbone, _ = place
        for label, frame, style in (
            ("dense adapter", _at(scores.select(**dense()), place), (BLACK, "--")),
            ("full fine-tuning", scores.select(task=task, backbone=backbone, **FULL), ("#777777", ":")),
        ):
            for _, system in frame.groupby("system"):
                _level(axes, scores.cell(system), label, *style)
            seeds += _seeds(frame)
        axes.set(title=_title(scores, place, places), xlabel="sparsity, %", ylabel=_metric(scores, task))
        axes.grid(alpha=0.3)
    _legend(figure, panels)
    caption = (
        "Figure 2: score over sparsity. Lines: means over seeds; bands and, of the dense adapter and full "
        f"fine-tuning, shaded stripes: ± one standard deviation.{_remarks(seeds, 'band')}"
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
    shown = [set(_places(scores, frame)) for frame in curves.values()]
    places = [place for place in _places(scores, curves["dense adapter"]) if sum(place in have for have in shown) > 1]
    if not places:
        return None
    figure, panels = _panels(len(places))
    seeds = []
    for axes, place in zip(panels, places, strict=False):
        metric = ""
        for i, (name, frame) in enumerate(curves.items()):
            own = _at(frame, place)
            if len(own):
                metric = own["metric"].iloc[0]
                # By their number, not by the update, which differs between runs that skipped some.
                number = own.groupby("run")["update"].rank()
                progress = own["progress"].groupby(number).transform("mean")
                _band(axes, own.assign(x=100 * progress), "x", "value", name, i)
                seeds += _seeds(own)
        title, label = _title(scores, place, places), METRIC_LABELS.get(metric, metric)
        axes.set(title=title, xlabel="training progress, %", ylabel=label)
        axes.grid(alpha=0.3)
    _legend(figure, panels)
    return figure, f"{caption} Lines: means over seeds; bands: ± one standard deviation.{_remarks(seeds, 'band')}"


def _averages(scores: Scores, backbone: str, tasks: list[str]) -> list[tuple]:
    """Label, parameter share, cell and style of every system with runs on all of the tasks."""
    sparse = {"pruner": scores.pruner, "sparsity": scores.sparsity}
    found = []
    for i, (family, label) in enumerate(scores.named("family", FAMILY_LABELS).items()):
        factors = [k for k in scores.values("large_sparse", family=family, pruner=scores.pruner) if k > 1]
        systems = {label: (dense(family), "o", True)}
        systems[f"S-{label}"] = ({"family": family, "large_sparse": 1, **sparse}, "s", False)
        systems |= {f"LS-{label} {k}×": (large_sparse(scores.pruner, k, family), "^vD<>"[j % 5], True)
                    for j, k in enumerate(factors)}  # fmt: skip
        for system, (selector, marker, filled) in systems.items():
            for size, (name, one) in enumerate(scores.told_apart({system: selector}).items()):
                frame = scores.select(backbone=backbone, **one)
                frame = frame[frame["task"].isin(tasks)]
                cell, share = scores.average(frame, tasks), parameter_share(frame)
                if cell.mean is not None and share:
                    colour = COLOURS[i % len(COLOURS)]
                    style = {"color": colour, "marker": marker, "markerfacecolor": colour if filled else "white"}
                    found.append((name, share, cell, {**style, "markersize": 7 + 2 * size}))
    return found


def _apart(points: list[tuple]) -> list[float]:
    """Where on the x axis points go: at their share, and those of nearly the same share side by side."""
    shares = [point[1] for point in points]
    width = (max(shares) - min(shares) or max(shares)) * 0.03
    near = [[j for j, other in enumerate(shares) if abs(other - share) < width / 2] for share in shares]
    places = [group.index(i) - (len(group) - 1) / 2 for i, group in enumerate(near)]
    return [share + width * place for share, place in zip(shares, places, strict=True)]


def _with_curve(scores: Scores, selector: dict) -> pd.DataFrame:
    runs = scores.select(**selector)[["run", "task", "backbone", "system", "bottleneck", "seed"]]
    validations = scores.curves.groupby("run")["update"].transform("nunique")
    return runs.merge(scores.curves[validations > 1], on="run")  # one point is no curve


def _bottlenecks(frame: pd.DataFrame) -> pd.Series:
    return pd.to_numeric(frame["bottleneck"]).fillna(0)


def _places(scores: Scores, frame: pd.DataFrame) -> list[Place]:
    """A panel for each."""
    have = set(zip(frame["task"], frame["backbone"], _bottlenecks(frame), strict=True))
    tasks = list(scores.tasks)
    return sorted(have, key=lambda place: (scores.backbones.index(place[1]), tasks.index(place[0]), place[2]))


def _at(frame: pd.DataFrame, place: Place) -> pd.DataFrame:
    task, backbone, bottleneck = place
    here = (frame["task"] == task) & (frame["backbone"] == backbone)
    return frame[here & (_bottlenecks(frame) == bottleneck)]


def _seeds(frame: pd.DataFrame) -> list[tuple[int, ...]]:
    """Of each system on each task."""
    return [tuple(sorted(set(seeds))) for _, seeds in frame.groupby(["task", "backbone", "system"])["seed"]]


def _remarks(seeds: Iterable[tuple[int, ...]], spread: str) -> str:
    """What a caption has to say of the seeds of what is drawn."""
    different = set(seeds)
    remarks = f" No {spread} where there is one seed." if any(len(one) == 1 for one in different) else ""
    return remarks + (" Not everything here has the same seeds." if len(different) > 1 else "")


def _panels(count: int, width: float = PANEL[0], height: float = PANEL[1]) -> tuple[Figure, list[Axes]]:
    columns = min(count, 2 if count == 4 else COLUMNS)
    rows = -(-count // columns)
    figure = Figure(figsize=(max(columns * width, 4.6), rows * height + 0.7), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for empty in panels[count:]:
        empty.set_visible(False)
    return figure, panels[:count]


def _band(axes: Axes, frame: pd.DataFrame, x: str, y: str, label: str, index: int) -> None:
    groups = frame.groupby(x)[y]
    mean, sd = groups.mean(), groups.std(ddof=1)  # nan of one seed, where nothing is filled
    colour, marker, line = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)], LINES[index % len(LINES)]
    markers = marker if len(mean) <= 15 else None
    shape = {"marker": markers, "linestyle": line, "markersize": 4.5, "linewidth": 1.6}
    axes.plot(mean.index, mean, label=label, color=colour, **shape)
    axes.fill_between(mean.index, mean - sd, mean + sd, color=colour, alpha=0.18, linewidth=0)


def _level(axes: Axes, cell: Cell, label: str, colour: str, line: str) -> None:
    if cell.mean is None:
        return
    axes.axhline(cell.mean, color=colour, linestyle=line, linewidth=1.4, label=label)
    if cell.sd is not None:
        axes.axhspan(cell.mean - cell.sd, cell.mean + cell.sd, color=colour, alpha=0.1, linewidth=0)


def _legend(figure: Figure, panels: list[Axes]) -> None:
    entries: dict[str, object] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    rows = -(-len(entries) // max(1, int(figure.get_figwidth() / 1.75)))
    columns = -(-len(entries) // max(1, rows))
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns, frameon=False)


def _title(scores: Scores, place: Place, places: list[Place]) -> str:
    """The task, the backbone if there are several, the bottleneck if the task has several with this backbone."""
    task, backbone, bottleneck = place
    parts = [scores.tasks[task]] + ([backbone] if len(scores.backbones) > 1 else [])
    if sum(other[:2] == place[:2] for other in places) > 1:
        parts.append(f"r = {bottleneck:g}" if bottleneck else "r by default")
    return ", ".join(parts)


def _metric(scores: Scores, task: str) -> str:
    found = scores.select(task=task)["metric"]
    return METRIC_LABELS.get(found.iloc[0], str(found.iloc[0])) if len(found) else "score"
