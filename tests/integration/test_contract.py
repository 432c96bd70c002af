"""What every adapter family keeps to, on every model and with every pruner, in fairseq's own training and decoding.

A family is covered as soon as it is registered. Where it differs from most, a table below says so: ``OPTIONS`` has
what it needs beyond ``TINY``, ``PREPARE`` makes the files that its options name, ``FROZEN`` is a part of the names of
what it does not train, and ``FIXED`` names the families that --large-sparse does not multiply.
"""

import copy
import dataclasses
import functools
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fairseq import checkpoint_utils, options, tasks, utils
from fairseq.data import Dictionary
from fairseq.data.iterators import EpochBatchIterator
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.sequence_generator import SequenceGenerator
from fairseq.trainer import Trainer
from omegaconf import DictConfig, flag_override
from sparse_adapter.adapters import ADAPTERS
from sparse_adapter.adapters.sites import transformer_layers
from sparse_adapter.modules import ADAPTER, is_adapter_key, prunable_weights
from sparse_adapter.pruning import PRUNERS, prune, sparsity_report
from torch import Tensor, nn

from ..conftest import INFERENCE, make_batch, randomize, state_copy
from .conftest import LANGUAGES, SIZES, write_corpus

STOCK = {"sparse_adapter_bart_base": "bart_base", "sparse_adapter_transformer": "transformer"}
ORDER = {  # the one is post-LN, the other pre-LN
    "bart_base": ("--share-all-embeddings", "--layernorm-embedding"),
    "transformer": ("--encoder-normalize-before", "--decoder-normalize-before"),
}
FAMILIES = [*ADAPTERS, "prefix+parallel+lora"]
TINY = {"adapter_bottleneck": 6, "lora_rank": 4, "prefix_length": 5}
OPTIONS: dict[str, dict] = {}
FROZEN: dict[str, str] = {"adapter_fusion": ".adapters."}
FIXED = {"adapter_fusion"}
PRUNED = {"sparsity": 0.45, "prune_batches": 2}
BEAM = INFERENCE["generation"]["beam"]

COMBINATIONS = list(itertools.product(FAMILIES, STOCK, sorted(PRUNERS)))
MODELS = list(itertools.product(FAMILIES, STOCK))


@dataclasses.dataclass(eq=False)
class Project:
    """Data and backbones of both architectures in a folder, and fairseq-train's command line on them."""

    folder: Path
    backbones: dict[str, Path] = dataclasses.field(default_factory=dict)

    def stock(self, arch: str) -> DictConfig:
        return separate(_parsed(self.folder, "translation", STOCK[arch]))

    def adapted(self, family: str, arch: str, save_dir: Path, **task: object) -> DictConfig:
        """The configuration of a run with adapters on the architecture's backbone, and with options of the task."""
        given = TINY | OPTIONS.get(family, {})
        if family in PREPARE:
            given |= PREPARE[family](self, arch)
        flags = [str(x) for name, value in given.items() for x in (f"--{name.replace('_', '-')}", value)]
        cfg = separate(_parsed(self.folder, "sparse_adapter_translation", arch, "--adapter", family, *flags))
        cfg.checkpoint.save_dir = str(save_dir)
        cfg.checkpoint.finetune_from_model = str(self.backbones[arch])
        for name, value in task.items():
            setattr(cfg.task, name, value)
        cfg.model.large_sparse = cfg.task.large_sparse
        return cfg


@functools.cache
def _parsed(folder: Path, task: str, arch: str, *flags: str) -> DictConfig:
    """The command line takes longer than a training step, so it is read once for all pruners."""
    arguments = [str(folder), "--task", task, *LANGUAGES, "--dataset-impl", "raw", "--num-workers", "0"]
    arguments += ["--arch", arch, *SIZES, *ORDER[STOCK.get(arch, arch)], "--dropout", "0", "--cpu"]
    arguments += ["--criterion", "label_smoothed_cross_entropy", "--batch-size", "8", "--distributed-world-size", "1"]
    arguments += ["--optimizer", "adam", "--lr", "0.01", *flags]
    return convert_namespace_to_omegaconf(options.parse_args_and_arch(options.get_training_parser(), arguments))


