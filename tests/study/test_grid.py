"""From blocks to runs: their names, their settings, and what a fusion brings with it."""

import dataclasses
import json

import pytest
from sparse_adapter.errors import UsageError
from sparse_adapter.study.config import read_config
from sparse_adapter.study.grid import make_plan
from sparse_adapter.study.plan import check_same_settings, read_plan, settings_of, write_plan

from .made_up import finish, plan_of, pretended


def plan_with(tmp_path, *blocks, **keys):
    path = pretended(tmp_path / "here")
    config = json.loads(path.read_text()) | {"grid": list(blocks), "seeds": [1]} | keys
    path.write_text(json.dumps(config))
    return make_plan(read_config(path))


def systems(plan) -> list[str]:
    return [run.system for run in plan.runs.values()]


def test_blocks_are_crossed_and_runs_are_not_repeated(tmp_path):
    plan = plan_with(
        tmp_path,
        {"family": "none", "lr": [1e-5, "2e-5"]},
        {"pruner": ["snip", "er"], "sparsity": [0, 0.4]},
        {"pruner": "snip", "large_sparse": [1, 2, 3]},
        {"family": "lora+parallel", "bottleneck": [8, 16]},
    )
    assert list(plan.runs) == [
        "one-backbone-full-lr1e-05-seed1",
        "one-backbone-full-lr2e-05-seed1",
        "one-backbone-houlsby-dense-seed1",
        "one-backbone-houlsby-snip0.4-seed1",
        "one-backbone-houlsby-er0.4-seed1",
        "one-backbone-houlsby-snip-x2-seed1",
        "one-backbone-houlsby-snip-x3-seed1",
        "one-backbone-lora+parallel8-dense-seed1",
        "one-backbone-lora+parallel16-dense-seed1",
    ]


def test_data_are_prepared_for_the_task_that_is_trained(tmp_path):
    plan = plan_with(tmp_path, {"family": "none"}, env={"TASK": "sst-2", "SRC": "en", "MAX_EPOCH": 1})
    (preparation,), (run,) = plan.preparations.values(), plan.runs.values()
    for settings in (preparation.env, run.env):
        assert (settings["TASK"], settings["SRC"]) == ("sst-2", "en")
    assert "MAX_EPOCH" not in preparation.env


def test_the_size_of_a_family_is_its_own_setting(tmp_path):
    plan = plan_with(tmp_path, {"family": ["houlsby", "lora", "prefix"], "bottleneck": [4, 8]}, env={"BOTTLENECK": 64})
    names = {"houlsby": "BOTTLENECK", "lora": "LORA_RANK", "prefix": "PREFIX_LENGTH"}
    assert len(plan.runs) == 6
    for run in plan.runs.values():
        assert run.env[names[run.family]] == str(run.bottleneck) and run.system == f"{run.family}{run.bottleneck}-dense"
    (run,) = plan_with(tmp_path / "lora", {"family": "lora"}, env={"BOTTLENECK": 64}).runs.values()
    assert run.bottleneck is None


def test_a_bottleneck_that_would_do_nothing_is_refused(tmp_path):
    (run,) = plan_with(tmp_path / "one", {"family": "lora+houlsby", "bottleneck": 8}).runs.values()
    assert run.env["BOTTLENECK"] == "8"
    with pytest.raises(UsageError, match="no size of lora.prefix: set LORA_RANK and PREFIX_LENGTH with env"):
        plan_with(tmp_path / "two", {"family": "lora+prefix", "bottleneck": 8})


def test_settings_of_the_scripts(tmp_path):
    plan = plan_with(
        tmp_path,
        {"pruner": "snip", "large_sparse": 3, "bottleneck": 8, "lr": 0.002, "env": {"MAX_EPOCH": 5}, "flags": "--fp16"},
        env={"MAX_EPOCH": 2, "BATCH_SIZE": 4},
        flags=["--clip-norm", 1],
    )
    (run,) = plan.runs.values()
    expected = {"ADAPTER": "houlsby", "PRUNER": "snip", "LARGE_SPARSE": "3", "BOTTLENECK": "8", "LR": "0.002"}
    expected |= {"SEED": "1", "MAX_EPOCH": "5", "BATCH_SIZE": "4"}
    expected |= {"BACKBONE": str(tmp_path / "here" / "backbone" / "model.pt")}
    assert {name: run.env[name] for name in expected} == expected
    assert run.flags == ("--clip-norm", "1", "--fp16") and run.sparsity == 0.6667 and run.bottleneck == 8


def test_two_blocks_that_disagree(tmp_path):
    with pytest.raises(UsageError, match="two blocks ask for one-backbone-houlsby-dense-seed1"):
        plan_with(tmp_path, {}, {"env": {"MAX_EPOCH": 5}})


def test_a_variant_is_a_system_of_its_own(tmp_path):
    block = {"family": ["none", "houlsby"], "pruner": "snip", "sparsity": 0.4}
    plan = plan_with(tmp_path, block, {**block, "variant": "long", "env": {"MAX_EPOCH": 5}, "flags": "--prune-shuffle"})
    assert systems(plan) == ["full", "houlsby-snip0.4", "full-long", "houlsby-snip0.4-long"]
    one, other = (plan.runs[f"one-backbone-houlsby-snip0.4{end}-seed1"] for end in ("", "-long"))
    assert (one.variant, other.variant) == ("", "long") and other.flags == ("--prune-shuffle",)
    assert "variant" not in settings_of(one) and settings_of(other)["variant"] == "long"


