"""A checkpoint with a short position table gives a run whose lengths fit; what the user chose stays or is refused."""

import dataclasses
import pathlib

import published
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realm_jax.commands import convert as command
from realm_jax.config import ConfigError
from realm_jax.convert.lengths import LEAST, LENGTHS, fitting, named_in
from realm_jax.experiments_file import load_experiment
from realm_jax.workdir import Workdir

EXPERIMENTS = pathlib.Path(__file__).parents[2] / "experiments"
BASE = load_experiment(str(EXPERIMENTS / "base_wikipedia.py"))


def lengths(config) -> dict[str, int]:
    return {name: getattr(getattr(config, name.split(".")[0]), name.split(".")[1]) for name in LENGTHS}


def with_values(config, values: dict):
    for name, value in values.items():
        section, field = name.split(".")
        changed = dataclasses.replace(getattr(config, section), **{field: value})
        config = dataclasses.replace(config, **{section: changed})
    return config


def with_rows(rows: int):
    return with_values(BASE, {"model.max_positions": rows})


@pytest.fixture
def bert(tmp_path, monkeypatch):
    """`bert(rows)`: the folder of a BERT with so many positions."""

    def write(rows: int) -> str:
        monkeypatch.setattr(published, "POSITIONS", rows)
        keys = ("vocab_size", "num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size")
        shape = {key: published.CONFIG[key] for key in (*keys, "hidden_act", "hidden_dropout_prob")}
        of_bert = shape | {"max_position_embeddings": rows}
        return str(published.write(tmp_path / f"bert-{rows}", published.plain_bert(), of_bert))

    return write


def test_64_rows_give_a_run_that_fits(bert, tmp_path, capsys):
    command.main([bert(64), str(tmp_path / "out")])
    (notice,) = [line for line in capsys.readouterr().out.splitlines() if "position table" in line]
    assert notice == (
        "notice: the checkpoint's position table has 64 rows, so the run's lengths are shorter: "
        "corpus.block_len_tokens=42 (not 288), pretrain.query_len_tokens=22 (not 96), "
        "finetune.question_len_tokens=22 (not 64)"
    )
    config = Workdir.open(tmp_path / "out").config
    assert config.check() and config.model.max_positions == config.joint_len_tokens == config.reader_len_tokens == 64
    assert config.ict.query_len_tokens == 64


def test_512_rows_change_nothing(bert, tmp_path, capsys):
    command.main([bert(512), str(tmp_path / "out")])
    assert "position table" not in capsys.readouterr().out
    assert lengths(Workdir.open(tmp_path / "out").config) == lengths(BASE)


@pytest.mark.parametrize("flag", ["--corpus.block_len_tokens=60", "--corpus.block-len-tokens=60"])
def test_a_length_that_the_user_chose_stays_or_is_refused(bert, tmp_path, flag):
    line = r"pretrain.query_len_tokens \+ corpus.block_len_tokens = 68 exceeds model.max_positions = 64"
    with pytest.raises(ConfigError, match=line):
        command.main([bert(64), str(tmp_path / "out"), flag])
    assert not (tmp_path / "out").exists()
    command.main([bert(64), str(tmp_path / "out"), flag.replace("60", "20"), "--pretrain.query_len_tokens=30"])
    assert lengths(Workdir.open(tmp_path / "out").config) == {
        "corpus.block_len_tokens": 20,
        "pretrain.query_len_tokens": 30,
        "finetune.question_len_tokens": 44,
        "ict.query_len_tokens": 64,
    }


def test_a_table_too_short_for_anything_is_refused():
    found, _ = fitting(with_rows(23))
    with pytest.raises(ConfigError, match="= 24 exceeds model.max_positions = 23"):
        found.check()
    assert fitting(with_rows(24))[0].check()


def test_the_least_lengths_are_those_of_the_checks():
    with_values(BASE, LEAST).check()
    for name in set(LEAST) - {"ict.query_len_tokens"}:
        with pytest.raises(ConfigError, match=name.replace(".", r"\.")):
            with_values(BASE, {name: LEAST[name] - 1}).check()


@settings(max_examples=200, deadline=None)
@given(
    rows=st.integers(24, 600),
    values=st.fixed_dictionaries({name: st.integers(LEAST[name], 400) for name in LENGTHS}),
    chosen=st.sets(st.sampled_from(LENGTHS)),
)
def test_lengths_only_shrink_and_fit_whenever_the_chosen_ones_allow_it(rows, values, chosen):
    config = with_values(with_rows(rows), values)
    found, notices = fitting(config, chosen)
    new = lengths(found)
    assert all(LEAST[name] <= new[name] <= values[name] for name in LENGTHS)
    assert all(new[name] == values[name] for name in chosen)
    assert bool(notices) == (new != values)
    assert all((name in notices[0]) == (new[name] != values[name]) for name in LENGTHS if notices)
    least = {name: values[name] if name in chosen else LEAST[name] for name in LENGTHS}
    block, *queries, ict = (least[name] for name in LENGTHS)
    possible = max(block + max(queries), ict) <= rows
    try:
        assert found.check() and possible
    except ConfigError:
        assert not possible


def test_flags_are_known_however_they_are_written():
    argv = ["SOURCE", "--pretrain.query-len-tokens", "30", "--ict.query_len_tokens=9", "--pretrain.steps=3", "OUT"]
    assert named_in(argv) == {"pretrain.query_len_tokens", "ict.query_len_tokens"}
