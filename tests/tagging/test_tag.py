"""A tagger is trained, resumed and applied: what it learned is what the labels say, whatever the batches are."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from etils import epath
from safetensors.numpy import save_file

from realm_jax.commands import cli, retag
from realm_jax.commands import corpus as build_command
from realm_jax.commands import tag as tag_command
from realm_jax.config import ConfigError, PretrainConfig
from realm_jax.data import assets, run_tokenizer
from realm_jax.data.assembly import SpecialIds
from realm_jax.data.corpus import Corpus
from realm_jax.data.pipeline import MaskedSentences
from realm_jax.data.prepare import prepare
from realm_jax.data.salient import find_dates
from realm_jax.models.names import names
from realm_jax.models.shapes import shapes
from realm_jax.tagging import conll, sentence_tagger
from realm_jax.tagging.bio import label_set
from realm_jax.tagging.conll import LabelledSentence
from realm_jax.tagging.sentence_tagger import SentenceTagger
from realm_jax.tagging.tag_task import _label_ids
from realm_jax.tagging.tagger_folder import TaggerFolder, fingerprint
from realm_jax.tagging.words import split_words
from realm_jax.training import loop
from realm_jax.workdir import read_json

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PEOPLE = ["Anna", "Bela", "Carlo", "Dora", "Emil", "Fanny", "Gustav", "Hanna"]
PLACES = ["Rome", "Oslo", "Lima", "Cairo", "Delhi", "Quito"]
FLAGS = ["--epochs=6", "--batch_size=16", "--learning_rate=3e-3", "--dropout=0", "--log_every=5"]


def sentences(count, seed):
    """`Anna Rome met Bela in Oslo .`: a place after `in`, else people, sometimes of two words."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        subject = rng.choice(PEOPLE, rng.integers(1, 3)).tolist()
        words = [*subject, str(rng.choice(["met", "saw"])), str(rng.choice(PEOPLE)), "in", str(rng.choice(PLACES)), "."]
        labels = ["B-PER", "I-PER"][: len(subject)] + ["O", "B-PER", "O", "B-LOC", "O"]
        made.append(LabelledSentence(tuple(words), tuple(labels)))
    return made


@pytest.fixture(scope="module")
def bert(tiny_run, tmp_path_factory):
    """Folder of a tiny BERT with random weights, in Hugging Face's form, and a vocabulary of the words above."""
    folder = tmp_path_factory.mktemp("bert")
    model = tiny_run.config.model
    tokenizer = run_tokenizer.train([s.text for s in sentences(50, 9)] * 2, model.vocab_size)
    (folder / "tokenizer.json").write_text(tokenizer.to_str())
    shape = {
        "vocab_size": model.vocab_size,
        "hidden_size": model.hidden_size,
        "num_hidden_layers": model.num_layers,
        "num_attention_heads": model.num_heads,
        "intermediate_size": model.intermediate_size,
        "max_position_embeddings": model.max_positions,
    }
    (folder / "config.json").write_text(json.dumps(shape | {"hidden_act": "gelu_new"}))
    rng, tensors = np.random.default_rng(0), {}
    tree = shapes("encoder", model)
    for name in names("encoder", model.num_layers):
        leaf = tree
        for key in name.ours.split("."):
            leaf = leaf[key]
        of_norm = 1.0 if name.ours.endswith("scale") else 0.0
        value = (of_norm + rng.normal(0, 0.05, leaf.shape)).astype(np.float32)
        tensors[name.torch.replace("realm.", "bert.")] = np.ascontiguousarray(value.T if name.is_kernel else value)
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A folder of CoNLL files."""
    folder = tmp_path_factory.mktemp("labelled")
    for seed, (split, count) in enumerate({"train": 160, "dev": 40, "test": 40}.items()):
        conll.write_file(folder / conll.FILES[split][0], [sentences(count, seed)])
    return folder


@pytest.fixture(scope="module")
def trained(bert, labelled, tmp_path_factory):
    """A trained tagger's folder, and the flags that made it."""
    out = tmp_path_factory.mktemp("taggers") / "whole"
    flags = [*FLAGS, f"--init={bert}", f"--data={labelled}"]
    tag_command.main([*flags, f"--out={out}"])
    return TaggerFolder.open(out), flags


