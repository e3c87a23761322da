"""A BERT's folder as `--init`: looked at before a corpus is built, known by its content, taken as it is."""

import dataclasses
import json

import bert_folder
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from realm_jax import run
from realm_jax.commands import corpus as build_command
from realm_jax.config import Config, ConfigError
from realm_jax.convert.export import to_hugging_face
from realm_jax.data import built
from realm_jax.eval.examples import _text
from realm_jax.model_folder.tokenizer import from_checkpoint
from realm_jax.model_folder.wordpiece import same
from realm_jax.models.pretrained import read_parts
from realm_jax.training import phases
from realm_jax.workdir import Workdir, write_json

ROWS = len(bert_folder.vocabulary())
WORDS = ["Norland", "Ada", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
HEAD = "cls.predictions.bias"


@pytest.fixture
def texts(tmp_path):
    """A file of two articles."""
    records = [{"id": str(i), "title": f"Town {i}", "text": f"Ada built Norland in 190{i}. It is old."} for i in (1, 2)]
    (tmp_path / "texts.jsonl").write_text("\n".join(map(json.dumps, records)))
    return tmp_path / "texts.jsonl"


@pytest.fixture
def begin(tiny_config, tmp_path, texts):
    """`begin(folder)` makes the workdir of a run from the BERT in a folder, whose table of words has `rows`."""

    def make(folder, rows=ROWS, name="run", **model) -> Workdir:
        shape = {"hidden_size": bert_folder.HIDDEN, "intermediate_size": bert_folder.INNER, "vocab_size": rows}
        model = dataclasses.replace(tiny_config.model, **{**shape, "gelu": "erf", **model})
        corpus = dataclasses.replace(tiny_config.corpus, knowledge=str(texts))
        config: Config = dataclasses.replace(tiny_config, init=str(folder), model=model, corpus=corpus)
        return Workdir.create(tmp_path / name, config)

    return make


def changed(folder, change):
    """The weights of a folder after a function has changed them."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def spoil_config(folder):
    bert_folder.write(folder, layer_norm_eps=1e-5)


def spoil_tokenizer(folder):
    (folder / "tokenizer_config.json").write_text('{"cls_token": "<s>"}')


def spoil_shards(folder):
    bert_folder.shard(folder, load_file(folder / "model.safetensors"))[1].unlink()
    (folder / "model.safetensors").unlink()


def spoil_positions(folder):
    changed(
        folder, lambda x: x.update({"bert.encoder.layer.0.attention.self.distance_embedding.weight": np.ones((3, 8))})
    )


def spoil_tie(folder):
    changed(folder, lambda x: x.update({"cls.predictions.decoder.weight": np.ones((ROWS, bert_folder.HIDDEN))}))


def spoil_head(folder):
    changed(folder, lambda x: x.pop(HEAD))


def spoil_numbers(folder):
    changed(folder, lambda x: x.update({HEAD: np.zeros(ROWS, np.int64)}))


def spoil_layers(folder):
    bert_folder.write(folder, num_hidden_layers=2)


SPOILED = {
    spoil_config: "layer_norm_eps 1e-05; REALM's models have 1e-12",
    spoil_tokenizer: "calls its cls_token '<s>'",
    spoil_shards: "model-00002-of-00002.safetensors: is missing",
    spoil_positions: "holds tensors that have no place: .*distance_embedding.weight",
    spoil_tie: "differs from the bert.embeddings.word.embedding that it is tied to",
    spoil_head: rf"the bert lacks {HEAD}",
    spoil_numbers: rf"{HEAD} holds whole numbers",
    spoil_layers: "pass --model.num_layers=2",
}


@pytest.mark.parametrize("spoil", SPOILED)
def test_what_is_wrong_is_said_before_a_corpus_is_built(begin, tmp_path, spoil):
    folder = bert_folder.write(tmp_path / "bert")
    spoil(folder)
    workdir = begin(folder)
    with pytest.raises(ConfigError, match=SPOILED[spoil]) as error:
        phases.prepare_run(workdir)
    assert "\n" not in str(error.value)
    assert [file.name for file in workdir.path.iterdir()] == ["config.json"]


def test_another_gelu_names_its_flag(begin, tmp_path):
    with pytest.raises(ConfigError, match="pass --model.gelu=erf$"):
        phases.prepare_run(begin(bert_folder.write(tmp_path / "bert"), gelu="tanh"))


def test_a_head_on_top_of_the_bert_is_no_part_of_it(begin, tmp_path):
    folder = bert_folder.write(tmp_path / "bert")
    config = begin(folder).config.model
    before = read_parts(config, folder)
    changed(folder, lambda x: x.update({"classifier.weight": np.ones((2, 16)), "qa_outputs.bias": np.ones(2)}))
    after = read_parts(config, folder)
    assert {part: leaves.keys() for part, leaves in before.items()} == {p: x.keys() for p, x in after.items()}


def test_other_weights_under_the_same_name(begin, tmp_path, capsys):
    folder = bert_folder.write(tmp_path / "bert")
    workdir = begin(folder)
    phases.prepare_run(workdir)
    phases.first_params(workdir)
    bert_folder.write(folder, seed=1)
    write_json(workdir.summary_file, {})
    for again in (phases.prepare_run, phases.first_params, run.run):
        with pytest.raises(ConfigError, match="bert holds other weights than those that .*run began with"):
            again(workdir)
    bert_folder.write(folder)
    for again in (phases.prepare_run, phases.first_params, run.run):
        again(workdir)
    folder.rename(tmp_path / "elsewhere")
    run.run(workdir)  # it is done, and nothing else is called the same
    assert capsys.readouterr().out.count("is finished") == 2


@pytest.mark.parametrize("init", ["random", "converted"])
def test_a_folder_that_is_called_like_a_word_for_no_folder(tiny_run, tmp_path, monkeypatch, init):
    monkeypatch.chdir(tmp_path)
    (tmp_path / init).mkdir()
    workdir = Workdir(tiny_run.path, dataclasses.replace(tiny_run.config, init=init))
    assert phases.prepare_run(workdir).knowledge.num_blocks > 100


def test_a_padded_table_of_words_comes_out_as_it_came(begin, tmp_path):
    folder = bert_folder.write(tmp_path / "bert", rows=128)
    workdir = begin(folder, rows=128)
    data = phases.prepare_run(workdir)
    assert data.tokenizer.get_vocab_size() == ROWS < 128
    to_hugging_face(workdir, tmp_path / "out")
    out, tensors = tmp_path / "out" / "encoder", load_file(folder / "model.safetensors")
    assert json.loads((out / "config.json").read_text())["vocab_size"] == 128
    exported = load_file(out / "model.safetensors")
    for name in ("bert.embeddings.word_embeddings.weight", HEAD):
        np.testing.assert_array_equal(exported[name.replace("bert.", "realm.")], tensors[name])
    assert _text(data.tokenizer, [5, 127]) == r"a [row 127]"
    other = begin(bert_folder.write(tmp_path / "other", rows=120), 120, "other run")  # not 112, the next multiple of 8
    with pytest.raises(ConfigError, match=f"has {ROWS} wordpieces, the config's model 120"):
        phases.prepare_run(other)


def cased(folder):
    bert_folder.write(folder, words=WORDS)
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    return folder


def test_a_cased_bert_stays_cased(begin, tmp_path):
    rows = len(bert_folder.vocabulary(WORDS))
    workdir = begin(cased(tmp_path / "bert"), rows)
    data = phases.prepare_run(workdir)
    tokens = [data.tokenizer.id_to_token(int(i)) for i in data.knowledge.segments[0].tokens]
    assert tokens.count("Norland") == tokens.count("Ada") == 2
    to_hugging_face(workdir, tmp_path / "out")
    assert not json.loads((tmp_path / "out" / "encoder" / "tokenizer_config.json").read_text())["do_lower_case"]
    again = from_checkpoint(tmp_path / "out" / "encoder")
    assert same(again, data.tokenizer) and same(from_checkpoint(tmp_path / "out" / "encoder" / "vocab.txt"), again)


def test_a_corpus_that_was_built_with_the_other_case(begin, texts, tmp_path):
    folder = cased(tmp_path / "bert")
    command = [f"--source={texts}", f"--out={tmp_path / 'built'}", "--block_len_tokens=48", "--workers=1"]
    build_command.main([*command, f"--tokenizer={folder}"])
    assert built.tokenizer_of(str(tmp_path / "built")).encode("Norland", add_special_tokens=False).tokens == ["Norland"]
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    workdir = begin(folder, len(bert_folder.vocabulary(WORDS)))
    corpus = dataclasses.replace(workdir.config.corpus, knowledge=str(tmp_path / "built"))
    workdir = Workdir.create(workdir.path, dataclasses.replace(workdir.config, corpus=corpus))
    with pytest.raises(ConfigError, match="was built with another vocabulary than the run's"):
        phases.prepare_run(workdir)


def test_a_corpus_is_not_built_for_a_model_that_cannot_be_used(texts, tmp_path):
    folder = bert_folder.write(tmp_path / "bert", hidden_act="relu")
    command = [f"--source={texts}", f"--out={tmp_path / 'built'}", f"--tokenizer={folder}"]
    with pytest.raises(ConfigError, match="hidden_act 'relu'"):
        build_command.main(command)
    bert_folder.write(folder)
    spoil_shards(folder)
    with pytest.raises(ConfigError, match="00002-of-00002.safetensors: is missing"):
        build_command.main(command)
    assert not (tmp_path / "built").exists()
