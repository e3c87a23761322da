"""What goes out is what came in, and other libraries compute the same with it."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import published
import pytest
from safetensors.numpy import load_file

from realm_jax.batches import stack
from realm_jax.config import ConfigError
from realm_jax.convert.export import to_hugging_face, to_sentence_transformers
from realm_jax.convert.into_workdir import convert
from realm_jax.convert.model_sources import open_source
from realm_jax.data import run_tokenizer
from realm_jax.data.assembly import SpecialIds, concatenate
from realm_jax.data.prepare import prepare
from realm_jax.models import embedder
from realm_jax.models.names import flatten
from realm_jax.training import phases, pretrain
from realm_jax.workdir import Workdir

GOLDEN = pathlib.Path(__file__).parent / "golden_models"


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
    tokenizer = run_tokenizer.load(tiny_run.tokenizer_file)
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
    again = run_tokenizer.from_checkpoint(tmp_path / "out" / "encoder" / "vocab.txt")
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


@pytest.mark.slow
def test_a_trained_run_gives_its_last_weights(tmp_path, new_run):
    workdir = new_run(model={"pooling": "cls"})
    pretrain.train(workdir, prepare(workdir))
    to_hugging_face(workdir, tmp_path / "out")
    first, last = phases.first_params(workdir), phases.last_params(workdir, "pretrain")
    exported = load_file(tmp_path / "out" / "embedder" / "model.safetensors")["cls.dense.weight"]
    kernels = [flatten(params["embedder"]["shared"])["projection.kernel"] for params in (first, last)]
    np.testing.assert_array_equal(exported, kernels[1].T)
    assert (exported != kernels[0].T).any()


def test_an_embedder_that_pools_the_mean_is_none_of_transformers(tmp_path, new_run):
    lines = to_hugging_face(new_run(), tmp_path / "out")
    assert lines[0].startswith("no embedder: RealmEmbedder cannot pool the mean: pass --to=sentence-transformers")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["encoder"]


def test_what_a_workdir_lacks_is_named(tmp_path, converted, tiny_run):
    workdir = converted(published.write(tmp_path / "reader", published.reader()))
    with pytest.raises(ConfigError, match="in has no vocabulary, which the model needs: convert again with --vocab"):
        to_sentence_transformers(workdir, tmp_path / "out")
    workdir.tokenizer_file.write_text(tiny_run.tokenizer_file.read_text())
    with pytest.raises(ConfigError, match="in has no embedder: convert again with a SOURCE that holds one"):
        to_sentence_transformers(workdir, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "reader"]


@pytest.mark.parametrize(
    ("folder", "roots"),
    [("scorer", {"embedder": "embedder."}), ("openqa", {"embedder": "embedder.", "reader": "reader."})],
)
def test_golden_models_in_torch_files_come_back(tmp_path, converted, folder, roots):
    tensors = open_source(str(GOLDEN / folder)).tensors
    to_hugging_face(converted(GOLDEN / folder), tmp_path / "out")
    for part, root in roots.items():
        theirs = {name.removeprefix(root): x for name, x in tensors.items() if name.startswith(root)}
        unused = {
            name for name in theirs if name.startswith("cls.predictions.") or (part == "reader" and name in POOLER)
        }
        check_equal(tmp_path / "out" / part, theirs, unused)


def test_golden_models_come_back(tmp_path, converted):
    workdir = converted(GOLDEN / "embedder", GOLDEN / "knowledge_encoder")
    to_hugging_face(workdir, tmp_path / "out")
    embedder_tensors = load_file(GOLDEN / "embedder" / "model.safetensors")
    unused = {name for name in embedder_tensors if name.startswith("cls.predictions.")}
    check_equal(tmp_path / "out" / "embedder", embedder_tensors, unused)
    check_equal(tmp_path / "out" / "encoder", load_file(GOLDEN / "knowledge_encoder" / "model.safetensors"), POOLER)


def check_outputs(folder: pathlib.Path):
    """What transformers computed with exported models is what it computed with the golden ones."""
    golden, theirs = np.load(GOLDEN / "io.npz"), np.load(folder / "outputs.npz")
    for name in theirs.files:
        error = np.abs(theirs[name] - golden[name]).max() / np.abs(golden[name]).max()
        assert error < 2e-5, (name, error)


@pytest.mark.slow
def test_transformers_computes_the_golden_outputs(tmp_path, converted, oracle):
    to_hugging_face(converted(GOLDEN / "embedder", GOLDEN / "knowledge_encoder"), tmp_path / "out")
    code = """
import sys, numpy as np, torch
from transformers import RealmEmbedder, RealmKnowledgeAugEncoder
out, golden = sys.argv[1], np.load(sys.argv[2])
t = lambda name: torch.tensor(golden[name])
with torch.no_grad():
    embedder = RealmEmbedder.from_pretrained(out + "/embedder").eval()
    query = embedder(t("query_ids"), attention_mask=t("query_mask")).projected_score
    encoder = RealmKnowledgeAugEncoder.from_pretrained(out + "/encoder", num_candidates=4).eval()
    mlm = encoder(t("joint_ids"), attention_mask=t("joint_mask"), token_type_ids=t("joint_types"),
                  relevance_score=t("relevance"), labels=t("labels"), mlm_mask=t("mlm_mask"))
