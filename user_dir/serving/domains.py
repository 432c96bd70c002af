"""What one domain is served with: its task, its model, its generator."""

import os
import threading
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import fairseq_cli.generate
import numpy as np
import torch
from fairseq import utils
from fairseq.dataclass.configs import GenerationConfig
from fairseq.models import BaseFairseqModel
from fairseq.tasks import TASK_REGISTRY
from fairseq.tasks.translation import TranslationTask
from omegaconf import DictConfig, OmegaConf

from ..adapters.attach import forget_interrupted_pass
from ..errors import UsageError
from ..models.architectures import PREFIX
from ..text import Codec
from .backbone import keep_lora_apart_

PLAIN = "none"  # the domain of the backbone without adapters
# What a task says of its sentences; the rest is about training.
_SENTENCES = ("source_lang", "target_lang", "langs", "prepend_bos", "max_source_positions", "max_target_positions")


@dataclass(frozen=True)
class Limits:
    """The size of a batch.

    Args:
        max_tokens: source tokens, padding included.
        batch_size: sentences; None for no limit.
    """

    max_tokens: int | None = 12000
    batch_size: int | None = None


@dataclass(frozen=True)
class Domain:
    """A model that translates, ready for inference.

    Args:
        lock: held while the model computes: adapters remember, from one sublayer to the next, which one has just run.
    """

    task: TranslationTask
    model: BaseFairseqModel
    generator: object
    codec: Codec
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @classmethod
    def of(
        cls, task: TranslationTask, model: BaseFairseqModel, codec: Codec, cfg: DictConfig, device: torch.device
    ) -> "Domain":
        """Move the model to the device and prepare it as ``fairseq-generate`` does, but for LoRA."""
        model.to(device)
        model.prepare_for_inference_(cfg)
        keep_lora_apart_(model)
        return cls(task, model, task.build_generator([model], cfg.generation), codec)

    @property
    def max_positions(self) -> tuple[int, int]:
        """Tokens that a source and a target can have, the end of the sentence included."""
        return utils.resolve_max_positions(self.task.max_positions(), self.model.max_positions())

    def longest(self, limits: Limits) -> int:
        """Tokens that a source can have."""
        return min(self.max_positions[0], limits.max_tokens or self.max_positions[0])

    def dataset(self, lines: list[str]):
        """Lines of symbols as fairseq's data set."""
        return self.task.build_dataset_for_inference(
            *self.task.get_interactive_tokens_and_lengths(lines, encode_fn=lambda line: line)
        )

    def translate(self, lines: list[str], limits: Limits) -> Iterator[list[tuple[int, str]]]:
        """Translate lines of symbols, in batches of similar length.

        Yields:
            of every batch, the number of each line and its best translation in symbols.
        """
        dataset = self.dataset(lines)
        by_length = np.argsort(dataset.src_sizes, kind="stable")  # fairseq's own order is random among equal lengths
        device = next(self.model.parameters()).device
        for numbers in dataset.batch_by_size(by_length, limits.max_tokens, limits.batch_size):
            batch = dataset.collater([dataset[i] for i in numbers])
            sample = utils.move_to_cuda(batch, device) if device.type == "cuda" else batch
            with self.lock:
                forget_interrupted_pass(self.model)
                hypotheses = self.task.inference_step(self.generator, [self.model], sample)
            yield [(i, self._text(beam[0])) for i, beam in zip(batch["id"].tolist(), hypotheses, strict=True)]

    def _text(self, hypothesis: dict) -> str:
        _, text, _ = utils.post_process_prediction(
            hypo_tokens=hypothesis["tokens"].int().cpu(),
            src_str="",
            alignment=None,
            align_dict=None,
            tgt_dict=self.task.target_dictionary,
            extra_symbols_to_ignore=fairseq_cli.generate.get_symbols_to_strip_from_output(self.generator),
        )
        return text


def generation(beam: int, lenpen: float, max_len_a: float, max_len_b: int) -> DictConfig:
    """The configuration that fairseq's generator and models read, with the defaults of ``fairseq-generate``."""
    chosen = {"beam": beam, "lenpen": lenpen, "max_len_a": max_len_a, "max_len_b": max_len_b}
    return OmegaConf.create({"generation": OmegaConf.merge(OmegaConf.structured(GenerationConfig), chosen)})


def task_options(path: Path, state: dict, data: Path | None, **languages: str | None) -> dict:
    """What has to be known to set up the task of a file.

    Args:
        path: the file, for messages.
        state: what is in it.
        data: folder of the dictionaries; if None, the one that the file was trained with.
        languages: source_lang and target_lang; if None, those of the file.

    Raises:
        UsageError: the file does not translate, or languages or dictionaries are missing.
    """
    said = (state["cfg"].get("task") if state.get("cfg") is not None else None) or {}
    said = vars(said) if isinstance(said, Namespace) else OmegaConf.to_container(OmegaConf.create(said))
    name = said.get("_name") or "translation"
    if PREFIX + name in TASK_REGISTRY:
        name = PREFIX + name
    if not issubclass(TASK_REGISTRY.get(name, object), TranslationTask):
        raise UsageError(f"{path} is of the task {name}, which does not translate")
    given = {key: value for key, value in languages.items() if value is not None}
    options = {key: said[key] for key in _SENTENCES if said.get(key) is not None} | given
    folder = str(data) if data is not None else (said.get("data") or "").split(os.pathsep)[0]
    if not folder:
        raise UsageError(f"{path} does not say where its dictionaries are: name their folder with --data")
    for key in ("source_lang", "target_lang"):
        if key not in options:
            raise UsageError(f"{path} does not say its languages: name them with --source-lang and --target-lang")
        dictionary = Path(folder) / f"dict.{options[key]}.txt"
        if not dictionary.is_file():
            raise UsageError(f"{dictionary} is not there: name the folder of the dictionaries with --data")
    return {"_name": name, "data": folder, **options}
