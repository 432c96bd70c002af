"""Verdicts and tables from results made up by a rule, and where runs are missing."""

import itertools

import pandas as pd
import pytest
import yaml
from sparse_adapter.errors import UsageError
from sparse_adapter.study.claims import Claim, Part, first_reached, judge
from sparse_adapter.study.comparison import Comparison
from sparse_adapter.study.config import read_config
from sparse_adapter.study.grid import make_plan
from sparse_adapter.study.results import collect
from sparse_adapter.study.scores import FULL, Scores, dense, pruned
from sparse_adapter.study.tables import AVERAGE, PARAMETERS, paper_tables, published, published_table, side_by_side

from .made_up import CONFIGS, finished_plan, finished_study, places
from .test_grid import plan_with


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Scores:
    configs = ("table1", "table2", "table3", "table4", "figure2")
    return scores(finished_study(tmp_path_factory.mktemp("s") / "all", *configs))


def scores(folder) -> Scores:
    tables = collect(folder)
    return Scores(tables["results"], tables["curves"])


def frame(*rows) -> pd.DataFrame:
    """Finished runs of one task and backbone: (system, seed, score, lr)."""
    columns = {"status": "finished", "task": "rte", "label": "RTE", "example": "glue", "backbone": "b"}
    columns |= {"large_sparse": 1, "bottleneck": None, "curve_metric": "acc", "metric": "accuracy", "variant": ""}
    systems = {"full": ("none", "none", 0.0), "houlsby-dense": ("houlsby", "none", 0.0),
               "houlsby-snip0.4": ("houlsby", "snip", 0.4)}  # fmt: skip
    return pd.DataFrame(
        [
            columns
            | dict(zip(("family", "pruner", "sparsity"), systems[system], strict=True))
            | {"system": system, "seed": seed, "score": score, "lr": lr, "run": f"{system}-{lr}-{seed}"}
            for system, seed, score, lr in rows
        ]
    )


NO_CURVES = pd.DataFrame(columns=["run", "epoch", "update", "progress", "metric", "value"])


def test_pairs_are_of_the_same_task_and_seed():
    runs = frame(("houlsby-dense", 1, 60.0, None), ("houlsby-dense", 2, 61.0, None), ("houlsby-snip0.4", 2, 63.0, None))
    pairs = Scores(runs, NO_CURVES).pairs(pruned("snip", 0.4), dense())
    assert pairs[["seed", "score_first", "score_second"]].values.tolist() == [[2, 63.0, 61.0]]


def test_a_planned_pair_without_a_run_has_no_score():
    runs = frame(("houlsby-dense", 1, 60.0, None), ("houlsby-snip0.4", 1, 63.0, None))
    runs.loc[1, ["status", "score"]] = "missing", None
    found = Scores(runs, NO_CURVES)
    pairs = found.pairs(pruned("snip", 0.4), dense())
    assert pairs["score_second"].tolist() == [60] and pairs["score_first"].isna().all()
    part = {part.label: part for claim in judge(found) for part in claim.parts}["snip s = 0.4 against dense"]
    assert (part.comparison.n, part.comparison.planned, part.verdict) == (0, 1, "not tested")


def test_two_metrics_of_a_task_are_refused():
    runs = frame(("houlsby-dense", 1, 60.0, None), ("houlsby-dense", 2, 61.0, None))
    runs.loc[1, "metric"] = "f1"
    with pytest.raises(UsageError, match="task rte was scored by accuracy and by f1"):
        Scores(runs, NO_CURVES)


def test_two_tasks_of_one_label_are_told_apart():
    runs = [frame(("houlsby-dense", 1, 60.0, None), ("houlsby-snip0.4", 1, score, None)) for score in (62.0, 66.0)]
    other = runs[1].assign(task="rte256", run="rte256-" + runs[1]["run"])
    found = Scores(pd.concat([runs[0], other]), NO_CURVES)
    assert found.tasks == {"rte": "RTE (rte)", "rte256": "RTE (rte256)"}
    part = {part.label: part for claim in judge(found) for part in claim.parts}["snip s = 0.4 against dense"]
    assert part.comparison.n == 2 and part.comparison.difference == 4


def rates(by_rate: dict) -> Scores:
    """Scores of the dense adapter, ``{learning rate: {seed: score}}``."""
    rows = [("houlsby-dense", seed, value, lr) for lr, values in by_rate.items() for seed, value in values.items()]
    return Scores(frame(*rows), NO_CURVES)


