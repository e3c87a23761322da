"""Published checkpoints become workdirs that the commands start from; what does not fit is refused whole."""

import dataclasses
import json
import os
import pathlib
import pickle
import zipfile

import jax
import numpy as np
import published
import pytest
from test_tensor_bundle import write_bundle

from realm_jax.commands import convert as command
from realm_jax.config import ConfigError
from realm_jax.convert import knowledge
from realm_jax.convert.into_workdir import convert
from realm_jax.data import run_tokenizer
from realm_jax.data.prepare import open_prepared, prepare
from realm_jax.eval.zero_shot import heldout_recall
from realm_jax.index import follow_trainer
from realm_jax.index.search import open_search
from realm_jax.index.store import IndexStore
from realm_jax.model_folder.wordpiece import bert
from realm_jax.models.names import flatten
from realm_jax.training import phases, pretrain
from realm_jax.workdir import Workdir


@pytest.fixture
def base(tiny_config):
    """A run's settings, whose model every checkpoint replaces."""
    return dataclasses.replace(tiny_config, corpus=dataclasses.replace(tiny_config.corpus, knowledge="none.jsonl"))


@pytest.fixture
def tokenizer(tiny_run):
    return run_tokenizer.load(tiny_run.tokenizer_file)


@pytest.fixture
def make(tmp_path, base):
    """`make(name=(tensors, ...))` converts folders of checkpoints into `out` and returns its workdir and conversion."""

    def run(vocab="", **folders):
        specs = [str(published.write(tmp_path / name, *of_folder)) for name, of_folder in folders.items()]
        made = convert(specs, tmp_path / "out", base, vocab)
        return Workdir.open(tmp_path / "out"), made

    return run


def tensors_of(tree: dict) -> list[np.ndarray]:
    return [np.asarray(x) for x in flatten(tree).values()]


def check_bert(ours: dict, theirs: dict, prefix: str):
    """A BERT's arrays, a few of each kind; kernels are transposed."""
    for path, name in {
        ("embeddings", "word", "embedding"): "embeddings.word_embeddings.weight",
        ("layer_1", "attention", "key", "bias"): "encoder.layer.1.attention.self.key.bias",
        ("layer_0", "attention_norm", "scale"): "encoder.layer.0.attention.output.LayerNorm.weight",
        ("layer_1", "output_norm", "bias"): "encoder.layer.1.output.LayerNorm.bias",
    }.items():
        leaf = ours
        for key in path:
            leaf = leaf[key]
        np.testing.assert_array_equal(leaf, theirs[prefix + name], err_msg=name)
    kernel = ours["layer_0"]["intermediate"]["kernel"]
    np.testing.assert_array_equal(kernel, theirs[f"{prefix}encoder.layer.0.intermediate.dense.weight"].T)


@pytest.mark.slow
def test_embedder_and_encoder_make_a_run_that_trains(make, tokenizer, corpus_file):
    embedder, encoder = published.embedder(), published.encoder()
    workdir, made = make(a=(embedder, None, tokenizer), b=(encoder,))
    assert made.has == ["embedder", "encoder", "vocabulary"]
    assert [line.split()[0] for line in made.missing] == ["reader", "corpus", "index"]
    assert any("pad_token_id 1" in notice and "pads with 0" in notice for notice in made.notices)
    unused = [row.origin for row in made.rows if not row.ours]
    assert sum("(tied to" in origin for origin in unused) == 2
    assert sum("no part of REALM's embedder" in origin for origin in unused) == 5
    assert sum("realm.embeddings.position_ids (a buffer)" in origin for origin in unused) == 1
    assert sum("realm.pooler" in origin and "no part of REALM's encoder" in origin for origin in unused) == 2
    assert len(made.rows) - len(unused) == len(tensors_of(phases.first_params(workdir)))
    params = phases.first_params(workdir)
    check_bert(params["embedder"]["shared"]["bert"], embedder, "realm.")
    check_bert(params["encoder"]["bert"], encoder, "realm.")
    np.testing.assert_array_equal(
        params["embedder"]["shared"]["pooler"]["kernel"].T, embedder["realm.pooler.dense.weight"]
    )
    np.testing.assert_array_equal(params["embedder"]["shared"]["projection"]["kernel"].T, embedder["cls.dense.weight"])
    np.testing.assert_array_equal(params["encoder"]["mlm"]["bias"], encoder["cls.predictions.bias"])
    config = workdir.config
    assert (config.model.pooling, config.model.gelu, config.model.dropout) == ("cls", "tanh", 0.1)
    assert (config.ict.steps, config.name) == (0, "out")

    longer = dataclasses.replace(config, corpus=dataclasses.replace(config.corpus, knowledge=str(corpus_file)))
    workdir = Workdir.create(workdir.path, longer)
    pretrain.train(workdir, prepare(workdir))
    last = phases.last_params(workdir, "pretrain")
    assert any((a != b).any() for a, b in zip(tensors_of(params), tensors_of(last), strict=True))
    other = dataclasses.replace(longer, seed=5)
    with pytest.raises(ConfigError, match="made with another config .seed: 5 here, 0 there"):
        Workdir.create(workdir.path, other)  # now it has a corpus


