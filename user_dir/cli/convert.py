"""Convert a model of transformers to fairseq, or one of fairseq to transformers. Neither needs the other.

  sparse-adapter convert bert-base-uncased bert.base         # BERT, RoBERTa, XLM-R, BART or mBART
  fairseq-train DATA --user-dir user_dir --arch sparse_adapter_bert_base --finetune-from-model bert.base/model.pt ...
  sparse-adapter convert checkpoints/lora/checkpoint_best.pt roberta-lora --to hf   # RoBERTa, BART or mBART

To fairseq: OUT has model.pt, dict.txt and the files by which fairseq encodes text. To transformers: OUT has
config.json, model.safetensors and, if they lie beside the checkpoint or its backbone in fairseq's form, the
tokenizer's vocab.json, merges.txt and tokenizer_config.json.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..convert import convert_to_fairseq, convert_to_huggingface
from ..errors import UsageError
from .arguments import add_backbone, add_out, check_out, read_file

# All that a conversion ever writes. A folder with anything else in it is somebody's and is not replaced.
FILES = {
    *("model.pt", "dict.txt", "vocab.txt", "tokenizer_config.json", "encoder.json", "vocab.bpe"),
    *("sentencepiece.bpe.model", "config.json", "model.safetensors", "vocab.json", "merges.txt"),
}


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="DIR", help="model folder of transformers; CKPT with --to hf")
    add_out(parser, "folder to write")
    parser.add_argument("--to", choices=("fairseq", "hf"), default="fairseq", help="what OUT is for (default: fairseq)")
    add_backbone(parser)


def run(args: Namespace) -> None:
    check_out(args.out, args.force)
    check_replaced(args.out, args.source)
    if args.backbone is not None and args.to != "hf":
        raise UsageError("--backbone is for adapters on the way to transformers: it goes with --to hf")
    if args.to == "hf":
        state, places = read_file(args.source, args.backbone), [args.source.parent]
        if backbone := getattr(getattr(state.get("cfg"), "model", None), "backbone", ""):
            check_replaced(args.out, Path(backbone))
            places.append(Path(backbone).parent)
        lines = convert_to_huggingface(state, places, args.out)
    else:
        lines = convert_to_fairseq(args.source, args.out)
    print("\n".join(lines))


def check_replaced(out: Path, source: Path) -> None:
    """Refuse to replace anything but what a conversion wrote.

    Raises:
        UsageError: ``out`` exists and is something else, or has what is converted.
    """
    if not out.exists():
        return
    if not out.is_dir() or out.resolve() in (source.resolve(), source.resolve().parent):
        raise UsageError(f"{out} is {f'where {source} is' if out.is_dir() else 'a file'}: choose another name")
    others = sorted(path.name for path in out.iterdir() if path.name not in FILES)
    if others:
        raise UsageError(f"{out} holds {others[0]}, which no conversion writes: choose another name")
