"""The curve's arms train and are judged to their end, in any number of starts; what is drawn is what was judged."""

import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as xml

import numpy as np
import pytest

from tests.benchmarks.scripts import BENCHMARKS, load

STEPS = (0, 5, 10)


def test_measures_of_each_example():
    of = {
        "rank_set": np.array([0, 3, 100]),
        "span_rank": np.array([4, 100, 20]),
        "utility": np.array([1.0, 2.0, 4.0]),
        "answer_retrieved": np.array([True, False, True, True]),  # of more examples than are read
        "right_retrieved": np.array([1.0, 0.0, 0.0]),
        "right_null": np.array([0.0, 1.0, 1.0]),
    }
    found = load("curve")["measures"](of)
    assert {k: found[f"recall@{k}, set"].tolist() for k in (1, 5)} == {1: [True, False, False], 5: [True, True, False]}
    assert found["span among the first 5"].tolist() == [True, False, False]
    assert found["utility with the answer"].tolist() == [1, 4] and found["utility without"].tolist() == [2]
    assert found["right with blocks alone"].tolist() == [1, -1, -1]


def test_arms_that_were_trained_elsewhere_stay(tmp_path):
    with_earlier_arms, file = load("curve")["with_earlier_arms"], tmp_path / "curve.json"
    ours = {"arms": {"ict": [3]}, "bm25": {}, "blocks": 7, "config": {"sizes": (1, 2)}}
    assert with_earlier_arms(ours, file) == ours
    file.write_text(json.dumps({"values": {**ours, "arms": {"realm": [1], "ict": [2]}}}))
    assert with_earlier_arms(ours, file)["arms"] == {"realm": [1], "ict": [3]}
    assert with_earlier_arms({**ours, "blocks": 8}, file)["arms"] == {"ict": [3]}


@pytest.fixture
def questions(tmp_path):
    """A sentence of a block as a question, a word of it as the answer."""
    lines = (BENCHMARKS.parent / "realm_jax" / "data" / "mini_corpus.jsonl").read_text().splitlines()[:30]
    asked = [json.loads(line)["text"].split(".")[0] for line in lines]
    texts = [json.dumps({"question": text, "answers": [max(text.split(), key=len)]}) for text in asked]
    folder = tmp_path / "questions"
    folder.mkdir()
    for name in load("curve")["SETS"]:
        (folder / f"{name}.jsonl").write_text("\n".join(texts) + "\n")
    return folder


@pytest.mark.slow
def test_arms_in_several_starts(tmp_path, questions):
    short = ["--steps=10", "--checkpoint_every=5", "--index_refresh_every=5", "--recall_examples=64"]
    command = [sys.executable, BENCHMARKS / "curve.py", f"--questions={questions}", "--name=", "--ict.steps=4"]
    command += ["--config=experiments/mini.py", f"--workdir={tmp_path / 'run'}", "--index.device=inline"]
    command += ["--index.search=exact", *(flag.replace("--", "--pretrain.") for flag in short)]
    judged = tmp_path / "run" / "judged"
    with subprocess.Popen(command, env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"}) as first:
        deadline = time.monotonic() + 300
        while not (judged / "realm-0000005.npz").exists():
            assert first.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        first.send_signal(signal.SIGKILL)
    subprocess.run(command, check=True, timeout=600)
    names = {f"{arm}-{step:07}.npz" for arm in ("realm", "frozen", "ict") for step in STEPS}
    assert {file.name for file in judged.glob("*.npz")} == names | {"bm25.npz"}
    states = {file.stem: dict(np.load(file)) for file in judged.glob("*.npz")}
    first, last = states["frozen-0000000"], states["frozen-0000010"]
    assert all((first[name] == last[name]).all() for name in first if name.startswith(("rank_", "plain_", "hard_")))
    assert (first["loss_null"] != last["loss_null"]).any()
    for name, values in states["realm-0000000"].items():
        np.testing.assert_array_equal(first[name], values)  # the same weights
    assert (states["bm25"]["rank_nq_open_dev"] < 5).mean() > 0.9


def test_the_picture_has_a_line_for_each_arm_where_it_was_measured():
    picture = load("curve_picture")
    panels, colours = picture["PANELS"], picture["COLOURS"]
    recalls = [measure for measure in panels if measure.startswith("recall")]
    drawn = {"realm": [*panels, "accuracy_null"], "ict": recalls}
    arms = {
        arm: [{"step": step, **{name: {"mean": step / 100} for name in names}} for step in STEPS]
        for arm, names in drawn.items()
    }
    bm25 = {measure: {"mean": 0.5} for measure in recalls}
    svg = picture["svg"]({"blocks": 7, "arms": arms, "bm25": bm25})
    lines = [line for line in svg.splitlines() if line.startswith('<path class="line"') and "L" in line]
    by_arm = {arm: sum(colours[arm] in line for line in lines) for arm in colours}
    assert by_arm == {"realm": len(panels), "ict": len(recalls), "frozen": 0}
    assert svg.count('class="thin"') == 1 and svg.count('class="bm25"') == len(recalls)
    assert xml.fromstring(svg).tag.endswith("svg")
