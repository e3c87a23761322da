"""The table of an ablation: means and intervals over seeds against textbook figures, and the verdicts."""

import json
import math

import numpy as np
import pytest

from realm_jax.ablations.ablate import index_ages
from realm_jax.ablations.ablation_table import effect, figures, markdown, over_seeds, table, verdict
from realm_jax.ablations.arms import Arm
from realm_jax.config import Config, CorpusConfig, FinetuneConfig


def result(exact_match, recall, age=5.0):
    values = {"exact_match": exact_match, "recall@5": recall, "recall@1": [x // 2 for x in recall]}
    return {"values": values, "index_age_steps": {"mean": age, "most": 9}, "seconds": 60}


def test_interval_over_seeds_is_students_t():
    mean, half_width = over_seeds([0.30, 0.33, 0.36])
    assert mean == pytest.approx(0.33)
    assert half_width == pytest.approx(4.303 * 0.03 / math.sqrt(3), rel=1e-3)  # t(0.975, 2) from a printed table
    assert over_seeds([0.5])[0] == 0.5 and math.isnan(over_seeds([0.5])[1])


def test_effect_is_paired_by_seed():
    arm = {0: result([1, 0, 0, 0], [0] * 4), 1: result([1, 1, 0, 0], [0] * 4), 7: result([1] * 4, [0] * 4)}
    realm = {0: result([1, 1, 0, 0], [0] * 4), 1: result([1, 1, 1, 0], [0] * 4), 2: result([0] * 4, [0] * 4)}
    assert effect(arm, realm, "exact_match") == (pytest.approx(-0.25), pytest.approx(0.0))  # seeds 0 and 1, both -1/4


def test_effect_of_one_seed_is_over_its_questions():
    rng = np.random.default_rng(0)
    ours, theirs = rng.integers(2, size=(2, 500))
    mean, half_width = effect({3: result(ours, ours)}, {3: result(theirs, theirs)}, "exact_match")
    differences = [int(a) - int(b) for a, b in zip(ours, theirs, strict=True)]
    expected = sum(differences) / 500
    spread = math.sqrt(sum((d - expected) ** 2 for d in differences) / 499)
    assert (mean, half_width) == (pytest.approx(expected), pytest.approx(1.96 * spread / math.sqrt(500)))


@pytest.mark.parametrize(
    ("difference", "half_width", "expected", "says"),
    [
        (-0.05, 0.02, -10.0, "held"),
        (0.05, 0.02, -10.0, "not held"),
        (-0.01, 0.02, -10.0, "within noise"),
        (-0.05, float("nan"), -10.0, "within noise"),
        (0.03, 0.02, 4.0, "held"),
    ],
)
def test_verdict(difference, half_width, expected, says):
    assert verdict(difference, half_width, expected) == says


def test_table_has_the_papers_figures_beside_ours():
    config, finetune = Config(corpus=CorpusConfig("x")), FinetuneConfig()
    arms = {
        "realm": Arm("REALM", config, finetune, paper=(38.2, 38.5)),
        "stale": Arm("stale", config, finetune, paper=(28.7, 15.1)),
        "own": Arm("ours alone", config, finetune),
        "missing": Arm("not run", config, finetune),
    }
    right, wrong = [1] * 30 + [0] * 10, [1] * 10 + [0] * 30
    results = {"realm": {0: result(right, right)}, "stale": {0: result(wrong, right, 150.0)}}
    results["own"] = {0: result(right, right)}
    rows = [line.split(" | ") for line in table(arms, results).splitlines() if line.startswith("| ")][1:]
    assert [row[0] for row in rows] == ["| REALM", "| stale", "| ours alone"]
    realm, stale, own = rows
    assert realm[1:6] == ["38.2", "38.5", "75.0", "75.0", "0.0"]
    assert stale[1:6] == ["28.7", "15.1", "25.0", "75.0", "0.0"]
    assert stale[6].startswith("-50.0 ±") and stale[6].endswith(" held")
    assert stale[7] == stale[8] == "+0.0 ±0.0 within noise" and stale[9] == "150"
    assert own[1:3] == ["", ""] and own[6] == "+0.0 ±0.0"  # no verdict where the paper has no figure


def test_figures_survive_json_and_give_the_same_table():
    config, finetune = Config(corpus=CorpusConfig("x")), FinetuneConfig()
    arms = {
        "realm": Arm("REALM", config, finetune, paper=(38.2, 38.5)),
        "stale": Arm("stale", config, finetune, paper=(28.7, 15.1)),
    }
    right, half = [1] * 4, [1, 0, 1, 0]
    results = {"realm": {s: result(right, right) for s in (0, 1, 2)}, "stale": {1: result(half, right)}}
    found = figures(arms, results)
    assert found["stale"]["exact_match minus REALM's"]["by_seed"] == {1: -0.5}
    assert "half_width" not in found["stale"]["exact_match"] and found["realm"]["exact_match"]["half_width"] == 0.0
    assert markdown(json.loads(json.dumps(found, allow_nan=False))) == markdown(found)
    assert table(arms, results).startswith(markdown(found))


def test_index_ages_come_from_the_history():
    history = [
        {"event": "published", "step": 0},
        {"event": "adopted", "step": 0, "trainer_step": 0},
        {"event": "adopted", "step": 4, "trainer_step": 5},
        {"event": "pruned", "version": "step-0"},
    ]
    assert index_ages(history, 7) == [1, 2, 3, 4, 1, 2, 3]