def test_the_learning_rate_of_the_best_mean_counts():
    found = rates({1e-4: {1: 60, 2: 62}, 1e-3: {1: 61, 2: 63}})
    choice = found.chosen["rte", "b", "houlsby-dense"]
    assert (choice.rate, choice.seeds, choice.means) == (1e-3, (1, 2), {1e-4: 61, 1e-3: 62})
    assert sorted(found.runs["score"]) == [61, 63]


def test_learning_rates_are_compared_by_the_seeds_that_all_of_them_have():
    found = rates({1e-4: {1: 66, 2: 60, 3: 60}, 1e-3: {1: 65}})  # seed 1 is a lucky one
    assert found.chosen["rte", "b", "houlsby-dense"].rate == 1e-4 and len(found.runs) == 3
    apart = rates({1e-4: {1: 60, 2: 60}, 1e-3: {3: 65}}).chosen["rte", "b", "houlsby-dense"]
    assert (apart.rate, apart.seeds, apart.means) == (1e-4, (), {1e-4: None, 1e-3: None})


def test_a_rate_at_which_runs_fail_is_not_chosen():
    runs = frame(*(("houlsby-dense", seed, 66.0, 1e-3) for seed in (1, 2)), ("houlsby-dense", 1, 66.5, 1e-2),
                 ("houlsby-dense", 2, None, 1e-2))  # fmt: skip
    runs.loc[3, "status"] = "failed"
    choice = Scores(runs, NO_CURVES).chosen["rte", "b", "houlsby-dense"]
    assert choice.rate == 1e-3 and choice.failed == {1e-3: 0, 1e-2: 1} and choice.means[1e-2] is None
    diverged = pd.concat([runs, frame(("houlsby-dense", 1, 60.0, 1e-4), ("houlsby-dense", 2, 66.9, 1e-4))])
    choice = Scores(diverged, NO_CURVES).chosen["rte", "b", "houlsby-dense"]  # its seeds decide nothing, either
    assert (choice.rate, choice.seeds, choice.means) == (1e-3, (1, 2), {1e-4: 63.45, 1e-3: 66.0, 1e-2: None})
    runs.loc[1, "status"] = "failed"  # of both
    assert Scores(runs, NO_CURVES).chosen["rte", "b", "houlsby-dense"].rate == 1e-2


def test_scores_that_are_fractions_support_no_claim_about_points():
    rows = [(system, seed, score + seed / 100, None) for seed in (1, 2, 3)
            for system, score in (("houlsby-dense", 0.9), ("houlsby-snip0.4", 0.6))]  # fmt: skip
    for factor, tested in ((1, 0), (100, 3)):
        runs = frame(*rows).assign(bottleneck=64)
        found = Scores(runs.assign(score=factor * runs["score"]), NO_CURVES)
        part = {part.label: part for claim in judge(found) for part in claim.parts}["snip s = 0.4 against dense"]
        assert part.comparison.n == tested and found.fractions == ({"rte"} if factor == 1 else set())


def test_a_mean_over_backbones_does_not_hide_where_a_claim_fails():
    frames = []
    for backbone, gain in (("bert", -1.8), ("roberta", 4.2)):
        pairs = (
            (("houlsby-dense", n, 60.0 + n, None), ("houlsby-snip0.4", n, 60 + 1.1 * n + gain, None)) for n in (1, 2, 3)
        )
        frames.append(frame(*itertools.chain(*pairs)).assign(backbone=backbone, bottleneck=64))
    runs = pd.concat(frames, ignore_index=True)
    runs["run"] = runs["backbone"] + runs["run"]
    claim = next(claim for claim in judge(Scores(runs, NO_CURVES)) if claim.text.startswith("A sparsity of 0.4"))
    (part,) = claim.parts
    verdicts = {one.label: one.verdict for one in part.places}
    assert verdicts == {"RTE (bert)": "not supported", "RTE (roberta)": "supported"}
    assert claim.verdict == "supported" and claim.exceptions == ["RTE (bert)"]


