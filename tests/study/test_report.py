"""The report: every file, a page that needs no other, and no silence about what is missing."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from sparse_adapter.errors import UsageError
from sparse_adapter.study.plan import write_plan
from sparse_adapter.study.report import write_report

from .made_up import finished_study, plan_of


def test_everything_is_written(tmp_path):
    study = finished_study(tmp_path / "study", "table3", "figure2", without="sts-b-bert.base-full-seed1")
    names = write_report(study, tmp_path / "out")
    expected = {"README.md", "report.html", "claims.csv", "results.csv", "curves.csv", "timings.csv"}
    expected |= {f"figure{i}.{kind}" for i in (1, 2, 4) for kind in ("png", "svg")} | {"table1.csv", "table3.csv"}
    assert set(names) == expected
    page = (tmp_path / "out" / "report.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:)', page) and page.count("data:image/svg+xml;base64,") == 3
    text = (tmp_path / "out" / "README.md").read_text()
    for shown in (page, text):
        assert "sts-b-bert.base-full-seed1" in shown and "missing" in shown
        assert "179 of 180 runs finished, 1 missing" in shown
    for figure in (1, 2, 4):
        ElementTree.parse(tmp_path / "out" / f"figure{figure}.svg")


def test_a_study_without_results(tmp_path):
    with pytest.raises(UsageError, match="is no study"):
        write_report(tmp_path, tmp_path / "out")
    write_plan(tmp_path, plan_of("table1", tmp_path / "places"))
    with pytest.raises(UsageError, match="none of its 140 runs has finished"):
        write_report(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_earlier_report_is_replaced_and_nothing_else(tmp_path):
    out = tmp_path / "out"
    first = write_report(finished_study(tmp_path / "first", "table3"), out)
    (out / "notes.md").write_text("mine")
    second = write_report(finished_study(tmp_path / "second", "table1"), out)
    assert "table3.csv" in set(first) - set(second)
    assert {path.name for path in out.iterdir() if not path.name.startswith(".")} == {*second, "notes.md"}


def test_files_of_others_are_not_overwritten(tmp_path, monkeypatch):
    study = finished_study(tmp_path / "study", "table3")
    (tmp_path / "README.md").write_text("mine")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UsageError, match="README.md is of no earlier report .* choose another folder"):
        write_report(study, Path("."))
    assert sorted(tmp_path.iterdir()) == before and (tmp_path / "README.md").read_text() == "mine"