def separate(cfg: DictConfig) -> DictConfig:
    """A copy that shares nothing: OmegaConf does not copy the Namespace of the model's arguments."""
    cfg = copy.deepcopy(cfg)
    with flag_override(cfg, "allow_objects", True):
        cfg.model = copy.deepcopy(cfg.model)
    return cfg


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """Thirty-two sentence pairs, and stock models that saw them for some updates."""
    folder = tmp_path_factory.mktemp("contract")
    write_corpus(folder, "train", 32, seed=0)
    dictionary = Dictionary()
    for language in ("source", "target"):
        (folder / f"train.{language}").rename(folder / f"train.source-target.{language}")
        Dictionary.add_file_to_dictionary(str(folder / f"train.source-target.{language}"), dictionary, str.split, 1)
    dictionary.finalize()
    for language in ("source", "target"):
        dictionary.save(str(folder / f"dict.{language}.txt"))

    project = Project(folder)
    for arch, stock in STOCK.items():
        cfg = project.stock(arch)
        cfg.checkpoint.save_dir = str(folder / stock)
        trainer, epoch = launch(cfg)
        for batch in itertools.islice(itertools.cycle(list(epoch.next_epoch_itr())), 24):
            trainer.train_step([batch])
        project.backbones[arch] = folder / f"{stock}.pt"
        save(trainer, epoch, project.backbones[arch])
    return project


def launch(cfg: DictConfig) -> tuple[Trainer, EpochBatchIterator]:
    """What fairseq-train does before the first update."""
    utils.set_torch_seed(cfg.common.seed)
    try:
        task = tasks.setup_task(cfg.task)
        model = task.build_model(cfg.model)
        criterion = task.build_criterion(cfg.criterion)
    except SystemExit as error:  # which pytest would let spoil the fixture for all other combinations
        raise AssertionError(error) from error
    trainer = Trainer(cfg, task, model, criterion)
    _, epoch = checkpoint_utils.load_checkpoint(cfg.checkpoint, trainer)
    return trainer, epoch


def save(trainer: Trainer, epoch: EpochBatchIterator, path: Path) -> None:
    trainer.consolidate_optimizer()
    trainer.save_checkpoint(str(path), {"train_iterator": epoch.state_dict()})


@functools.cache
def trained_adapters(project: Project, arch: str) -> dict:
    """What adapter_fusion needs: files of two pruned adapters that learnt different things."""
    paths = [project.folder / f"{arch}.{seed}.pt" for seed in (1, 2)]
    for seed, path in enumerate(paths):
        cfg = project.adapted("pfeiffer", arch, path.with_suffix(""), pruner="random", **PRUNED)
        cfg.common.seed = seed
        trainer, epoch = launch(cfg)
        for batch in epoch.next_epoch_itr():
            trainer.train_step([batch])
        save(trainer, epoch, path)
    return {"fusion_adapters": ",".join(map(str, paths))}


PREPARE: dict[str, Callable[[Project, str], dict]] = {"adapter_fusion": trained_adapters}


def run(model: nn.Module, batch: dict) -> Tensor:
    with torch.no_grad():
        return model(**batch["net_input"])[0]


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def backbone(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if not is_adapter_key(key)}


def different(first: dict[str, Tensor], second: dict[str, Tensor]) -> list[str]:
    assert list(first) == list(second)
    return [key for key in first if not torch.equal(first[key], second[key])]


@dataclasses.dataclass
class Trained:
    """A combination after some updates on one batch."""

    family: str
    trainer: Trainer
    batch: dict
    before: dict[str, Tensor]
    losses: list[float]
    stock: dict[str, Tensor]
    report: dict

    @property
    def model(self) -> nn.Module:
        return self.trainer.get_model()


@pytest.fixture(scope="module", params=COMBINATIONS, ids="-".join)
def combination(request, project, tmp_path_factory) -> Trained:
    family, arch, pruner = request.param
    save_dir = tmp_path_factory.mktemp("run")
    trainer, epoch = launch(project.adapted(family, arch, save_dir, pruner=pruner, **PRUNED))
    batch = next(iter(epoch.next_epoch_itr()))
    before = state_copy(trainer.get_model())
    losses = [trainer.train_step([batch])["loss"] for _ in range(4)]
    stock = torch.load(project.backbones[arch], weights_only=True)["model"]
    return Trained(family, trainer, batch, before, losses, stock, json.loads((save_dir / "sparsity.json").read_text()))


def test_training_lowers_the_loss_and_reaches_every_matrix(combination):
    assert combination.losses[-1] < combination.losses[0]
    weights = prunable_weights(combination.model)
    changed = {n for n in weights if not torch.equal(weights[n].values, combination.before[f"{n}.values"])}
    # No gradient gets through a bottleneck where no unit has a weight on both sides.
    dead = tuple(f"{name}." for name in combination.report["dead_adapters"])
    assert changed == {name for name, weight in weights.items() if weight.kept and not name.startswith(dead)}
    assert len(changed) > 0.75 * len(weights)