def test_bottlenecks_are_told_apart(tmp_path):
    sizes = {"bottleneck": [16, 64]}
    plan = plan_with(
        tmp_path,
        {"family": "none"},
        sizes,
        {"pruner": "snip", "sparsity": [0.2, 0.4], **sizes},
        {"pruner": "snip", "large_sparse": [2, 3, 4], **sizes},
        seeds=[1, 2, 3],
    )
    found = scores(finished_plan(tmp_path / "study", plan))
    parts = {part.label: part.comparison.n for claim in judge(found) for part in claim.parts}
    for label in ("snip s = 0.4 against dense", "Large-Sparse 4× against full", "Large-Sparse 2×: lead over dense"):
        assert label not in parts and parts[f"{label} (r = 16)"] == parts[f"{label} (r = 64)"] == 3
    first, second, third = paper_tables(found)
    assert first.rows == ["Fine-Tune", "Adapter (r = 16)", "Adapter (r = 64)", "w/ SNIP (r = 16)", "w/ SNIP (r = 64)"]
    assert {"s = 0.2 (r = 16)", "s = 0.4 (r = 64)"} < set(second.rows) and "LS-Adapter 2× (r = 64)" in third.rows
    assert all(cell.n in (0, 3) for table in (first, second, third) for cell in table.cells.values())
    with pytest.raises(ValueError, match="houlsby16-dense.*houlsby64-dense"):
        found.average(found.select(**dense()), ["one"])


def test_two_systems_of_one_bottleneck_are_told_apart_by_their_names(tmp_path):
    dense_twice = [{"bottleneck": 64}, {"env": {"BOTTLENECK": 64}}]
    plan = plan_with(tmp_path, *dense_twice, {"pruner": "snip", "sparsity": 0.4, "bottleneck": 64}, seeds=[1, 2])
    found = scores(finished_plan(tmp_path / "study", plan))
    parts = {part.label: part.comparison.n for claim in judge(found) for part in claim.parts}
    label = "snip s = 0.4 against dense (houlsby64-snip0.4, houlsby{}-dense)"
    assert parts[label.format("")] == parts[label.format("64")] == 2


def test_a_system_with_a_bottleneck_for_each_task_is_one(whole):
    assert whole.told_apart({"Adapter": dense(), "Fine-Tune": FULL}) == {"Adapter": dense(), "Fine-Tune": FULL}


def test_verdicts_are_those_of_the_rule(whole):
    verdicts = {claim.text.split(" ")[0]: claim.verdict for claim in judge(whole)}
    claims = {claim.text: claim for claim in judge(whole)}
    assert verdicts["SparseAdapter"] == "not supported"  # 80 % costs 1.3 points by the rule
    parts = {part.label: part.verdict for claim in claims.values() for part in claim.parts}
    assert parts["snip s = 0.4 against dense"] == "supported"
    assert parts["snip s = 0.8 against dense"] == "not supported"
    assert parts["Large-Sparse 4× against full"] == "supported"
    assert parts["snip against magnitude"] == "supported"
    part = next(part for claim in claims.values() for part in claim.parts if part.label == "snip against random")
    assert part.comparison.n == 4 * 5 and len(part.pairs) == 20
    assert {one.label for one in part.places} == {"CoLA", "MRPC", "STS-B", "RTE"}


def test_what_was_not_run_is_not_tested(tmp_path):
    found = judge(scores(finished_study(tmp_path / "some", "table1", without="grasp")))
    by_text = {claim.text: claim for claim in found}
    assert by_text["Large-Sparse beats the dense adapter."].verdict == "not tested"
    best = by_text["SNIP is the best pruner (s = 0.4)."]
    assert [part.comparison.n for part in best.parts] == [20, 20, 20, 0]
    assert [part.comparison.planned for part in best.parts] == [20, 20, 20, 20]


def test_the_part_that_decides(whole):
    claims = {claim.text: claim for claim in judge(whole)}
    claim = claims["SparseAdapter matches or beats the dense adapter up to 80 % sparsity."]
    assert claim.deciding.label == "snip s = 0.8 against dense" and claim.deciding.verdict == claim.verdict
    assert claim.deciding.comparison.difference == min(part.comparison.difference for part in claim.parts)


def test_an_undecided_part_decides_and_not_the_least_difference():
    small = Part("small", Comparison(5, 0.2, 0.1, 0.3), "supported")
    wide = Part("wide", Comparison(5, 0.5, -0.1, 1.1), "undecided")
    worse = Part("worse", Comparison(5, 0.6, -2.1, -0.1), "not supported")
    assert Claim("", "", "", (small, wide)).deciding is wide
    assert Claim("", "", "", (small, wide, worse)).deciding is worse
    assert Claim("", "", "", (Part("none", Comparison(0), "not tested"),)).deciding is None


