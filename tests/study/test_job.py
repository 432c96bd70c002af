"""One job: what it records, what it adopts, what it never does twice."""

import dataclasses
import json
import re
import sqlite3

import pytest
from sparse_adapter.errors import UsageError
from sparse_adapter.files import write_json
from sparse_adapter.study import job
from sparse_adapter.study.catalogue import SETTINGS
from sparse_adapter.study.config import read_config
from sparse_adapter.study.grid import make_plan
from sparse_adapter.study.job import score_of
from sparse_adapter.study.locks import one_gpu
from sparse_adapter.study.plan import check_same_settings, settings_of, write_plan
from sparse_adapter.study.results import collect, write_results

from .made_up import CONFIGS, pretended


@pytest.fixture
def study(tmp_path, monkeypatch):
    """``run(name)`` does a job of the tiny study, whose data are prepared; ``folder(name)`` is its folder."""
    monkeypatch.setenv("PRUNER", "from the user's shell")
    config = pretended(tmp_path / "here")

    class Study:
        root = tmp_path / "study"
        config = tmp_path / "here" / "tiny.yaml"
        names = {"full": "one-backbone-full-seed1", "snip": "one-backbone-houlsby-snip0.4-seed1"}

        def __init__(self, *overrides):
            self.plan = make_plan(read_config(config, overrides))
            job.prepare(self.root, self.plan.preparations["one-backbone"])

        def folder(self, name):
            return self.root / "runs" / self.names[name]

        def begun(self, name):
            settings = settings_of(self.plan.runs[self.names[name]]) | {"adopted": False}
            write_json(self.folder(name) / "settings.json", settings)
            return self.folder(name)

        def run(self, name, gpus=()):
            job.run(self.root, self.plan, self.plan.runs[self.names[name]], list(gpus), 1)
            return json.loads((self.folder(name) / "result.json").read_text())

        def started(self):
            path = tmp_path / "here" / "started"
            return path.read_text().splitlines() if path.exists() else []

    return Study


def test_a_run_is_recorded(study):
    one = study()
    result = one.run("snip")
    assert (result["metric"], result["score"], result["scores"]["n"]) == ("accuracy", 65, 9)
    assert [(p["epoch"], p["update"], p["acc"]) for p in result["curve"]] == [(1, 10, 56), (2, 20, 61), (3, 30, 66)]
    assert result["settings"]["pruner"] == "snip" and len(result["settings_sha256"]) == 64 and not result["adopted"]
    assert set(result["versions"]) == {"torch", "fairseq", "plugin"} and result["seconds"]["training"] >= 0
    assert not list(one.folder("snip").glob("*.pt"))


def test_checkpoints_are_kept_on_request(study):
    one = study("keep_checkpoints=true")
    one.run("snip")
    assert (one.folder("snip") / "checkpoint_last.pt").exists()


def test_a_failure_is_recorded_with_its_last_line_and_forgotten_when_it_is_mended(study, monkeypatch):
    one = study()
    monkeypatch.setenv("BROKEN", "snip")
    with pytest.raises(job.JobFailed, match="train.sh ended with status 3: it broke"):
        one.run("snip")
    failure = one.folder("snip") / "failure.json"
    assert "it broke" in json.loads(failure.read_text())["error"]
    monkeypatch.delenv("BROKEN")
    assert one.run("snip")["score"] == 65 and not failure.exists()


def test_an_interrupted_run_starts_again_if_asked_and_a_trained_one_is_only_evaluated(study):
    one = study("resume=false")
    folder = one.begun("full")
    for name in ("checkpoint_last.pt", "train.log"):
        (folder / name).write_text("of a run that was killed")
    one.run("full")
    assert "killed" not in (folder / "train.log").read_text() and len(one.started()) == 1
    (folder / "scores.json").unlink()
    (folder / "checkpoint_last.pt").touch()
    one.run("full")
    assert len(one.started()) == 1


def test_an_interrupted_run_goes_on_from_its_checkpoint(study):
    one = study()
    folder = one.begun("full")
    (folder / "train.log").write_text("the first half\n")
    (folder / "checkpoint_last.pt").touch()
    assert one.run("full")["seconds"]["training"] is None and one.run("snip")["seconds"]["training"] >= 0
    assert (folder / "train.log").read_text().startswith("the first half\n")


def test_a_folder_made_by_hand_is_taken_as_it_is(study):
    one = study()
    folder = one.folder("snip")
    write_json(folder / "scores.json", {"metric": "accuracy", "value": 12.5})
    (folder / "train.log").write_text("x | INFO | valid | epoch 001 | acc 3 | num_updates 5\n")
    (folder / "checkpoint_last.pt").touch()
    result = one.run("snip")
    assert result["adopted"] and result["score"] == 12.5 and result["curve"][0]["acc"] == 3
    assert not one.started() and (folder / "checkpoint_last.pt").exists()


def test_checkpoints_of_somebody_else_are_not_touched(study):
    one = study()
    checkpoint = one.folder("snip") / "checkpoint_last.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    with pytest.raises(job.JobFailed, match="none of the study's"):
        one.run("snip")
    assert checkpoint.exists() and (one.folder("snip") / "failure.json").exists()


