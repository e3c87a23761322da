"""The size of a corpus: a built one against its reader, an assumed one against what was measured."""

import json

import numpy as np

from realm_jax.data.corpus import Corpus
from realm_jax.index import embed_blocks
from realm_jax.plan import corpus_size


def test_a_built_corpus_is_what_its_reader_says(tiny_run):
    corpus, found = Corpus.open(tiny_run.knowledge_folder), corpus_size.of_folder(tiny_run.knowledge_folder)
    assert found.blocks == corpus.num_blocks
    np.testing.assert_array_equal(found.lengths, corpus.lengths)
    assert found.spans == sum(len(corpus.spans(block)) for block in range(corpus.num_blocks))
    files = tiny_run.knowledge_folder.glob("segment-*/*.bin")
    assert found.disk_bytes == sum(file.stat().length for file in files)


def test_it_is_embedded_in_the_batches_of_the_index_builder(tiny_run):
    found = corpus_size.of_folder(tiny_run.knowledge_folder)
    batches = found.padded(512, 48)
    assert corpus_size.PADDED_TO == embed_blocks.LENGTH_STEP
    assert sum(rows for rows, _ in batches) >= found.blocks and {length % 16 for _, length in batches} == {0}
    assert sum(rows * length for rows, length in batches) >= found.lengths.sum()


def test_an_assumed_corpus_costs_what_long_blocks_did(request):
    file = request.config.rootpath / "benchmarks" / "results" / "long_blocks_memory.json"
    measured = json.loads(file.read_text())["values"]
    found = corpus_size.assumed(measured["blocks"], 288)
    assert found.disk_bytes == measured["blocks"] * measured["corpus on disk, bytes a block"]
    assert found.spans == measured["blocks"] * measured["mean spans of a block"]
    assert found.padded(512, 288) == [(measured["blocks"], 288)]