def test_a_fusion_is_never_of_variants(tmp_path):
    plan = plan_with(tmp_path, {"family": "pfeiffer", "variant": "x"}, {"family": "adapter_fusion", "variant": "y"})
    assert systems(plan) == ["pfeiffer-dense-x", "pfeiffer-dense", "adapter_fusion-dense-y"]
    assert plan.runs["one-backbone-adapter_fusion-dense-y-seed1"].sources == ("one-backbone-pfeiffer-dense-seed1",)


def test_a_fusion_takes_the_pfeiffer_adapters_of_all_tasks_pruned_as_it_is(tmp_path):
    plan = plan_of("table4", tmp_path)
    fusion = plan.runs["rte-bert.base-adapter_fusion-snip0.4-seed2"]
    tasks = ("cola", "mrpc", "sts-b", "rte")
    assert fusion.sources == tuple(f"{task}-bert.base-pfeiffer-snip0.4-seed2" for task in tasks)
    assert all(source in plan.runs for run in plan.runs.values() for source in run.sources)


def test_a_fusion_alone_brings_its_sources(tmp_path):
    plan = plan_with(tmp_path, {"family": "adapter_fusion", "lr": 0.001})
    assert systems(plan) == ["pfeiffer-dense", "adapter_fusion-dense"]
    assert [run.lr for run in plan.runs.values()] == [None, 0.001]


def test_a_fusion_has_the_size_of_what_it_fuses(tmp_path):
    plan = plan_with(tmp_path, {"family": "adapter_fusion", "bottleneck": [8, 16]})
    assert [(run.system, run.bottleneck) for run in plan.runs.values() if not run.sources] == [
        ("pfeiffer8-dense", 8),
        ("pfeiffer16-dense", 16),
    ]
    sources = {run.system: run.sources for run in plan.runs.values() if run.sources}
    assert sources == {f"adapter_fusion{r}-dense": (f"one-backbone-pfeiffer{r}-dense-seed1",) for r in (8, 16)}
    mixed = plan_with(tmp_path / "mixed", {"family": "adapter_fusion", "bottleneck": 8}, {"family": "adapter_fusion"})
    assert mixed.runs["one-backbone-adapter_fusion-dense-seed1"].sources == ("one-backbone-pfeiffer-dense-seed1",)
    given = plan_with(tmp_path / "given", {"family": ["pfeiffer", "adapter_fusion"], "bottleneck": [8, 16]})
    assert len(given.runs) == 4


def test_a_fusion_s_size_is_no_setting_of_its_scripts(tmp_path):
    with pytest.raises(UsageError, match="BOTTLENECK in the env of adapter_fusion does nothing: give bottleneck"):
        plan_with(tmp_path, {"family": "adapter_fusion", "env": {"BOTTLENECK": 32}})


def test_a_fusion_has_no_larger_form(tmp_path):
    with pytest.raises(UsageError, match="large_sparse is not for adapter_fusion"):
        plan_with(tmp_path, {"family": ["pfeiffer", "adapter_fusion"], "pruner": "snip", "large_sparse": 4})


@pytest.mark.parametrize("axis", [{"lr": [1e-4, 1e-3]}, {"bottleneck": [8, 16]}])
def test_a_fusion_that_could_fuse_several_adapters_is_refused(tmp_path, axis):
    with pytest.raises(UsageError, match="adapter_fusion-dense-seed1 could fuse .* or .* one lr and one bottleneck"):
        plan_with(tmp_path, {"family": "pfeiffer"} | axis, {"family": "adapter_fusion"})


def test_a_plan_survives_its_file(tmp_path):
    plan = plan_of("table4", tmp_path)
    assert read_plan(write_plan(tmp_path, plan)) == plan


def test_other_settings_under_the_same_name_are_refused(tmp_path):
    plan = plan_with(tmp_path, {})
    (run,) = plan.runs.values()
    settings = tmp_path / "runs" / run.name / "settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps(settings_of(run) | {"adopted": False}))
    check_same_settings(tmp_path, plan)
    other = dataclasses.replace(run, env=run.env | {"MAX_EPOCH": "9"})
    with pytest.raises(UsageError, match="other settings: MAX_EPOCH was None and is 9"):
        check_same_settings(tmp_path, dataclasses.replace(plan, runs={run.name: other}))


def test_other_settings_of_another_seed_are_refused(tmp_path):
    """The results would average the two."""
    plan = plan_with(tmp_path, {})
    (run,) = plan.runs.values()
    finish(tmp_path, run)
    second = dataclasses.replace(run, name="second", seed=2, env=run.env | {"SEED": "2"})
    check_same_settings(tmp_path, dataclasses.replace(plan, runs={"second": second}))
    second.env["MAX_EPOCH"] = "9"
    with pytest.raises(UsageError, match="would be averaged with second .*: MAX_EPOCH was None and is 9"):
        check_same_settings(tmp_path, dataclasses.replace(plan, runs={"second": second}))
