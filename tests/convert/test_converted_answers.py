"""A converted fine-tuned checkpoint answers questions over the blocks that came with it, without any training."""

import dataclasses
import json

import numpy as np
import published
import pytest
from test_convert import write_records

from realm_jax.commands import eval as evaluation
from realm_jax.convert.into_workdir import convert
from realm_jax.data import run_tokenizer
from realm_jax.data.prepare import open_prepared
from realm_jax.workdir import Workdir


@pytest.fixture(scope="module")
def converted(tiny_config, tiny_run, tmp_path_factory):
    """The workdir of a RealmForOpenQA with its block records, and questions whose answers are words of the blocks."""
    folder = tmp_path_factory.mktemp("published")
    corpus = open_prepared(tiny_run).knowledge
    texts = [corpus.block(i).text for i in range(40)]
    base = dataclasses.replace(tiny_config, corpus=dataclasses.replace(tiny_config.corpus, knowledge="none.jsonl"))
    tokenizer = run_tokenizer.load(tiny_run.tokenizer_file)
    qa = published.write(folder / "qa", published.openqa(len(texts)), None, tokenizer)
    write_records(qa / "block_records.npy", texts)
    convert([str(qa)], folder / "out", base, "")
    questions = [{"question": " ".join(t.split()[:5]), "answers": [t.split()[1]]} for t in texts[:16]]
    (folder / "asked.jsonl").write_text("".join(json.dumps(q) + "\n" for q in questions))
    return Workdir.open(folder / "out"), folder / "asked.jsonl"


def test_it_is_evaluated_as_it_came(converted, capsys):
    workdir, file = converted
    evaluation.main([f"--workdir={workdir.path}", f"--dataset={file}", "--baseline=bm25", "--blocks=3"])
    assert "fine-tuning: converted" in capsys.readouterr().out
    lines = [
        json.loads(line) for line in (workdir.path / "eval/asked.converted/predictions.jsonl").read_text().splitlines()
    ]
    corpus = open_prepared(workdir).knowledge
    assert len(lines) == 16
    for line in lines:
        ids = [block["block"] for block in line["blocks"]]
        assert len(ids) == 3 and line["prediction"] in corpus.block(ids[line["block_rank"]]).text
    scores = np.array([[block["retrieval_score"] for block in line["blocks"]] for line in lines])
    assert (np.diff(scores) <= 0).all()  # found by the published embeddings, best first


def test_what_it_never_had_is_one_clear_error(converted):
    from realm_jax.config import ConfigError

    workdir, file = converted
    with pytest.raises(ConfigError, match="no finished ict phase"):
        evaluation.main([f"--workdir={workdir.path}", f"--dataset={file}", "--baseline=ict"])