def test_scores_without_the_metric(study):
    one = study("tasks.one.metric=rouge2")
    with pytest.raises(UsageError, match="has no rouge2"):
        one.run("full")


def test_scores_that_are_not_there_or_damaged(study, tmp_path):
    evaluate = tmp_path / "here" / "ex" / "evaluate.sh"
    evaluate.write_text("true")
    with pytest.raises(job.JobFailed, match="evaluate.sh ended well and wrote no scores.json"):
        study().run("full")
    for text, problem in (("{", "scores.json is no JSON"), ("[1]", "scores.json holds no names with values")):
        evaluate.write_text(f"echo '{text}' > $SAVE_DIR/scores.json")
        with pytest.raises(UsageError, match=problem):
            study().run("full")
        (study().folder("full") / "scores.json").unlink()
    evaluate.write_text("""echo '{"metric": "accuracy", "value": 7}' > $SAVE_DIR/scores.json""")
    assert study().run("full")["score"] == 7


def test_a_report_of_another_kind_has_no_counts(study):
    one = study()
    write_json(one.folder("snip") / "scores.json", {"metric": "accuracy", "value": 12.5})
    write_json(one.folder("snip") / "sparsity.json", {"trained": {"total": 5}})
    counts = one.run("snip")["parameters"]
    assert counts["trained"] == 5 and counts["adapters"] is None and counts["dead_adapters"] is None


def test_a_score_of_which_less_is_better_is_refused():
    with pytest.raises(UsageError, match="less ppl is better"):
        score_of({"metric": "ppl", "value": 7.5}, None)


@pytest.mark.parametrize("value", ["NaN", "Infinity"])
def test_a_score_that_is_no_number_is_a_failure(study, value):
    one = study()
    write_plan(one.root, one.plan)
    one.folder("full").mkdir(parents=True)
    (one.folder("full") / "scores.json").write_text(f'{{"metric": "pearson", "value": {value}}}')
    with pytest.raises(UsageError, match="pearson is .* which is no score"):
        one.run("full")
    assert not (one.folder("full") / "result.json").exists()
    row = collect(one.root)["results"].set_index("run").loc[one.names["full"]]
    assert row["status"] == "failed" and "pearson is" in row["error"]


def test_results_with_a_score_that_is_no_number_are_failures(study):
    one = study()
    write_plan(one.root, one.plan)
    result = one.run("full")
    write_json(one.folder("full") / "result.json", result | {"scores": {"metric": "pearson", "value": float("nan")}})
    tables = collect(one.root)
    row = tables["results"].set_index("run").loc[one.names["full"]]
    assert row["status"] == "failed" and "pearson is nan" in row["error"] and tables["curves"].empty


def test_all_runs_are_measured_by_the_metric_of_now(study, tmp_path):
    scores = '{"metric": "accuracy", "value": 70, "accuracy": 70, "f1": 80}'
    (tmp_path / "here" / "ex" / "evaluate.sh").write_text(f"echo '{scores}' > $SAVE_DIR/scores.json")
    study().run("full")
    now = study("tasks.one.metric=f1", "seeds=[2]")  # the first seed is in no plan any more
    write_plan(now.root, now.plan)
    now.names = {"full": "one-backbone-full-seed2"}
    now.run("full")
    rows = collect(now.root)["results"]
    found = rows[rows["status"] == "finished"]
    assert set(found["seed"]) == {1, 2} and set(found["metric"]) == {"f1"} and set(found["score"]) == {80}


def test_runs_of_no_plan_are_shown_as_they_were(study):
    example = study.root.parent / "here" / "ex"
    former = study(f"tasks.two={{example: {example}, label: Two, curve: loss}}")
    now = study()
    write_plan(now.root, now.plan)
    run = former.plan.runs["two-backbone-full-seed1"]
    job.prepare(former.root, former.plan.preparations["two-backbone"])
    job.run(former.root, former.plan, run, [], 1)
    row = collect(now.root)["results"].set_index("run").loc[run.name]
    assert (row["status"], row["label"], row["curve_metric"], row["score"]) == ("finished", "Two", "loss", 65)


def test_a_fusion_fails_with_what_it_fuses(study):
    one = study("grid=[{family: adapter_fusion}]", "seeds=[1]")
    write_plan(one.root, one.plan)
    source, fusion = one.plan.runs
    write_json(one.root / "runs" / source / "failure.json", {"run": source, "error": "it broke"})
    rows = collect(one.root)["results"].set_index("run")
    assert set(rows["status"]) == {"failed"} and rows.loc[fusion]["error"] == f"{source} failed: it broke"


def test_a_job_that_its_plan_has_no_more(study, capsys):
    one = study()
    path = write_plan(one.root, one.plan)
    with pytest.raises(SystemExit, match="^error: .*has no other any more: start the study again"):
        job.main([str(one.root), str(path), "run", "other"])


