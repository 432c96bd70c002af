"""An account of what is trained and what was pruned: per matrix, site, layer and in total."""

from collections import defaultdict
from collections.abc import Iterable

from torch import nn

from ..modules import SparseWeight, is_adapter_key, sparse_weights, split_adapter_key


def dead_units(weight: SparseWeight) -> int:
    """Number of the bottleneck's units that lost all their weights in this matrix."""
    if weight.unit_dim is None:
        return 0
    units = weight.mask().movedim(weight.unit_dim, 0).flatten(1)
    return int((~units.any(dim=1)).sum())


def sparsity_report(model: nn.Module) -> dict:
    """What is trained, as plain data for JSON.

    Returns:
        ``matrices`` lists every sparse weight; ``layers`` and ``sites`` and ``matrix_total`` sum them up;
        ``trained`` counts matrices, biases, layer norms and everything else (heads; the whole model in
        full fine-tuning) apart; ``dead_adapters`` names the matrices that lost every unit.
    """
    rows = []
    for name, weight in sparse_weights(model).items():
        layer, family, site, matrix = split_adapter_key(name)
        rows.append(
            {
                "name": name,
                "layer": layer,
                "family": family,
                "site": site,
                "matrix": matrix,
                "shape": list(weight.shape),
                **_density([weight]),
                "dead_units": dead_units(weight),
                "units": 0 if weight.unit_dim is None else weight.shape[weight.unit_dim],
            }
        )
    trained = _trained(model)
    backbone = sum(p.numel() for n, p in model.named_parameters() if not is_adapter_key(n))
    adapters = sum(p.numel() for n, p in model.named_parameters() if is_adapter_key(n) and p.requires_grad)
    return {
        "matrix_total": _density(sparse_weights(model).values()),
        "trained": trained,
        "backbone_parameters": backbone,
        "adapter_share_of_backbone": adapters / backbone if backbone else None,
        "dead_units": sum(row["dead_units"] for row in rows),
        "dead_adapters": [row["name"] for row in rows if row["units"] and row["dead_units"] == row["units"]],
        "sites": _grouped(rows, "site"),
        "layers": _grouped(rows, "layer"),
        "matrices": rows,
    }


def format_report(report: dict) -> str:
    """The report's main figures in a few lines for the log."""
    total, trained = report["matrix_total"], report["trained"]
    lines = []
    if total["total"]:
        lines.append(
            f"adapter matrices: {total['kept']:,} of {total['total']:,} weights kept "
            f"(density {total['density']:.4f}), {report['dead_units']} dead units"
        )
    lines.append(
        f"trained: {trained['total']:,} = {trained['matrices']:,} in matrices + {trained['biases']:,} in biases "
        f"+ {trained['layer_norms']:,} in layer norms + {trained['others']:,} others"
    )
    if report["adapter_share_of_backbone"] is not None:
        lines.append(
            f"adapters: {report['adapter_share_of_backbone']:.2%} of the backbone's "
            f"{report['backbone_parameters']:,} parameters"
        )
    for site, row in report["sites"].items():
        lines.append(f"  {site}: {row['kept']:,} of {row['total']:,} (density {row['density']:.4f})")
    if report["dead_adapters"]:
        lines.append(
            f"WARNING: {len(report['dead_adapters'])} matrices lost every unit and pass nothing on "
            f"(first: {report['dead_adapters'][0]}); use a lower sparsity or --prune-scope matrix"
        )
    return "\n".join(lines)


def _density(weights: Iterable[SparseWeight]) -> dict:
    weights = list(weights)
    kept, total = sum(w.kept for w in weights), sum(w.total for w in weights)
    return {"kept": kept, "total": total, "density": kept / total if total else None}


def _grouped(rows: list[dict], field: str) -> dict[str, dict]:
    sums: dict[str, dict] = defaultdict(lambda: {"kept": 0, "total": 0, "dead_units": 0})
    for row in rows:
        for count in ("kept", "total", "dead_units"):
            sums[row[field]][count] += row[count]
    return {name: {**counts, "density": counts["kept"] / counts["total"]} for name, counts in sums.items()}


def _trained(model: nn.Module) -> dict[str, int]:
    """Trained parameters by kind. ``others`` are not an adapter's: heads, or the backbone itself."""
    counts = {"matrices": 0, "biases": 0, "layer_norms": 0, "others": 0}
    seen = set()
    for module_name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            if not is_adapter_key(module_name):
                kind = "others"
            elif isinstance(module, SparseWeight):
                kind = "matrices"
            elif isinstance(module, nn.LayerNorm):
                kind = "layer_norms"
            else:
                kind = "biases"
            counts[kind] += parameter.numel()
    return {**counts, "total": sum(counts.values())}
