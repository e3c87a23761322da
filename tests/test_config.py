"""The config: what it refuses, and what every experiment file returns."""

import dataclasses
import pathlib

import pytest

from realm_jax import config as config_lib
from realm_jax import config_json
from realm_jax.config import Config, ConfigError
from realm_jax.experiments_file import load_experiment

EXPERIMENTS = pathlib.Path(__file__).parents[1] / "experiments"
BAD = [
    ("model", {"hidden_size": 100}, "multiple of model.num_heads"),
    ("model", {"vocab_size": 70000}, "at most 65536"),
    ("model", {"dropout": 1.0}, r"model.dropout must lie in \[0, 1\)"),
    ("corpus", {"knowledge": ""}, "pass --corpus=FILE_OR_FOLDER"),
    ("corpus", {"block_len_tokens": 8}, "corpus.block_len_tokens"),
    ("corpus", {"tagger": "best"}, "corpus.tagger 'best' is unknown: use rules or spacy:PIPELINE"),
    ("corpus", {"heldout_fraction": 1.0}, "corpus.heldout_fraction"),
    ("ict", {"batch_size": 1}, "ict.batch_size must be > 1"),
    ("pretrain", {"num_candidates": 1}, "at least 2"),
    ("pretrain", {"answer_elsewhere": True, "masking": "span"}, "answer_elsewhere needs pretrain.masking=salient"),
    ("pretrain", {"answer_depth": 100, "masking": "uniform"}, "answer_depth needs pretrain.masking=salient"),
    ("pretrain", {"retriever_update_every": 3, "index_refresh_every": 100}, "must be a multiple of"),
    ("pretrain", {"retriever_update_every": 5, "retriever_warmup_steps": 3}, "--pretrain.retriever_warmup_steps=5$"),
    ("pretrain", {"retriever_warmup_steps": -1}, "pretrain.retriever_warmup_steps must be >= 0"),
    ("pretrain", {"micro_batch": -1}, "pretrain.micro_batch must be >= 0"),
    ("pretrain", {"eval_examples": 0}, "pretrain.eval_examples must be >= 1"),
    ("pretrain", {"recall_examples": 0}, "pretrain.recall_examples must be >= 1"),
    ("finetune", {"patience": -1}, "finetune.patience must be >= 0"),
    ("finetune", {"train_questions": -1}, "finetune.train_questions must be >= 0"),
    ("model", {"num_heads": 0}, "model.num_heads must be >= 1"),
    *((phase, {"log_every": 0}, f"{phase}.log_every must be >= 1") for phase in ("ict", "pretrain", "finetune")),
    ("index", {"keep_versions": 0}, "index.keep_versions must be >= 1"),
    ("ict", {"learning_rate": -1e-4}, "ict.learning_rate must be >= 0"),
    ("pretrain", {"learning_rate": -1e-4}, "pretrain.learning_rate must be >= 0"),
    ("pretrain", {"retriever_learning_rate": -1e-4}, "pretrain.retriever_learning_rate must be >= 0"),
    ("finetune", {"learning_rate": float("nan")}, "finetune.learning_rate must be >= 0"),
    ("finetune", {"retriever_learning_rate": -1e-4}, "finetune.retriever_learning_rate must be >= 0"),
    ("pretrain", {"query_len_tokens": 400}, "exceeds model.max_positions = 512"),
    ("index", {"max_age_policy": "stop"}, "max_age_policy=stop needs index.max_age_steps > 0"),
    ("index", {"max_age_policy": "pause", "max_age_steps": 10}, "nobody builds"),
    ("index", {"builder_nice": 20}, "index.builder_nice"),
    ("index", {"lsh_bits": 30}, "index.lsh_bits"),
]


def config(**sections) -> Config:
    base = Config(corpus=config_lib.CorpusConfig(knowledge="asset:mini"))
    changed = {name: dataclasses.replace(getattr(base, name), **values) for name, values in sections.items()}
    return dataclasses.replace(base, **changed)


