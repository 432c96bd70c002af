"""One report of several studies, and of reports whose studies are gone."""

import dataclasses
import shutil
from pathlib import Path

import pandas as pd
import pytest
from sparse_adapter.errors import UsageError
from sparse_adapter.study.report import write_report
from sparse_adapter.study.results import TABLES
from sparse_adapter.study.sources import read_source, read_sources

from .made_up import finished_plan, finished_study
from .test_grid import plan_with


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".files.json"}


def test_a_report_of_a_report_is_the_same(tmp_path):
    study = finished_study(tmp_path / "name", "figure4", "table3", without="seed3|cola.*full")
    write_report([study], tmp_path / "first" / "name")
    shutil.rmtree(study)
    write_report([tmp_path / "first" / "name"], tmp_path / "second")
    first, second = contents(tmp_path / "first" / "name"), contents(tmp_path / "second")
    assert first.keys() == second.keys()
    # The page names the folders it was made of; all else is the same to the last digit.
    differ = {name for name in first if first[name] != second[name]}
    assert differ == {"README.md", "report.html"}
    old, new = (found["README.md"].decode().splitlines() for found in (first, second))
    assert [line for line in new if line not in old] == [line for line in new if line.startswith("Made by ")]


def test_halves_make_a_whole(tmp_path):
    upper = finished_study(tmp_path / "upper", "table3", without="seed[1-3]")
    lower = finished_study(tmp_path / "lower", "table3", without="seed[45]")
    write_report([finished_study(tmp_path / "whole", "table3")], tmp_path / "expected")
    write_report([lower], tmp_path / "report")
    write_report([upper, tmp_path / "report"], tmp_path / "out")
    whole, both = contents(tmp_path / "expected"), contents(tmp_path / "out")
    assert whole.keys() == both.keys()
    for name in whole:
        if name.endswith((".csv", ".yaml")):
            assert sorted(whole[name].splitlines()) == sorted(both[name].splitlines()), name
    assert "100 of 100 runs finished" in both["README.md"].decode()


def test_the_first_finished_run_counts(tmp_path):
    plan = plan_with(tmp_path, {}, {"pruner": "snip", "sparsity": 0.4}, seeds=[1, 2])
    one = finished_plan(tmp_path / "one", plan, without="snip0.4-seed2")
    write_report([one], tmp_path / "report")
    table = pd.read_csv(tmp_path / "report" / "results.csv")
    table["score"] += 1
    table.to_csv(tmp_path / "report" / "results.csv", index=False)
    other = finished_plan(tmp_path / "other", plan, without="snip0.4-seed1")
    scores = read_sources([tmp_path / "report", other]).tables["results"].set_index("run")["score"]
    plain = read_source(finished_plan(tmp_path / "all", plan)).tables["results"].set_index("run")["score"]
    assert list(scores.index) == list(plain.index)
    assert (scores - plain).round(6).tolist() == [0.0 if "snip0.4-seed2" in name else 1.0 for name in plain.index]


@pytest.mark.parametrize("seeds", [[1], [2]])
@pytest.mark.parametrize("place, name", [("env", "MAX_EPOCH"), ("prepare", "prepare.LIMIT_TRAIN")])
def test_other_settings_are_not_averaged(tmp_path, seeds, place, name):
    values = {name.removeprefix("prepare."): "1"}, {name.removeprefix("prepare."): "2"}
    plans = (
        plan_with(tmp_path / "a", {}, seeds=[1], **{place: values[0]}),
        plan_with(tmp_path / "b", {}, seeds=seeds, **{place: values[1]}),
    )
    one, other = (finished_plan(tmp_path / name, plan) for name, plan in zip(("one", "other"), plans, strict=True))
    with pytest.raises(UsageError, match=f"-seed1 of .*/one and .*-seed{seeds[0]} of .* other settings") as raised:
        write_report([one, other], tmp_path / "out")
    assert str(raised.value).endswith(f": {name} was 1 and is 2")
    assert not (tmp_path / "out").exists()


def test_the_same_settings_in_another_order_and_folder(tmp_path):
    env = {"MAX_EPOCH": 1, "LR": "1e-3"}
    one = finished_plan(tmp_path / "one", plan_with(tmp_path / "a", {}, seeds=[1], env=env))
    other = finished_plan(tmp_path / "other", plan_with(tmp_path / "b", {}, seeds=[2], env=dict(reversed(env.items()))))
    assert len(read_sources([one, other]).tables["results"]) == 2


def test_runs_that_were_never_made_hinder_nothing(tmp_path):
    one = finished_plan(tmp_path / "one", plan_with(tmp_path / "a", {}, seeds=[1], env={"MAX_EPOCH": 1}))
    other = finished_plan(tmp_path / "other", plan_with(tmp_path / "b", {}, seeds=[2], env={"MAX_EPOCH": 2}), ".")
    assert list(read_sources([one, other]).tables["results"]["status"]) == ["finished", "missing"]


def test_fusions_fuse_the_adapters_of_their_seed(tmp_path):
    block = {"family": "adapter_fusion"}
    one, other = (
        finished_plan(tmp_path / str(seed), plan_with(tmp_path / f"here{seed}", block, seeds=[seed], env={}))
        for seed in (1, 2)
    )
    assert len(read_sources([one, other]).tables["results"]) == 4


def test_names_that_are_numbers(tmp_path):
    plan = plan_with(tmp_path, {}, seeds=[1, 2])
    runs = {name: dataclasses.replace(run, backbone="007") for name, run in plan.runs.items()}
    write_report([finished_plan(tmp_path / "study", dataclasses.replace(plan, runs=runs))], tmp_path / "out")
    write_report([tmp_path / "out"], tmp_path / "again")
    assert "- backbones: 007\n" in (tmp_path / "again" / "README.md").read_text()


def test_different_configs_of_one_name_are_kept(tmp_path):
    one = finished_plan(tmp_path / "one", plan_with(tmp_path / "a", {}, seeds=[1], env={}))
    other = finished_plan(tmp_path / "other", plan_with(tmp_path / "b", {}, seeds=[2], env={}))
    names = write_report([one, other], tmp_path / "out")
    assert len([name for name in names if name.endswith(".yaml")]) == 2


def test_a_number_that_is_none_is_refused(tmp_path):
    plan = plan_with(tmp_path, {}, seeds=[1])
    write_report([finished_plan(tmp_path / "one", plan)], tmp_path / "report")
    curves = tmp_path / "report" / "curves.csv"
    curves.write_text(curves.read_text().splitlines()[0] + "\n")  # of runs that were never validated
    assert len(read_source(tmp_path / "report").tables["results"]) == 1
    table = pd.read_csv(tmp_path / "report" / "results.csv").assign(score="good")
    table.to_csv(tmp_path / "report" / "results.csv", index=False)
    with pytest.raises(UsageError, match="results.csv: the column score has something that is no number"):
        read_source(tmp_path / "report")


def test_a_table_of_something_else_is_refused(tmp_path):
    for name in TABLES:
        (tmp_path / f"{name}.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match="results.csv is not of a report .* no column run, task, "):
        read_source(tmp_path)
