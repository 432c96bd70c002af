"""What fairseq 0.12.3 needs to run right on today's NumPy and PyTorch. Only this file touches others' modules."""

import ast
import atexit
import functools
import importlib.util
import queue
import re
import sys
import threading
import time
import types
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor
from torch.multiprocessing import ProcessExitedException

from .errors import UsageError, one_line_errors


def apply() -> None:
    """Idempotent; runs when the plugin is imported."""
    from fairseq import checkpoint_utils, ngram_repeat_block, options
    from fairseq.data import data_utils, iterators
    from fairseq.data.encoders import sentencepiece_bpe
    from fairseq.distributed import utils as distributed_utils
    from fairseq.distributed.legacy_distributed_data_parallel import LegacyDistributedDataParallel
    from fairseq.file_io import PathManager
    from fairseq.modules import layer_norm
    from fairseq.optim import amp_optimizer

    from .checkpoint.adapter_file import also_reads_adapter_files
    from .checkpoint.loading import allow_fairseq_globals, explain_failures

    # fairseq 0.12.3 (token_block_dataset.py, language_pair_dataset.py) uses np.compat.long, gone in NumPy 2.
    if not hasattr(np, "compat"):
        np.compat = types.SimpleNamespace(long=int)

    # torch >= 2.6 refuses fairseq's checkpoints; and every checkpoint is read through this one function,
    # which knows no other kind of file, and where a damaged or unsafe file ends in a page of traceback.
    allow_fairseq_globals()
    wrap(checkpoint_utils, "load_checkpoint_to_cpu", lambda load: also_reads_adapter_files(explain_failures(load)))

    # fairseq 0.12.3 drops the last batch if its size is not a multiple of --required-batch-size-multiple
    # (8 by default): of 787 test examples, fairseq-generate translates 784 and says nothing.
    wrap(data_utils, "batch_by_size", keep_last_batch)

    # fairseq 0.12.3 writes the first checkpoint of a save to a temporary file, but copies it to
    # checkpoint_last.pt in place: a run that is killed meanwhile leaves half a file and cannot be resumed.
    wrap(PathManager, "copy", lambda copy: staticmethod(copy_at_once(copy)))

    # fairseq 0.12.3 calls eval() on arguments of models and criterions, which come out of a checkpoint, so that a file
    # could run anything in spite of safe loading. In its modules, the name now stands for a function that runs nothing.
    for name, module in list(sys.modules.items()):
        if name == "fairseq.utils" or name.startswith(("fairseq.models.", "fairseq.criterions.")):
            module.eval = plain_value

    # fairseq 0.12.3 trains on several GPUs in processes of its own. Where one exits with an error's message, as for a
    # setting that does not work, torch reports that as an exception, in a page of traceback below the message.
    wrap(distributed_utils, "call_main", exits_as_its_processes)

    # fairseq 0.12.3 takes --bf16 for a wish to train on a TPU (its issue 4696), and fails on GPUs and CPUs, which have
    # bfloat16 too, with 'NoneType' object has no attribute 'xla_device'.
    wrap(options, "parse_args_and_arch", bf16_without_tpu)

    # fairseq 0.12.3 (FrozenBatchSampler) shuffles every epoch or none, as the first that the iterator has seen. With
    # --curriculum it never shuffles again, unless the run was interrupted: a resumed one gave other weights.
    wrap(iterators.EpochBatchIterator, "_get_iterator_for_epoch", shuffles_as_asked)

    # fairseq 0.12.3 (sentencepiece_bpe.py) joins pieces, and leaves those of SentencePiece's byte fallback as they are:
    # a pound sign comes out as <0xC2><0xA3>.
    wrap(sentencepiece_bpe.SentencepieceBPE, "decode", joins_bytes)
    wrap(data_utils, "post_process", joins_bytes_of_pieces)  # which --post-process sentencepiece calls instead

    # fairseq 0.12.3 (amp_optimizer.py) clips gradients of PyTorch's optimizer and steps with its own wrapper around it,
    # which GradScaler takes for another one: with --amp, the gradients are divided by the scale twice.
    amp_optimizer.AMPOptimizer.step = step_as_clipped

    # fairseq 0.12.3 (legacy_distributed_data_parallel.py) sums over the processes, with every update, a buffer of the
    # whole model's size or of 2^28 elements, however few of its weights are trained.
    wrap(LegacyDistributedDataParallel, "__init__", buffers_what_is_trained)

    # fairseq 0.12.3 (distributed/utils.py) gathers what processes tell each other in buffers on GPUs, of 16 KiB for
    # each by default: fairseq-validate on several reads a whole set, and then fails if it was of some 30 batches each.
    distributed_utils.all_gather_list = gather_objects

    # fairseq 0.12.3 without its CUDA extension, which its wheels lack, ignores --no-repeat-ngram-size: it looks for the
    # last tokens of a hypothesis in the padding behind it. On a GPU, that takes some hundred copies in every step.
    ngram_repeat_block.NGramRepeatBlock._no_repeat_ngram = ban_repeated_ngrams

    # fairseq 0.12.3 reads batches ahead in daemon threads. Where training ends within an epoch, one may be in the midst
    # of C++ code when Python ends, which aborts the process: "terminate called without an active exception".
    atexit.unregister(end_readers)
    atexit.register(end_readers)

    # Where apex is installed, fairseq 0.12.3 takes its LayerNorm on GPUs: another class, whose epsilon BERT's models
    # would not set, and without a second derivative, which GraSP needs. torch's own is as fast by now.
    layer_norm.has_fused_layernorm = False