def test_it_learns_what_the_labels_say(trained, capsys):
    folder, flags = trained
    scores = read_json(folder.scores_file)
    assert scores["test"]["overall"]["f1"] > 0.95 and set(scores["test"]) == {"overall", "PER", "LOC"}
    assert scores["test"]["PER"]["gold"] == 80 and scores["sentences"] == {"train": 160, "dev": 40, "test": 40}
    records = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
    evaluations = read_json(folder.path / "evaluations.json")["evaluations"]
    assert [r["step"] for r in records if "dev_f1" in r] == [e["step"] for e in evaluations] == list(range(10, 61, 10))
    best = max(e["dev_f1"] for e in evaluations)
    assert scores["dev"]["overall"]["f1"] == pytest.approx(best, abs=1e-4)
    assert scores["best_step"] == next(e["step"] for e in evaluations if e["dev_f1"] == best)
    tag_command.main([*flags, f"--out={folder.path}"])
    out = capsys.readouterr().out
    assert "is done" in out and f"next: realm retag CORPUS_FOLDER --tagger={folder.path}" in out


def test_a_broken_run_ends_with_the_same_weights(trained, tmp_path, monkeypatch):
    whole, flags = trained
    save = loop._Keeper.save

    def dies(keeper, step, *others):
        save(keeper, step, *others)
        if step == 30:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop._Keeper, "save", dies)
        tag_command.main([*flags, f"--out={tmp_path / 'broken'}"])
    with pytest.raises(ConfigError, match="has no trained tagger: run realm tag --out="):
        TaggerFolder.open(tmp_path / "broken")
    tag_command.main([*flags, f"--out={tmp_path / 'broken'}"])
    ours, theirs = (
        read_json(path / "scores.json") for path in (TaggerFolder.open(tmp_path / "broken").path, whole.path)
    )
    assert ours | {"train_seconds": 0} == theirs | {"train_seconds": 0}


def test_spans_do_not_depend_on_the_batch(trained, monkeypatch):
    tagger = SentenceTagger.open(trained[0].path)
    texts = [s.text.replace(" .", ".") + " it was in May 1999." * (i % 3) for i, s in enumerate(sentences(60, 5))]
    together = tagger.spans(texts)
    monkeypatch.setattr(sentence_tagger, "BATCH_TOKENS", 64)
    assert [tagger.spans([text])[0] for text in texts] == together
    assert tagger(texts[:7], "title") == together[:7]
    assert tagger.documents([(texts[:2], ""), ([], ""), (texts[2:5], "t")]) == [together[:2], [], together[2:5]]
    assert tagger.spans([]) == [] and tagger.spans([""]) == [[]]
    for text, spans, sentence in zip(texts, together, sentences(60, 5), strict=True):
        dates = [span for span in spans if span.type == "DATE"]
        assert dates == find_dates(text)
        known = len(sentence.text) - 2  # the words after it are new to the tagger
        found = [text[s.start : s.limit] for s in spans if s.limit <= known]
        assert found == [" ".join(sentence.words[a:b]) for a, b, _ in conll.chunks(sentence.labels)]


def test_a_sentence_longer_than_the_position_table(trained):
    tagger = SentenceTagger.open(trained[0].path)
    text = "Anna met Bela in Rome. " * 60
    (spans,) = tagger.spans([text])
    assert spans and max(span.limit for span in spans) < len(text) / 2


def test_the_name_follows_weights_and_vocabulary(trained, tmp_path):
    folder = trained[0]
    params = sentence_tagger.best_params(folder)
    assert SentenceTagger.open(folder.path).name == read_json(folder.scores_file)["tagger"]
    name = fingerprint(params, folder)
    other = jax.tree.map(np.array, params)
    assert fingerprint(other, folder) == name
    other["label"]["bias"][0] += 1e-3
    assert fingerprint(other, folder) != name
    copy = TaggerFolder(epath.Path(tmp_path), folder.config)
    for file in ("tokenizer.json", "tagger.json"):
        (copy.path / file).write_text((folder.path / file).read_text())
    assert fingerprint(params, copy) == name
    copy.tokenizer_file.write_text("{}")
    assert fingerprint(params, copy) != name


def test_pre_training_runs_on_its_spans(trained, new_run, tmp_path, capsys):
    workdir = new_run()
    out = tmp_path / "retagged"
    retag.main([str(workdir.knowledge_folder), f"--tagger={trained[0].path}", f"--out={out}"])
    corpus = Corpus.open(out)
    name = read_json(trained[0].scores_file)["tagger"]
    assert corpus.manifest["tagger"] == name and re.fullmatch("bert:[0-9a-f]{16}", name)
    assert re.search(rf"salient spans by {name} .*by rules", capsys.readouterr().out)
    special = SpecialIds.from_tokenizer(run_tokenizer.load(workdir.tokenizer_file))
    masked = MaskedSentences(corpus, special, PretrainConfig(query_len_tokens=32, max_masks=4), 0.2)
    example = masked.example(0, np.random.default_rng(0))
    assert len(masked) > 20 and (example.query.ids == special.mask).sum() > 0
    run = new_run("again", corpus={"knowledge": str(out), "heldout_fraction": 0.2, "block_len_tokens": 48})
    for file in pathlib.Path(run.knowledge_folder).rglob("*"):  # what new_run copied: the run takes the new corpus
        if file.is_file():
            file.unlink()
    run.knowledge_folder.rmtree()
    assert prepare(run).text.hash == corpus.hash


