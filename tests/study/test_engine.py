"""Snakemake runs the jobs; a study that is killed goes on where it stopped and ends as if nothing had been."""

import csv
import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from sparse_adapter.cli import main
from sparse_adapter.study.config import read_config
from sparse_adapter.study.engine import only_study_in
from sparse_adapter.study.grid import make_plan
from sparse_adapter.study.locks import try_lock
from sparse_adapter.study.plan import write_plan

from .made_up import pretended


def study(config: Path, out: Path, *words: str) -> None:
    main(["study", str(config), "--out", str(out), "--jobs", "2", "--gpus", "", *words])


def processes_of(folder: Path) -> list[str]:
    """Command lines of living processes that name the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # it has ended
            continue
        if str(folder) in words:
            found.append(words)
    return found


def finished(out: Path) -> set[str]:
    return {path.parent.name for path in out.glob("runs/*/result.json")}


def test_a_study_runs_and_is_not_repeated(tmp_path, capfd):
    config = pretended(tmp_path / "here")
    study(config, tmp_path / "out")
    assert len(finished(tmp_path / "out")) == 6
    assert "6/6" in capfd.readouterr().err
    study(config, tmp_path / "out")
    assert len((tmp_path / "here" / "started").read_text().splitlines()) == 6
    assert "6 of them finished" in capfd.readouterr().out


def test_spaces_and_the_like_in_names_and_folders(tmp_path):
    backbone, out = pretended(tmp_path / "here").with_name("Mini LM's $x"), tmp_path / "my {x} study: #2"
    backbone.mkdir()
    (backbone / "model.pt").touch()
    study(tmp_path / "here" / "tiny.yaml", out, f"backbone={backbone}", "seeds=[1]")
    names = {"full", "houlsby-dense", "houlsby-snip0.4"}
    assert finished(out) == {f"one-Mini LM's $x-{name}-seed1" for name in names}


def everything_in(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def test_finished_runs_stay_when_the_config_asks_for_less(tmp_path, capfd):
    config, out = pretended(tmp_path / "here"), tmp_path / "out"
    study(config, out)
    before = everything_in(out)
    study(config, out, "seeds=[1]", "--dry-run")
    assert everything_in(out) == before
    study(config, out, "seeds=[1]")
    assert "3 runs, 3 of them finished" in capfd.readouterr().out
    after = everything_in(out)
    assert {row[0] for row in csv.reader((out / "results.csv").open())} - {"run"} == finished(out)
    assert sorted(after[out / "results.csv"][1].splitlines()) == sorted(before[out / "results.csv"][1].splitlines())


def test_a_running_study_is_not_redirected(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("sparse_adapter.study.engine._HAND_OVER", 0)
    config, out = pretended(tmp_path / "here"), tmp_path / "out"
    with only_study_in(out):
        write_plan(out, make_plan(read_config(config)))
        before = everything_in(out)
        with pytest.raises(SystemExit, match="is running in it already"):
            study(config, out, "env.MAX_EPOCH=9")
        study(config, out, "env.MAX_EPOCH=9", "--dry-run")
        assert everything_in(out) == before
    assert "one-backbone-full-seed1" in capfd.readouterr().out


def test_gpus_are_hidden_where_none_is_to_be_used(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    config = pretended(tmp_path / "here")
    train = tmp_path / "here" / "ex" / "train.sh"
    train.write_text('echo "sees <$CUDA_VISIBLE_DEVICES>"\n' + train.read_text())
    logs = [tmp_path / out / "runs" / "one-backbone-full-seed1" / "train.log" for out in ("cpu", "cluster")]
    study(config, tmp_path / "cpu", "seeds=[1]", "grid=[{family: none}]")
    assert logs[0].read_text().startswith("sees <>\n")
    words = ["--gpus", "0", "seeds=[1]", "grid=[{family: none}]"]
    if torch.cuda.is_available():
        main(["study", str(config), "--out", str(tmp_path / "gpu"), *words])
        log = tmp_path / "gpu" / "runs" / "one-backbone-full-seed1" / "train.log"
        assert log.read_text().startswith("sees <0>\n")
    else:  # and does not train on the CPU instead
        with pytest.raises(SystemExit, match="GPU 0 cannot be used"):
            main(["study", str(config), "--out", str(tmp_path / "gpu"), *words])
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile" / "config.yaml").write_text("cores: 1\n")
    words = ["seeds=[1]", "grid=[{family: none}]", "--profile", str(tmp_path / "profile")]
    main(["study", str(config), "--out", str(tmp_path / "cluster"), *words])
    assert logs[1].read_text().startswith("sees <3>\n")


def test_profiles_that_nobody_named_are_not_used(tmp_path, monkeypatch):
    config = pretended(tmp_path / "here")
    (tmp_path / "default").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.yaml").write_text("no-such-option: 1\n")
    monkeypatch.setenv("SNAKEMAKE_PROFILE", str(tmp_path / "other"))
    monkeypatch.chdir(tmp_path)
    study(config, tmp_path / "out", "seeds=[1]", "grid=[{family: none}]")
    assert finished(tmp_path / "out") == {"one-backbone-full-seed1"}


@pytest.mark.parametrize("given, expected", [(None, "3"), ("5", "5")])
def test_jobs_share_the_cores(tmp_path, monkeypatch, given, expected):
    """Snakemake would set one thread for each."""
    config = pretended(tmp_path / "here")
    script = tmp_path / "here" / "ex" / "train.sh"
    script.write_text(f'echo "$OMP_NUM_THREADS $MKL_NUM_THREADS" >> {tmp_path / "threads"}\n{script.read_text()}')
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(7)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    study(config, tmp_path / "out", "seeds=[1]")
    assert set((tmp_path / "threads").read_text().split()) == {expected}


def test_data_that_cannot_be_prepared(tmp_path, capfd):
    config, out = pretended(tmp_path / "here"), tmp_path / "out"
    prepare = tmp_path / "here" / "ex" / "prepare.sh"
    whole = prepare.read_text()
    prepare.write_text("echo no TSV files; exit 2")
    with pytest.raises(SystemExit) as error:
        study(config, out)
    why = "one-backbone failed: prepare.sh ended with status 2: no TSV files"
    failure = out / "data" / "one-backbone.failure.json"
    assert f"6 of 6 runs are not finished (first: one-backbone-full-seed1: {why}" in str(error.value)
    assert str(failure) in str(error.value) and failure.exists()
    assert capfd.readouterr().err.count("failed: one-backbone: prepare.sh ended") == 1
    rows = list(csv.DictReader((out / "results.csv").open()))
    assert {row["status"] for row in rows} == {"failed"} and all(row["error"].startswith(why) for row in rows)
    prepare.write_text(whole)
    study(config, out)
    assert len(finished(out)) == 6 and not failure.exists()


def test_failures_are_told_and_not_fatal(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("BROKEN", "snip")
    with pytest.raises(SystemExit, match="2 of 6 runs are not finished .*Start the study again") as error:
        study(pretended(tmp_path / "here"), tmp_path / "out")
    assert str(error.value).startswith("error: ") and len(finished(tmp_path / "out")) == 4
    told = "failed: one-backbone-houlsby-snip0.4-seed1: train.sh ended with status 3: it broke"
    assert told in capfd.readouterr().err
    rows = (tmp_path / "out" / "results.csv").read_text().splitlines()
    assert len(rows) == 7 and sum(",failed," in row and "it broke" in row for row in rows) == 2


def test_an_interrupted_study_leaves_its_results(tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("sparse_adapter.cli.study.execute", interrupted)
    with pytest.raises(SystemExit, match="goes on from here"):
        main(["study", str(pretended(tmp_path / "here")), "--out", str(tmp_path / "study")])
    with (tmp_path / "study" / "results.csv").open() as file:
        assert {row["status"] for row in csv.DictReader(file)} == {"missing"}


SUBMITS = """
import pathlib, time
try:
    pathlib.Path("FOLDER/submitted").touch()  # from here on it may be interrupted
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(0.5)
    pathlib.Path("FOLDER/cancelled").touch()
