"""Sizes and questions of `gpu_experiment.py --dry_run`: the whole of it in a minute or two on a CPU."""

import dataclasses
import json
import pathlib
import runpy
from collections.abc import Sequence

from realm_jax.config import Config
from realm_jax.data import assets

MINI = pathlib.Path(__file__).parents[1] / "experiments" / "mini.py"


def tiny(config: Config) -> Config:
    """The settings of an experiment, on the mini-corpus with sizes for a test."""
    replace, model = dataclasses.replace, runpy.run_path(str(MINI))["get_config"]().model
    steps = {"steps": 20, "index_refresh_every": 10, "checkpoint_every": 10, "retriever_warmup_steps": 10}
    sizes = {"batch_size": 8, "num_candidates": 4, "query_len_tokens": 32, "eval_examples": 16, "recall_examples": 32}
    return replace(
        config,
        init="random",
        model=replace(model, dtype=config.model.dtype, num_layers=1),
        corpus=replace(config.corpus, knowledge=assets.MINI_CORPUS, block_len_tokens=48, heldout_fraction=0.2),
        ict=replace(config.ict, steps=20, batch_size=8, query_len_tokens=32),
        pretrain=replace(config.pretrain, **steps, **sizes),
        finetune=replace(config.finetune, epochs=1, batch_size=8, beam_blocks=20, dev_questions=8),
        index=replace(config.index, embed_batch_tokens=2048),
    )


def questions(folder: pathlib.Path, names: Sequence[str]) -> pathlib.Path:
    """Writes sets about the mini-corpus into a folder: the title is missing from a sentence of its article."""
    folder.mkdir(parents=True, exist_ok=True)
    articles = [json.loads(line) for line in assets.fetch(assets.MINI_CORPUS).read_text().splitlines()]
    named = [article for article in articles if article["text"].startswith(f"{article['title']} is ")]
    for i, name in enumerate(names):
        rows = [
            {
                "question": a["text"].split(".")[0].replace(a["title"], "what", 1) + "?",
                "answers": [a["title"]],
                "gold_passage": a["id"],
            }
            for a in named[i :: len(names)]
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