@pytest.fixture
def build(trained, new_run, tmp_path, monkeypatch):
    """`build("--out=…", …)`: the build of a text of many shards, in this process."""
    monkeypatch.setattr(build_command, "MIB", 8_000)  # bytes of a shard
    source, vocabulary = tmp_path / "texts.jsonl", new_run().tokenizer_file
    source.write_text("\n".join(assets.fetch(assets.MINI_CORPUS).read_text().splitlines()[:80]))
    given = [f"--source={source}", f"--tokenizer={vocabulary}", "--block_len_tokens=48", "--workers=1", "--shard_mb=1"]
    return lambda *flags: build_command.main([*given, *flags])


def files(folder) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_one_command_builds_and_tags_as_two_do(trained, build, tmp_path, capsys, monkeypatch):
    flag, one, two = f"--tagger={trained[0].path}", tmp_path / "one", tmp_path / "two"
    build(f"--out={tmp_path / 'plain'}")
    retag.main([str(tmp_path / "plain"), flag, f"--out={two}"])
    tag_documents, calls = SentenceTagger.documents, []

    def dies(self, documents):
        calls.append(documents)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return tag_documents(self, documents)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(SentenceTagger, "documents", dies)
        build(f"--out={one}", flag)
    kept = {f: f.stat().st_mtime_ns for f in [*tmp_path.glob("one-rules/*/*"), *tmp_path.glob("one/segment-00000/*")]}
    build(f"--out={one}", flag)
    assert len(kept) > 20 and {file: file.stat().st_mtime_ns for file in kept} == kept
    ours, theirs = files(one), files(two)
    manifests = [json.loads(of.pop("manifest.json")) for of in (ours, theirs)]
    assert ours == theirs and len(Corpus.open(one).segments) > 2
    for manifest in manifests:
        del manifest["build"]["seconds"], manifest["build"]["worker_seconds"]
    assert manifests[0] == manifests[1] and manifests[0]["tagger"] == trained[0].name
    assert files(one) != files(tmp_path / "plain") and Corpus.open(one).manifest["segments"][0]["num_spans"]

    capsys.readouterr()
    shutil.rmtree(tmp_path / "one-rules")
    build(f"--out={one}", flag)  # finished: nothing is made again
    assert not (tmp_path / "one-rules").exists() and f"next: realm show {one}" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=f"one: was built with tagger '{trained[0].name}', now it is 'rules': pass"):
        build(f"--out={one}")


def test_what_cannot_be_tagged_is_not_built(trained, build, tmp_path):
    with pytest.raises(ConfigError, match=r"none has no trained tagger: run realm tag --out="):
        build(f"--out={tmp_path / 'out'}", f"--tagger={tmp_path / 'none'}")
    with pytest.raises(ConfigError, match="needs a local --out: build there, then copy the folder"):
        build("--out=gs://bucket/out", f"--tagger={trained[0].path}")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("")
    with pytest.raises(ConfigError, match="mine: is not an empty folder: pass another --out"):
        build(f"--out={tmp_path / 'mine'}", f"--tagger={trained[0].path}")
    assert not list(tmp_path.glob("*-rules")) and not (tmp_path / "out").exists()


def test_make_passes_a_tagger_only_where_it_is_given():
    def made(*words) -> str:
        command = ["make", "--dry-run", "--old-file=setup", *words]
        return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout

    assert "--tagger=runs/mine" in made("corpus", "SOURCE=s", "TAGGER=runs/mine")
    assert "--tagger" not in made("corpus", "SOURCE=s")
    assert "--tagger=runs/tagger" in made("retag", "CORPUS=c") and "--out=runs/tagger" in made("tagger")


def test_retagging_by_name(new_run, tmp_path):
    workdir = new_run()
    retag.main([str(workdir.knowledge_folder), "--tagger=rules", f"--out={tmp_path / 'same'}"])
    assert Corpus.open(tmp_path / "same").hash == Corpus.open(workdir.knowledge_folder).hash


@pytest.fixture
def fails(tmp_path, monkeypatch, capsys):
    """Runs a command in an empty folder; returns its one line on stderr."""
    monkeypatch.chdir(tmp_path)

    def run(main, *flags):
        with pytest.raises(SystemExit) as stop:
            cli.run(lambda: main(list(flags)))
        assert stop.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    return run


