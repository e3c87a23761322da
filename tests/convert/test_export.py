"""What goes out is what came in, and other libraries compute the same with it."""

import dataclasses
import json
import pathlib

import jax.numpy as jnp
import numpy as np
import published
import pytest
from safetensors.numpy import load_file

from realm_jax.config import ConfigError
from realm_jax.convert.export import to_hugging_face, to_sentence_transformers
from realm_jax.convert.into_workdir import convert
from realm_jax.data import wordpiece
from realm_jax.data.ict import concatenate
from realm_jax.data.masking import SpecialIds
from realm_jax.data.prepare import prepare
from realm_jax.models import embedder
from realm_jax.models.names import flatten
from realm_jax.training import phases, pretrain
from realm_jax.types import register_pytrees, stack
from realm_jax.workdir import Workdir

GOLDEN = pathlib.Path(__file__).parents[2].parent / "shared" / "parity"
needs_golden = pytest.mark.skipif(not GOLDEN.exists(), reason="no golden models at ../shared/parity")


@pytest.fixture
def converted(tmp_path, tiny_config):
    """`converted(*specs)` makes a workdir of published checkpoints."""

    def run(*specs, block_len_tokens=32) -> Workdir:
        corpus = dataclasses.replace(tiny_config.corpus, block_len_tokens=block_len_tokens)
        base = dataclasses.replace(tiny_config, corpus=corpus)
        convert([str(spec) for spec in specs], tmp_path / "in", base, "")
        return Workdir.open(tmp_path / "in")

    return run


def check_equal(folder: pathlib.Path, tensors: dict, unused: set[str] = frozenset()):
    """Every tensor of a folder is the source's, bit by bit, and none but the unused ones is missing."""
    ours = load_file(folder / "model.safetensors")
    assert tensors.keys() - ours.keys() == unused and ours.keys() <= tensors.keys()
    for name, x in ours.items():
        np.testing.assert_array_equal(x, tensors[name], err_msg=name)


POOLER = {"realm.pooler.dense.weight", "realm.pooler.dense.bias"}
MLM = {name for name in published.flat(published.MLM)}
DECODER = {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}