def test_model_of_a_converted_workdir_stays(make, tokenizer):
    workdir, _ = make(a=(published.embedder(), None, tokenizer))
    config = dataclasses.replace(workdir.config, seed=5)
    assert Workdir.create(workdir.path, config).config.seed == Workdir.open(workdir.path).config.seed == 5
    with pytest.raises(ConfigError, match="another config .model.num_heads: 4 here, 2 there"):
        Workdir.create(workdir.path, dataclasses.replace(config, model=dataclasses.replace(config.model, num_heads=4)))


def test_one_part_alone_says_what_is_missing(make, base):
    workdir, made = make(a=(published.embedder(),))
    assert made.has == ["embedder"]
    assert any(line.startswith("vocabulary (every command with text asks for it") for line in made.missing)
    assert phases.first_params(workdir, ("embedder",)).keys() == {"embedder"}
    with pytest.raises(ConfigError, match="out was converted without encoder: convert again with a SOURCE that holds"):
        phases.first_params(workdir)
    assert not (workdir.path / "corpus").exists()
    with_corpus = dataclasses.replace(workdir.config, corpus=dataclasses.replace(base.corpus, knowledge="asset:mini"))
    with pytest.raises(ConfigError, match="out was converted without a vocabulary: convert again with --vocab="):
        prepare(Workdir.create(workdir.path, with_corpus))


def test_an_embedder_and_a_corpus_are_enough_to_search(tmp_path, base, tokenizer, corpus_file):
    folder = published.write(tmp_path / "a", published.embedder(), None, tokenizer)
    index = dataclasses.replace(base.index, device="cpu", wait_timeout_s=0.5)
    base = dataclasses.replace(base, corpus=dataclasses.replace(base.corpus, knowledge=str(corpus_file)), index=index)
    made = convert([str(folder)], tmp_path / "out", base, "", with_corpus=True)
    assert made.has == ["embedder", "vocabulary", "corpus"]
    workdir = Workdir.open(tmp_path / "out")
    with pytest.raises(ConfigError, match="no new checkpoint in .*: start the trainer"):
        follow_trainer.follow(workdir)
    assert [version.step for version in IndexStore(workdir.index_folder).versions()] == [0]
    assert heldout_recall(workdir)[0]["first weights"]["plain_recall@1"].n > 0
    with pytest.raises(ConfigError, match="out was converted without encoder: convert again with a SOURCE that holds"):
        pretrain.train(workdir, open_prepared(workdir))


@pytest.mark.parametrize("old_norms", [False, True])
@pytest.mark.parametrize("prefix", ["bert.", ""])
def test_a_plain_bert_becomes_both(make, old_norms, prefix):
    tensors = published.plain_bert()
    spelled = {name.replace("bert.", prefix, 1) if name.startswith("bert.") else name: x for name, x in tensors.items()}
    if old_norms:
        spelled = {
            n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): x
            for n, x in spelled.items()
        }
    config = {key: value for key, value in published.CONFIG.items() if "realm" not in str(value) and "proj" not in key}
    workdir, made = make(a=(spelled, config | {"hidden_act": "gelu", "pad_token_id": 0}))
    params = phases.first_params(workdir)
    check_bert(params["embedder"]["shared"]["bert"], tensors, "bert.")
    check_bert(params["encoder"]["bert"], tensors, "bert.")
    assert not made.notices and workdir.config.model.gelu == "erf"
    random = [row.ours for row in made.rows if row.origin.startswith("random")]
    assert sorted(random) == sorted(
        f"embedder.shared.{name}"
        for name in ("projection.kernel", "projection.bias", "projection_norm.scale", "projection_norm.bias")
    )


