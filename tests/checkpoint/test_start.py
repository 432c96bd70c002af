import copy
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from fairseq.data import Dictionary
from fairseq.dataclass.configs import CheckpointConfig
from omegaconf import OmegaConf
from sparse_adapter.checkpoint.loading import read_state
from sparse_adapter.checkpoint.start import (
    changed_settings,
    check_direction,
    check_fits,
    check_function,
    checkpoint_to_load,
    is_relaunch,
)
from sparse_adapter.errors import UsageError
from torch import nn

from ..conftest import state_copy


@pytest.fixture
def save_dir(tmp_path) -> Path:
    return tmp_path


def touch(path: Path) -> str:
    path.touch()
    return str(path)


def dictionary_of(size: int) -> Dictionary:
    dictionary = Dictionary()
    for i in range(size - len(dictionary)):
        dictionary.add_symbol(f"word{i}")
    return dictionary


def test_nothing_to_load(save_dir):
    assert checkpoint_to_load(CheckpointConfig(save_dir=str(save_dir))) is None


def test_the_backbone_at_the_first_launch_and_the_last_checkpoint_at_the_next(save_dir):
    backbone = touch(save_dir / "backbone.pt")
    cfg = CheckpointConfig(save_dir=str(save_dir), finetune_from_model=backbone)
    assert checkpoint_to_load(cfg) == backbone
    last = touch(save_dir / "checkpoint_last.pt")
    assert checkpoint_to_load(cfg) == last


def test_continue_once_comes_before_the_backbone_and_after_the_last_checkpoint(save_dir):
    once, backbone = touch(save_dir / "once.pt"), touch(save_dir / "backbone.pt")
    cfg = CheckpointConfig(save_dir=str(save_dir), finetune_from_model=backbone, continue_once=once)
    assert checkpoint_to_load(cfg) == once
    last = touch(save_dir / "checkpoint_last.pt")
    assert checkpoint_to_load(cfg) == last


def test_a_restore_file_comes_first(save_dir):
    touch(save_dir / "checkpoint_last.pt")
    restore = touch(save_dir / "restore.pt")
    assert checkpoint_to_load(CheckpointConfig(save_dir=str(save_dir), restore_file=restore)) == restore


@pytest.mark.parametrize(
    "options, message",
    [
        ({"reset_meters": True}, "--reset-meters goes with --restore-file"),
        ({"restore_file": "restore.pt"}, "--restore-file and --finetune-from-model are two starts"),
    ],
)
def test_flags_that_fairseq_refuses_after_pruning_are_refused_before(save_dir, options, message):
    backbone = touch(save_dir / "backbone.pt")
    with pytest.raises(UsageError, match=message):
        checkpoint_to_load(CheckpointConfig(save_dir=str(save_dir), finetune_from_model=backbone, **options))


def test_checkpoints_with_a_suffix(save_dir):
    backbone, restore = touch(save_dir / "backbone.pt"), touch(save_dir / "restore_x.pt")
    touch(save_dir / "checkpoint_last.pt")  # of another run
    cfg = CheckpointConfig(save_dir=str(save_dir), finetune_from_model=backbone, checkpoint_suffix="_x")
    assert checkpoint_to_load(cfg) == backbone and not is_relaunch(cfg, backbone)
    last = touch(save_dir / "checkpoint_last_x.pt")
    assert checkpoint_to_load(cfg) == last and is_relaunch(cfg, last)
    cfg = CheckpointConfig(restore_file=str(save_dir / "restore.pt"), checkpoint_suffix="_x")
    assert checkpoint_to_load(cfg) == restore


@pytest.mark.parametrize("option", ["restore_file", "finetune_from_model", "continue_once"])
@pytest.mark.parametrize("name", ["missing.pt", "."])
def test_a_file_that_is_not_there_is_refused(save_dir, option, name):
    cfg = CheckpointConfig(save_dir=str(save_dir), **{option: str(save_dir / name)})
    with pytest.raises(UsageError, match=f"--{option.replace('_', '-')} .*: there is no such file"):
        checkpoint_to_load(cfg)


def test_a_file_without_a_model_is_refused(save_dir):
    state = {"extra_state": {"train_iterator": {"epoch": 1}}, "optimizer_history": [{"lr_scheduler_state": {}}]}
    torch.save(state, save_dir / "other.pt")
    with pytest.raises(UsageError, match="is not a fairseq checkpoint: it has no 'model'"):
        read_state(str(save_dir / "other.pt"))


def test_backbones_that_fit(model, pruned_model, stock_model, build_bart):
    own = state_copy(pruned_model)
    larger = build_bart("bart_base", dictionary=dictionary_of(61)).state_dict()  # one row more: <mask>
    fused = stock_model.state_dict() | {"encoder.layers.0.in_proj_weight": torch.zeros(96, 32)}
    for state in (stock_model.state_dict(), own, larger, fused):
        before = copy.copy(state)
        check_fits(model, state, "model.pt")
        assert list(state) == list(before)


