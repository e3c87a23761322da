"""Curves, index history and reports of a workdir, whatever is there of them."""

import json

import pytest

from realm_jax.serve import curves_and_reports
from tests.damage import flip_a_bit


@pytest.fixture
def workdir(pretrained_run, tmp_path, copy_run):
    return copy_run(pretrained_run, tmp_path / "run")


def test_curves_are_drawn_of_what_was_measured(workdir):
    lines = [{"step": step, "loss": 9 - step, "utility": None} for step in (1, 2, 3)]
    text = "\n".join(json.dumps(line) for line in lines) + '\n{"step": 4, "lo'  # still being written
    (workdir.phase("pretrain") / "metrics.jsonl").write_text(text)
    tuning = workdir.path / "finetune" / "<wq>"
    tuning.mkdir(parents=True)
    (tuning / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0, "dev_exact_match": 0.5}\n')
    page = curves_and_reports.training(workdir)
    assert page.count("<svg") == 4  # no curve of an unknown utility, none of phases without measurements
    assert "Recall by index version" in page and "Retrieval utility" not in page
    assert "Pre-training: loss" in page and "finetune/&lt;wq&gt;: exact match" in page and "<wq>" not in page


def test_index_versions_and_events_are_listed(workdir):
    page = curves_and_reports.training(workdir)
    name = next(workdir.index_folder.glob("step-*")).name
    assert page.count(name) == 2 and "published" in page and "versions on disk" in page
    flip_a_bit(workdir.index_folder / name / "manifest.json")
    assert curves_and_reports.training(workdir).count(name) == 1  # its event


def test_a_run_without_anything_is_said(tiny_run):
    assert "Nothing was trained" in curves_and_reports.training(tiny_run)
    assert curves_and_reports.reports(tiny_run) == {}
    assert f"realm eval --workdir={tiny_run.path}" in curves_and_reports.report(tiny_run, "")


def test_reports_are_shown_in_a_frame_in_which_nothing_runs(workdir):
    folder = workdir.path / "eval" / "wq"
    folder.mkdir(parents=True)
    (folder / "report.html").write_text('<h1 class="x">wq</h1><script>evil()</script>')
    (workdir.path / "report.md").write_text("# Run\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n\n<script>evil()</script>\n")
    assert list(curves_and_reports.reports(workdir).values()) == ["eval/wq/report.html", "report.md"]
    html, markdown = (curves_and_reports.report(workdir, name) for name in curves_and_reports.reports(workdir).values())
    for shown in (html, markdown):
        assert "<script" not in shown and "<iframe sandbox title" in shown
    assert "&lt;table&gt;" in markdown and "&amp;lt;script&amp;gt;" in markdown


@pytest.mark.parametrize("name", ["../config.json", "config.json", "/etc/passwd", "eval/wq/results.json"])
def test_only_reports_can_be_asked_for(workdir, name):
    assert "No report" in curves_and_reports.report(workdir, name)