def test_a_mean_over_tasks_does_not_hide_where_a_claim_fails():
    rte = Part("RTE", Comparison(4, 0.9, 0.1, 1.7), "supported")
    xsum = Part("XSum", Comparison(4, -0.1, -0.9, -0.05), "not supported")
    part = Part("one", Comparison(8, 0.4, 0.1, 0.7), "supported", (rte, xsum))
    assert Claim("", "", "", (part,)).exceptions == ["XSum"]
    undecided = Part("two", Comparison(8, 0.4, -0.1, 0.9), "undecided")
    assert Claim("", "", "", (part, undecided)).exceptions == []


def test_a_comparison_is_only_of_tasks_that_both_have(tmp_path):
    without = "(cola|rte).*(dense|snip)|mrpc-.*dense-seed[1-3]"
    found = scores(finished_study(tmp_path / "some", "table1", without=without))
    part = {part.label: part for claim in judge(found) for part in claim.parts}["snip s = 0.4 against dense"]
    tasks = {one.label: one.comparison for one in part.places}
    assert {task: one.n for task, one in tasks.items()} == {"CoLA": 0, "MRPC": 2, "STS-B": 5, "RTE": 0}
    gains = [tasks[task].difference for task in ("MRPC", "STS-B")]
    assert part.comparison.difference == pytest.approx(sum(gains) / 2) and part.comparison.planned == 20
    assert part.verdict in ("supported as far as tested", "undecided")


def test_convergence():
    curve = pd.DataFrame(
        {"update": [3, 1, 2], "progress": [1.0, 1 / 3, 2 / 3], "metric": "acc", "value": [60.0, 50.0, 61.0]}
    )
    assert first_reached(curve, 60) == pytest.approx(2 / 3) and first_reached(curve, 40) == pytest.approx(1 / 3)
    assert first_reached(curve, 70) == 1
    loss = curve.assign(metric="loss", value=[3.0, 5.0, 2.9])
    assert first_reached(loss, 3) == pytest.approx(2 / 3)


def test_tables_have_the_paper_s_layout(whole):
    tables = {table.name: table for table in paper_tables(whole)}
    assert list(tables) == ["table1", "table2", "table3", "table4"]
    first = tables["table1"]
    assert first.rows == ["Fine-Tune", "Adapter", "w/ Rand.", "w/ Mag.", "w/ ER", "w/ SNIP", "w/ GraSP"]
    glue = [PARAMETERS, "CoLA", "MRPC", "STS-B", "RTE"]
    assert [label for backbone, label in first.columns if backbone == "bert.base"][:5] == glue
    assert tables["table2"].rows == ["Fine-Tune", "Adapter", "s = 0.2", "s = 0.4", "s = 0.6", "s = 0.8"]
    assert ("bart.large", "XSum") in tables["table2"].columns and ("bert.base", "GLUE") in tables["table2"].columns
    assert tables["table3"].rows == ["Fine-Tune", "Adapter", "LS-Adapter 2×", "LS-Adapter 3×", "LS-Adapter 4×"]
    assert tables["table4"].rows[2:] == ["Pfeiffer", "S-Pfeiffer", "LoRA", "S-LoRA", "MAM", "S-MAM", "AF", "S-AF"]


def test_a_cell_is_the_mean_of_its_runs(whole):
    table = paper_tables(whole)[0]
    cell = table.cells["w/ SNIP", ("bert.base", "RTE")]
    rows = whole.runs[whole.runs["run"].isin(cell.runs)]
    assert cell.n == len(rows) == 5 and cell.mean == pytest.approx(rows["score"].mean())
    assert cell.sd == pytest.approx(rows["score"].std(ddof=1))
    share = table.cells["w/ SNIP", ("bert.base", PARAMETERS)]
    assert share.mean == pytest.approx(100 * 601_000 / 50_000_000)


def test_published_rows_and_columns_are_those_of_our_tables(whole):
    for table in paper_tables(whole):
        paper = published_table(table.name)
        assert set(paper.rows) <= set(table.rows)
        assert {label for _, label in paper.columns} <= {label for _, label in table.columns}
    assert {row["status"] for row in published()} == {"published"}
    value = {(r["table"], r["backbone"], r["row"], r["column"]): r["value"] for r in published()}
    assert value["table1", "roberta-base", "w/ SNIP", AVERAGE] == 78.6
    assert value["table2", "bart-large", "s = 0.4", "XSum"] == 21.8
    assert value["table3", "bert-base", "LS-Adapter 4×", "RTE"] == 68.2
    assert value["table4", "roberta-base", "S-AF", AVERAGE] == 80.1


