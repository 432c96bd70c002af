"""List the flags that the plugin adds to fairseq-train, which fairseq's own --help leaves out.

sparse-adapter flags
sparse-adapter flags | grep -A 2 prefix
"""

import dataclasses
import inspect
from argparse import ArgumentParser, Namespace

from fairseq.dataclass import FairseqDataclass
from fairseq.dataclass.utils import gen_parser_from_dataclass
from fairseq.tasks import TASK_DATACLASS_REGISTRY

from ..adapters.options import add_adapter_args
from ..tasks.eval_rouge import EvalRougeConfig
from ..tasks.options import PruneAtInitConfig


def add_arguments(parser: ArgumentParser) -> None:
    pass


def run(args: Namespace) -> None:
    print(flags_parser().format_help(), end="")


def flags_parser() -> ArgumentParser:
    """A parser of what fairseq's has besides its own flags."""
    usage = "fairseq-train DATA --user-dir user_dir --task sparse_adapter_... --arch sparse_adapter_... FLAGS"
    parser = ArgumentParser(usage=usage, add_help=False, conflict_handler="resolve")  # --large-sparse is of both
    add_adapter_args(parser.add_argument_group("every model with adapters"))
    gen_parser_from_dataclass(parser.add_argument_group("every task that prunes"), PruneAtInitConfig())
    gen_parser_from_dataclass(parser.add_argument_group("tasks of translation"), EvalRougeConfig())
    for task in sorted(task for task in TASK_DATACLASS_REGISTRY if task.startswith("sparse_adapter_")):
        own = _own_fields(TASK_DATACLASS_REGISTRY[task])
        if own is not None:
            gen_parser_from_dataclass(parser.add_argument_group(task), own)
    for action in parser._actions:
        if "(default" not in action.help and action.nargs != 0:
            action.help += f" (default: {'none' if action.default is None else action.default})"
    return parser


def _own_fields(config: type[FairseqDataclass]) -> FairseqDataclass | None:
    """What a task's configuration adds to those that it is made of; its data are no flag."""
    fields = {field.name: field for field in dataclasses.fields(config)}
    own = {name: kind for name, kind in inspect.get_annotations(config).items() if name != "data"}
    if not own:
        return None
    copies = [
        (name, kind, dataclasses.field(default=fields[name].default, metadata=fields[name].metadata))
        for name, kind in own.items()
    ]
    return dataclasses.make_dataclass("Own", copies, bases=(FairseqDataclass,))()
