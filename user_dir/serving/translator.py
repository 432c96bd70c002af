"""Translation of lines that each name their domain."""

import difflib
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

import torch
from fairseq.tasks import setup_task
from fairseq.tasks.translation import TranslationTask
from omegaconf import OmegaConf
from tqdm import tqdm

from ..checkpoint.loading import read_state
from ..errors import UsageError, flag_of
from ..text import Codec
from .backbone import Backbone
from .domains import PLAIN, Domain, Limits, generation, task_options


class Translator:
    """Several adapters over one backbone.

    The backbone's parameters are in memory once: every adapter has a light model of its own around them, so that
    adapters can be of any family, size and sparsity, and to switch is to pick a model. LoRA is not merged, since a
    merged projection is a copy: it stays ``W x + (α/r) B A x``, which rounds otherwise than the merged weight of
    ``fairseq-generate`` and costs two small products a projection. Several threads can translate at once; those of one
    domain take turns, batch by batch.

    >>> translator = Translator.load("model.pt", {"software": "software.safetensors"}, data="data-bin/en-de")
    >>> translator.translate(["Open the file ."], domain="software")
    >>> translator.translate_mixed([("software", "Open the file ."), ("none", "A man sleeps .")])

    Args:
        domains: what serves each domain, by name; ``none`` is the plain backbone.
        limits: the size of a batch.
    """

    def __init__(self, domains: Mapping[str, Domain], limits: Limits):
        self._domains, self._limits = dict(domains), limits

    @classmethod
    def load(
        cls,
        backbone: str | PathLike,
        adapters: Mapping[str, str | PathLike] | None = None,
        data: str | PathLike | None = None,
        *,
        source_lang: str | None = None,
        target_lang: str | None = None,
        tokenizer: str | None = None,
        bpe: str | None = None,
        beam: int = 5,
        lenpen: float = 1.0,
        max_len_a: float = 0.0,
        max_len_b: int = 200,
        max_tokens: int | None = None,
        batch_size: int | None = None,
        device: str | torch.device = "cpu",
        progress: bool = False,
        **text_options: object,
    ) -> "Translator":
        """Read all files, and prepare a model for every domain.

        Args:
            backbone: fairseq checkpoint of the plain model.
            adapters: by domain, checkpoints (.pt) or adapter files (.safetensors with .json).
            data: folder with dict.SRC.txt and dict.TGT.txt; by default the one that each adapter was trained with.
            source_lang, target_lang: by default those of each adapter; ``none`` has those of the first.
            tokenizer, bpe: fairseq's names of what encodes text; by default a line is symbols with spaces between.
            beam, lenpen, max_len_a, max_len_b: as flags of ``fairseq-generate``; a translation has at most
                ``max_len_a * source length + max_len_b`` tokens.
            max_tokens: source tokens of a batch, padding included (default: 12000, unless batch_size is given).
            batch_size: sentences of a batch.
            device: cpu or cuda.
            progress: show on a terminal how many adapters are loaded.
            text_options: of the tokenizer and the BPE, such as ``sentencepiece_model``.

        Raises:
            UsageError: files are missing or do not go together, or an option is out of range. SystemExit: a file is
                damaged or refused, or its adapters are not what it says.
        """
        files = {name: Path(file) for name, file in (adapters or {}).items()}
        path, data = Path(backbone), None if data is None else Path(data)
        for name, value in {"beam": beam, "max_tokens": max_tokens, "batch_size": batch_size}.items():
            if value is not None and value < 1:
                raise UsageError(f"{flag_of(name)} {value}: at least 1")
        if max_len_a + max_len_b < 1:
            raise UsageError(f"--max-len-a {max_len_a:g} and --max-len-b {max_len_b} allow no token at all")
        reserved = sorted({PLAIN, ""} & files.keys())
        if reserved:
            raise UsageError(f"the domain {reserved[0]!r} is the backbone without adapters: choose another name")
        device = _device(device)
        states = {name: read_state(str(file)) for name, file in files.items()}
        languages = {"source_lang": source_lang, "target_lang": target_lang}
        options = {name: task_options(files[name], state, data, **languages) for name, state in states.items()}
        state = read_state(str(path))
        options[PLAIN] = next(iter(options.values())) if options else task_options(path, state, data, **languages)
        tasks = _setup_tasks(options)
        # A tokenizer's rules are those of a language, and adapters may have languages of their own.
        spoken = {name: tuple(task.cfg[key] for key in languages) for name, task in tasks.items()}
        codecs = {
            pair: Codec.build(tokenizer, bpe, **dict(zip(languages, pair, strict=True)), **text_options)
            for pair in set(spoken.values())
        }

        plain = Backbone(path, state, tasks[PLAIN])
        del state  # the model has copies of its tensors
        models = {PLAIN: plain.model}
        for name in tqdm(files, desc="loading", unit="adapter", disable=None if progress else True):
            models[name] = plain.with_adapters(files[name], states.pop(name), tasks[name])
        cfg = generation(beam, lenpen, max_len_a, max_len_b)
        limits = Limits(max_tokens if max_tokens or batch_size else Limits().max_tokens, batch_size)
        domains = {
            name: Domain.of(tasks[name], model, codecs[spoken[name]], cfg, device) for name, model in models.items()
        }
        return cls(domains, limits)

    @property
    def domains(self) -> list[str]:
        """All that lines can name."""
        return list(self._domains)

    def model(self, domain: str) -> torch.nn.Module:
        """The model of a domain, whose backbone is shared with the others."""
        return self._domains[self.check_domain(domain)].model

    def check_domain(self, name: str) -> str:
        """The domain of that name; the empty name is that of the plain backbone.

        Raises:
            UsageError: there is none.
        """
        name = name or PLAIN
        if name not in self._domains:
            near = difflib.get_close_matches(name, self._domains, n=1)
            raise UsageError(
                f"unknown domain {name!r}; did you mean {near[0]!r}?"
                if near
                else f"unknown domain {name!r}; there are {', '.join(self._domains)}"
            )
        return name

    def check(self, domain: str, text: str) -> None:
        """Refuse what ``translate`` cannot translate.

        Raises:
            UsageError: the domain is unknown, or the text too long for its model or for a batch.
        """
        self._encoded(domain, text)

    def _encoded(self, domain: str, text: str) -> str:
        """The text in symbols; raises what ``check`` does."""
        served = self._domains[self.check_domain(domain)]
        line = served.codec.encode(text)
        length, longest = int(served.dataset([line]).src_sizes[0]), served.longest(self._limits)
        if length > longest:
            raise UsageError(f"the text has {length} tokens, and the model or --max-tokens allows {longest}")
        return line

    def translate(self, texts: Sequence[str], domain: str = PLAIN) -> list[str]:
        """Translate texts of one domain, in their order; ``check`` says what is refused, before any is translated."""
        return self.translate_mixed([(domain, text) for text in texts])

    def translate_mixed(self, requests: Sequence[tuple[str, str]]) -> list[str]:
        """Translate pairs of a domain and a text, in their order; batches are of one domain and of similar length."""
        lines = [self._encoded(domain, text) for domain, text in requests]
        translations = [""] * len(requests)
        by_domain: dict[str, list[int]] = {}
        for i, (domain, _) in enumerate(requests):
            by_domain.setdefault(domain or PLAIN, []).append(i)
        for domain, numbers in by_domain.items():
            served = self._domains[domain]
            for batch in served.translate([lines[i] for i in numbers], self._limits):
                for i, text in batch:
                    translations[numbers[i]] = served.codec.decode(text)
        return translations


def _setup_tasks(options: Mapping[str, dict]) -> dict[str, TranslationTask]:
    """The tasks of all domains; those with the same options are one, and so are their dictionaries."""
    tasks: list[tuple[dict, TranslationTask]] = []
    for wanted in options.values():
        if not any(wanted == held for held, _ in tasks):
            tasks.append((wanted, setup_task(OmegaConf.create(wanted))))
    return {name: next(task for held, task in tasks if held == wanted) for name, wanted in options.items()}


def _device(name: str | torch.device) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"--device {name}: choose cpu or cuda") from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {name}: choose cpu or cuda")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"--device {name}: there is no such GPU that torch can use")
    return device