logits = mlm.logits.view(*t("joint_ids").shape, -1).transpose(1, 2)[t("mlm_mask").bool()]
np.savez(out + "/outputs.npz", query_emb=query, mlm_logits=logits, mlm_loss=mlm.loss)
"""
    oracle(code, tmp_path / "out", GOLDEN / "io.npz")
    check_outputs(tmp_path / "out")


@pytest.mark.slow
def test_transformers_keeps_both_towers_and_reads(tmp_path, converted, oracle):
    workdir = converted(GOLDEN / "openqa", GOLDEN / "embedder")  # a fine-tuned tower of queries, and that of blocks
    lines = to_hugging_face(workdir, tmp_path / "out")
    assert any("scorer: RealmScorer.from_pretrained, with query_embedder=RealmEmbedder(config)" in x for x in lines)
    code = """
import sys, numpy as np, torch
from transformers import RealmConfig, RealmEmbedder, RealmReader, RealmScorer
out, golden, block_emb = sys.argv[1], np.load(sys.argv[2]), torch.load(sys.argv[3], weights_only=True)["block_emb"]
t = lambda name: torch.tensor(golden[name])
scorer = RealmScorer.from_pretrained(
    out + "/scorer", query_embedder=RealmEmbedder(RealmConfig.from_pretrained(out + "/scorer"))).eval()
reader = RealmReader.from_pretrained(out + "/reader", max_span_width=5, reader_beam_size=4).eval()
with torch.no_grad():
    query = scorer.embedder(t("query_ids"), attention_mask=t("query_mask")).projected_score
    question = scorer.query_embedder(t("question_ids"), attention_mask=t("question_mask")).projected_score
    scores = torch.einsum("qd,qkd->qk", question, block_emb[t("beam")])
    read = [reader(t("read_ids")[q], attention_mask=t("read_mask")[q], token_type_ids=t("read_types")[q],
                   relevance_score=scores[q], block_mask=t("body_mask")[q], has_answers=t("has_answers")[q],
                   start_positions=t("starts")[q], end_positions=t("ends")[q]) for q in range(len(scores))]
np.savez(out + "/outputs.npz", query_emb=query, openqa_query_emb=question,
         **{name: [x[name] for x in read] for name in ("retriever_loss", "reader_loss")},
         predicted=[[x.block_idx.item(), x.start_pos.item(), x.end_pos.item()] for x in read])
"""
    oracle(code, tmp_path / "out", GOLDEN / "io.npz", GOLDEN / "openqa" / "pytorch_model.bin")
    check_outputs(tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("case", ["cls", "mean", "two towers"])
def test_sentence_transformers_computes_our_embeddings(tmp_path, converted, tiny_run, oracle, case):
    tokenizer, tensors, folders = run_tokenizer.load(tiny_run.tokenizer_file), published.embedder(), {}
    if case == "two towers":
        tensors = published.under("embedder.", published.embedder(8)) | published.under("query_embedder.", tensors)
        folders = {"query": "query", "block": "block"}
    workdir = converted(published.write(tmp_path / "a", tensors, None, tokenizer))
    config = dataclasses.replace(workdir.config.model, pooling="mean" if case == "mean" else "cls", dropout=0.0)
    params = phases.first_params(workdir, ("embedder",))["embedder"]
    if case == "mean":  # no published checkpoint pools so; ours do
        params["shared"].pop("pooler")
        workdir = _saved(tmp_path / "mean", workdir, config, params)
    queries, title = ["Who wrote Hamlet?", "the capital of France"], "Paris"
    bodies = ["Paris is the capital of France.", "It lies on the river Seine, and is old."]
    to_sentence_transformers(workdir, tmp_path / "st")
    code = """
import sys, json, numpy as np
from sentence_transformers import SentenceTransformer
out, asked = sys.argv[1], json.loads(sys.argv[2])
embed = lambda folder, texts: SentenceTransformer(out + "/" + folder, device="cpu").encode(texts)
np.savez(out + "/out.npz", **{side: embed(*arguments) for side, arguments in asked.items()})
"""
    texts = {"query": queries, "block": [[title, body] for body in bodies]}
    oracle(code, tmp_path / "st", json.dumps({side: [folders.get(side, ""), texts[side]] for side in texts}))
    theirs, special = np.load(tmp_path / "st" / "out.npz"), SpecialIds.from_tokenizer(tokenizer)

    def ids(text):
        return np.array(tokenizer.encode(text, add_special_tokens=False).ids)

    batches = {
        "query": stack([concatenate([ids(text)], special, 32) for text in queries]),
        "block": stack([concatenate([ids(title), ids(body)], special, 48) for body in bodies]),
    }
    for side, tokens in batches.items():
        ours = np.asarray(embedder.embed(config, params, side, jax.tree.map(jnp.asarray, tokens)))
        error = np.abs(ours - theirs[side]).max() / np.abs(ours).max()
        print(f"{case}, {side}: relative error {error:.1e}")
        assert error < 1e-5, side


def _saved(path, workdir: Workdir, model, params) -> Workdir:
    """A converted workdir with other weights."""
    from realm_jax.checkpoints import Checkpoints
    from realm_jax.workdir import write_json

    other = Workdir.create(path, dataclasses.replace(workdir.config, model=model))
    with Checkpoints(other.phase("init")) as checkpoints:
        checkpoints.save(0, {"embedder": params})
    write_json(other.conversion_file, {"parts": ["embedder"]})
    other.mark_done("init", 0)
    other.tokenizer_file.write_text(workdir.tokenizer_file.read_text())
    return other
