"""How long and how each question set is fine-tuned on: as published, unless a setting says otherwise."""

import dataclasses
import pathlib

import pytest

from realm_jax.config import ConfigError, FinetuneConfig
from realm_jax.data.questions import datasets
from realm_jax.experiments_file import load_experiment
from realm_jax.training.finetune import first_settings
from realm_jax.training.finetune_task import steps_in_all
from realm_jax.training.finetuning import Finetuning
from realm_jax.training.presets import PRESETS, with_epochs
from realm_jax.workdir import read_json

EXPERIMENTS = pathlib.Path(__file__).parents[2] / "experiments"
PUBLISHED = {"nq": 2, "trivia": 2, "squad_open": 2, "wq": 20, "ct": 20, "cloze": 2, "wq.jsonl": 2}
SEVERAL = {"wq,ct": 20, "wq,nq": 2}


def test_epochs_are_those_of_the_dataset():
    published = PUBLISHED | SEVERAL
    assert {name: with_epochs(FinetuneConfig(), name).epochs for name in published} == published
    assert set(datasets.NAMES) <= set(PUBLISHED)
    assert with_epochs(FinetuneConfig(epochs=3), "wq") == FinetuneConfig(epochs=3)


@pytest.mark.parametrize("experiment", ["base_wikipedia", "base_ccnews"])
def test_the_papers_experiments_take_the_published_steps(experiment):
    """3417 * 20 is the released example's number for WebQuestions."""
    settings = load_experiment(str(EXPERIMENTS / f"{experiment}.py")).finetune
    steps = {
        name: steps_in_all(with_epochs(settings, name), datasets._SETS[name].counts["train"])
        for name in ("nq", "wq", "ct")
    }
    assert steps == {"nq": 158_336, "wq": 68_340, "ct": 27_060}
    assert dataclasses.replace(settings, **PRESETS["orqa"]) == settings


def test_the_last_batch_of_an_epoch_counts_as_a_step():
    assert steps_in_all(FinetuneConfig(epochs=3, batch_size=16), 33) == 9


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_a_preset_leaves_nothing_published_to_the_run(new_run, preset):
    """A small model's own rates and labels would be no published setting."""
    own = load_experiment(str(EXPERIMENTS / "nano.py")).finetune
    run = new_run(finetune=dataclasses.replace(own, question_len_tokens=32))
    found = first_settings(run, "wq", preset=preset)
    assert {key: getattr(found, key) for key in PRESETS[preset]} == PRESETS[preset]
    assert found.learning_rate == 1e-5 and found.retriever_learning_rate is None
    assert (found.retriever_label, found.epochs, found.beam_blocks) == ("substring", 0, 5000)
    expected = {"orqa": (1, 5, 5), "realmpp": (16, 10, 100)}[preset]
    assert (found.batch_size, found.reader_blocks, found.inference_blocks) == expected


def test_what_is_begun_has_the_real_number(new_run):
    run = new_run()
    finetuning = Finetuning.create(run, "tuned", "wq", FinetuneConfig(question_len_tokens=32))
    assert finetuning.config.finetune.epochs == 20
    file = finetuning.folder / "config.json"
    assert read_json(file)["finetune"]["epochs"] == 20
    (finetuning.folder / "checkpoints").mkdir()
    assert Finetuning.open(run, "tuned").config.finetune.epochs == 20
    for same in (0, 20):
        Finetuning.create(run, "tuned", "wq", FinetuneConfig(epochs=same, question_len_tokens=32))
    with pytest.raises(ConfigError, match=r"begun with other settings \(epochs: 2 here, 20 there\)"):
        Finetuning.create(run, "tuned", "wq", FinetuneConfig(epochs=2, question_len_tokens=32))
