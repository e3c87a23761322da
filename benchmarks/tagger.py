"""A trained tagger: how well it imitates the labels it was trained on, and how many sentences a second it tags.

    realm tag --out=runs/tagger
    python benchmarks/tagger.py [--tagger=runs/tagger] [--sentences=20000]

Sentences are those of asset:wiki-leads, tagged in one call as `realm retag` does; the programs are
compiled in a call before. Writes benchmarks/results/tagger.json.
"""

import itertools
import json
import statistics
import time
from dataclasses import dataclass

import numpy as np
import tyro
from etils import epath
from report import write_result

from realm_jax import parallel
from realm_jax.data import run_tokenizer
from realm_jax.data.blocks import split_sentences
from realm_jax.data.length_batches import length_batches
from realm_jax.data.salient import find_dates
from realm_jax.data.sources import sources
from realm_jax.tagging.sentence_tagger import BATCH_TOKENS, LENGTH_STEP, SentenceTagger
from realm_jax.tagging.tagger_folder import TaggerFolder
from realm_jax.tagging.words import split_words
from realm_jax.workdir import read_json

CORPUS = "asset:wiki-leads"
REPETITIONS = 3


@dataclass(frozen=True)
class _Flags:
    tagger: str = "runs/tagger"
    """Folder of the tagger."""
    sentences: int = 20_000
    """Sentences tagged in one call."""


def main() -> None:
    flags = tyro.cli(_Flags, description=__doc__)
    parallel.set_up_compilation_cache()
    folder = TaggerFolder.open(epath.Path(flags.tagger))
    scores = read_json(folder.scores_file)
    model, types = folder.read_model()
    values = {
        "trained_on": {name: getattr(folder.config, name) for name in ("data", "corpus", "labels", "init")},
        "model": {"layers": model.num_layers, "width": model.hidden_size, "types": list(types)},
        **scores,
        **throughput(folder, flags.sentences),
    }
    print(write_result("tagger", values))
    print(json.dumps(values, indent=1))


def throughput(folder: TaggerFolder, count: int) -> dict:
    """Rates of a call on `count` sentences, median of three, and where its time goes."""
    records = sources.read(CORPUS).records()
    every = (record.text[start:limit] for record in records for start, limit in split_sentences(record.text))
    sentences = list(itertools.islice(every, count))
    tagger = SentenceTagger.open(folder.path)
    tagger.spans(sentences)
    seconds = [_seconds(lambda: tagger.spans(sentences)) for _ in range(REPETITIONS)]
    tokenizer = run_tokenizer.load(folder.tokenizer_file)
    words = split_words(sentences, tokenizer)
    lengths = np.array([len(w.ids) + 2 for w in words])
    plan = {"batch_tokens": BATCH_TOKENS, "step": LENGTH_STEP, "most": 512, "devices": parallel.num_devices()}
    computed = sum(rows * length for _, rows, length in length_batches(lengths, **plan))
    middle = statistics.median(seconds)
    return {
        "sentences_tagged": len(sentences),
        "sentences_per_second": round(len(sentences) / middle, 1),
        "wordpieces_per_second": round(int(lengths.sum()) / middle),
        "seconds_of_each_call": [round(s, 2) for s in seconds],
        "padding_share": round(1 - int(lengths.sum()) / computed, 4),
        "seconds_of_words": round(_seconds(lambda: split_words(sentences, tokenizer)), 2),
        "seconds_of_dates": round(_seconds(lambda: [find_dates(s) for s in sentences]), 2),
        "devices": parallel.num_devices(),
    }


def _seconds(work) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
