import collections
import os
import pickle
import subprocess
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from fairseq import checkpoint_utils
from fairseq.logging.meters import AverageMeter, StopwatchMeter, TimeMeter
from sparse_adapter import compat
from sparse_adapter.checkpoint.loading import explain_failures


def checkpoint(**extra) -> dict:
    """What fairseq saved up to 2020: the arguments as a Namespace."""
    return {
        "args": Namespace(arch="bart_base", task="translation", criterion="cross_entropy", lr=0.1),
        "model": {"weight": torch.arange(3000.0)},
        "optimizer_history": [{"criterion_name": "CrossEntropyCriterion", "best_loss": 1.5, "optimizer_name": "Adam"}],
        "extra_state": {"epoch": 3, "batch_offset": 0, "val_loss": 1.5, **extra},
        "last_optimizer_state": None,
    }


def save(path: Path, state: object, zipped: bool = False) -> str:
    """Save ``state``; without ``zipped`` in the format of torch before 1.6, as the published files are."""
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    return str(path)


def rename(path: str, old: str, new: str) -> None:
    """Let a file name its classes by another module."""
    content = Path(path).read_bytes()
    assert old.encode() in content
    Path(path).write_bytes(content.replace(old.encode(), new.encode()))


def refusal(path: object) -> str:
    """The one line that reading ``path`` ends with."""
    with pytest.raises(SystemExit) as error:
        checkpoint_utils.load_checkpoint_to_cpu(str(path))
    text = str(error.value)
    assert text.startswith(f"error: {path} ") and "\n" not in text
    return text


@pytest.mark.parametrize("zipped", [True, False])
def test_a_namespace_checkpoint_loads(tmp_path, zipped):
    state = checkpoint_utils.load_checkpoint_to_cpu(save(tmp_path / "model.pt", checkpoint(), zipped))
    assert torch.equal(state["model"]["weight"], torch.arange(3000.0))
    assert state["cfg"].model.arch == "bart_base"
    assert state["extra_state"]["train_iterator"]["epoch"] == 3


@pytest.mark.parametrize("module", ["numpy._core.multiarray", "numpy.core.multiarray"])
def test_numpy_scalars_and_arrays_load_under_both_names(tmp_path, module):
    extra = {
        "best": np.float64(3.25),
        "single": np.float32(0.5),
        "updates": np.int64(7),
        "better": np.bool_(True),
        "counts": np.array([[1, 2], [3, 4]]),
        "losses": np.array([0.5, 0.25]),
    }
    path = save(tmp_path / "model.pt", checkpoint(**extra))
    if module != "numpy._core.multiarray":
        rename(path, "numpy._core.multiarray", module)
    loaded = checkpoint_utils.load_checkpoint_to_cpu(path)["extra_state"]
    for name, value in extra.items():
        assert loaded[name].dtype == value.dtype
        assert np.array_equal(loaded[name], value)


def test_meters_load_under_the_name_of_2019(tmp_path):
    meters = collections.OrderedDict(loss=AverageMeter(), wps=TimeMeter(), wall=StopwatchMeter())
    meters["loss"].update(2.0, n=3)
    path = save(tmp_path / "model.pt", checkpoint(train_meters=meters))
    rename(path, "fairseq.logging.meters", "fairseq.meters")
    loaded = checkpoint_utils.load_checkpoint_to_cpu(path)["extra_state"]["train_meters"]
    assert [type(meter) for meter in loaded.values()] == [AverageMeter, TimeMeter, StopwatchMeter]
    assert (loaded["loss"].avg, loaded["loss"].count) == (2.0, 3)


class Attack:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("function", [os.system, eval, exec, subprocess.getoutput, pickle.loads])
def test_a_malicious_file_is_refused_and_not_run(tmp_path, monkeypatch, function, zipped):
    if zipped:  # also where the shell exports what stock fairseq needs
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    marker = tmp_path / "marker"
    command = {
        os.system: f"touch {marker}",
        subprocess.getoutput: f"touch {marker}",
        pickle.loads: pickle.dumps(Attack(os.system, f"touch {marker}")),
    }.get(function, f"open({str(marker)!r}, 'w')")
    path = save(tmp_path / "model.pt", checkpoint(evil=Attack(function, command)), zipped)
    text = refusal(path)
    assert "was refused and nothing in it was run" in text
    assert function.__name__ in text
    assert "weights_only" not in text
    assert not marker.exists()
    assert not zipped or os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] == "1"
    torch.load(path, weights_only=False)
    assert marker.exists()  # it would have run


@pytest.mark.parametrize("share", [0, 0.001, 0.01, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_file_ends_in_one_line(tmp_path, zipped, share):
    path = Path(save(tmp_path / "model.pt", checkpoint(), zipped))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "not a complete fairseq checkpoint" in refusal(path) or "damaged" in refusal(path)


@pytest.mark.parametrize(
    "content",
    [b"<html><body>404</body></html>", b"version https://git-lfs.github.com/spec/v1\n", b"hello\n", b"\0" * 99],
)
def test_other_files_end_in_one_line(tmp_path, content):
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    assert "checkpoint" in refusal(path)


@pytest.mark.parametrize("content", [{"weight": torch.zeros(3)}, torch.zeros(3), [1, 2]], ids=str)
def test_other_contents_end_in_one_line(tmp_path, content):
    assert "not a complete fairseq checkpoint" in refusal(save(tmp_path / "model.pt", content))


@pytest.mark.parametrize("name, unknown", [("arch", "denoising_large"), ("task", "denoisin"), ("criterion", "mse_x")])
def test_a_file_of_something_that_is_not_there_says_what(tmp_path, name, unknown):
    state = checkpoint()
    setattr(state["args"], name, unknown)
    assert f"has the --{name} {unknown}, which neither fairseq nor this plugin has" in refusal(
        save(tmp_path / "model.pt", state)
    )


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA out of memory"), FileNotFoundError("model.pt"), PermissionError()]
)
def test_other_errors_are_not_blamed_on_the_file(error):
    def load(path):
        raise error

    with pytest.raises(type(error)):
        explain_failures(load)("model.pt")


def test_importing_twice_wraps_once():
    reader = checkpoint_utils.load_checkpoint_to_cpu
    compat.apply()
    assert checkpoint_utils.load_checkpoint_to_cpu is reader
    assert not hasattr(reader.__wrapped__.__wrapped__, "__wrapped__")  # adapter files, explanations, fairseq
