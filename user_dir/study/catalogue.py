"""What the study knows by name: tasks, their examples and metrics, and how the examples are told where data lie."""

from dataclasses import dataclass, field
from pathlib import Path

from ..errors import UsageError


@dataclass(frozen=True)
class Known:
    """A task that a config can name without saying more.

    Args:
        example: folder of its scripts in ``examples/``.
        env: settings that make it this task.
        metric: what of ``scores.json`` is reported, the paper's choice. None: what the file itself calls its value.
        curve: what of the validation log follows that metric, the first that is there.
        label: as it is printed.
    """

    example: str
    label: str
    env: dict[str, str] = field(default_factory=dict)
    metric: str | None = None
    curve: tuple[str, ...] = ("acc",)


@dataclass(frozen=True)
class Example:
    """What the scripts of an example do by default.

    Args:
        scored: the set that ``evaluate.sh`` scores.
        takes_best: whether it takes the checkpoint that is best on the validation set, and not the last.
        metric, curve: those of :class:`Known`, of tasks that only their example is known of.
    """

    scored: str
    takes_best: bool = False
    metric: str | None = None
    curve: tuple[str, ...] = ("acc", "loss")


def _glue(label: str, *curve: str) -> Known:
    return Known("glue", label, {"TASK": label.lower()}, None, curve or ("acc",))


KNOWN = {
    "cola": _glue("CoLA", "mcc"),
    "mrpc": _glue("MRPC"),
    "sts-b": _glue("STS-B", "pearson"),
    "rte": _glue("RTE"),
    "sst-2": _glue("SST-2"),
    "qnli": _glue("QNLI"),
    "qqp": _glue("QQP"),
    "mnli": _glue("MNLI"),
    "wnli": _glue("WNLI"),
    "xsum": Known("summarization", "XSum", {}, "rouge2", ("rouge2", "loss")),
    "squad": Known("squad", "SQuAD", {}, "f1", ("f1",)),
}
EXAMPLES = {
    "glue": Example("dev"),
    "squad": Example("dev", metric="f1", curve=("f1",)),
    "summarization": Example("test", takes_best=True, metric="rouge2", curve=("rouge2", "loss")),
    "translation": Example("test", takes_best=True, metric="bleu", curve=("bleu", "loss")),
}
# Metrics of which less is better.
DESCENDING = ("loss", "nll_loss", "ppl", "perplexity", "ter", "wer", "cer", "mse", "rmse", "mae", "error", "error_rate")


def example_of(name: str) -> Example:
    """What the scripts do by default; of an example of one's own, nothing is known."""
    return EXAMPLES.get(name, Example("-"))


def described(task: str, example: str) -> Known:
    """The task by its name, or else as its example's."""
    own = example_of(example)
    return KNOWN.get(task) or Known(example, task, metric=own.metric, curve=own.curve)


def evaluated_checkpoint(example: str) -> str:
    """The file that the example's evaluate.sh takes by default."""
    return "checkpoint_best.pt" if example_of(example).takes_best else "checkpoint_last.pt"


def data_settings(example: str, folder: Path) -> dict[str, str]:
    """The settings by which the scripts of an example find the raw data in ``folder``.

    Raises:
        UsageError: the folder, or a file in it, is missing.
    """
    if not folder.is_dir():
        raise UsageError(f"data {folder}: there is no such folder")
    if example == "glue":
        return {"GLUE_DIR": str(folder)}
    if example == "squad":
        return {"SQUAD_TRAIN": str(_only(folder, "train*.json*")), "SQUAD_DEV": str(_only(folder, "dev*.json*"))}
    return {"RAW": str(folder)}


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise UsageError(f"data {folder} has {len(found)} files {pattern}, and one is needed")
    return found[0]


# Settings of the examples' scripts: those that the grid decides, those that stay as they are because every run's own
# checkpoint is scored on the same set, those that prepare.sh reads, and the rest.
DECIDED = "DATA SAVE_DIR BACKBONE BACKBONE_DIR ADAPTER PRUNER SPARSITY LARGE_SPARSE SEED".split()
FIXED = "CHECKPOINT SUBSET INPUT OUTPUT".split()
PREPARED = """
    RAW GLUE_DIR SQUAD_TRAIN SQUAD_DEV SEPARATE VOCAB MAX_LENGTH MAX_SOURCE MAX_TARGET MAX_QUESTION DOC_STRIDE
    LIMIT_TRAIN LIMIT_VALID LIMIT_TEST LIMIT_DEV
""".split()
SHARED = ("TASK", "BPE", "TOKENIZER", "SRC", "TGT", "LANGS")  # that preparation and training have to agree on
TRAINED = """
    ARCH BOTTLENECK LORA_RANK PREFIX_LENGTH PRUNE_BATCHES LR DROPOUT MAX_EPOCH MAX_UPDATE MAX_TOKENS BATCH_SIZE
    UPDATE_FREQ MAX_POSITIONS WHOLE KEEP_EPOCHS AVERAGE EVAL_ROUGE BEAM LENPEN MAX_LEN_B MIN_LEN
    NO_REPEAT_NGRAM ROUGE_WORDS MAX_ANSWER N_BEST
""".split()
OF_SYSTEM = "ADAPTER PRUNER SPARSITY LARGE_SPARSE BOTTLENECK LORA_RANK PREFIX_LENGTH".split()  # that make it what it is
SETTINGS = (*DECIDED, *FIXED, *PREPARED, *SHARED, *TRAINED)
