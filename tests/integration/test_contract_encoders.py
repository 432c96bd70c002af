"""What every adapter family keeps to on RoBERTa and BERT, in fairseq's own training; decoders: test_contract.py."""

import copy
import functools
import itertools
from pathlib import Path

import pytest
import torch
from fairseq import options, utils
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import DictConfig
from sparse_adapter.adapters import ADAPTERS
from sparse_adapter.modules import is_adapter_key, materialize_, prunable_weights
from sparse_adapter.pruning import PRUNERS

from ..conftest import randomize, state_copy
from .conftest import write_pairs
from .test_contract import different, launch, save, separate, trained

ARCHS = ("sparse_adapter_roberta_base", "sparse_adapter_bert_base")
FAMILIES = [*(name for name in ADAPTERS if name != "adapter_fusion"), "prefix+parallel+lora"]
SIZES = ["--encoder-layers", "2", "--encoder-embed-dim", "32", "--encoder-ffn-embed-dim", "64"]
# Six units of ReLU may all be off at <s>, the one position of the last layer that counts: all scores would be zero.
TINY = ["--adapter-bottleneck", "6", "--adapter-activation", "gelu", "--lora-rank", "4", "--prefix-length", "5"]
HEAD = "classification_heads.sentence_classification_head."
COMBINATIONS = list(itertools.product(FAMILIES, ARCHS, sorted(PRUNERS)))


@functools.cache
def _parsed(data: Path, arch: str, *flags: str) -> DictConfig:
    arguments = [str(data), "--task", "sparse_adapter_sentence_prediction", "--criterion", "sentence_prediction"]
    arguments += ["--num-classes", "2", "--init-token", "0", "--separator-token", "2", "--max-positions", "64"]
    arguments += [
        "--arch",
        arch,
        *SIZES,
        "--encoder-attention-heads",
        "4",
        "--dropout",
        "0",
        "--attention-dropout",
        "0",
    ]
    arguments += ["--batch-size", "16", "--required-batch-size-multiple", "1", "--num-workers", "0", "--cpu"]
    arguments += ["--optimizer", "adam", "--lr", "0.001", "--distributed-world-size", "1", *TINY, *flags]
    return convert_namespace_to_omegaconf(options.parse_args_and_arch(options.get_training_parser(), arguments))


def configuration(data: Path, arch: str, save_dir: Path, backbone: Path, *flags: str) -> DictConfig:
    cfg = separate(_parsed(data, arch, *flags))
    cfg.checkpoint.save_dir, cfg.checkpoint.finetune_from_model = str(save_dir), str(backbone)
    return cfg


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Data, and a random backbone of each architecture that saw it for some updates."""
    root = tmp_path_factory.mktemp("encoders")
    write_pairs(root / "data")
    for arch in ARCHS:
        cfg = separate(_parsed(root / "data", arch, "--adapter", "none"))
        cfg.checkpoint.save_dir = str(root / "none")
        trainer, epoch = launch(cfg)
        for batch in epoch.next_epoch_itr():
            trainer.train_step([batch])
        save(trainer, epoch, root / f"{arch}.pt")
    return root


def logits(model, batch: dict) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**batch["net_input"], classification_head_name=HEAD.split(".")[1])[0]


@pytest.mark.parametrize("family, arch, pruner", COMBINATIONS)
def test_contract(folder, tmp_path, family, arch, pruner):
    flags = ["--adapter", family, "--pruner", pruner, "--sparsity", "0.45", "--prune-batches", "2"]
    cfg = configuration(folder / "data", arch, tmp_path, folder / f"{arch}.pt", *flags)
    trainer, epoch = launch(cfg)
    batch = next(iter(epoch.next_epoch_itr()))
    model, before = trainer.get_model(), state_copy(trainer.get_model())
    losses = []
    for _ in range(4):
        with torch.no_grad():
            losses.append(trainer.criterion(model, batch)[0].item())
        trainer.train_step([batch])
    assert losses[-1] < losses[0]

    weights = prunable_weights(model).values()
    total = sum(weight.total for weight in weights)
    assert sum(weight.kept for weight in weights) == round(0.55 * total)

    names = {name for name, _ in model.named_parameters() if is_adapter_key(name) or name.startswith(HEAD)}
    assert trained(model).keys() == names
    changed = set(different(before, model.state_dict()))
    assert {f"{HEAD}out_proj.weight", f"{HEAD}dense.weight"} < changed <= names
    moved = [f"{name}.values" in changed for name, weight in prunable_weights(model).items() if weight.kept]
    assert sum(moved) > 0.75 * len(moved) > 0

    utils.set_torch_seed(7)
    fresh = trainer.task.build_model(cfg.model)
    fresh.load_state_dict(state_copy(model), strict=True)
    assert torch.equal(logits(fresh, batch), logits(model, batch))
    expected = logits(randomize(fresh, std=0.2), batch)
    materialize_(fresh)
    torch.testing.assert_close(logits(fresh, batch), expected, rtol=0, atol=1e-5)
    for weight in prunable_weights(fresh).values():
        weight.values.data.zero_()
    assert (
        logits(fresh.train(), batch) - expected
    ).abs().max() > 5e-5  # without adapters, what was compared would differ


def test_padding_changes_nothing(folder, tmp_path):
    """Nor the segments of BERT, of which the second ends where the padding begins."""
    for arch, family in itertools.product(ARCHS, ("prefix", "houlsby")):
        cfg = configuration(folder / "data", arch, tmp_path, folder / f"{arch}.pt", "--adapter", family)
        trainer, epoch = launch(cfg)
        batch = next(iter(epoch.next_epoch_itr()))
        pad = torch.full((len(batch["target"]), 3), 1)
        longer = copy.deepcopy(batch)
        longer["net_input"]["src_tokens"] = torch.cat([batch["net_input"]["src_tokens"], pad], dim=1)
        model = trainer.get_model()
        torch.testing.assert_close(logits(model, longer), logits(model, batch), rtol=0, atol=1e-5)