def test_the_density_is_exact(combination):
    weights = prunable_weights(combination.model).values()
    total = sum(weight.shape.numel() for weight in weights)
    kept = sum(int(weight.mask().sum()) for weight in weights)
    assert kept == sum(weight.values.numel() for weight in weights) == round((1 - PRUNED["sparsity"]) * total)

    parameters = trained(combination.model)
    report = sparsity_report(combination.model)
    assert report.items() <= combination.report.items()  # pruned once, and training changes none of it
    assert (report["matrix_total"]["kept"], report["matrix_total"]["total"]) == (kept, total)
    assert report["trained"]["matrices"] == kept
    assert report["trained"]["total"] == sum(parameter.numel() for parameter in parameters.values())
    slots = combination.trainer.optimizer.optimizer.state
    assert sum(slot["exp_avg"].numel() for slot in slots.values()) == report["trained"]["total"]


def test_the_adapters_train_and_nothing_else(combination):
    model = combination.model
    adapters = {name for name, _ in model.named_parameters() if is_adapter_key(name)}
    frozen = {name for name in adapters if FROZEN.get(combination.family, " ") in name}
    assert trained(model).keys() == adapters - frozen
    for layer in transformer_layers(model):
        assert any(parameter.requires_grad for parameter in getattr(layer, ADAPTER).parameters())
    state = model.state_dict()
    changed = set(different(combination.before, state))
    assert changed and changed <= trained(model).keys()
    assert not different(backbone(state), combination.stock)


def test_a_dense_model_takes_over_the_state_dict(combination):
    model, cfg = combination.model.eval(), combination.trainer.cfg
    state = state_copy(model)
    assert list(backbone(state)) == list(combination.stock)

    utils.set_torch_seed(cfg.common.seed + 1)
    fresh = combination.trainer.task.build_model(cfg.model).eval()
    assert not any(weight.is_compact for weight in prunable_weights(fresh).values())
    fresh.load_state_dict(copy.deepcopy(state), strict=True)
    assert not different(fresh.state_dict(), state)
    assert trained(fresh).keys() == trained(model).keys()
    assert torch.equal(run(fresh, combination.batch), run(model, combination.batch))


@pytest.mark.parametrize("family, arch", MODELS)
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(project, tmp_path, family, arch):
    def updates(trainer: Trainer, epoch: EpochBatchIterator, count: int) -> None:
        for batch in itertools.islice(epoch.next_epoch_itr(), count):
            trainer.train_step([batch])

    def configuration(save_dir: Path) -> DictConfig:
        return project.adapted(family, arch, save_dir, pruner="random", **PRUNED)

    whole, epoch = launch(configuration(tmp_path / "whole"))
    updates(whole, epoch, 4)

    first, epoch = launch(configuration(tmp_path / "halves"))
    updates(first, epoch, 2)
    save(first, epoch, tmp_path / "halves" / "checkpoint_last.pt")
    second, epoch = launch(configuration(tmp_path / "halves"))
    assert second.get_num_updates() == 2 and epoch.iterations_in_epoch == 2
    updates(second, epoch, 2)

    assert not different(second.get_model().state_dict(), whole.get_model().state_dict())
    ours, theirs = (trainer.optimizer.state_dict()["state"] for trainer in (second, whole))
    assert ours.keys() == theirs.keys() and len(ours) == len(trained(whole.get_model()))
    for slot in ours:
        assert torch.equal(ours[slot]["exp_avg"], theirs[slot]["exp_avg"])
        assert torch.equal(ours[slot]["exp_avg_sq"], theirs[slot]["exp_avg_sq"])


@pytest.mark.parametrize("family", FAMILIES)
def test_activation_checkpointing_changes_neither_masks_nor_training(project, tmp_path, family):
    states = []
    for checkpointed in (False, True):
        cfg = project.adapted(family, "sparse_adapter_bart_base", tmp_path, pruner="snip", **PRUNED)
        cfg.model.checkpoint_activations = checkpointed
        trainer, epoch = launch(cfg)
        for batch in itertools.islice(epoch.next_epoch_itr(), 2):
            trainer.train_step([batch])
        states.append(trainer.get_model().state_dict())
        layers = list(transformer_layers(trainer.get_model()))
        assert all(hasattr(layer, "precheckpoint_forward") == checkpointed for layer in layers)
    torch.testing.assert_close(*states, rtol=0, atol=1e-5)


@pytest.fixture(scope="module", params=MODELS, ids="-".join)
def dense(request, project, tmp_path_factory) -> nn.Module:
    """A model whose adapters do much, in evaluation mode."""
    family, arch = request.param
    trainer, _ = launch(project.adapted(family, arch, tmp_path_factory.mktemp("dense")))
    return randomize(trainer.get_model(), std=0.2).eval()


@pytest.fixture
def pruned(dense) -> nn.Module:
    """The same, pruned; every matrix has lost a whole unit as well, and its partner another one."""
    model = copy.deepcopy(dense)
    masks = prune(model, "random", PRUNED["sparsity"])
    for i, (name, weight) in enumerate(prunable_weights(model).items()):
        if weight.unit_dim is not None:
            masks[name].select(weight.unit_dim, i % 2).fill_(False)
        weight.prune_(masks[name])
    return model