HEAD = [name for name in published.plain_bert() if name.startswith("cls.predictions.")]
PLAIN = {key: value for key, value in published.CONFIG.items() if key != "model_type" and "proj" not in key}


def test_a_head_is_random_only_where_there_is_none(make, tmp_path, base):
    tensors = published.plain_bert()
    _, made = make(a=(without(tensors, *HEAD), PLAIN))
    random = {row.ours for row in made.rows if row.origin == "random: the BERT has none"}
    assert {name for name in random if name.startswith("encoder.")} == {
        "encoder.mlm.bias", "encoder.mlm.transform.kernel", "encoder.mlm.transform.bias",
        "encoder.mlm.norm.scale", "encoder.mlm.norm.bias",
    }  # fmt: skip
    for name in HEAD:
        published.write(tmp_path / "b", without(tensors, name), PLAIN)
        with pytest.raises(ConfigError, match=rf"the bert lacks {name}"):
            convert([str(tmp_path / "b")], tmp_path / "other", base, "")


def test_what_config_json_promises_takes_no_memory(tmp_path, base):
    for changes, message in (
        ({"num_hidden_layers": 10**9}, "has the weights of 2 layers, its config.json says 1000000000"),
        ({"hidden_size": 10**9}, "has other shapes than the config"),
    ):
        published.write(tmp_path / "b", published.plain_bert(), PLAIN | changes)
        with pytest.raises(ConfigError, match=message):
            convert([str(tmp_path / "b")], tmp_path / "out", base, "")


def test_sources_with_different_vocabularies(make, tokenizer):
    other = bert({**tokenizer.get_vocab()}, lower=False)
    with pytest.raises(ConfigError, match="have different vocabularies: pass the right one as --vocab"):
        make(a=(published.embedder(), None, tokenizer), b=(published.encoder(), None, other))


def test_two_towers(make, tmp_path):
    query, block = published.embedder(7), published.embedder(8)
    scorer = published.under("embedder.", block) | published.under("query_embedder.", query)
    workdir, _ = make(scorer=(scorer,))
    params = phases.first_params(workdir, ("embedder",))["embedder"]
    assert params.keys() == {"query", "block"} and not workdir.config.model.shared_tower
    check_bert(params["query"]["bert"], query, "realm.")
    check_bert(params["block"]["bert"], block, "realm.")


def test_a_shared_tower_that_is_stored_twice(make):
    tensors = published.embedder(7)
    scorer = published.under("embedder.", tensors) | published.under("query_embedder.", tensors)
    workdir, made = make(scorer=(scorer,))
    assert workdir.config.model.shared_tower
    origins = [row.origin for row in made.rows if ": query_embedder." in row.origin]
    assert len(origins) == len(tensors)
    assert sum("(equal to embedder." in origin for origin in origins) == len(tensors) - 6  # MLM head and buffer


def test_a_copy_of_the_embedder_is_no_second_tower(make):
    """What is pre-trained only has one tower in all its checkpoints, whatever their unused heads hold."""
    tensors = published.embedder(7)
    copy = tensors | {"cls.predictions.bias": np.zeros(published.VOCAB, np.float32)}
    openqa = published.openqa(3) | published.under("embedder.", copy)
    scorer = published.under("embedder.", copy) | published.under("query_embedder.", copy)
    workdir, made = make(a=(tensors,), qa=(openqa,), scorer=(scorer,))
    params = phases.first_params(workdir, ("embedder", "reader"))
    assert workdir.config.model.shared_tower and params["embedder"].keys() == {"shared"}
    check_bert(params["embedder"]["shared"]["bert"], tensors, "realm.")
    accounted = [row.origin.split(": ")[1].split(" ")[0] for row in made.rows]
    assert sorted(accounted) == sorted([*tensors, *(openqa.keys() - {"block_emb"}), *scorer])