def test_every_tensor_comes_back(tmp_path, converted, tiny_run):
    tokenizer = wordpiece.load(tiny_run.tokenizer_file)
    sources = {"embedder": published.embedder(), "encoder": published.encoder(), "reader": published.reader()}
    folders = [published.write(tmp_path / part, x, None, tokenizer) for part, x in sources.items()]
    lines = to_hugging_face(converted(*folders), tmp_path / "out")
    check_equal(tmp_path / "out" / "embedder", sources["embedder"], MLM | {"realm.embeddings.position_ids"})
    check_equal(tmp_path / "out" / "encoder", sources["encoder"], POOLER | DECODER)
    check_equal(tmp_path / "out" / "reader", sources["reader"], POOLER | MLM)
    assert [line.split(": ")[-1] for line in lines[:3]] == [
        "RealmEmbedder.from_pretrained",
        "RealmKnowledgeAugEncoder.from_pretrained",
        "RealmReader.from_pretrained",
    ]
    config = json.loads((tmp_path / "out" / "reader" / "config.json").read_text())
    theirs = published.CONFIG | {"pad_token_id": 0}
    assert {key: config[key] for key in theirs} == theirs and config["architectures"] == ["RealmReader"]
    vocabulary = (tmp_path / "out" / "encoder" / "vocab.txt").read_text().splitlines()
    assert vocabulary == [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    again = wordpiece.from_checkpoint(tmp_path / "out" / "encoder" / "vocab.txt")
    assert again.encode("The Cafés of Paris, 1950.").ids == tokenizer.encode("The Cafés of Paris, 1950.").ids
    with pytest.raises(ConfigError, match="out: is there already"):
        to_hugging_face(Workdir.open(tmp_path / "in"), tmp_path / "out")


def test_two_towers_make_a_scorer(tmp_path, converted):
    query, block = published.embedder(7), published.embedder(8)
    scorer = published.under("embedder.", block) | published.under("query_embedder.", query)
    to_hugging_face(converted(published.write(tmp_path / "scorer", scorer)), tmp_path / "out")
    unused = MLM | {"realm.embeddings.position_ids"}
    sides = {prefix + name for prefix in ("embedder.", "query_embedder.") for name in unused}
    check_equal(tmp_path / "out" / "scorer", scorer, sides)
    check_equal(tmp_path / "out" / "embedder", block, unused)


def test_a_trained_run_gives_its_last_weights(tmp_path, new_run):
    workdir = new_run()
    pretrain.train(workdir, prepare(workdir))
    to_hugging_face(workdir, tmp_path / "out")
    first = phases.first_params(workdir)
    last = phases.last_params(workdir, "pretrain", first)
    exported = load_file(tmp_path / "out" / "embedder" / "model.safetensors")["cls.dense.weight"]
    kernels = [flatten(params["embedder"]["shared"])["projection.kernel"] for params in (first, last)]
    np.testing.assert_array_equal(exported, kernels[1].T)
    assert (exported != kernels[0].T).any()


@needs_golden
def test_golden_models_come_back(tmp_path, converted):
    workdir = converted(GOLDEN / "embedder", GOLDEN / "knowledge_encoder")
    to_hugging_face(workdir, tmp_path / "out")
    embedder_tensors = load_file(GOLDEN / "embedder" / "model.safetensors")
    unused = {name for name in embedder_tensors if name.startswith("cls.predictions.")}
    check_equal(tmp_path / "out" / "embedder", embedder_tensors, unused)
    check_equal(tmp_path / "out" / "encoder", load_file(GOLDEN / "knowledge_encoder" / "model.safetensors"), POOLER)


@needs_golden
@pytest.mark.slow
def test_transformers_computes_the_golden_outputs(tmp_path, converted, oracle):
    workdir = converted(GOLDEN / "embedder", GOLDEN / "knowledge_encoder", GOLDEN / "reader")
    to_hugging_face(workdir, tmp_path / "out")
    code = """
import sys, numpy as np, torch
from transformers import RealmEmbedder, RealmKnowledgeAugEncoder, RealmReader
out, golden = sys.argv[1], np.load(sys.argv[2])
t = lambda name: torch.tensor(golden[name])
flat = lambda x: x.flatten(0, 1)
with torch.no_grad():
    embedder = RealmEmbedder.from_pretrained(out + "/embedder").eval()
    query = embedder(t("query_ids"), attention_mask=t("query_mask")).projected_score
    encoder = RealmKnowledgeAugEncoder.from_pretrained(out + "/encoder", num_candidates=4).eval()
    mlm = encoder(t("joint_ids"), attention_mask=t("joint_mask"), token_type_ids=t("joint_types"),
                  relevance_score=t("relevance"), labels=t("labels"), mlm_mask=t("mlm_mask"))
    reader = RealmReader.from_pretrained(out + "/reader", max_span_width=5, reader_beam_size=4).eval()
    read = reader(t("joint_ids")[0], attention_mask=t("joint_mask")[0], token_type_ids=t("joint_types")[0],
                  relevance_score=t("reader_relevance"), block_mask=t("reader_block_mask"),
                  start_positions=t("reader_starts"), end_positions=t("reader_ends"),
                  has_answers=t("reader_has_answers"))
np.savez(out + "/outputs.npz", query_emb=query, mlm_logits=mlm.logits, mlm_loss=mlm.loss, reader_loss=read.loss,
         reader_reader_loss=read.reader_loss, reader_start_pos=read.start_pos, reader_block_idx=read.block_idx)
"""
    oracle(code, tmp_path / "out", GOLDEN / "io.npz")
    golden, theirs = np.load(GOLDEN / "io.npz"), np.load(tmp_path / "out" / "outputs.npz")
    for name in theirs.files:
        error = np.abs(theirs[name] - golden[name]).max() / max(1e-9, np.abs(golden[name]).max())
        assert error < 2e-5, (name, error)


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_sentence_transformers_computes_our_embeddings(tmp_path, converted, tiny_run, oracle, pooling):
    tokenizer = wordpiece.load(tiny_run.tokenizer_file)
    workdir = converted(published.write(tmp_path / "a", published.embedder(), None, tokenizer))
    config = dataclasses.replace(workdir.config.model, pooling=pooling, dropout=0.0)
    tower = phases.first_params(workdir, ("embedder",))["embedder"]["shared"]
    if pooling == "mean":  # no published checkpoint pools so; ours do
        tower.pop("pooler")
        workdir = _saved(tmp_path / "mean", workdir, config, tower)
    queries, title = ["Who wrote Hamlet?", "the capital of France"], "Paris"
    bodies = ["Paris is the capital of France.", "It lies on the river Seine, and is old."]
    to_sentence_transformers(workdir, tmp_path / "st")
    code = """
import sys, json, numpy as np
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1], device="cpu")
queries, pairs = json.loads(sys.argv[2])
np.savez(sys.argv[1] + "/out.npz", query=model.encode(queries), block=model.encode(pairs))
"""
    register_pytrees()
    oracle(code, tmp_path / "st", json.dumps([queries, [[title, body] for body in bodies]]))
    theirs, special = np.load(tmp_path / "st" / "out.npz"), SpecialIds.from_tokenizer(tokenizer)

    def ids(text):
        return np.array(tokenizer.encode(text, add_special_tokens=False).ids)

    batches = {
        "query": stack([concatenate([ids(text)], special, 32) for text in queries]),
        "block": stack([concatenate([ids(title), ids(body)], special, 48) for body in bodies]),
    }
    for side, tokens in batches.items():
        tokens = type(tokens)(jnp.asarray(tokens.ids), jnp.asarray(tokens.mask), jnp.asarray(tokens.types))
        ours = np.asarray(embedder.embed(config, {"shared": tower}, side, tokens))
        assert np.abs(ours - theirs[side]).max() / np.abs(ours).max() < 2e-5, side


def _saved(path, workdir: Workdir, model, tower) -> Workdir:
    """A converted workdir with other weights."""
    from realm_jax.checkpoints import Checkpoints
    from realm_jax.workdir import write_json

    other = Workdir.create(path, dataclasses.replace(workdir.config, model=model))
    with Checkpoints(other.phase("init")) as checkpoints:
        checkpoints.save(0, {"embedder": {"shared": tower}})
    write_json(other.phase("init") / "conversion.json", {"parts": ["embedder"]})
    other.mark_done("init", 0)
    other.tokenizer_file.write_text(workdir.tokenizer_file.read_text())
    return other
