"""GPUs are shared by nobody unless asked, and freed however their holder ends."""

import subprocess
import sys

import pytest
from sparse_adapter.study import locks
from sparse_adapter.study.locks import locked, one_gpu, try_lock


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Waiting is an error here."""

    def refuse(seconds):
        raise TimeoutError

    monkeypatch.setattr(locks.time, "sleep", refuse)


def test_every_gpu_has_one_holder(tmp_path):
    with one_gpu(["0", "1"], 1, tmp_path) as (first, _), one_gpu(["0", "1"], 1, tmp_path) as (second, _):
        assert {first, second} == {"0", "1"}
        with pytest.raises(TimeoutError), one_gpu(["0", "1"], 1, tmp_path):
            pass
    with one_gpu(["0", "1"], 1, tmp_path) as (again, _):
        assert again == "0"


def test_sharing_fills_every_gpu_once_before_any_twice(tmp_path):
    with (
        one_gpu(["0", "1"], 2, tmp_path) as (a, _),
        one_gpu(["0", "1"], 2, tmp_path) as (b, _),
        one_gpu(["0", "1"], 2, tmp_path) as (c, _),
        one_gpu(["0", "1"], 2, tmp_path) as (d, _),
    ):
        assert [a, b, c, d] == ["0", "1", "0", "1"]


def test_a_child_that_was_given_the_lock_keeps_it_when_its_parent_ends(tmp_path):
    path = tmp_path / "lock"
    with locked(path) as descriptor:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[descriptor])
    assert try_lock(path) is None
    child.kill()
    child.wait()
    assert try_lock(path) is not None
