"""The report of a run: its curves show what the metrics say, and the page loads nothing and escapes everything."""

import dataclasses
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from realm_jax import report
from realm_jax.eval import run_report
from realm_jax.eval.examples import HEADER
from realm_jax.eval.run_plots import index_age, run_plots
from realm_jax.eval.summary import write_report
from realm_jax.report import Marked, Plot, Section, Table
from realm_jax.workdir import Workdir, write_text

SVG = "{http://www.w3.org/2000/svg}"
RECALL = {"plain_recall@1": 0.2, "plain_recall@5": 0.5, "hard_recall@1": 0.1, "hard_recall@5": 0.3}
INDEX = {
    "published_steps": [0, 20, 40],
    "publish_seconds": [1.5, 2.5, 3.25],
    "adopted": [{"step": 0, "trainer_step": 0}, {"step": 20, "trainer_step": 30}, {"step": 20, "trainer_step": 45}],
    "retrieval_wait_seconds": 1.25,
    "index_wait_seconds": 0.5,
    "recall_by_version": {"0": RECALL, "20": RECALL, "40": {}},
}
SUMMARY = {
    "states": {},
    "differences": {},
    "index": INDEX,
    "phase_seconds": {"ict": 61.0},
    "peak_memory_mib": {"trainer": 1792.6},
}


@pytest.fixture
def run(tmp_path, tiny_config) -> Workdir:
    """A run with metrics of ICT and pre-training."""
    workdir = Workdir.create(tmp_path / "run", tiny_config)
    write_metrics(workdir, "ict", [{"loss": 5.0 - step} for step in range(4)])
    lines = [{"loss": 8.0, "null_loss": 9.0, "utility": 0.1, "null_share": 0.3, "top_share": 0.6} for _ in range(5)]
    for line in lines:
        line |= {"index_age_steps": 7.0, "retrieval_wait_seconds": 0.5, "index_wait_seconds": 0.0}
    write_metrics(workdir, "pretrain", lines)
    return workdir


def write_metrics(workdir, phase, lines):
    text = "".join(json.dumps({"step": 10 * (i + 1), "time": 0.0, **line}) + "\n" for i, line in enumerate(lines))
    write_text(workdir.phase(phase) / "metrics.jsonl", text)


def curve(svg) -> np.ndarray:
    """Points of the drawing's first curve, in pixels, upwards."""
    paths = [
        path.get("d") for path in ElementTree.fromstring(svg).iter(f"{SVG}path") if "#2b83ba" in path.get("style", "")
    ]
    points = np.array(re.findall(r"[ML] (\S+) (\S+)", paths[0]), float)
    return points * [1, -1]


def by_name(plots) -> dict[str, Plot]:
    return {plot.name: plot for plot in plots}


def test_every_curve_that_was_asked_for_is_there(run):
    plots = by_name(run_plots(run, INDEX))
    assert list(plots) == ["ict-loss", "loss", "utility", "null-share", "recall", "index-age", "waits"]
    assert all(
        plot.text and plot.title and ElementTree.fromstring(plot.svg).tag == f"{SVG}svg" for plot in plots.values()
    )


def test_a_curve_is_drawn_to_scale(run):
    points = curve(by_name(run_plots(run, INDEX))["ict-loss"].svg)
    steps = np.diff(points, axis=0)
    assert len(points) == 4 and np.allclose(steps, steps[0], atol=1e-4) and steps[0][0] > 0 > steps[0][1]


def test_waits_are_summed(run):
    points = curve(by_name(run_plots(run, INDEX))["waits"].svg)
    assert len(points) == 5 and np.allclose(np.diff(points[:, 1]), np.diff(points[:, 1])[0], atol=1e-4)
    assert points[-1, 1] > points[0, 1]


def test_long_curves_are_averaged(run):
    write_metrics(run, "ict", [{"loss": float(i % 2)} for i in range(1000)])
    plot = by_name(run_plots(run, INDEX))["ict-loss"]
    points = curve(plot.svg)
    assert 200 <= len(points) <= 201 and "mean of 5 lines" in plot.text  # the last one may be drawn twice


