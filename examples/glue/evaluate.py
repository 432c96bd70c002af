#!/usr/bin/env python3
"""Predict the dev sets of a GLUE task with a trained model, and score the predictions over the whole set.

Writes ``predictions.tsv`` (index, prediction and label, in the order of the dev file) and ``scores.json``.
``evaluate.sh`` documents the settings.
"""

import argparse
import logging
import sys
from pathlib import Path

logging.disable(logging.INFO)

import numpy as np  # noqa: E402
import sparse_adapter  # noqa: E402, F401  (registers tasks and models; safe loading)
import torch  # noqa: E402
from fairseq import checkpoint_utils, tasks, utils  # noqa: E402
from glue_tasks import Task, recorded_task  # noqa: E402
from preparation import recorded  # noqa: E402
from scipy.stats import pearsonr, spearmanr  # noqa: E402
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef  # noqa: E402
from sparse_adapter.errors import UsageError, one_line_errors  # noqa: E402
from sparse_adapter.files import check_writable, write_json, written_at_once  # noqa: E402
from sparse_adapter.modules import materialize_  # noqa: E402
from tabulate import tabulate  # noqa: E402
from tqdm import tqdm  # noqa: E402


def correlation(function, predictions: np.ndarray, labels: np.ndarray) -> float:
    """0 where one of the two is constant, for which there is none."""
    if np.ptp(predictions) == 0 or np.ptp(labels) == 0:
        return 0.0
    return function(predictions, labels).statistic


METRICS = {
    "accuracy": lambda predictions, labels: accuracy_score(labels, predictions),
    "f1": lambda predictions, labels: f1_score(labels, predictions, pos_label=1, zero_division=0),
    "matthews": lambda predictions, labels: matthews_corrcoef(labels, predictions),
    "pearson": lambda predictions, labels: correlation(pearsonr, predictions, labels),
    "spearman": lambda predictions, labels: correlation(spearmanr, predictions, labels),
}