def test_a_run_that_was_begun_with_other_settings_is_left_alone(study):
    one = study()
    one.begun("full")
    other = study("env.MAX_EPOCH=9")
    with pytest.raises(UsageError, match="MAX_EPOCH was None and is 9"):
        other.run("full")
    assert not one.started()


def test_a_run_on_data_that_were_prepared_otherwise_is_left_alone(study):
    one = study("prepare.MAX_LENGTH=128", "seeds=[1]")
    assert one.run("snip")["prepared"]["MAX_LENGTH"] == "128"
    (one.root / "data" / "one-backbone.json").unlink()  # what the message of the data asks for
    other = study("prepare.MAX_LENGTH=32", "seeds=[1]")
    with pytest.raises(UsageError, match="snip0.4-seed1 was made with other settings: MAX_LENGTH was 128 and is 32"):
        check_same_settings(other.root, other.plan)
    with pytest.raises(UsageError, match="MAX_LENGTH was 128 and is 32"):
        other.run("snip")
    seeds = make_plan(read_config(one.config, ["prepare.MAX_LENGTH=32", "seeds=[2]"]))
    with pytest.raises(UsageError, match="snip0.4-seed1 would be averaged with .*seed2 .* was 128 and is 32"):
        check_same_settings(one.root, seeds)


def test_a_run_on_other_raw_data_is_not_averaged(study):
    one = study("seeds=[1]")
    one.run("snip")
    (one.root / "data" / "one-backbone.json").unlink()  # what the message of the data asks for
    other = one.root.parent / "other"
    other.mkdir()
    seeds = make_plan(read_config(one.config, [f"data={other}", "seeds=[2]"]))
    with pytest.raises(UsageError, match=f"RAW was .* and is {other}"):
        check_same_settings(one.root, seeds)


def test_a_finished_run_is_shown_with_the_settings_that_it_was_made_with(study):
    one = study("env.MAX_EPOCH=1", "seeds=[1]")
    one.run("snip")
    write_plan(one.root, one.plan)
    stopped = make_plan(read_config(one.config, ["env.MAX_EPOCH=9", "seeds=[1]"]))
    write_plan(one.root, dataclasses.replace(stopped, name="z"))  # which is read last, and has begun no run
    results = collect(one.root)["results"].set_index("run")
    settings = {name: json.loads(row["settings"])["MAX_EPOCH"] for name, row in results.iterrows()}
    assert settings == {"one-backbone-full-seed1": "9", "one-backbone-houlsby-dense-seed1": "9", one.names["snip"]: "1"}
    command = results["command"][one.names["snip"]]
    assert all(
        word in command.split() for word in ("MAX_EPOCH=1", "BACKBONE_DIR=backbone", "BACKBONE=backbone/model.pt")
    )


def test_no_setting_of_the_scripts_comes_from_the_user_s_shell():
    """All that the examples' scripts take from their environment, but for what is the machine's."""
    scripts = [CONFIGS.parent / "common.sh"]
    for example in ("glue", "squad", "summarization", "translation"):
        scripts += [CONFIGS.parent / example / f"{name}.sh" for name in ("settings", "prepare", "train", "evaluate")]
    found = {name for path in scripts for name in re.findall(r"\$\{([A-Z][A-Z0-9_]*):?[-=?]", path.read_text())}
    machine = {"VENV", "VIRTUAL_ENV", "WORKERS", "WORLD_SIZE", "PYTHONWARNINGS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}
    machine |= {"SLURM_NNODES", "SLURM_NTASKS", "SLURM_PROCID", "CONDA_PREFIX", "CONDA_DEFAULT_ENV"}
    machine |= {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"}
    assert found - machine <= set(SETTINGS) and machine <= found


def test_the_environment_is_the_plan_s(study, monkeypatch, tmp_path):
    one = study()
    monkeypatch.setattr(job, "_check_gpu", lambda gpu, env: None)
    monkeypatch.setattr(job, "one_gpu", lambda gpus, share: one_gpu(gpus, share, tmp_path / "gpus"))
    (tmp_path / "here" / "ex" / "evaluate.sh").write_text(
        'said="$ADAPTER $PRUNER $SEED $CUDA_VISIBLE_DEVICES"\n'
        'echo "{\\"metric\\": \\"$said\\", \\"value\\": 1}" > "$SAVE_DIR/scores.json"'
    )
    assert one.run("full", gpus=["5"])["metric"] == "none none 1 5"


def test_results_are_tables_of_every_planned_run(study, tmp_path):
    one = study()
    write_plan(one.root, one.plan)
    one.run("snip")
    tables = collect(one.root)
    write_results(one.root, tables)
    status = dict(zip(tables["results"]["run"], tables["results"]["status"], strict=True))
    assert len(status) == 6 and [name for name, value in status.items() if value == "finished"] == [one.names["snip"]]
    curves = tables["curves"]
    assert curves[curves["metric"] == "acc"]["progress"].round(3).tolist() == [0.333, 0.667, 1.0]
    assert "wps" not in set(curves["metric"])
    count = sqlite3.connect(one.root / "results.sqlite").execute("select count(*) from results").fetchone()
    assert count == (6,)