def test_bad_input_is_one_line(fails, bert, labelled, tmp_path):
    given = [f"--init={bert}", f"--data={labelled}"]
    assert "--word_dropout=0.1" in fails(tag_command.main, *given, "--word_dropout=1", "--out=a")
    assert "epochs must be at least 1" in fails(tag_command.main, *given, "--epochs=0", "--out=a")
    assert "does not divide over 8 devices: pass --batch_size=16" in fails(
        tag_command.main, *given, "--batch_size=9", "--out=b"
    )
    assert "has no train.txt or eng.train" in fails(tag_command.main, f"--init={bert}", f"--data={bert}", "--out=c")
    assert "no such file or folder" in fails(tag_command.main, "--init=nowhere.bin", f"--data={labelled}", "--out=d")
    assert "only a spaCy pipeline" in fails(tag_command.main, f"--init={bert}", "--labels=rules", "--out=e")
    assert not (tmp_path / "a").exists() and not (tmp_path / "e").exists()
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "x").write_text("")
    assert "f holds something else than a tagger: pass another --out" in fails(tag_command.main, *given, "--out=f")


def test_other_settings_are_refused(fails, trained):
    folder, flags = trained
    line = fails(tag_command.main, *flags, "--seed=4", f"--out={folder.path}")
    assert "was made with seed 0, now 4: pass another --out or these settings" in line


def test_other_content_under_the_same_names(fails, trained, bert, labelled, tmp_path):
    copies = [shutil.copytree(folder, tmp_path / folder.name) for folder in (bert, labelled)]
    tagger = shutil.copytree(trained[0].path, tmp_path / "tagger")
    names = {"init": str(copies[0]), "data": str(copies[1])}
    settings = json.loads((tagger / "settings.json").read_text()) | names
    (tagger / "settings.json").write_text(json.dumps(settings))
    flags = [*FLAGS, *(f"--{name}={path}" for name, path in names.items()), f"--out={tagger}"]
    tag_command.main(flags)  # is done
    changed = {"init": copies[0] / "model.safetensors", "data": copies[1] / conll.FILES["test"][0]}
    for name, file in changed.items():
        before = file.read_bytes()
        file.write_bytes(before + b"\n")
        assert f"was begun with other content of --{name}={names[name]}: put it back" in fails(tag_command.main, *flags)
        file.write_bytes(before)


def test_weights_that_were_not_scored(trained, tmp_path):
    tagger = shutil.copytree(trained[0].path, tmp_path / "tagger")
    scores = json.loads((tagger / "scores.json").read_text())
    (tagger / "scores.json").write_text(json.dumps(scores | {"tagger": "bert:0123456789abcdef"}))
    with pytest.raises(ConfigError, match="its weights are bert:.*, its scores are of bert:0123456789abcdef: train it"):
        SentenceTagger.open(tagger)


def test_bad_retagging_is_one_line(fails, new_run, tmp_path):
    corpus = str(new_run().knowledge_folder)
    assert "no corpus here" in fails(retag.main, str(tmp_path), "--tagger=rules", "--out=g")
    assert "has no trained tagger: run realm tag" in fails(retag.main, corpus, "--tagger=none", "--out=g")
    line = fails(retag.main, corpus, "--tagger=rules", "--out=g", "--tokenizer=none.json")
    assert "none.json: no such vocabulary: pass --tokenizer=FILE" in line
    assert not (tmp_path / "g").exists()


def test_labels_of_a_word_that_is_several_of_ours(bert):
    tokenizer = run_tokenizer.from_checkpoint(bert)
    sentence = LabelledSentence(("U.S.", "Navy", "saw", "Rome", "Oslo"), ("B-LOC", "B-ORG", "O", "B-LOC", "B-LOC"))
    (words,) = split_words([sentence.text], tokenizer)
    labels = label_set(("ORG", "LOC"))
    found = [labels[i] for i in _label_ids(sentence, words, labels)]
    assert found == ["I-LOC"] * 4 + ["I-ORG", "O", "I-LOC", "B-LOC"]


@pytest.mark.slow
@pytest.mark.long
def test_two_layers_learn_from_silver_labels(tmp_path):
    """The command as a user runs it, on one device. The measured figure is in benchmarks/results/tagger.json; below 0.6
    something is broken."""
    pytest.importorskip("spacy")
    ours = ("XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS", "JAX_COMPILATION_CACHE_DIR", "REALM_JAX_CACHE")
    environment = {name: value for name, value in os.environ.items() if name not in ours} | {"JAX_NUM_CPU_DEVICES": "1"}
    command = [sys.executable, "-m", "realm_jax", "tag", f"--out={tmp_path / 'tagger'}"]
    subprocess.run(command, env=environment, check=True)
    scores = read_json(TaggerFolder.open(tmp_path / "tagger").scores_file)
    assert scores["sentences"] == {"train": 8000, "dev": 500, "test": 1000}
    assert scores["test"]["overall"]["f1"] >= 0.6