"""


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGINT, signal.SIGINT], [signal.SIGKILL]], ids=str)
def test_what_was_submitted_to_a_cluster_is_cancelled(tmp_path, monkeypatch, signals):
    """By Snakemake, which a stand-in is for here: it is given the time, and interrupted once."""
    submits = SUBMITS.replace("FOLDER", str(tmp_path))
    monkeypatch.setattr("sparse_adapter.study.engine._command", lambda *words: [sys.executable, "-c", submits])
    profile = tmp_path / "profile"
    profile.mkdir()
    words = ["study", str(pretended(tmp_path / "here")), "--out", str(tmp_path / "out"), "--profile", str(profile)]
    process = multiprocessing.get_context("fork").Process(target=at_a_terminal, args=(words,))
    process.start()
    wait_for(tmp_path / "submitted")
    for number in signals:
        os.kill(process.pid, number)
        time.sleep(0.2)
    process.join()
    wait_for(tmp_path / "cancelled")


def at_a_terminal(words: list[str]) -> None:
    """Where there is none, as of tests in the background, a shell has processes ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main(words)


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 30
    while not file.exists():
        assert time.monotonic() < deadline, file
        time.sleep(0.05)


def test_a_dry_run_runs_nothing(tmp_path, capfd):
    study(pretended(tmp_path / "here"), tmp_path / "out", "--dry-run")
    assert not (tmp_path / "out").exists() and not (tmp_path / "here" / "started").exists()
    assert "prepare" in capfd.readouterr().out


def test_two_studies_in_one_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("sparse_adapter.study.engine._HAND_OVER", 0)
    lock = try_lock(tmp_path / "out" / ".lock")
    assert lock is not None
    with pytest.raises(SystemExit, match="is running in it already"):
        study(pretended(tmp_path / "here"), tmp_path / "out")


def test_snakemake_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr("sparse_adapter.study.engine.importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="needs Snakemake: pip install"):
        study(pretended(tmp_path / "here"), tmp_path / "out")


@pytest.mark.parametrize("words", [["--jobs", "0"], ["--profile", "nowhere"], ["seeds"]])
def test_mistakes_of_the_command(tmp_path, words):
    with pytest.raises(SystemExit, match="^error: "):
        main(["study", str(pretended(tmp_path / "here")), *words])


def test_killed_three_times(tmp_path, monkeypatch):
    """SIGKILL at random points: the same tables, byte by byte, no run twice, and nothing goes on in the dark."""
    monkeypatch.setenv("PAUSE", "0.15")
    config = pretended(tmp_path / "here")
    study(config, tmp_path / "whole")
    started = tmp_path / "here" / "started"
    started.unlink()

    chance, out = random.Random(time.time_ns()), tmp_path / "killed"
    begun, done = 0, set()
    for _ in range(3):
        process = multiprocessing.get_context("fork").Process(target=study, args=(config, out))
        process.start()
        time.sleep(chance.uniform(1.5, 5))
        process.kill()
        process.join()
        deadline = time.monotonic() + 20
        while processes_of(out) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not processes_of(out)
        lines = started.read_text().splitlines() if started.exists() else []
        assert not {Path(line).name for line in lines[begun:]} & done
        begun, done = len(lines), finished(out)
    study(config, out)
    assert not {Path(line).name for line in started.read_text().splitlines()[begun:]} & done
    for name in ("results.csv", "curves.csv"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
