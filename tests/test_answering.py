"""From a pre-trained run to exact match, as a user goes: fine-tune, evaluate beside all baselines, the same again."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from realm_jax.config import ConfigError
from realm_jax.data.prepare import open_prepared
from realm_jax.eval import evaluation, question_answering
from realm_jax.eval.question_answering import BASELINES, impossible
from realm_jax.eval.request import Request
from realm_jax.records import Question
from realm_jax.training.finetuning import Finetuning
from realm_jax.workdir import Workdir

pytestmark = pytest.mark.slow

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
SMALL = (
    "--finetune.train_questions=96",
    "--finetune.epochs=1",
    "--finetune.eval_every=3",
    "--finetune.dev_questions=32",
)


def command(cache, name, *arguments) -> str:
    """What `realm NAME` printed, in a process of its own with one device."""
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1", "REALM_JAX_CACHE": str(cache)}
    arguments = [sys.executable, "-m", "realm_jax", name, *arguments]
    done = subprocess.run(arguments, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory, cache):
    """A short run of experiments/mini.py."""
    workdir = tmp_path_factory.mktemp("runs") / "mini"
    short = (
        "--ict.steps=20",
        "--pretrain.steps=20",
        "--pretrain.eval_examples=16",
    )
    command(cache, "run", "--config=experiments/mini.py", f"--workdir={workdir}", *short)
    return workdir


@pytest.fixture(scope="module")
def finetuned(pretrained, cache):
    """That run, fine-tuned on cloze questions, and what the evaluation printed before and after."""
    before = command(cache, "eval", f"--workdir={pretrained}", "--dataset=cloze", "--questions=20")
    tuning = command(cache, "finetune", f"--workdir={pretrained}", *SMALL)
    after = command(cache, "eval", f"--workdir={pretrained}", "--baseline=all")
    return pretrained, before, tuning, after


def test_a_run_that_is_not_finetuned_has_its_retrieval_scored_and_says_what_to_do(finetuned):
    workdir, before, _, _ = finetuned
    assert "| after REALM |" in before and "| BM25 |" in before and "exact match" not in before
    assert f"run realm finetune --workdir={workdir} --dataset=cloze" in before


def test_every_question_counts_for_every_system(finetuned):
    workdir, _, _, after = finetuned
    results = json.loads((workdir / "eval" / "cloze" / "results.json").read_text())
    lines = [json.loads(line) for line in (workdir / "eval" / "cloze" / "predictions.jsonl").read_text().splitlines()]
    assert len(results["systems"]) == 7 and results["questions"] == len(lines)
    right = np.mean([line["is_correct"] for line in lines])
    assert results["systems"]["fine-tuned"]["exact_match"]["mean"] == pytest.approx(right)
    assert "| fine-tuned |" in after and "most frequent training answer" in after
    assert (workdir / "eval" / "cloze" / "report.html").read_text().count("<svg") == 3


def test_baselines_that_this_run_cannot_have_are_left_out_of_all_and_refused_by_name(finetuned, tmp_path):
    run = Workdir.open(finetuned[0])
    finetuning = Finetuning.open(run, "cloze")
    assert impossible(finetuning, [Question("q", "who?", ("he",))]) == {}
    assert set(impossible(finetuning, [Question("q", "who?", ("h.",), is_regex=True)])) == {"frequent"}
    (run.path / "ict" / "DONE").rename(tmp_path / "DONE")
    try:
        assert set(impossible(finetuning, [])) == {"ict", "frequent"}
        request = Request(dataset="cloze", baselines=("ict",), questions=8)
        with pytest.raises(ConfigError, match="--baseline=ict: .* has no finished ict phase: drop it"):
            evaluation.answer(run, "cloze", request, evaluation.ask(request, run))
        request = dataclasses.replace(request, baselines=("all",))
        systems = evaluation.answer(run, "cloze", request, evaluation.ask(request, run)).results["systems"]
    finally:
        (tmp_path / "DONE").rename(run.path / "ict" / "DONE")
    assert set(BASELINES.values()) - set(systems) == {BASELINES["ict"]}


def test_baselines_have_as_many_blocks_as_the_model_reads(finetuned):
    run = Workdir.open(finetuned[0])
    asked = [Question("q", "who was born in paris?", ("he",))]
    found = question_answering.evaluate(
        Finetuning.open(run, "cloze"), open_prepared(run), asked, ["bm25", "random"], num_blocks=120
    )[0]
    assert [len(found[name][0].blocks) for name in found] == [120, 120, 120]


def test_answers_are_text_of_their_blocks(finetuned):
    workdir = finetuned[0]
    lines = [json.loads(line) for line in (workdir / "eval" / "cloze" / "predictions.jsonl").read_text().splitlines()]
    texts = {}
    for line in (REPOSITORY / "realm_jax/data/mini_corpus.jsonl").read_text().splitlines():
        record = json.loads(line)
        texts[record["id"]] = record["text"]
    for line in lines:
        assert line["prediction"] and line["prediction"] in texts[line["blocks"][line["block_rank"]]["source_id"]]


def test_predictions_of_a_run_score_as_the_run_did(finetuned, cache):
    workdir = finetuned[0]
    file = workdir / "eval" / "cloze" / "predictions.jsonl"
    printed = command(cache, "eval", f"--workdir={workdir}", "--dataset=cloze", f"--predictions={file}")
    right = np.mean([json.loads(line)["is_correct"] for line in file.read_text().splitlines()])
    assert f"| {100 * right:.1f} |" in printed


def test_the_same_command_again_does_nothing(finetuned, cache):
    assert "is done" in command(cache, "finetune", f"--workdir={finetuned[0]}")


def test_both_towers_learn_beside_the_builder(finetuned, cache):
    workdir = finetuned[0]
    both = ("--name=both", "--finetune.train_retriever=both", "--finetune.index_refresh_every=2")
    command(cache, "finetune", f"--workdir={workdir}", *SMALL, *both)
    folder = workdir / "finetune" / "both"
    events = [json.loads(line) for line in (folder / "index" / "history.jsonl").read_text().splitlines()]
    published = [event["step"] for event in events if event["event"] == "published"]
    assert published[0] == 0 and published[-1] == 6  # the last weights are indexed
    manifests = [json.loads(file.read_text()) for file in folder.glob("index/step-*/manifest.json")]
    assert {"phase": "finetune/both", "step": 6} in [manifest["embedded_by"] for manifest in manifests]
    printed = command(cache, "eval", f"--workdir={workdir}", "--dataset=cloze", "--finetuning=both", "--questions=8")
    assert "| fine-tuned |" in printed


def test_other_knowledge_is_read_without_training(finetuned, cache, tmp_path):
    """Table 4 of the paper: the model stays, a document is exchanged for another.

    All blocks are read, since so short a training finds nothing in particular, and says little.
    """
    workdir = tmp_path / "mini"
    shutil.copytree(finetuned[0], workdir)
    first = (workdir / "eval" / "cloze" / "predictions.jsonl").read_text().splitlines()[0]
    question = json.loads(first)["question"]
    (tmp_path / "asked.jsonl").write_text(json.dumps({"question": question, "answers": ["Zanzibar"]}) + "\n")
    where, asked = f"--workdir={workdir}", f"--dataset={tmp_path / 'asked.jsonl'}"

    def answer() -> dict:
        command(cache, "eval", where, asked, "--finetuning=cloze", "--blocks=2000")
        return json.loads((workdir / "eval" / "asked.cloze" / "predictions.jsonl").read_text())

    before = answer()
    source = before["blocks"][before["block_rank"]]
    new = {"id": "news", "title": source["title"], "text": question.replace("[MASK]", "Zanzibar")}
    (tmp_path / "new.jsonl").write_text(json.dumps(new) + "\n")
    added = f"--add={tmp_path / 'new.jsonl'}"
    printed = command(cache, "update", where, added, f"--delete={source['source_id']}")
    assert "searchable after" in printed
    after = answer()
    read = [block["source_id"] for block in after["blocks"]]
    assert source["source_id"] not in read and "news" in read
    assert after["blocks"][after["block_rank"]]["source_id"] != source["source_id"]
    assert len(read) == len(before["blocks"]) - blocks_of(before, source["source_id"]) + 1


def blocks_of(answer: dict, source_id: str) -> int:
    """How many of the blocks that were read are of a record."""
    return sum(block["source_id"] == source_id for block in answer["blocks"])
