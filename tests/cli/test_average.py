"""sparse-adapter average on two states of one run, and on states of two runs."""

from argparse import Namespace

import pytest
import torch
from fairseq.checkpoint_utils import load_checkpoint_to_cpu
from sparse_adapter.checkpoint.adapter_file import fresh_checkpoint
from sparse_adapter.cli.average import run
from sparse_adapter.errors import UsageError
from sparse_adapter.modules import MASK_KEY, is_adapter_key

from ..conftest import state_copy


def save(path, model, **arguments) -> None:
    args = Namespace(arch="sparse_adapter_bart_base", adapter="houlsby", **arguments)
    cfg = {"model": args, "task": {"_name": "sparse_adapter_translation"}}
    torch.save(fresh_checkpoint(cfg, model), path)


@pytest.fixture
def files(pruned_model, tmp_path) -> list:
    """Two checkpoints whose values differ and whose masks do not."""
    first = state_copy(pruned_model)
    second = {key: value + 2 if value.is_floating_point() else value for key, value in first.items()}
    paths = [tmp_path / "first.pt", tmp_path / "second.pt"]
    for path, model in zip(paths, (first, second), strict=True):
        save(path, model)
    return paths


def test_the_masks_of_one_run_stay(files, tmp_path):
    run(Namespace(files=files, out=tmp_path / "out.pt", force=False))
    first, mean = (load_checkpoint_to_cpu(str(path))["model"] for path in (files[0], tmp_path / "out.pt"))
    assert sum(key.endswith(MASK_KEY) for key in mean) > 0
    for key, value in mean.items():
        torch.testing.assert_close(value, first[key] + 1 if value.is_floating_point() else first[key])


def test_tied_matrices_are_once_in_the_file(files, tmp_path):
    for path in files:
        model = torch.load(path, weights_only=True)["model"]
        matrix = torch.randn(300, 30)
        save(path, model | {"encoder.embed_tokens.weight": matrix, "decoder.embed_tokens.weight": matrix})
    run(Namespace(files=files, out=tmp_path / "out.pt", force=False))
    mean = torch.load(tmp_path / "out.pt", weights_only=True)["model"]
    shared = [mean[f"{stack}.embed_tokens.weight"] for stack in ("encoder", "decoder")]
    assert shared[0].data_ptr() == shared[1].data_ptr()
    assert (tmp_path / "out.pt").stat().st_size < files[0].stat().st_size + matrix.nbytes / 2


def test_what_is_tied_in_one_file_only_is_not_tied(files, tmp_path):
    matrix = torch.zeros(30, 30)
    for path, other in zip(files, (matrix, torch.full((30, 30), 5.0)), strict=True):
        model = torch.load(path, weights_only=True)["model"]
        tied = {"encoder.embed_tokens.weight": matrix, "decoder.embed_tokens.weight": other}
        save(path, model | tied | {"double": torch.ones(2).double()})
    run(Namespace(files=files, out=tmp_path / "out.pt", force=False))
    mean = torch.load(tmp_path / "out.pt", weights_only=True)["model"]
    assert not mean["encoder.embed_tokens.weight"].any() and (mean["decoder.embed_tokens.weight"] == 2.5).all()
    assert mean["double"].tolist() == [1, 1]


def test_an_average_that_training_kept_is_not_taken_for_that_of_the_files(files, tmp_path):
    for path in files:
        state = torch.load(path, weights_only=True)
        state["extra_state"] |= {"ema": {"weight": torch.ones(1)}, "ema_fp32_params": {"weight": torch.ones(1)}}
        torch.save(state, path)
    run(Namespace(files=files, out=tmp_path / "out.pt", force=False))
    kept = load_checkpoint_to_cpu(str(tmp_path / "out.pt"))["extra_state"]
    assert "train_iterator" in kept and not [key for key in kept if "ema" in key]


def test_other_masks_are_refused_and_nothing_is_written(files, tmp_path):
    """As many weights kept, so that all shapes agree."""
    state = load_checkpoint_to_cpu(str(files[1]))["model"]
    key = next(key for key in state if is_adapter_key(key) and key.endswith(MASK_KEY))
    state[key] = state[key].flip(0)
    save(files[1], state)
    with pytest.raises(UsageError, match="only files with the same masks can be averaged"):
        run(Namespace(files=files, out=tmp_path / "out.pt", force=False))
    assert not (tmp_path / "out.pt").exists()


@pytest.mark.parametrize(
    "others, message",
    [
        ({"adapter_activation": "tanh"}, "of different models: --adapter-activation relu and tanh"),
        ({"backbone_fingerprint": "b"}, "were trained on different backbones"),
    ],
)
def test_files_of_other_models_are_refused(files, tmp_path, others, message):
    save(files[0], load_checkpoint_to_cpu(str(files[0]))["model"], backbone_fingerprint="a")
    save(files[1], load_checkpoint_to_cpu(str(files[1]))["model"], **({"backbone_fingerprint": "a"} | others))
    with pytest.raises(UsageError, match=message):
        run(Namespace(files=files, out=tmp_path / "out.pt", force=False))