def test_a_fine_tuned_query_tower_beside_the_tower_of_the_blocks(make):
    openqa, block = published.openqa(3), published.embedder(8)
    workdir, made = make(qa=(openqa,), blocks=(block,))
    assert made.has == ["embedder", "reader"]
    assert any("block_emb is left out" in notice for notice in made.notices)
    params = phases.first_params(workdir, ("embedder", "reader"))
    check_bert(params["embedder"]["query"]["bert"], openqa, "embedder.realm.")
    check_bert(params["embedder"]["block"]["bert"], block, "realm.")
    check_bert(params["reader"]["bert"], openqa, "reader.realm.")
    span = params["reader"]["span"]
    np.testing.assert_array_equal(span["hidden"]["kernel"].T, openqa["reader.qa_outputs.dense_intermediate.weight"])
    np.testing.assert_array_equal(span["norm"]["scale"], openqa["reader.qa_outputs.layer_normalization.weight"])
    np.testing.assert_array_equal(span["score"]["kernel"].T, openqa["reader.qa_outputs.dense_output.weight"])


TF_ROOTS = {
    "embedder": ("module/module/module/", "module/module/"),
    "encoder": ("", ""),
    "reader": ("reader/module/", "reader/"),
    "tuned": ("module/module/module/module/", "module/module/module/"),
}


def test_tensorflows_names_give_the_same_parameters(make, tmp_path, base):
    embedder, encoder, reader = published.embedder(), published.encoder(), published.reader()
    torch, _ = make(a=(embedder,), b=(encoder,), c=(reader,))
    parts = {"embedder": embedder, "encoder": encoder, "reader": reader}
    specs = []
    for part, tensors in parts.items():
        (tmp_path / "tf" / part).mkdir(parents=True)
        prefix = write_bundle(tmp_path / "tf" / part / "variables", published.to_tf(tensors, *TF_ROOTS[part]))
        (prefix.parent / "config.json").write_text(json.dumps(published.CONFIG))
        specs.append(str(prefix))
    convert(specs, tmp_path / "out-tf", base, "")
    theirs, ours = (phases.first_params(Workdir.open(p), tuple(parts)) for p in (torch.path, tmp_path / "out-tf"))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_a_fine_tuned_tensorflow_checkpoint_without_config(tmp_path, base):
    tuned, reader = published.embedder(5), published.reader(6)
    variables = published.to_tf(tuned, *TF_ROOTS["tuned"]) | published.to_tf(reader, *TF_ROOTS["reader"])
    write_bundle(tmp_path / "model.ckpt-3", variables)
    made = convert([str(tmp_path / "model.ckpt-3")], tmp_path / "out", base, "")
    workdir = Workdir.open(tmp_path / "out")
    assert made.has == ["embedder", "reader"] and "has no config.json: taken from the shapes" in made.notices[0]
    model = workdir.config.model
    assert (model.hidden_size, model.intermediate_size, model.projection_dim, model.span_hidden_size) == (16, 24, 8, 12)
    params = phases.first_params(workdir, ("embedder", "reader"))
    check_bert(params["embedder"]["shared"]["bert"], tuned, "realm.")
    check_bert(params["reader"]["bert"], reader, "realm.")
    assert sum("(state of its training)" in row.origin for row in made.rows) == sum(
        name.endswith(("adam_m", "adam_v", "global_step")) for name in variables
    )
    assert len(made.rows) == len(variables)


