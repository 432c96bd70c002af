"""A config: what it completes, and what it refuses before anything runs, in one line."""

import json

import pytest
from sparse_adapter.cli import parse
from sparse_adapter.errors import UsageError
from sparse_adapter.study import config
from sparse_adapter.study.config import read_config
from sparse_adapter.study.grid import make_plan

from .made_up import CONFIGS, places, places_of_table2, plan_of, pretended

BLOCK = {"family": "houlsby", "pruner": "snip"}


def changed(tmp_path, **keys):
    """The tiny config with other values; None takes a key away."""
    path = pretended(tmp_path / "here")
    config = json.loads(path.read_text()) | keys
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return path


@pytest.mark.parametrize(
    "keys, message",
    [
        ({"env": {"WHOLE": True}}, "WHOLE is True: write 1 or 0, or what is meant in quotes"),
        ({"seed": [1]}, "unknown key 'seed' (did you mean seeds?)"),
        ({"grid": []}, "grid is missing or empty"),
        ({"tasks": None}, "tasks is missing or empty"),
        ({"seeds": []}, "at least one whole number"),
        ({"seeds": [1.5]}, "at least one whole number"),
        ({"grid": [{"variant": 3}]}, "variant 3 is no name for what the block's env and flags make different"),
        ({"grid": [{"variant": "a/b"}]}, "grid.variant: 'a/b' cannot be a name"),
        ({"grid": [{"family": "houlsbi"}]}, "unknown family 'houlsbi' (did you mean houlsby?)"),
        ({"grid": [{"pruner": "snipe", "sparsity": 0.4}]}, "unknown pruner 'snipe' (did you mean snip?)"),
        ({"grid": [{"sparsity": 0.4}]}, "needs a pruner"),
        ({"grid": [{"large_sparse": 2}]}, "large_sparse needs a pruner"),
        ({"grid": [{**BLOCK, "sparsity": 0.5, "large_sparse": 2}]}, "give one of the two"),
        ({"grid": [{**BLOCK, "large_sparse": 1.5}]}, "large_sparse 1.5 is not a whole number"),
        ({"grid": [{**BLOCK, "sparsity": 1}]}, "sparsity 1 is not the fraction removed"),
        ({"grid": [{**BLOCK, "sparsity": "much"}]}, "sparsity 'much' is no number"),
        ({"grid": [{**BLOCK, "sparsity": []}]}, "sparsity has no values"),
        ({"grid": [BLOCK]}, "a pruner needs a sparsity, or large_sparse"),
        ({"grid": ["houlsby"]}, "'houlsby' is no block"),
        ({"grid": [{"famly": "houlsby"}]}, "unknown key 'famly' (did you mean family?)"),
        ({"data": "nowhere"}, "nowhere: there is no such folder"),
        ({"data": None}, "data is missing"),
        ({"backbone": "nowhere"}, "nowhere has no model.pt"),
        ({"backbone": None}, "give a backbone, or backbones by their names"),
        ({"tasks": ["col"]}, "unknown task 'col' (did you mean cola?)"),
        ({"tasks": {"mine": {"example": "glu"}}}, "examples/glu/prepare.sh; examples= names the folder"),
        ({"tasks": {"rte": {"label": "CoLA"}, "cola": {}}}, "two tasks have the label 'CoLA'"),
        ({"keep_checkpoints": "perhaps"}, "neither true nor false"),
        ({"env": "MAX_EPOCH"}, "settings are names with values"),
        ({"tasks": ["rte"], "env": {"SUBSET": "valid"}}, "SUBSET is not for a config to set"),
        ({"grid": [{"family": "none", "env": {"SEED": 5}}]}, "env: SEED is not for a config to set"),
        ({"tasks": ["rte"], "env": {"MAX_EPOCHS": 3}}, "unknown setting MAX_EPOCHS (did you mean MAX_EPOCH?)"),
        ({"tasks": ["rte"], "env": {"EPOCHS": 3}}, "unknown setting EPOCHS (did you mean KEEP_EPOCHS?)"),
        ({"tasks": ["rte"], "env": {"lr": 1e-3}}, "unknown setting lr (did you mean LR?)"),
        ({"tasks": ["rte"], "env": {"NCCL_DEBUG": "INFO"}}, "exported in the shell"),
        ({"tasks": ["rte"], "env": {"MAX_UPDATE": None}}, "MAX_UPDATE is None, which is no text or number"),
        ({"tasks": ["rte"], "env": {"LR": [1e-3, 1e-4]}}, "LR is [0.001, 0.0001], which is no text or number"),
        ({"tasks": ["cola", {"mine": {"example": "glue"}}]}, "is no list of names"),
        ({"data": 5}, "data 5 is no folder"),
        ({"tasks": {"rte": {"label": 2024}}}, "tasks.rte: label 2024 is no text; put it in quotes"),
        ({"tasks": {"mine": {"example": 3}}}, "tasks.mine: example 3 is no text"),
        ({"tasks": {"rte": {"curve": 3}}}, "tasks.rte: curve 3 is no metric"),
        ({"tasks": {"rte": {"curve": ["acc", 3]}}}, "curve ['acc', 3] is no metric"),
        ({"flags": "--adam-betas '(0.9, 0.98)"}, "No closing quotation"),
        ({"grid": [{"bottleneck": float("inf")}]}, "bottleneck Infinity is not a whole number"),
        ({"tasks": ["rte"], "env": {"MAX_LENGTH": 64}}, "MAX_LENGTH does nothing there: it is a setting of prepare"),
        ({"tasks": ["rte"], "prepare": {"LR": 1}}, "prepare: LR does nothing there: it is a setting of env"),
        ({"tasks": {"a/b": {"example": "glue"}}}, "tasks: 'a/b' cannot be a name"),
        ({"tasks": {"a,b": {"example": "glue"}}}, "tasks: 'a,b' cannot be a name"),
        ({"backbone": None, "backbones": {"{a}": "here/backbone"}}, "backbones: '{a}' cannot be a name"),
    ],
)
def test_mistakes_are_told(tmp_path, keys, message):
    with pytest.raises(UsageError) as error:
        read_config(changed(tmp_path, **keys))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_is_not_there_or_no_yaml(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        read_config(tmp_path / "absent.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    with pytest.raises(UsageError, match="broken.yaml"):
        read_config(tmp_path / "broken.yaml")
    for name in ("a: b.yaml", "a #2.yaml", "[draft] a.yaml", "@a.yaml", "{a}.yaml", "'a.yaml", "*a.yaml"):
        (tmp_path / name).write_text("tasks: [rte]")
        with pytest.raises(UsageError, match="give the config a plain name"):
            read_config(tmp_path / name)
    (tmp_path / "latin.yaml").write_bytes("tasks: [éa]\n".encode("latin-1"))
    with pytest.raises(UsageError, match="latin.yaml"):
        read_config(tmp_path / "latin.yaml")


def test_an_example_by_its_path_is_known(tmp_path):
    tasks = {"rte": {"example": f"{CONFIGS.parent}/glue/"}, "de-en": {"example": f"{CONFIGS}/../translation"}}
    glue, translation = read_config(changed(tmp_path, tasks=tasks, env=None)).tasks
    tasks = {"rte": {}, "de-en": {"example": "translation"}}
    named = read_config(changed(tmp_path / "named", tasks=tasks, env=None)).tasks
    assert glue.base == {"TASK": "rte"} and set(glue.prepare) == {"GLUE_DIR"}
    assert (translation.metric, translation.curve) == ("bleu", ("bleu", "loss"))
    assert [task.scripts for task in (glue, translation)] == [task.scripts for task in named]


def test_flags_are_words_as_in_a_shell(tmp_path):
    study = read_config(changed(tmp_path, flags="--adam-betas '(0.9, 0.98)' --fp16"))
    assert study.tasks[0].flags == ("--adam-betas", "(0.9, 0.98)", "--fp16")


@pytest.mark.parametrize(
    "name, runs",
    [("table1", 4 * 5 * 7), ("table2", 6 * 3 * 6), ("table3", 4 * 5 * 5), ("table4", 4 * 5 * 8), ("figure2", 4 * 5 * 5),
     ("figure4", 4 * 5 * 4), ("minilm", 4 * 3 * 3), ("minilm-squad", 3 * 6)],
)  # fmt: skip
def test_ready_configs(tmp_path, name, runs):
    assert len(plan_of(name, tmp_path).runs) == runs


def test_every_ready_config_is_tested():
    ready = {path.stem for path in CONFIGS.glob("*.yaml")}
    assert ready == {"table1", "table2", "table3", "table4", "figure2", "figure4", "minilm", "minilm-squad"}


def test_own_data_and_backbone_are_two_lines_of_table1(tmp_path):
    text = (CONFIGS / "table1.yaml").read_text().splitlines()
    lines = [i for i, line in enumerate(text) if line.startswith(("data:", "backbone:"))]
    values = [word.partition("=") for word in places(tmp_path)]
    assert len(lines) == len(values) == 2
    for i, (key, _, value) in zip(lines, values, strict=True):
        assert text[i].startswith(f"{key}:")
        text[i] = f"{key}: {value}"
    (tmp_path / "mine.yaml").write_text("\n".join(text))
    plan = make_plan(read_config(tmp_path / "mine.yaml"))
    assert {run.env["BACKBONE_DIR"] for run in plan.runs.values()} == {str(tmp_path / "bert.base")}
    assert {part.env["GLUE_DIR"] for part in plan.preparations.values()} == {str(tmp_path / "glue")}


def test_overrides(tmp_path):
    path = pretended(tmp_path / "here")
    study = read_config(path, ["seeds=[7]", "env.MAX_EPOCH=2", "tasks.one.metric=f1", "resume=false"])
    assert study.seeds == (7,) and not study.resume and not study.keep_checkpoints
    assert study.tasks[0].env["MAX_EPOCH"] == "2" and study.tasks[0].metric == "f1"


def test_an_override_replaces(tmp_path):
    path = changed(tmp_path, backbone=None, backbones={"old": "here/backbone"}, env={"MAX_EPOCH": 3, "LR": 1e-3})
    new = tmp_path / "raw #2"
    new.mkdir()
    (new / "model.pt").touch()
    study = read_config(path, [f"data={new}", f"backbone={new}", "env={MAX_EPOCH: 2}"])
    (task,) = study.tasks
    assert task.env == {"MAX_EPOCH": "2"} and task.prepare == {"RAW": str(new)}
    assert [backbone.folder for backbone in task.backbones] == [new]
    assert read_config(path, ["backbones.old=here", f"backbones.old={new}"]).tasks[0].backbones[0].folder == new
    with pytest.raises(UsageError, match="tasks.one: data is missing"):
        read_config(path, ["data="])
    nested = read_config(path, [f"backbone={new}", f"tasks.one.data={new}", "env.A=${seeds.0}"]).tasks[0]
    assert nested.prepare == {"RAW": str(new)} and nested.env["A"] == "1"
    study = read_config(path, [f"backbones={{new: '{new}'}}"])
    assert [backbone.name for backbone in study.tasks[0].backbones] == ["new"]


@pytest.mark.parametrize("word", ["tasks=[squad,rte]", "tasks=squad"])
def test_some_of_the_tasks_of_a_config(tmp_path, word):
    study = read_config(CONFIGS / "table2.yaml", [*places_of_table2(tmp_path), word])
    found = {task.name: task.backbones[0].name for task in study.tasks}
    assert found == ({"squad": "bert.base", "rte": "bert.base"} if "rte" in word else {"squad": "bert.base"})
    assert study.tasks[0].prepare["SQUAD_TRAIN"] == str(tmp_path / "squad" / "train-v1.1.json")


def test_an_override_that_fits_nothing(tmp_path):
    with pytest.raises(UsageError, match="tasks.rte.data=x: tasks has no such names"):
        read_config(changed(tmp_path, tasks=["rte"]), ["tasks.rte.data=x"])


def test_overrides_may_follow_options(capsys):
    words = ["study", "c.yaml", "seeds=[1]", "--out", "there", "data=/data/glue", "--jobs", "2", "tasks=[rte]"]
    args = parse(words)
    assert args.overrides == ["seeds=[1]", "data=/data/glue", "tasks=[rte]"] and args.jobs == 2
    for wrong in (["study", "c.yaml", "--outt", "there"], ["info", "a.pt", "--plot", "b.png", "c.pt", "d=1"]):
        with pytest.raises(SystemExit):
            parse(wrong)
        assert "unrecognized arguments" in capsys.readouterr().err


def test_examples_of_another_package_are_not_taken_for_ours(tmp_path, monkeypatch):
    """Where the plugin is installed, some package may have left a folder of that name beside it."""
    (tmp_path / "site-packages" / "examples").mkdir(parents=True)
    monkeypatch.setattr(config, "__file__", str(tmp_path / "site-packages" / "sparse_adapter" / "study" / "config.py"))
    monkeypatch.chdir(tmp_path)
    assert config._examples_folder(None) == tmp_path / "examples"
    (tmp_path / "site-packages" / "examples" / "common.sh").touch()
    assert config._examples_folder(None) == tmp_path / "site-packages" / "examples"