def test_defaults_are_the_papers():
    base = config().check()
    pretrain, model = base.pretrain, base.model
    assert (model.hidden_size, model.num_layers, model.projection_dim) == (768, 12, 128)
    assert (pretrain.batch_size, pretrain.steps, pretrain.num_candidates, pretrain.learning_rate) == (
        512,
        200_000,
        8,
        3e-5,
    )
    assert (pretrain.query_len_tokens, base.corpus.block_len_tokens, base.joint_len_tokens) == (96, 288, 384)
    assert pretrain.index_refresh_every == 500 and pretrain.sampling == "block"


@pytest.mark.parametrize(("section", "values", "message"), BAD)
def test_a_bad_value_is_named(section, values, message):
    with pytest.raises(ConfigError, match=message) as error:
        config(**{section: values}).check()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["", "a/b"])
def test_name_is_a_plain_word(name):
    with pytest.raises(ConfigError, match="plain word"):
        dataclasses.replace(config(), name=name).check()


@pytest.mark.parametrize("file", sorted(EXPERIMENTS.glob("[!_]*.py")), ids=lambda file: file.stem)
def test_experiment_file(file):
    """Each returns a valid config of its own name, and says how it is run and what came out."""
    found = load_experiment(str(file))
    assert found.check() is found and found.name == file.stem
    docstring = file.read_text().split('"""')[1]
    assert all(f"\n{word}" in docstring for word in ("command", "hardware", "time", "result"))


FROM_NANO = {
    "squad": """name 'squad'
corpus.knowledge 'tfds:squad'
corpus.block_len_tokens 128
corpus.heldout_fraction 0.05
pretrain.steps 600
pretrain.answer_elsewhere False
pretrain.index_refresh_every 50
pretrain.eval_examples 256
finetune.epochs 2
finetune.question_len_tokens 32
finetune.dev_questions 200""",
    "ablations": """name 'ablations'
pretrain.steps 400
pretrain.answer_elsewhere False
pretrain.index_refresh_every 50
pretrain.retriever_warmup_steps 100
pretrain.eval_examples 256
index.search 'exact'
index.device 'inline'
index.keep_versions 2
index.max_age_steps 50
index.max_age_policy 'pause'
index.builder_threads 0
index.builder_nice 0
finetune.epochs 1
finetune.dev_questions 200
finetune.train_questions 8000
finetune.eval_every 125""",
}


@pytest.mark.parametrize("name", FROM_NANO)
def test_experiments_that_start_from_nano_change_these_settings_alone(name):
    """Their results were measured with just these values."""
    ours, nano = (load_experiment(str(EXPERIMENTS / f"{file}.py")) for file in (name, "nano"))
    changed = [line.partition(" here,")[0].replace(": ", " ", 1) for line in config_json.differences(ours, nano)]
    assert sorted(changed) == sorted(FROM_NANO[name].splitlines())


def test_mini_divides_over_eight_devices_and_refreshes_often():
    mini = load_experiment(str(EXPERIMENTS / "mini.py"))
    sizes = (mini.ict.batch_size, mini.pretrain.batch_size)
    assert all(size % 8 == 0 for size in sizes)
    assert mini.pretrain.steps // mini.pretrain.index_refresh_every >= 3
    assert mini.init == "random" and mini.corpus.knowledge == "asset:mini"  # no network


def test_a_config_from_before_a_field_was_there_has_its_default():
    written = config_json.to_json(config(ict={"log_every": 7}))
    assert config_json.from_json(written).ict.log_every == 7
    del written["ict"]["log_every"]
    assert config_json.from_json(written) == config()
    with pytest.raises(ConfigError, match="written by another version of realm_jax"):
        config_json.from_json({**written, "ict": {"log_each": 7}})


def test_differences_name_section_and_field():
    other = config(index={"search": "lsh"}, pretrain={"steps": 5})
    assert config_json.differences(config(), other) == [
        "pretrain.steps: 200000 here, 5 there",
        "index.search: 'scann' here, 'lsh' there",
    ]
    assert config_json.differences(config(), config()) == []


def test_an_experiment_goes_by_its_bare_name_too(monkeypatch):
    monkeypatch.chdir(EXPERIMENTS.parent)
    assert load_experiment("mini") == load_experiment("experiments/mini.py")
    with pytest.raises(ConfigError, match="no experiment file minii: pass --config=FILE.py"):
        load_experiment("minii")