@pytest.mark.slow
def test_variables_that_tensorflow_saved(make, tmp_path, base, oracle):
    openqa = published.openqa(3)
    torch, _ = make(a=(openqa,))
    variables = {"block_emb": openqa["block_emb"]}
    for part, roots in (("embedder", "tuned"), ("reader", "reader")):
        tensors = {n.removeprefix(f"{part}."): x for n, x in openqa.items() if n.startswith(f"{part}.")}
        variables |= published.to_tf(tensors, *TF_ROOTS[roots])
    np.savez(tmp_path / "variables.npz", **{name.replace("/", ":"): x for name, x in variables.items()})
    code = """
import sys, numpy as np, tensorflow as tf
values = {name.replace(":", "/"): tf.constant(x) for name, x in np.load(sys.argv[1] + "/variables.npz").items()}
tf.raw_ops.SaveV2(prefix=sys.argv[1] + "/tf/model.ckpt-7", tensor_names=list(values),
                  shape_and_slices=[""] * len(values), tensors=list(values.values()))
"""
    oracle(code, tmp_path)
    (tmp_path / "tf" / "config.json").write_text(json.dumps(published.CONFIG))
    convert([str(tmp_path / "tf" / "model.ckpt-7")], tmp_path / "out-tf", base, "")
    parts = ("embedder", "reader")
    theirs, ours = (phases.first_params(Workdir.open(p), parts) for p in (torch.path, tmp_path / "out-tf"))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def without(tensors: dict, *names: str) -> dict:
    return {name: x for name, x in tensors.items() if name not in names}


LAYER = "realm.encoder.layer.1.output.dense.weight"
BAD = {
    "missing tensor": (
        {"tensors": without(published.embedder(), LAYER)},
        rf"lacks {LAYER} \(24, 16\).*: nothing is left",
    ),
    "missing beside another": (
        {
            "tensors": without(published.embedder(), LAYER)
            | {"realm.encoder.layer.1.output.thick.weight": np.ones((2, 3), np.float32)}
        },
        rf"lacks {LAYER} \(24, 16\): left over on their side: .*thick.weight \(2, 3\)",
    ),
    "extra tensor": (
        {"tensors": published.embedder() | {"realm.extra.weight": np.ones((2, 3), np.float32)}},
        r"holds tensors that have no place: realm.extra.weight \(2, 3\)",
    ),
    "wrong shape": (
        {"tensors": published.embedder() | {LAYER: np.ones((3, 3), np.float32)}},
        rf"has other shapes than the config: {LAYER} \(3, 3\) for bert.layer_1.output.kernel \(24, 16\)",
    ),
    "untied decoder": (
        {"tensors": published.encoder() | {"cls.predictions.decoder.bias": np.ones(700, np.float32)}},
        "cls.predictions.decoder.bias differs from the mlm.bias that it is tied to",
    ),
    "no BERT": (
        {"tensors": {"conv.weight": np.ones((2, 2), np.float32)}},
        r"holds tensors of no BERT: conv.weight \(2, 2\)",
    ),
    "vocabulary size": ({"config": published.CONFIG | {"vocab_size": 600}}, r"word_embeddings.weight \(700, 16\)"),
    "key of config": ({"config": without(published.CONFIG, "hidden_act")}, "config.json: lacks 'hidden_act'"),
    "activation": ({"config": published.CONFIG | {"hidden_act": "relu"}}, "hidden_act 'relu', not one of gelu_new"),
    "text in config": (
        {"config": published.CONFIG | {"hidden_size": "16"}},
        "config.json: has hidden_size '16': correct it to a number",
    ),
    "heads": (
        {"config": published.CONFIG | {"num_attention_heads": 3}},
        "a: model.hidden_size must be a multiple of model.num_heads: correct config.json",
    ),
    "epsilon": (
        {"config": published.CONFIG | {"layer_norm_eps": 1e-5}},
        "layer_norm_eps 1e-05; REALM's models have 1e-12",
    ),
    "segments": ({"config": published.CONFIG | {"type_vocab_size": 1}}, "type_vocab_size 1; REALM's models have 2"),
}


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD)
def test_what_does_not_fit_is_refused_whole(make, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        make(a=(changes.get("tensors", published.embedder()), changes.get("config")))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


def test_damaged_files_and_vocabularies_are_refused_whole(make, tmp_path, base, tiny_run):
    folder = published.write(tmp_path / "a", published.embedder())
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ConfigError, match="model.safetensors: is damaged or no safetensors file"):
        convert([str(folder)], tmp_path / "out", base, "")
    published.write(folder, published.embedder())
    small = run_tokenizer.train(["a few words"], 60)
    small.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ConfigError, match="tokenizer.json: has 60 wordpieces, the model 700: pass --vocab"):
        convert([str(folder)], tmp_path / "out", base, str(tmp_path / "tokenizer.json"))
    (tmp_path / "vocab.txt").write_text("".join(f"{piece}\n" for piece in ["[PAD]", "[UNK]", *range(698)]))
    with pytest.raises(ConfigError, match=r"vocab.txt: has no \[CLS\], \[SEP\], \[MASK\]: pass --vocab of a BERT"):
        convert([str(folder)], tmp_path / "out", base, str(tmp_path / "vocab.txt"))
    other = published.write(tmp_path / "b", published.embedder(9))
    for specs, message in (
        ([str(folder), str(other)], "a and .*b each hold an embedder"),
        ([str(tmp_path / "nothing")], "no such file or folder"),
    ):
        with pytest.raises(ConfigError, match=message):
            convert(specs, tmp_path / "out", base, "")
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()
    convert([str(folder)], tmp_path / "out", base, str(tiny_run.tokenizer_file))
    with pytest.raises(ConfigError, match="out: is there already"):
        convert([str(folder)], tmp_path / "out", base, "")


