"""An account of what is trained and what was pruned: per matrix, site, layer and in total."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from ..modules import SparseWeight, is_adapter_key, is_backbone_key, prunable_weights, split_adapter_key
from .scopes import SCOPES


def live_units(weight: SparseWeight) -> Tensor:
    """Which of the bottleneck's units have a weight left in this matrix: boolean ``(units,)``."""
    return weight.mask().movedim(weight.unit_dim, 0).flatten(1).any(dim=1)


def unit_groups(weights: Mapping[str, SparseWeight]) -> dict[str, list[SparseWeight]]:
    """Matrices that share their units by name: the two projections of a bottleneck, or a table by itself."""
    groups: dict[str, list[SparseWeight]] = defaultdict(list)
    for name, weight in weights.items():
        if weight.unit_dim is not None:
            groups[name.rsplit(".", 2)[0] if name.endswith(".weight") else name].append(weight)
    return groups


def sparsity_report(model: nn.Module, large_sparse: int = 1) -> dict:
    """What is trained, as plain data for JSON.

    Args:
        model: the model, pruned or not.
        large_sparse: the factor k that its bottlenecks, ranks and prefixes were multiplied by.

    Returns:
        ``matrices`` lists every trained sparse weight; ``layers``, ``sites``, ``families`` and
        ``matrix_total`` sum them up; ``trained`` counts matrices, biases, layer norms and everything else
        (heads; the whole model in full fine-tuning) apart. A unit is dead if a matrix has no weight of it
        left; ``dead_adapters`` names the adapters that lost every unit. ``fused_parameters`` are those of adapters
        that a fusion uses as they were trained.
        ``backbone_parameters`` has no heads: neither the trained ones nor that of an encoder's pretraining.
        ``mask_sha256`` is the same where, and only where, the same weights are left.
    """
    rows = []
    weights = prunable_weights(model)
    for name, weight in weights.items():
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
                "units": 0 if weight.unit_dim is None else weight.shape[weight.unit_dim],
                "dead_units": 0 if weight.unit_dim is None else int((~live_units(weight)).sum()),
            }
        )
    dead = {
        name: ~torch.stack([live_units(weight) for weight in group]).all(dim=0)
        for name, group in unit_groups(weights).items()
    }
    trained = _trained(model)
    backbone = sum(p.numel() for n, p in model.named_parameters() if is_backbone_key(model, n) and ".lm_head." not in n)
    adapters = {n: p for n, p in model.named_parameters() if is_adapter_key(n)}
    own = sum(p.numel() for p in adapters.values() if p.requires_grad)
    return {
        "matrix_total": _density(weights.values()),
        "mask_sha256": mask_hash(weights),
        "trained": trained,
        "backbone_parameters": backbone,
        "adapter_share_of_backbone": own / backbone if backbone else None,
        "fused_parameters": sum(p.numel() for p in adapters.values()) - own,
        "units": sum(units.numel() for units in dead.values()),
        "dead_units": sum(int(units.sum()) for units in dead.values()),
        "dead_adapters": [name for name, units in dead.items() if bool(units.all())],
        "large_sparse": None if large_sparse == 1 else {"k": large_sparse, **_budget(weights, large_sparse)},
        "families": _grouped(rows, dead, "family"),
        "sites": _grouped(rows, dead, "site"),
        "layers": _grouped(rows, dead, "layer"),
        "matrices": rows,
    }


def format_report(report: dict) -> str:
    """The report's main figures in a few lines for the log."""
    total, trained = report["matrix_total"], report["trained"]
    lines = []
    if total["total"]:
        lines.append(
            f"adapter matrices: {total['kept']:,} of {total['total']:,} weights kept "
            f"(density {total['density']:.4f}), {report['dead_units']} of {report['units']:,} units dead"
        )
    if report["large_sparse"]:
        budget = report["large_sparse"]
        lines.append(
            f"Large-Sparse k = {budget['k']}: {budget['kept']:,} weights kept, the dense adapter with k = 1 has "
            f"{budget['dense_weights_of_k_1']:,}"
        )
    lines.append(
        f"trained: {trained['total']:,} = {trained['matrices']:,} in matrices + {trained['biases']:,} in biases "
        f"+ {trained['layer_norms']:,} in layer norms + {trained['others']:,} others"
    )
    if report["fused_parameters"]:
        lines.append(f"fused, as they were trained: {report['fused_parameters']:,} parameters of other adapters")
    if report["adapter_share_of_backbone"] is not None:
        lines.append(
            f"adapters: {report['adapter_share_of_backbone']:.2%} of the backbone's "
            f"{report['backbone_parameters']:,} parameters"
        )
    for site, row in report["sites"].items():
        lines.append(f"  {site}: {row['kept']:,} of {row['total']:,} (density {row['density']:.4f})")
    if report["dead_adapters"]:
        lines.append(
            f"WARNING: {len(report['dead_adapters'])} adapters have no unit left "
            f"(first: {report['dead_adapters'][0]}); use a lower sparsity"
            f"{' or --prune-scope matrix' if report.get('scope') in SCOPES.keys() - {'matrix'} else ''}"
        )
    return "\n".join(lines)


def _budget(weights: Mapping[str, SparseWeight], k: int) -> dict:
    """The weights of the dense adapter that is k times smaller, matrix by matrix, against those that are left."""
    dense = sum(
        weight.total // weight.shape[weight.unit_dim] * (weight.shape[weight.unit_dim] // k)
        for weight in weights.values()
    )
    kept = sum(weight.kept for weight in weights.values())
    return {"kept": kept, "dense_weights_of_k_1": dense, "equal": kept == dense}


def mask_hash(weights: Mapping[str, SparseWeight]) -> str:
    """SHA-256 of names, shapes and masks: the same where, and only where, the same weights are left."""
    digest = hashlib.sha256()
    for name, weight in sorted(weights.items()):
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        digest.update(np.packbits(weight.mask().numpy()).tobytes())
    return digest.hexdigest()


def _density(weights: Iterable[SparseWeight]) -> dict:
    weights = list(weights)
    kept, total = sum(w.kept for w in weights), sum(w.total for w in weights)
    return {"kept": kept, "total": total, "density": kept / total if total else None}


def _grouped(rows: list[dict], dead: Mapping[str, Tensor], part: str) -> dict[str, dict]:
    """Sums by a part of the name: layer, family or site."""
    sums: dict[str, dict] = defaultdict(lambda: {"kept": 0, "total": 0, "dead_units": 0})
    for row in rows:
        for count in ("kept", "total"):
            sums[row[part]][count] += row[count]
    for name, units in dead.items():
        layer, family, site, _ = split_adapter_key(name)
        sums[{"layer": layer, "family": family, "site": site}[part]]["dead_units"] += int(units.sum())
    return {name: {**counts, "density": counts["kept"] / counts["total"]} for name, counts in sums.items()}


def _trained(model: nn.Module) -> dict[str, int]:
    """Trained parameters by kind. ``others`` are not an adapter's: heads, or the backbone itself."""
    counts = {"matrices": 0, "biases": 0, "layer_norms": 0, "others": 0}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        owner = model.get_submodule(name.rpartition(".")[0])
        if not is_adapter_key(name):
            kind = "others"
        elif isinstance(owner, SparseWeight):
            kind = "matrices"
        elif isinstance(owner, nn.LayerNorm):
            kind = "layer_norms"
        else:
            kind = "biases"
        counts[kind] += parameter.numel()
    return {**counts, "total": sum(counts.values())}