def wrap(owner: object, name: str, wrapper: Callable[[Callable], object]) -> None:
    """Put what ``wrapper`` makes of a function in its place, once; it sets ``__wrapped__``, as functools.wraps does."""
    own = getattr(owner, name)
    if not hasattr(own, "__wrapped__"):
        setattr(owner, name, wrapper(own))


def exits_as_its_processes(call_main: Callable) -> Callable:
    @functools.wraps(call_main)
    def wrapper(*args, **kwargs):
        try:
            return call_main(*args, **kwargs)
        except ProcessExitedException as error:
            if error.exit_code != 1 or error.signal_name:  # what raised an exception is another one's
                raise
            raise SystemExit(1) from None

    return wrapper


def plain_value(text: str) -> object:
    """What ``eval`` makes of numbers, strings, lists, dicts and the like, and of their sums and products.

    Raises:
        SystemExit: the text says anything else. TypeError: it is no text, as with ``eval``.
    """
    if not isinstance(text, str):
        raise TypeError(f"{text!r} is no text")

    def value(node: ast.expr) -> object:
        match node:
            case ast.BinOp(op=ast.Add()):
                return value(node.left) + value(node.right)
            case ast.BinOp(op=ast.Mult()):
                return value(node.left) * value(node.right)
            case _:
                return ast.literal_eval(node)

    with one_line_errors():
        try:
            return value(ast.parse(text.strip(), mode="eval").body)
        except (SyntaxError, TypeError, ValueError) as error:
            raise UsageError(f"{text!r}, in a model's arguments, is no plain value and is not run") from error


def keep_last_batch(batch_by_size: Callable[..., list]) -> Callable[..., list]:
    """Give back the examples that ``batch_by_size`` leaves out at the end."""

    @functools.wraps(batch_by_size)
    def wrapper(indices, *args, **kwargs) -> list:
        batches = list(batch_by_size(indices, *args, **kwargs))
        fixed_shapes = kwargs.get("fixed_shapes")
        batched = sum(len(batch) for batch in batches)
        if fixed_shapes is None and batched < len(indices):
            batches.append(np.asarray(indices)[batched:])
        return batches

    return wrapper


def shuffles_as_asked(get_iterator: Callable[..., object]) -> Callable[..., object]:
    """Tell the batch sampler that is used again whether this epoch is shuffled."""

    @functools.wraps(get_iterator)
    def wrapper(self, epoch: int, shuffle: bool, *args, **kwargs) -> object:
        sampler = getattr(self, "epoch_batch_sampler", None)
        if sampler is not None:
            sampler.shuffle = shuffle
        return get_iterator(self, epoch, shuffle, *args, **kwargs)

    return wrapper


def joins_bytes(decode: Callable[..., str]) -> Callable[..., str]:
    """Let what ``decode`` has left of a character's bytes become that character, of impossible ones U+FFFD."""

    @functools.wraps(decode)
    def wrapped(self: object, text: str) -> str:
        return join_bytes(decode(self, text))

    return wrapped


def joins_bytes_of_pieces(post_process: Callable[..., str]) -> Callable[..., str]:
    """The same for fairseq's function that knows several kinds of pieces."""

    @functools.wraps(post_process)
    def wrapped(sentence: str, symbol: str) -> str:
        text = post_process(sentence, symbol)
        return join_bytes(text) if symbol == "sentencepiece" else text

    return wrapped