def test_a_run_that_has_measured_nothing_has_no_curves(tmp_path, tiny_config):
    workdir = Workdir.create(tmp_path / "run", tiny_config)
    assert run_plots(workdir, {"adopted": [], "recall_by_version": {}}) == []


def test_age_grows_by_the_step_and_falls_at_a_new_version():
    events = [{"step": 0, "trainer_step": 0}, {"step": 30, "trainer_step": 64}, {"step": 60, "trainer_step": 79}]
    assert index_age(events, 100) == [(0, 0), (64, 64), (64, 34), (79, 49), (79, 19), (100, 40)]


def test_age_forgets_what_a_restart_went_back_behind():
    events = [{"step": 0, "trainer_step": 0}, {"step": 30, "trainer_step": 64}, {"step": 30, "trainer_step": 60}]
    assert index_age(events, 70) == [(0, 0), (60, 60), (60, 30), (70, 40)]


class Page(HTMLParser):
    """What a page refers to, and what a reader sees."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [
            value for name, value in attrs if name in ("src", "href", "xlink:href", "srcset", "data", "action")
        ]

    def handle_data(self, data):
        self.text += data


def test_files_of_the_report_belong_together(run):
    write_report(run, "tiny: W", SUMMARY, [Marked("**[MASK]** was here")])
    markdown = (run.path / "report.md").read_text()
    images = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", markdown)
    assert len(images) == 7
    for image in images:
        assert ElementTree.fromstring((run.path / image).read_text()).tag == f"{SVG}svg"
    page = Page((run.path / "report.html").read_text())
    assert page.tags.count("svg") == 7 and "img" not in page.tags and "script" not in page.tags
    assert all(link.startswith("#") for link in page.links)
    for seen in ("version of step", "0.200", "1:01", "1,793", "[MASK]", "Retrieval utility"):
        assert seen in page.text, seen


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=http://x/y.png>",
    "![a](http://x/y.png)",
    "![a][b]",
    "[a](javascript:alert(1))",
    "a | b ** c _d_ `e` &amp; \\",
    "<!-- -->",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_of_a_corpus_stay_texts(run, text):
    examples = [Marked(f"**{report.plain(text)}**"), Table(HEADER, [("0.5", "+0.1", "word", text)], HEADER[2:])]
    write_report(run, f"name {text}", SUMMARY, examples)
    page = Page((run.path / "report.html").read_text())
    assert re.sub(r"\s+", " ", page.text).count(text) >= 3, page.text  # the title, the sentence and the block
    assert not {"script", "img", "a"} & set(page.tags) and all(link.startswith("#") for link in page.links)


def test_images_that_are_not_ours_are_not_loaded():
    page = Page(report.html("t", [Section("", [Marked("![other](http://x/y.png) ![<b>](plots/loss.svg)")])]))
    assert "img" not in page.tags and "b" not in page.tags and "other" in page.text and "<b>" in page.text


def test_states_and_differences_are_shown(run):
    mean = {"mean": 0.25, "half_width": 0.05, "n": 64}
    states = {"after ICT": {"plain_recall@1": mean}, "after REALM": {"plain_recall@1": mean, "utility": mean}}
    differences = {"plain_recall@1: after REALM - after ICT": mean, "after REALM, loss: null - retrieved": mean}
    text = run_report.markdown("t", {**SUMMARY, "states": states, "differences": differences}, [], [])
    assert "| plain recall@1 | 0.250 ±0.050 | 0.250 ±0.050 | 64 |" in text
    assert "| retrieval utility |  | 0.250 ±0.050 | 64 |" in text
    assert "| plain recall@1 | +0.250 | +0.200 to +0.300 |" in text
    assert "| after REALM, loss: null - retrieved | +0.250 | +0.200 to +0.300 |" in text
    assert "| 20 | 2.5 | 30 | 0.200 | 0.500 | 0.100 | 0.300 |" in text


def test_the_same_run_gives_the_same_report(run):
    files = []
    for _ in range(2):
        write_report(run, "t", SUMMARY, [])
        files.append((run.path / "report.html").read_bytes())
    assert files[0] == files[1]
    assert dataclasses.asdict(run_plots(run, INDEX)[0]) == dataclasses.asdict(run_plots(run, INDEX)[0])