def score(metrics: tuple[str, ...], predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Each metric x 100. Classes are numbers; F1 is that of class 1."""
    return {name: round(100 * float(METRICS[name](predictions, labels)), 4) for name in metrics}


def load(checkpoint: Path, data: Path, settings: dict, backbone: Path | None, cpu: bool):
    """The model, ready for inference, and its task.

    Args:
        data: the folder that the task reads.
        settings: those that the data of the training were prepared with.
        backbone: where it is, if not where it was in training.
        cpu: stay there, even if there is a GPU.

    Raises:
        UsageError: the checkpoint is of another task.
    """
    overrides = {"backbone": str(backbone)} if backbone else {}
    cfg = checkpoint_utils.load_checkpoint_to_cpu(str(checkpoint), overrides).get("cfg")
    if cfg is None or "regression_target" not in (cfg.task or {}):
        raise UsageError(f"CHECKPOINT {checkpoint} is not of sentence prediction: train.sh writes one")
    cfg.task.data = str(data)  # adapter files do not say where they were trained
    classes, regression = settings["num_classes"], recorded_task(settings).regression
    if (cfg.task.num_classes, cfg.task.regression_target) != (classes, regression):
        raise UsageError(
            f"CHECKPOINT {checkpoint} predicts {_kind(cfg.task.num_classes, cfg.task.regression_target)} and "
            f"{settings['task']} has {_kind(classes, regression)}: it was trained on another task"
        )
    task = tasks.setup_task(cfg.task)
    try:
        (model,), *_ = checkpoint_utils.load_model_ensemble_and_task([str(checkpoint)], overrides, task)
    except RuntimeError as error:
        raise UsageError(
            f"CHECKPOINT {checkpoint} does not fit DATA {data}, which was prepared for another backbone, or its own "
            f"settings: {str(error)[:300]}"
        ) from error
    materialize_(model)
    if torch.cuda.is_available() and not cpu:
        model.cuda()
    return model.eval(), task


def _kind(classes: int, regression: bool) -> str:
    return "a score" if regression else f"{classes} classes"


@torch.no_grad()
def predict(model, task, subset: str, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """What the head says of each example, ``(n, classes)``, and the labels ``(n,)``, in the order of the file.

    The labels are None where the set has none.

    Raises:
        UsageError: the model gives NaN.
    """
    dataset = task.load_dataset(subset)
    batches = task.get_batch_iterator(
        dataset=dataset,
        max_sentences=batch_size,
        max_positions=utils.resolve_max_positions(task.max_positions(), model.max_positions()),
        required_batch_size_multiple=1,
    ).next_epoch_itr(shuffle=False)
    outputs, labels = [None] * len(dataset), [None] * len(dataset)
    device = next(model.parameters()).device
    for sample in tqdm(batches, subset, mininterval=1):
        sample = utils.move_to_cuda(sample) if device.type == "cuda" else sample
        logits, _ = model(
            **sample["net_input"], features_only=True, classification_head_name=task.cfg.classification_head_name
        )
        ids = sample["id"].tolist()
        targets = sample["target"].view(-1).tolist() if "target" in sample else [None] * len(ids)
        for i, output, label in zip(ids, logits.float().tolist(), targets, strict=True):
            outputs[i], labels[i] = output, label
    if np.isnan(outputs).any():
        raise UsageError("the checkpoint gives NaN: its training has diverged; train it with a lower LR")
    return np.array(outputs), np.array(labels)


def decide(task: Task, outputs: np.ndarray) -> np.ndarray:
    """The score, or the number of the class, that outputs ``(n, classes)`` come to: ``(n,)``."""
    return outputs[:, 0] if task.regression else outputs.argmax(axis=1)


def suffix_of(task: Task, subset: str) -> str:
    """What names of a dev set beside the first end in, as mismatched of MNLI."""
    return "" if subset == "valid" else task.dev[subset].removeprefix("dev_")


def scores_of(task: Task, subset: str, predictions: np.ndarray, labels: np.ndarray) -> dict:
    """What ``scores.json`` says of one dev set."""
    found = score(task.metrics, predictions, labels) | {"n": len(labels)}
    value = {"value": found[task.metrics[0]]} if subset == "valid" else {}
    suffix = suffix_of(task, subset)
    named = {f"{key}_{suffix}" if suffix else key: number for key, number in found.items()}
    return value | named


def as_text(task: Task, values: np.ndarray) -> list[str]:
    """Scores, to the precision of float32, or the labels of classes."""
    return [f"{value:.7g}" if task.regression else task.labels[value] for value in values]


def write_table(path: Path, columns: dict[str, list[str]]) -> None:
    """A TSV file with a header, whose first column numbers the rows from 0."""
    rows = (f"{i}\t" + "\t".join(cells) for i, cells in enumerate(zip(*columns.values(), strict=True)))
    with written_at_once(path) as temporary:
        text = "\n".join(["\t".join(("index", *columns)), *rows])
        temporary.write_text(text + "\n", encoding="utf-8", newline="\n")


def evaluate(args: argparse.Namespace) -> dict:
    """Predict and score every dev set; returns what ``scores.json`` holds."""
    record = recorded(args.data)
    settings = record["settings"]
    name, task_of_glue = settings["task"], recorded_task(settings)
    model, task = load(args.checkpoint, args.data, settings, args.backbone, args.cpu)
    scores = {"task": name, "metric": task_of_glue.metrics[0]}
    for subset in task_of_glue.dev:
        outputs, labels = predict(model, task, subset, args.batch_size)
        predictions = decide(task_of_glue, outputs)
        scores |= scores_of(task_of_glue, subset, predictions, labels)
        suffix = suffix_of(task_of_glue, subset)
        path = args.save_dir / f"{'-'.join(filter(None, ('predictions', suffix)))}.tsv"
        columns = {"prediction": as_text(task_of_glue, predictions), "label": as_text(task_of_glue, labels)}
        write_table(path, columns)
    write_json(args.save_dir / "scores.json", scores)
    return scores


def inference_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of ``load`` and ``predict``, but for the folder of the data."""
    parser.add_argument("--checkpoint", type=Path, required=True, help="a whole or adapter-only checkpoint")
    parser.add_argument("--backbone", type=Path, help="where the adapters' backbone is (default: as in training)")
    parser.add_argument("--batch-size", type=int, default=64, help="examples of a batch (default: 64)")
    parser.add_argument("--cpu", action="store_true", help="also where there is a GPU")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder written by prepare.sh")
    parser.add_argument("--save-dir", type=Path, required=True, help="folder for predictions.tsv and scores.json")
    inference_arguments(parser)
    args = parser.parse_args(argv)
    with one_line_errors():
        check_writable(args.save_dir / "scores.json")
        try:
            scores = evaluate(args)
        except OSError as error:
            raise UsageError(str(error)) from error
    print(tabulate([scores], headers="keys", floatfmt=".2f", tablefmt="github"))


if __name__ == "__main__":
    sys.exit(main())