class Calls:
    """Pickles as a call of os.system."""

    def __init__(self, command: str):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_a_pickle_that_calls_is_not_opened(tmp_path, base):
    touched = tmp_path / "touched"
    content = pickle.dumps({"realm.embeddings.word_embeddings.weight": Calls(f"touch {touched}")}, protocol=2)
    for i, write in enumerate((lambda file: file.write_bytes(content), lambda file: write_zip(file, content))):
        folder = tmp_path / str(i)
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(published.CONFIG))
        write(folder / "pytorch_model.bin")
        with pytest.raises(ConfigError, match="pytorch_model.bin: its pickle asks for posix.system, which is no part"):
            convert([str(folder)], tmp_path / "out", base, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]
    pickle.loads(content)
    assert touched.exists()  # so it would have been called


def write_zip(file: pathlib.Path, content: bytes) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", content)


def write_records(file: pathlib.Path, texts: list[str]) -> pathlib.Path:
    array = np.empty(len(texts), object)
    array[:] = [text.encode() for text in texts]
    np.save(file, array, allow_pickle=True)
    return file


@pytest.fixture
def texts(tiny_run):
    """Bodies of blocks, in an order of their own."""
    corpus = open_prepared(tiny_run).knowledge
    return [corpus.block(i).text for i in range(corpus.num_blocks)][::-1][:50]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_knowledge_files_become_corpus_and_index(tmp_path, base, tokenizer, texts, dtype):
    tensors = published.openqa(len(texts))
    folder = published.write(tmp_path / "qa", tensors, None, tokenizer)
    write_records(folder / "block_records.npy", texts)
    base = dataclasses.replace(base, index=dataclasses.replace(base.index, dtype=dtype))
    made = convert([str(folder)], tmp_path / "out", base, "")
    assert made.has == ["embedder", "reader", "vocabulary", "corpus", "index"]
    workdir = Workdir.open(tmp_path / "out")
    data = prepare(workdir)
    assert [data.knowledge.block(i).text for i in range(len(texts))] == texts
    assert data.knowledge.num_blocks == len(texts)
    version = IndexStore(workdir.index_folder).latest()
    version.check_corpus(data.knowledge.segment_hashes)
    version.verify()
    np.testing.assert_allclose(version.load_embeddings().astype(np.float32), tensors["block_emb"], rtol=1e-2)
    if dtype == "float32":
        np.testing.assert_array_equal(version.load_embeddings(), tensors["block_emb"])
    assert (version.step, version.manifest["embedded_by"]) == (0, str(folder))
    assert not version.has_tower  # fine-tuned with the reader: it embeds queries
    query_emb = np.random.default_rng(3).normal(size=(5, published.PROJECTION)).astype(np.float32)
    search = open_search(
        "exact", version.load_embeddings(), live=None, folder=version.local_folder(), config=workdir.config.index
    )
    expected = np.argsort(-query_emb @ version.load_embeddings().astype(np.float32).T, axis=1)[:, :7]
    np.testing.assert_array_equal(search.search(query_emb, 7)[0], expected)