def test_side_by_side_names_every_run(whole):
    table = paper_tables(whole)[0]
    both = side_by_side(table)
    cell = both[(both["row"] == "w/ SNIP") & (both["column"] == "RTE")]
    ours, paper = (cell[cell["status"] == status] for status in ("ours", "published"))
    assert set(ours["runs"].iloc[0].split()) == {f"rte-bert.base-houlsby-snip0.4-seed{i}" for i in range(1, 6)}
    assert sorted(paper["mean"]) == [68.2, 75.0]


def columns(table) -> list[str]:
    return [label for _, label in table.columns]


def test_an_average_over_some_of_the_tasks_says_so_and_stands_beside_no_published_one(tmp_path):
    table, *_ = paper_tables(scores(finished_study(tmp_path / "some", "table1", without="cola|mrpc")))
    assert columns(table) == [PARAMETERS, "STS-B", "RTE", "Avg. (2 of 4 tasks)"]
    assert "Avg. (2 of 4 tasks) is the mean over STS-B, RTE" in table.note
    both = side_by_side(table)
    assert set(both["status"][both["column"] == "Avg. (2 of 4 tasks)"]) == {"ours"}


def first_table(tmp_path, **tasks):
    """Table 1 of a study of these tasks."""
    overrides = places(tmp_path)
    config = yaml.safe_load((CONFIGS / "table1.yaml").read_text()) | {"tasks": tasks, "seeds": [1, 2]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    plan = make_plan(read_config(tmp_path / "config.yaml", overrides))
    return paper_tables(scores(finished_plan(tmp_path / "study", plan)))[0]


def test_an_average_over_other_tasks_than_the_paper_s_says_so(tmp_path):
    table = first_table(tmp_path, rte={}, cola={}, **{"sst-2": {}})
    assert columns(table) == [PARAMETERS, "RTE", "CoLA", "SST-2", "Avg. (3 tasks)"]


def test_an_average_is_over_tasks_of_glue_only(tmp_path):
    glue = {"cola": {}, "mrpc": {}, "sts-b": {}, "rte": {}}
    own = {"mine": {"example": "glue", "env": {"TASK": "mine"}}}
    table = first_table(tmp_path, **glue, squad={"data": str(tmp_path / "squad")}, **own)
    assert columns(table) == [PARAMETERS, "CoLA", "MRPC", "STS-B", "RTE", "SQuAD", "mine", AVERAGE]
    row = {label: cell.mean for (name, (_, label)), cell in table.cells.items() if name == "w/ SNIP"}
    assert row[AVERAGE] == pytest.approx(sum(row[task] for task in ("CoLA", "MRPC", "STS-B", "RTE")) / 4)


def test_sizes_that_differ_from_task_to_task_have_a_column_each(tmp_path):
    glue = {"cola": {}, "rte": {}}
    squad = {"data": str(tmp_path / "squad"), "env": {"BOTTLENECK": 256}}
    overrides = places(tmp_path)
    config = yaml.safe_load((CONFIGS / "table1.yaml").read_text()) | {"tasks": {**glue, "squad": squad}, "seeds": [1]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    study = finished_plan(tmp_path / "study", make_plan(read_config(tmp_path / "config.yaml", overrides)))
    tables = collect(study)
    results = tables["results"]
    results.loc[results["task"] == "squad", "adapter_parameters"] *= 4
    table = paper_tables(Scores(results, tables["curves"]))[0]
    share = {label: cell.mean for (row, (_, label)), cell in table.cells.items() if row == "Adapter"}
    assert share["SQuAD #Param."] == pytest.approx(4 * share[PARAMETERS]) and share[PARAMETERS] < 3


def test_an_average_is_of_the_seeds_that_have_all_tasks(tmp_path):
    table, *_ = paper_tables(scores(finished_study(tmp_path / "some", "table1", without="rte-.*dense-seed[345]")))
    average = table.cells["Adapter", ("bert.base", AVERAGE)]
    assert average.seeds == (1, 2) and table.cells["Adapter", ("bert.base", "CoLA")].n == 5