def join_bytes(text: str) -> str:
    def character(found: re.Match) -> str:
        return bytes.fromhex(re.sub(r"<0x|>", "", found[0])).decode("utf-8", errors="replace")

    return re.sub(r"(?:<0x[0-9A-F]{2}>)+", character, text)


def buffers_what_is_trained(init: Callable[..., None]) -> Callable[..., None]:
    """Let the buffer of ``--ddp-backend legacy_ddp`` be no larger than the gradients that go into it."""

    @functools.wraps(init)
    def wrapper(self, *args, **kwargs) -> None:
        init(self, *args, **kwargs)
        trained = sum(p.numel() for p in self.module.parameters() if p.requires_grad)
        self.buffer_size = min(self.buffer_size, trained)

    return wrapper


def gather_objects(data: object, group: object = None, max_size: int | None = None) -> list:
    """``data`` of all processes, of any size and on any device; tensors come on the CPU."""
    from fairseq import utils
    from fairseq.distributed import utils as distributed_utils

    group = distributed_utils.get_global_group() if group is None else group
    gathered = [None] * distributed_utils.get_world_size(group)
    torch.distributed.all_gather_object(gathered, utils.move_to_cpu(data), group)
    return gathered


def step_as_clipped(self) -> None:
    """``AMPOptimizer.step`` with the optimizer whose gradients ``clip_grad_norm`` has divided by the scale."""
    self.scaler.step(self.optimizer)
    self.scaler.update()


def ban_repeated_ngrams(self, tokens: Tensor, lprobs: Tensor, bsz: int, beam_size: int, step: int) -> Tensor:
    """``NGramRepeatBlock._no_repeat_ngram`` of all hypotheses at once, and without waiting for the GPU.

    Args:
        tokens: ``(bsz * beam_size, longest)``, of which ``step + 1`` are there and the rest is padding. fairseq's
            Python takes the n-gram to go on from the end of the padding, and bans nothing.
        lprobs: ``(bsz * beam_size, vocabulary)``, in which -inf is added to every token that would repeat an n-gram.
    """
    size, tokens = self.no_repeat_ngram_size, tokens[:, : step + 1]
    if not 2 <= size <= tokens.size(1):
        return lprobs
    ngrams = tokens.unfold(1, size, 1)
    is_repeated = (ngrams[..., :-1] == tokens[:, None, 1 - size :]).all(dim=-1)
    penalties = torch.zeros_like(is_repeated, dtype=lprobs.dtype).masked_fill_(is_repeated, -torch.inf)
    return lprobs.scatter_add_(1, ngrams[..., -1], penalties)


def copy_at_once(copy: Callable[..., object]) -> Callable[..., object]:
    """Let ``copy`` replace a local file as a whole or not at all."""
    from fairseq.file_io import PathManager

    @functools.wraps(copy)
    def wrapper(src_path: str, dst_path: str, overwrite: bool = False) -> object:
        if not (overwrite and PathManager.supports_rename(dst_path)):
            return copy(src_path, dst_path, overwrite)
        done = copy(src_path, f"{dst_path}.tmp", overwrite)
        PathManager.rename(f"{dst_path}.tmp", dst_path)
        return done

    return wrapper


def bf16_without_tpu(parse: Callable[..., object]) -> Callable[..., object]:
    """Let ``--bf16`` stay on the GPU or the CPU where there is no PyTorch for TPUs.

    It also keeps away apex's Adam, whose gradients fairseq 0.12.3 (fp16_optimizer.py) would scale down once more with
    every update if there is no loss scale, as with bfloat16.
    """

    @functools.wraps(parse)
    def wrapper(*args, **kwargs) -> object:
        parsed = parse(*args, **kwargs)
        # With parse_known=True, a pair with what is unknown.
        options = parsed[0] if isinstance(parsed, tuple) else parsed
        # fairseq-validate parses once more, without defaults.
        if getattr(options, "bf16", False) and importlib.util.find_spec("torch_xla") is None:
            options.tpu, options.use_old_adam = False, True
        return parsed

    return wrapper


def end_readers(seconds: float = 5.0) -> None:
    """Let the threads that read batches ahead end after the batch that they are at, and wait for them so long."""
    from fairseq.data.iterators import BackgroundConsumer

    readers = [thread for thread in threading.enumerate() if isinstance(thread, BackgroundConsumer)]
    for reader in readers:
        reader._max_len = 0
    end = time.monotonic() + seconds
    while any(reader.is_alive() for reader in readers) and time.monotonic() < end:
        for reader in readers:
            with suppress(queue.Empty):
                reader._queue.get_nowait()  # it may wait for a place
            reader.join(0.01)