def test_the_embedder_before_fine_tuning_is_kept_with_the_published_index(tmp_path, base, tokenizer, texts):
    folder = published.write(tmp_path / "qa", published.openqa(len(texts)), None, tokenizer)
    write_records(folder / "block_records.npy", texts)
    published.write(tmp_path / "pretrained", published.embedder(seed=77))
    convert([str(folder), str(tmp_path / "pretrained")], tmp_path / "out", base, "")
    workdir = Workdir.open(tmp_path / "out")
    tower = phases.first_params(workdir, ("embedder",))["embedder"]["block"]
    kept = IndexStore(workdir.index_folder).latest().load_tower()
    jax.tree.map(np.testing.assert_array_equal, kept, tower)


def test_texts_alone_are_the_corpus_of_a_run_from_other_weights(tmp_path, base, tiny_run, texts):
    (tmp_path / "texts").mkdir()
    specs = [str(write_records(tmp_path / "texts" / "block_records.npy", texts))]
    small = dataclasses.replace(base, model=dataclasses.replace(base.model, vocab_size=600))
    with pytest.raises(ConfigError, match="has 700 wordpieces, the model 600: pass --model.vocab_size=700"):
        convert(specs, tmp_path / "out", small, str(tiny_run.tokenizer_file))
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()
    made = convert(specs, tmp_path / "out", base, str(tiny_run.tokenizer_file))
    workdir = Workdir.open(tmp_path / "out")
    assert made.has == ["vocabulary", "corpus"] and workdir.config.init == base.init == "random"
    assert prepare(workdir).knowledge.num_blocks == len(texts)
    assert phases.first_params(workdir).keys() == {"embedder", "encoder"}


def test_a_killed_conversion_goes_on_with_the_next_segment(tmp_path, base, tokenizer, texts, monkeypatch):
    monkeypatch.setattr(knowledge, "SEGMENT_BLOCKS", 20)
    folder = published.write(tmp_path / "qa", published.openqa(len(texts)), None, tokenizer)
    write_records(folder / "block_records.npy", texts)
    convert([str(folder)], tmp_path / "unbroken", base, "")
    real, calls = knowledge.corpus_writer.append, []

    def killed(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(knowledge.corpus_writer, "append", killed)
    with pytest.raises(KeyboardInterrupt):
        convert([str(folder)], tmp_path / "out", base, "")
    assert not (tmp_path / "out").exists()
    first = tmp_path / "out.partial" / "corpus" / "segment-00000" / "tokens.bin"
    before = first.stat().st_ino
    convert([str(folder)], tmp_path / "out", base, "")
    assert len(calls) == 4 and not (tmp_path / "out.partial").exists()
    corpora = [open_prepared(Workdir.open(tmp_path / name)).knowledge for name in ("unbroken", "out")]
    assert corpora[0].segment_hashes == corpora[1].segment_hashes and len(corpora[0].segment_hashes) == 3
    assert (tmp_path / "out" / "corpus" / "segment-00000" / "tokens.bin").stat().st_ino == before


@pytest.fixture
def killed(tmp_path, base, tokenizer, texts, monkeypatch):
    """A source whose conversion into `out` was killed while it built the index: what Python cannot clean up stays."""

    def kill(*_):
        (tmp_path / "out.partial" / "index" / "step-00000000-abcdef").mkdir(parents=True)
        os.utime(tmp_path / "out.partial" / "index" / "step-00000000-abcdef", (1e9, 1e9))
        raise KeyboardInterrupt

    folder = published.write(tmp_path / "qa", published.openqa(len(texts)), None, tokenizer)
    write_records(folder / "block_records.npy", texts)
    with monkeypatch.context() as patch:
        patch.setattr(knowledge, "publish_index", kill)
        with pytest.raises(KeyboardInterrupt):
            convert([str(folder)], tmp_path / "out", base, "")
    return folder


def test_what_a_killed_conversion_left_of_an_index_is_removed(killed, tmp_path, base):
    (tmp_path / "out.partial" / "init" / "of the first").touch()
    convert([str(killed)], tmp_path / "out", base, "")
    assert (tmp_path / "out" / "init" / "of the first").exists()
    assert len(list((tmp_path / "out" / "index").glob("step-*"))) == 1


def test_a_conversion_killed_behind_its_weights_goes_on(killed, tmp_path, base):
    (tmp_path / "out.partial" / "init" / "DONE").unlink()  # the checkpoint is there, and was not said to be done
    convert([str(killed)], tmp_path / "out", base, "")
    assert Workdir.open(tmp_path / "out").is_done("init")


def test_another_conversion_does_not_go_on_with_what_is_there(killed, tmp_path, base):
    (tmp_path / "out.partial" / "init" / "of the first").touch()
    convert([str(killed)], tmp_path / "out", dataclasses.replace(base, seed=4), "")
    assert not (tmp_path / "out" / "init" / "of the first").exists()
    assert Workdir.open(tmp_path / "out").config.seed == 4


def test_knowledge_files_that_do_not_fit(tmp_path, base, tokenizer, texts):
    folder = published.write(tmp_path / "qa", published.openqa(len(texts) - 1), None, tokenizer)
    for records, message in (
        (texts, rf"block_emb has shape \({len(texts) - 1}, 8\), the records and the embedder make \({len(texts)}, 8\)"),
        ([*texts[:3], " ", *texts[4:-1]], "record 3: has no text"),
    ):
        write_records(folder / "block_records.npy", records)
        with pytest.raises(ConfigError, match=message):
            convert([str(folder)], tmp_path / "out", base, "")
        assert [path.name for path in tmp_path.iterdir()] == ["qa"]
    with pytest.raises(ConfigError, match="its block records are the corpus: leave out --corpus"):
        convert([str(folder)], tmp_path / "out", base, "", with_corpus=True)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match="block records need a vocabulary: pass --vocab"):
        convert([str(folder)], tmp_path / "out", base, "")


