"""The report: every file, a page that needs no other, and no silence about what is missing."""

import dataclasses
import re
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pandas as pd
import pytest
import yaml
from scipy import stats
from sparse_adapter.errors import UsageError
from sparse_adapter.files import read_json, write_json
from sparse_adapter.study.figures import figure1, figure2, figure4
from sparse_adapter.study.plan import write_plan
from sparse_adapter.study.report import write_report
from sparse_adapter.study.results import collect
from sparse_adapter.study.scores import Scores

from .made_up import finished_plan, finished_study, plan_of
from .test_grid import plan_with


def test_everything_is_written(tmp_path):
    study = finished_study(tmp_path / "study", "table3", "figure2", without="sts-b-bert.base-full-seed1")
    names = write_report([study], tmp_path / "out")
    expected = {"README.md", "report.html", "claims.csv", "results.csv", "curves.csv", "timings.csv"}
    expected |= {f"figure{i}.{kind}" for i in (1, 2, 4) for kind in ("png", "svg")}
    expected |= {"scores.csv", "table1.csv", "table3.csv", "table3.yaml", "figure2.yaml"}
    assert set(names) == expected
    page = (tmp_path / "out" / "report.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:)', page) and page.count("data:image/svg+xml;base64,") == 3
    text = (tmp_path / "out" / "README.md").read_text()
    for shown in (page, text):
        assert "sts-b-bert.base-full-seed1" in shown and "missing" in shown
        assert "179 of 180 runs finished, 1 missing" in shown
    for figure in (1, 2, 4):
        ElementTree.parse(tmp_path / "out" / f"figure{figure}.svg")


def rows(text: str, start: str) -> list[list[str]]:
    """The cells of the Markdown lines that begin so."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith(start)]


def test_unequal_seeds_are_told(tmp_path):
    without = "cola.*(er|grasp)0.4-seed[45]|rte.*dense-seed[2-5]|mrpc"
    write_report([finished_study(tmp_path / "study", "table1", without=without)], tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    assert "- tasks: CoLA, MRPC, STS-B, RTE; no scores yet: MRPC\n" in text
    assert "- seeds: 1, 2, 3, 4, 5 where nothing else is said\n" in text
    assert "- seeds 1, 2, 3: houlsby-er0.4, houlsby-grasp0.4 on CoLA\n" in text
    assert "- seed 1: houlsby-dense on RTE\n" in text
    adapter, er = rows(text, "| Adapter ")[0], rows(text, "| w/ ER ")[0]
    assert re.fullmatch(r"\d\d\.\d \(1 seed\)", adapter[4]) and re.fullmatch(r"\d\d\.\d ± \d\.\d \(3 seeds\)", er[2])
    table = [row for name in ("Fine-Tune", "Adapter", "w/ ") for row in rows(text, f"| {name}") if len(row) == 6]
    bold = [any(row[i].startswith("**") for row in table) for i in range(6)]
    assert bold == [False, False, False, True, False, False]  # only STS-B has the same seeds everywhere
    assert "Cells that do not say otherwise have 5 seeds." in text
    (claim,) = rows(text, "| A sparsity of 0.4 beats")
    assert claim[2:4] == ["undecided", "snip s = 0.4 against dense"]
    assert claim[5:] == ["none: one seed of RTE", "11 of 20 planned", "1 of 1, 1 of them in part"]


def test_chosen_learning_rates_are_shown(tmp_path):
    plan = plan_with(tmp_path, {"lr": [1e-3, 1e-4]}, {"pruner": "snip", "sparsity": 0.4}, seeds=[1, 2])
    write_report([finished_plan(tmp_path / "study", plan, without="lr0.0001-seed2")], tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    scored, row = rows(text, "| one ")
    assert scored == ["one", "accuracy, %", "-", "277", "-"]
    assert row[:3] == ["one", "backbone", "houlsby-dense"] and row[3] in ("0.001", "0.0001") and row[5] == "1"
    assert re.fullmatch(r"0\.0001: \d\d\.\d, 0\.001: \d\d\.\d", row[4])


def test_settings_that_differ_from_system_to_system_are_told(tmp_path):
    slow = {"family": "none", "env": {"LR": 1e-4}}
    plan = plan_with(tmp_path, slow, {"env": {"LR": 5e-4}}, {"pruner": "snip", "sparsity": 0.4, "env": {"LR": 5e-4}})
    write_report([finished_plan(tmp_path / "study", plan)], tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    assert rows(text, "| LR ") == [
        ["LR", "0.0001", "full", "one"],
        ["LR", "0.0005", "houlsby-dense, houlsby-snip0.4", "one"],
    ]
    assert "Settings that are not the same" in (tmp_path / "out" / "report.html").read_text()


def test_one_seed_has_no_band(tmp_path):
    for without, remark in (("seed[2-5]", True), ("$^", False)):
        study, out = tmp_path / f"study{remark}", tmp_path / f"out{remark}"
        write_report([finished_study(study, "figure2", without=without)], out)
        text = (out / "README.md").read_text()
        assert text.count("No band where there is one seed.") == 2 * 2 * remark  # caption and description of 2 and 4
        assert text.count("No bar where there is one seed.") == 2 * remark


def test_what_logs_and_labels_contain_is_text(tmp_path):
    plan = plan_with(tmp_path, {}, {"pruner": "snip", "sparsity": 0.4}, seeds=[1, 2])
    plan = dataclasses.replace(plan, runs={n: dataclasses.replace(r, label="a$\\x$") for n, r in plan.runs.items()})
    study = finished_plan(tmp_path / "study", plan, without="snip0.4-seed2")
    (failed,) = (name for name in plan.runs if "snip0.4-seed2" in name)
    write_json(study / "runs" / failed / "failure.json", {"run": failed, "error": "train.sh: x | loss <b>"})
    write_report([study], tmp_path / "out")
    assert r"train.sh: x \| loss &lt;b>" in (tmp_path / "out" / "README.md").read_text()
    assert "train.sh: x | loss &lt;b&gt;" in (tmp_path / "out" / "report.html").read_text()


def test_how_it_was_made(tmp_path):
    study = finished_plan(tmp_path / "a study", plan_with(tmp_path, {}, seeds=[1]))
    write_report([study], tmp_path / "out", margin=1.0, level=0.9)
    text = (tmp_path / "out" / "README.md").read_text()
    assert f"`sparse-adapter report '{study}' {tmp_path / 'out'} --margin 1 --level 0.9`" in text


def test_the_configs_and_versions_are_there(tmp_path):
    study = finished_plan(tmp_path / "study", plan_with(tmp_path, {}, prepare={"KEYS": "~/keys"}))
    names = write_report([study], tmp_path / "out")
    [name] = [name for name in names if name.endswith(".yaml")]
    text = (tmp_path / "out" / name).read_text()
    assert str(tmp_path) not in text and "~" not in text
    config = yaml.safe_load(text)
    assert config["seeds"] == [1] and config["prepare"] == {"KEYS": "/path/to/keys"}
    assert config["backbone"].startswith("/path/to/")
    readme = (tmp_path / "out" / "README.md").read_text()
    assert f"[{name}]({name})" in readme and "- versions: torch " in readme
    assert f"<code>{name}</code>" in (tmp_path / "out" / "report.html").read_text()


def test_other_sparsities_stand_beside_nothing_published(tmp_path):
    study = finished_study(tmp_path / "study", "table2", without="snip0.[468]")
    write_report([study], tmp_path / "half")
    text = (tmp_path / "half" / "README.md").read_text()
    assert "A sparsity of 0.4 beats the dense adapter." in text  # which is planned
    plan = plan_with(tmp_path, {"pruner": ["none", "random"], "sparsity": 0.6}, seeds=[1, 2])
    write_report([finished_plan(tmp_path / "other", plan)], tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    assert "Table 1: pruning methods at the same sparsity, 60 %" in text
    assert "Table 1: pruning methods at the same sparsity, 40 %, as published" in text and "Side by side" not in text
    assert "published" not in (tmp_path / "out" / "table1.csv").read_text()
    (claim,) = rows(text, "| A sparsity of 0.6 beats")
    assert claim[1] == "§3, Tables 1 and 2, with SNIP, which have s = 0.4"


def test_figure2_has_the_tasks_of_every_pruner(tmp_path):
    random = {"pruner": "random", "sparsity": [0.2, 0.4]}
    snip = {"pruner": "snip", "sparsity": [0.2, 0.4]}
    example = {"example": str(tmp_path / "here" / "ex")}
    plan = plan_with(tmp_path, {}, random, snip, seeds=[1, 2], tasks={"one": example, "two": example})
    study = finished_plan(tmp_path / "study", plan, without="two.*random")
    tables = collect(study)
    figure, _ = figure2(Scores(tables["results"], tables["curves"]))
    assert [axes.get_title() for axes in figure.axes] == ["one", "two"]


def test_figures_have_pruners_and_families_that_are_not_the_papers(tmp_path):
    tables = collect(finished_plan(tmp_path / "study", plan_of("figure2", tmp_path / "places")))
    results = tables["results"].replace({"pruner": {"random": "synflow"}})
    figure, _ = figure2(Scores(results, tables["curves"]))
    drawn = figure.axes[0].get_legend_handles_labels()[1]
    assert "synflow" in drawn and "random" not in drawn
    tables = collect(finished_study(tmp_path / "table4", "table4"))
    results = tables["results"].replace({"family": {"lora": "lora+prefix"}})
    figure, _ = figure1(Scores(results, tables["curves"]))
    drawn = figure.axes[0].get_legend_handles_labels()[1]
    assert {"lora+prefix", "S-lora+prefix", "Pfeiffer"} <= set(drawn) and "LoRA" not in drawn


def test_one_validation_is_no_learning_curve(tmp_path):
    tables = collect(finished_study(tmp_path / "study", "table3"))
    results, curves = tables["results"], tables["curves"]
    assert figure4(Scores(results, curves))
    assert figure4(Scores(results, curves.groupby("run").tail(1))) is None


def test_a_study_without_results(tmp_path):
    with pytest.raises(UsageError, match="is neither a study"):
        write_report([tmp_path], tmp_path / "out")
    write_plan(tmp_path, plan_of("table1", tmp_path / "places"))
    with pytest.raises(UsageError, match="none of the 140 runs has finished"):
        write_report([tmp_path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_variants_are_compared_with_their_systems_and_nothing_else(tmp_path):
    dense, sparse = {}, {"pruner": "snip", "sparsity": 0.4}
    grid = [dense, sparse, {**dense, "variant": "swish"}, {**sparse, "variant": "shuffled"}]
    plan = plan_with(tmp_path, *grid, seeds=[1, 2, 3])
    study = finished_plan(tmp_path / "study", plan)
    for seed, (score, shuffled) in enumerate(zip((70.0, 71.0, 72.0), (68.0, 68.5, 69.0), strict=True), start=1):
        for system, value in (("houlsby-snip0.4", score), ("houlsby-snip0.4-shuffled", shuffled)):
            file = study / "runs" / f"one-backbone-{system}-seed{seed}" / "result.json"
            result = read_json(file)
            write_json(file, result | {"scores": result["scores"] | {"value": value, "accuracy": value}})
    write_report([study], tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    (row,) = rows(text, "| houlsby-snip0.4-shuffled against")
    low, high = stats.ttest_rel([68, 68.5, 69], [70, 71, 72]).confidence_interval()
    assert row[1:] == ["all", "-2.50", f"{low:+.2f} to {high:+.2f}", "3 of 3 planned"]
    assert rows(text, "| houlsby-dense-swish against") and len(rows(text, "| houlsby-snip0.4-shuffled ")) == 2
    plain = plan_with(tmp_path / "plain", dense, sparse, seeds=[1, 2, 3])
    for run in plain.runs:
        file = tmp_path / "other" / "runs" / run / "result.json"
        file.parent.mkdir(parents=True)
        shutil.copy(study / "runs" / run / "result.json", file)
    write_plan(tmp_path / "other", plain)
    write_report([tmp_path / "other"], tmp_path / "without")
    claims = [(tmp_path / folder / "claims.csv").read_text() for folder in ("out", "without")]
    assert claims[0] == claims[1] and "## Variants" not in (tmp_path / "without" / "README.md").read_text()
    # A report of the report, and one of before there were variants, are read as well.
    write_report([tmp_path / "out"], tmp_path / "again")
    assert rows((tmp_path / "again" / "README.md").read_text(), "| houlsby-snip0.4-shuffled against") == [row]
    table = pd.read_csv(tmp_path / "without" / "results.csv")
    later = ["variant", "units", "dead_units", "dead_adapters"]
    table.drop(columns=later).to_csv(tmp_path / "without" / "results.csv", index=False)
    write_report([tmp_path / "without"], tmp_path / "old")
    assert (tmp_path / "old" / "claims.csv").read_text() == claims[0]


def test_adapters_that_pruning_has_emptied_are_told_of(tmp_path):
    study = finished_study(tmp_path / "study", "minilm")
    for seed, dead in ((1, 2), (2, 0)):
        file = study / "runs" / f"rte-bert.base-houlsby-snip0.4-seed{seed}" / "result.json"
        result = read_json(file)
        result["parameters"] |= {"units": 128, "dead_units": 70, "dead_adapters": dead}
        write_json(file, result)
    write_report([study], tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    assert "1 of 36 runs have adapters of which pruning has left no unit" in text
    assert "houlsby-snip0.4." in text


def test_every_system_is_shown_with_all_its_scores(tmp_path):
    write_report([finished_study(tmp_path / "study", "minilm-squad", without="snip|full")], tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    (head,), (dense,) = rows(text, "| method "), rows(text, "| houlsby-dense ")
    assert head == ["method", "#Param.", "SQuAD", "SQuAD: exact match"]
    f1, exact_match = (float(cell.split(" ± ")[0]) for cell in dense[2:])
    assert f1 - exact_match == pytest.approx(10, abs=0.11)
    assert "The paper's tables" not in text  # one system is none of them

    write_report([finished_study(tmp_path / "other", "table3")], tmp_path / "out3")
    text = (tmp_path / "out3" / "README.md").read_text()
    first = [row[0] for row in rows(text.split("## Scores of all systems")[1].split("\n## ")[0], "| ")][1:]
    assert first == ["full", "houlsby-dense", "houlsby-snip-x2", "houlsby-snip-x3", "houlsby-snip-x4"]


def test_an_earlier_report_is_replaced_and_nothing_else(tmp_path):
    out = tmp_path / "out"
    first = write_report([finished_study(tmp_path / "first", "table3")], out)
    (out / "notes.md").write_text("mine")
    second = write_report([finished_study(tmp_path / "second", "table1")], out)
    assert "table3.csv" in set(first) - set(second)
    assert {path.name for path in out.iterdir() if not path.name.startswith(".")} == {*second, "notes.md"}


def test_files_of_others_are_not_overwritten(tmp_path, monkeypatch):
    study = finished_study(tmp_path / "study", "table3")
    (tmp_path / "README.md").write_text("mine")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UsageError, match="README.md was not written by an earlier report: choose another folder"):
        write_report([study], Path("."))
    assert sorted(tmp_path.iterdir()) == before and (tmp_path / "README.md").read_text() == "mine"
