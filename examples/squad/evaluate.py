#!/usr/bin/env python3
"""Answer the questions of a prepared set with a trained checkpoint, and score the answers.

Writes ``predictions.json``, the official format (``{id: text}``), ``nbest_predictions.json``, for each id the best
answers with their score and place in the context, and ``scores.json``: exact match and F1 x 100 as the official
script defines them. ``evaluate.sh`` documents the settings.
"""

import argparse
import dataclasses
import logging
import sys
from pathlib import Path

logging.disable(logging.INFO)

import torch  # noqa: E402
from fairseq import checkpoint_utils, utils  # noqa: E402
from fairseq.dataclass.configs import GenerationConfig  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402
from sparse_adapter.errors import UsageError, one_line_errors  # noqa: E402
from sparse_adapter.files import check_writable, write_json  # noqa: E402
from sparse_adapter.squad import Answer, Question, score  # noqa: E402
from tqdm import tqdm  # noqa: E402

TASK = "sparse_adapter_squad"


def load(args: argparse.Namespace):
    """The task, with the set loaded, and the model, ready for inference."""
    if not args.checkpoint.is_file():
        raise UsageError(f"{args.checkpoint}: there is no such file; train.sh writes it")
    overrides = {"data": str(args.data), "n_best": args.n_best, "max_answer_length": args.max_answer_length}
    if args.backbone:
        overrides["backbone"] = str(args.backbone.absolute())
    state = checkpoint_utils.load_checkpoint_to_cpu(str(args.checkpoint), overrides)
    saved = state.get("cfg") or {}
    if not saved or saved.task.get("_name") != TASK:
        raise UsageError(f"{args.checkpoint} was not trained on the task {TASK}")
    try:
        models, _, task = checkpoint_utils.load_model_ensemble_and_task([str(args.checkpoint)], state=state)
    except RuntimeError as error:
        raise UsageError(
            f"{args.checkpoint} does not fit {args.data}, which was prepared for another backbone, or its own "
            f"settings: {str(error)[:300]}"
        ) from error
    task.load_dataset(args.subset)
    if task.dataset(args.subset).questions is None:
        raise UsageError(f"the split {args.subset!r} of {args.data} has no questions to evaluate; use valid")
    model = models[0].eval()
    model.prepare_for_inference_(OmegaConf.create({"generation": OmegaConf.structured(GenerationConfig)}))
    return task, model


@torch.inference_mode()
def answer(task, model, args: argparse.Namespace) -> dict[str, tuple[Question, list[Answer]]]:
    """The best answers to each question, by its id, in the order of the file."""
    device = torch.device("cuda" if torch.cuda.is_available() and not args.cpu else "cpu")
    model.to(device)
    dataset = task.dataset(args.subset)
    batches = task.get_batch_iterator(dataset, max_tokens=args.max_tokens, max_positions=task.max_positions())
    found = {}
    for batch in tqdm(batches.next_epoch_itr(shuffle=False), "questions", mininterval=2):
        batch = utils.move_to_cuda(batch, device) if device.type == "cuda" else batch
        tokens, lengths = (batch["net_input"][name] for name in ("src_tokens", "src_lengths"))
        # A question may have more windows than go through the model at once.
        parts = zip(*(each.split(max(1, args.max_tokens // tokens.size(1))) for each in (tokens, lengths)), strict=True)
        head = task.cfg.classification_head_name
        logits = torch.cat([model(part, src_lengths=own, classification_head_name=head)[0] for part, own in parts])
        if logits.isnan().any():
            raise UsageError(f"{args.checkpoint} gives NaN: its training has diverged; train it with a lower LR")
        for question, answers in zip(batch["questions"], task.answers(batch, logits), strict=True):
            found[question.id] = question, answers
    return {question.id: found[question.id] for question in dataset.questions}


def nbest_path(path: Path) -> Path:
    """Where all answers go, beside the best ones in ``path``."""
    return path.with_name(f"nbest_{path.name}")


def write_answers(path: Path, found: dict[str, tuple[Question, list[Answer]]]) -> None:
    """The best answer to each question into ``path``, and all of them into a file beside it."""
    write_json(path, {id: answers[0].text for id, (_, answers) in found.items()})
    nbest = {id: [dataclasses.asdict(answer) for answer in answers] for id, (_, answers) in found.items()}
    write_json(nbest_path(path), nbest)


def scores(found: dict[str, tuple[Question, list[Answer]]]) -> dict[str, float]:
    pairs = [score(answers[0].text, question.answers) for question, answers in found.values()]
    exact, f1 = (round(100 * sum(column) / len(pairs), 4) for column in zip(*pairs, strict=True))
    return {"exact_match": exact, "f1": f1, "n": len(pairs)}


def inference_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of ``load`` and ``answer``, but for the folder of the data."""
    parser.add_argument("--checkpoint", type=Path, required=True, help="whole, adapter-only, or adapter file")
    parser.add_argument("--backbone", type=Path, help="its backbone, if not where it was in training")
    parser.add_argument("--n-best", type=int, default=20, help="answers of each question that are kept")
    parser.add_argument("--max-answer-length", type=int, default=30, help="in tokens")
    parser.add_argument("--max-tokens", type=int, default=8192, help="of a batch, padding included")
    parser.add_argument("--cpu", action="store_true", help="even if there is a GPU")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder written by prepare.sh")
    parser.add_argument("--save-dir", type=Path, required=True, help="folder to write to")
    parser.add_argument("--subset", default="valid")
    inference_arguments(parser)
    args = parser.parse_args(argv)
    try:
        with one_line_errors():
            check_writable(args.save_dir / "scores.json")
            found = answer(*load(args), args)
        result = scores(found)
        write_answers(args.save_dir / "predictions.json", found)
        write_json(args.save_dir / "scores.json", result | {"checkpoint": str(args.checkpoint)})
    except OSError as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    print(f"exact match {result['exact_match']:.2f}, F1 {result['f1']:.2f}, {result['n']} questions")


if __name__ == "__main__":
    main()