@pytest.mark.parametrize("form", ["dense", "pruned"])
def test_incremental_decoding_equals_the_full_forward(dense, pruned, form):
    model = {"dense": dense, "pruned": pruned}[form]
    dictionary = model.decoder.dictionary
    batch = make_batch(dictionary, seed=0)
    expected = run(model, batch)
    inputs = batch["net_input"]
    steps, state = [], {}
    with torch.no_grad():
        encoder_out = model.encoder(inputs["src_tokens"], inputs["src_lengths"])
        for length in range(1, expected.size(1) + 1):
            tokens = inputs["prev_output_tokens"][:, :length]
            steps.append(model.decoder(tokens, encoder_out=encoder_out, incremental_state=state)[0])
    real = batch["target"] != dictionary.pad()
    assert not real.all()
    torch.testing.assert_close(torch.cat(steps, dim=1)[real], expected[real], rtol=0, atol=1e-5)


def test_a_deep_copy_uses_its_own_adapters(dense):
    """As the moving average of --store-ema does."""
    batch = make_batch(dense.decoder.dictionary, seed=0)
    before, other = run(dense, batch), copy.deepcopy(dense)
    assert torch.equal(run(other, batch), before)
    for layer in transformer_layers(other):
        for parameter in getattr(layer, ADAPTER).parameters():
            parameter.data.zero_()
        changed = run(other, batch)
        assert (changed - before).abs().max() > 1e-3
    assert torch.equal(run(dense, batch), before)


def beam_search(model: nn.Module, batch: dict) -> tuple[list, list[Tensor]]:
    """All hypotheses of every sentence, and how the beams were reordered."""
    generator = SequenceGenerator([model], model.decoder.dictionary, beam_size=BEAM, max_len_b=8)
    orders, reorder = [], generator.model.reorder_incremental_state

    def recorded(states: list, order: Tensor) -> None:
        orders.append(order)
        reorder(states, order)

    generator.model.reorder_incremental_state = recorded
    return generator.generate([model], batch), orders


def log_probability(model: nn.Module, source: Tensor, tokens: Tensor) -> Tensor:
    """Of every token of a hypothesis, from one forward pass over all of them."""
    dictionary = model.decoder.dictionary
    source = source[source != dictionary.pad()].unsqueeze(0)
    previous = torch.cat([tokens.new_tensor([dictionary.eos()]), tokens[:-1]]).unsqueeze(0)
    inputs = {"src_tokens": source, "src_lengths": torch.tensor([source.size(1)]), "prev_output_tokens": previous}
    return run(model, {"net_input": inputs})[0].log_softmax(-1)[torch.arange(len(tokens)), tokens]


def test_beam_search_is_the_same_materialised_and_scores_are_log_probabilities(pruned):
    batch = make_batch(pruned.decoder.dictionary, seed=0)
    plain, orders = beam_search(copy.deepcopy(pruned), batch)
    assert any(not torch.equal(order, torch.arange(len(order))) for order in orders)

    ready = copy.deepcopy(pruned)
    ready.prepare_for_inference_(INFERENCE)
    materialised, _ = beam_search(ready, batch)
    for source, ours, theirs in zip(batch["net_input"]["src_tokens"], materialised, plain, strict=True):
        assert len(ours) == BEAM
        for hypothesis, other in zip(ours, theirs, strict=True):
            tokens = hypothesis["tokens"]
            assert torch.equal(tokens, other["tokens"])
            torch.testing.assert_close(hypothesis["score"], other["score"], rtol=0, atol=1e-4)
            expected = log_probability(pruned, source, tokens)
            torch.testing.assert_close(hypothesis["positional_scores"], expected, rtol=0, atol=1e-4)
            torch.testing.assert_close(hypothesis["score"], expected.mean(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in FIXED])
def test_large_sparse_keeps_as_many_weights_as_the_dense_adapter_has(project, tmp_path, family):
    arch = "sparse_adapter_transformer"
    trainer, _ = launch(project.adapted(family, arch, tmp_path / "dense"))
    dense = sum(weight.total for weight in prunable_weights(trainer.get_model()).values())
    for k in (2, 3):
        save_dir = tmp_path / str(k)
        trainer, _ = launch(project.adapted(family, arch, save_dir, large_sparse=k, pruner="random"))
        weights = prunable_weights(trainer.get_model()).values()
        assert sum(weight.total for weight in weights) == k * dense
        assert sum(weight.kept for weight in weights) == dense
        report = json.loads((save_dir / "sparsity.json").read_text())
        assert report["large_sparse"] == {"k": k, "kept": dense, "dense_weights_of_k_1": dense, "equal": True}