WIDER = {f"{stack}_embed_dim": 64 for stack in ("encoder", "decoder")}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            WIDER,
            r"model.pt does not fit --arch: encoder.embed_tokens.weight has shape \(60, 64\) in the file and \(60, 32",
        ),
        ({"encoder_ffn_embed_dim": 128}, r"does not fit --arch: encoder.layers.0.fc1.weight has shape \(128, 32\)"),
        ({"encoder_layers": 3}, "the file has 5 transformer layers and the model 4"),
        ({"decoder_layers": 1}, "the file has 3 transformer layers and the model 4"),
        (
            {"max_source_positions": 32},
            r"encoder.embed_positions.weight has shape \(34, 32\) in the file and \(66, 32\)",
        ),
    ],
)
def test_a_backbone_of_another_size_is_refused(model, build_bart, arguments, message):
    state = build_bart("bart_base", **arguments).state_dict()
    with pytest.raises(UsageError, match=message):
        check_fits(model, state, "model.pt")


@pytest.mark.parametrize("size", [59, 62, 100])
def test_a_dictionary_of_another_size_is_refused(model, build_bart, size):
    state = build_bart("bart_base", dictionary=dictionary_of(size)).state_dict()
    with pytest.raises(UsageError, match=f"dictionary of {size} entries, and the data's has 60 .*dict.txt"):
        check_fits(model, state, "model.pt")


def test_a_row_more_is_for_a_mask_that_the_dictionary_lacks(build_bart):
    dictionary = dictionary_of(60)
    dictionary.add_symbol("<mask>")
    state = build_bart("bart_base", dictionary=dictionary_of(62)).state_dict()
    with pytest.raises(UsageError, match="dictionary of 62 entries, and the data's has 61 .*--langs"):
        check_fits(build_bart(dictionary=dictionary), state, "model.pt")


def test_embeddings_that_the_model_shares_have_to_be_alike(build_bart):
    state = build_bart("bart_base", share_all_embeddings=False, share_decoder_input_output_embed=False).state_dict()
    check_fits(build_bart(share_all_embeddings=False, share_decoder_input_output_embed=False), state, "model.pt")
    with pytest.raises(UsageError, match="differ in the file and are one in the model; leave out the flags"):
        check_fits(build_bart(), state, "model.pt")


def test_an_untied_head_has_a_flag_of_its_own():
    embed, head = nn.Embedding(5, 3), nn.Linear(3, 5)
    head.weight = embed.weight
    model = nn.ModuleDict({"encoder": nn.ModuleDict({"embed_tokens": embed, "lm_head": head})})
    state = state_copy(model) | {"encoder.lm_head.weight": torch.ones(5, 3)}
    with pytest.raises(UsageError, match="are one in the model; add --untie-weights-roberta"):
        check_fits(model, state, "model.pt")


def test_what_no_shape_tells_has_to_be_alike():
    then = Namespace(encoder_attention_heads=4, activation_fn="gelu")
    for now in (Namespace(**vars(then)), OmegaConf.create({"encoder_attention_heads": 4, "dropout": 0.3}), None):
        check_function(then, now, "model.pt")
        check_function(now, then, "model.pt")
    check_function(Namespace(activation_fn="gelu_fast"), Namespace(activation_fn="gelu_accurate"), "model.pt")
    with pytest.raises(UsageError, match="model.pt is of a model with --activation-fn gelu, and this one has relu"):
        check_function(then, Namespace(encoder_attention_heads=4, activation_fn="relu"), "model.pt")


@pytest.mark.parametrize("legacy", [False, True])
def test_a_relaunch_in_the_other_direction_is_refused(legacy):
    task = {"source_lang": "en", "target_lang": "ro"}
    then = {"task": Namespace(**task) if legacy else OmegaConf.create(task)}
    check_direction(then, OmegaConf.create({"task": task}), "run/checkpoint_last.pt")
    check_direction(then, OmegaConf.create({"task": {"data": "glue"}}), "run/checkpoint_last.pt")
    back = {"task": {"source_lang": "ro", "target_lang": "en"}}
    with pytest.raises(UsageError, match="run from en to ro, and this one is from ro to en: choose another --save-dir"):
        check_direction(then, OmegaConf.create(back), "run/checkpoint_last.pt")


def test_what_a_relaunch_changes(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    file, link = str(tmp_path / "model.pt"), str(tmp_path / "link" / "model.pt")
    then = {
        "optimization": OmegaConf.create({"lr": [0.1], "update_freq": [1]}),
        "checkpoint": OmegaConf.create({"finetune_from_model": file}),
        "task": Namespace(pruner="snip"),  # of fairseq's legacy tasks
    }
    now = {
        "optimization": {"lr": [0.2], "update_freq": [1]},
        "checkpoint": {"finetune_from_model": link},
        "task": {"pruner": "none"},
    }
    assert changed_settings(then, OmegaConf.create(now)) == ["--lr was [0.1] and is [0.2]"]
    now["checkpoint"]["finetune_from_model"] = "other.pt"
    assert f"--finetune-from-model was {file} and is other.pt" in changed_settings(then, OmegaConf.create(now))
