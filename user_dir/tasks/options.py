"""The flags of every task with the prune-at-init hook."""

from dataclasses import dataclass, field
from typing import Any, Optional

from fairseq.dataclass import FairseqDataclass
from omegaconf import DictConfig

from ..errors import UsageError
from ..pruning import PRUNERS, SCOPES


def flag(default: Any, help: str) -> Any:
    """A field of a task's configuration, which fairseq makes a flag."""
    return field(default=default, metadata={"help": help})


@dataclass
class PruneAtInitConfig(FairseqDataclass):
    """Flags of every task with the hook."""

    pruner: str = flag("none", f"prune the adapters at initialisation: {', '.join(PRUNERS)}, or none")
    sparsity: Optional[float] = flag(
        None, "fraction of the adapters' weights to remove, 0 <= s < 1; needs a --pruner (default: 0)"
    )
    large_sparse: int = flag(1, "k: adapters that are k times larger, at sparsity 1 - 1/k; needs a --pruner")
    prune_scope: str = flag(
        "global",
        "global: rank all matrices together; family, site, layer or matrix: those of one family, site or layer, or "
        "each by itself, all at the same density (er has its own)",
    )
    prune_shuffle: bool = flag(
        False,
        "keep as many weights of each matrix as the pruner chose, at random places: the control that tells "
        "which weights matter from how many of each matrix (Frankle et al. 2021)",
    )
    prune_batches: int = flag(
        16,
        "training batches that snip and grasp score on, over all processes; a batch costs about one "
        "training step for snip and four for grasp",
    )
    prune_max_tokens: Optional[int] = flag(
        None,
        "tokens of such a batch, at least the longest example: scores are computed in float32, which takes "
        "more memory than training with --fp16 or --bf16 (default: --max-tokens)",
    )
    prune_seed: Optional[int] = flag(
        None, "seed of random scores, chance between equal ones and the pruning batches (default: --seed)"
    )
    matmul_precision: Optional[str] = flag(
        None,
        "of float32 matrix products: highest, high (TF32 on GPUs from Ampere on) or medium (bfloat16 on "
        "CPUs that have it), which are faster; pruning is always scored at the highest (default: torch's)",
    )
    attention_kernel: Optional[str] = flag(
        None,
        "of torch's attention: math is matrix products, which on a CPU are several times faster for "
        "sequences of less than some hundred tokens, and slower for long ones (default: torch's choice)",
    )
    dropout_kernel: Optional[str] = flag(
        None,
        "of dropout on a CPU: torch, which draws 64 random bits for each value, or fast, which draws 16 and takes a "
        "third to a half of the time (default: torch's)",
    )
    random_backbone: bool = flag(False, "allow adapters on a randomly initialised backbone (tests, benchmarks)")


def check_options(cfg: DictConfig) -> None:
    """Refuse what cannot work before anything is read.

    Raises:
        UsageError: an option is out of range, or two contradict each other.
    """
    if cfg.pruner not in (*PRUNERS, "none"):
        raise UsageError(f"unknown pruner {cfg.pruner!r}; choose one of {', '.join([*PRUNERS, 'none'])}")
    if not 0 <= cfg.sparsity < 1:
        raise UsageError(f"--sparsity {cfg.sparsity}: sparsity is the fraction removed, at least 0 and below 1")
    if cfg.sparsity > 0 and cfg.pruner == "none":
        raise UsageError(f"--sparsity {cfg.sparsity} needs a --pruner: {', '.join(PRUNERS)}")
    if cfg.prune_shuffle and cfg.pruner == "none":
        raise UsageError(f"--prune-shuffle needs a --pruner: {', '.join(PRUNERS)}")
    if cfg.prune_scope not in SCOPES:
        raise UsageError(f"unknown --prune-scope {cfg.prune_scope!r}; choose one of {', '.join(SCOPES)}")
    if cfg.matmul_precision not in (None, "highest", "high", "medium"):
        raise UsageError(f"unknown --matmul-precision {cfg.matmul_precision!r}; choose highest, high or medium")
    if cfg.attention_kernel not in (None, "math"):
        raise UsageError(f"unknown --attention-kernel {cfg.attention_kernel!r}; choose math, or leave it out")
    if cfg.dropout_kernel not in (None, "torch", "fast"):
        raise UsageError(f"unknown --dropout-kernel {cfg.dropout_kernel!r}; choose torch or fast")
    if cfg.prune_batches < 1:
        raise UsageError(f"--prune-batches {cfg.prune_batches}: at least one batch is needed")
    if cfg.prune_max_tokens is not None and cfg.prune_max_tokens < 1:
        raise UsageError(f"--prune-max-tokens {cfg.prune_max_tokens}: a batch has at least one token")


def asked_sparsity(cfg: DictConfig) -> float:
    """What is asked for: ``1 - 1/k`` of Large-Sparse (SparseAdapter, He et al. 2022, §3.1), otherwise --sparsity.

    Raises:
        UsageError: two options contradict each other, or one is missing.
    """
    k = cfg.large_sparse
    if k == 1:
        if cfg.sparsity is None and cfg.pruner != "none":
            raise UsageError(f"--pruner {cfg.pruner} needs a --sparsity, the fraction removed (0 for none)")
        return cfg.sparsity or 0.0
    if k < 1:
        raise UsageError(f"--large-sparse {k}: a whole factor of at least 1")
    if cfg.pruner == "none":
        raise UsageError(f"--large-sparse {k} needs a --pruner: {', '.join(PRUNERS)}")
    sparsity = 1 - 1 / k
    if cfg.sparsity not in (None, sparsity):
        raise UsageError(f"--large-sparse {k} is sparsity {sparsity:.4g}: leave out --sparsity {cfg.sparsity:g}")
    return sparsity