def test_the_command_prints_the_table_and_what_is_next(tmp_path, capsys, tiny_config, monkeypatch):
    published.write(tmp_path / "a", published.embedder())
    published.write(tmp_path / "b", published.encoder())
    flags = ["--pretrain.query_len_tokens=32", "--corpus.block_len_tokens=48"]
    paths = [str(tmp_path / name) for name in ("a", "b", "out")]
    command.main([*paths, "--config=experiments/mini.py", *flags])
    out = capsys.readouterr().out
    assert "embedder.shared.projection.kernel" in out and "16x8" in out and "a: cls.dense.weight" in out
    assert f"next: realm run --workdir={tmp_path}/out --corpus=FILE_OR_FOLDER" in out
    assert Workdir.open(tmp_path / "out").config.index.search == "exact"  # mini.py says scann
    assert json.loads(Workdir.open(tmp_path / "out").conversion_file.read_text())["parts"] == [
        "embedder",
        "encoder",
    ]
    with pytest.raises(ConfigError, match="pass SOURCE... OUT"):
        command.main(paths[:1])


def test_the_commands_of_the_docs_are_understood(monkeypatch):
    text = (pathlib.Path(__file__).parents[2] / "docs" / "checkpoints.md").read_text().replace("\\\n", " ")
    lines = [line.split() for line in text.splitlines() if line.startswith("    realm convert")]
    done = []
    monkeypatch.setattr(command, "_into_workdir", lambda sources, *_: done.append(("in", len(sources))))
    monkeypatch.setattr(command, "_export", lambda workdir, out, to: done.append((to, 1)))
    monkeypatch.setattr(command.Workdir, "open", lambda path: path)
    for words in lines:
        command.main(words[2:])
    assert done == [("in", 2), ("in", 2), ("in", 1), ("in", 1), ("hf", 1), ("sentence-transformers", 1)]


@pytest.mark.slow
def test_the_published_shapes_take_little_memory(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(pathlib.Path(__file__).parents[2] / "benchmarks")
    import convert_published

    from realm_jax.config import ModelConfig

    for part, name in (("embedder", "RealmEmbedder"), ("encoder", "RealmKnowledgeAugEncoder")):
        convert_published.write_checkpoint(tmp_path / part, part, name, ModelConfig())
    used = convert_published.convert(tmp_path, [tmp_path / "embedder", tmp_path / "encoder"])
    assert 0.1 < used["peak_anonymous_gib"] < 4
