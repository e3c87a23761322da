"""Row i is the embedding of block i, whatever the batches look like."""

import dataclasses

import jax
import ml_dtypes
import numpy as np
import pytest

from realm_jax import parallel
from realm_jax.data.prepare import open_prepared
from realm_jax.index.embed_blocks import TowerEmbedder, embed_corpus, ranges_of
from realm_jax.training import phases


@pytest.fixture(scope="module")
def corpus(tiny_run):
    return open_prepared(tiny_run).knowledge


@pytest.fixture(scope="module")
def params(tiny_run):
    return phases.first_params(tiny_run)["embedder"]


def embed_all(config, params, corpus, *, batch_tokens, dtype=np.float32, calls=None):
    config = dataclasses.replace(config, index=dataclasses.replace(config.index, embed_batch_tokens=batch_tokens))
    out = np.full((corpus.num_blocks, config.model.projection_dim), np.nan, dtype)
    note = (lambda done, total: calls.append((done, total))) if calls is not None else lambda done, total: None
    embed_corpus(config, params, corpus, out, between_batches=note)
    return out


@pytest.fixture(scope="module")
def one_by_one(tiny_run, corpus, params):
    """Every block at full length, each in a batch of equals."""
    embed = TowerEmbedder(tiny_run.config, params, "block")
    devices = parallel.num_devices()
    rows = []
    for index in range(corpus.num_blocks):
        tokens = corpus.embedder_tokens(np.full(devices, index), corpus.block_len_tokens)
        rows.append(embed(tokens)[index % devices])
    return np.stack(rows)


@pytest.mark.parametrize("batch_tokens", [512, 1500, 1 << 20])
def test_rows_are_those_of_single_blocks(tiny_run, corpus, params, one_by_one, batch_tokens):
    assert len(set(corpus.lengths.tolist())) > 10  # so that the order by length is a real one
    calls = []
    found = embed_all(tiny_run.config, params, corpus, batch_tokens=batch_tokens, calls=calls)
    np.testing.assert_allclose(found, one_by_one, atol=2e-5)
    assert calls[-1] == (corpus.num_blocks, corpus.num_blocks)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    assert (len(calls) > 20) == (batch_tokens == 512)


def test_blocks_are_embedded_by_their_own_tower(tiny_run, corpus, params, one_by_one):
    other = jax.tree.map(lambda x: x + 1.0, params["shared"])
    found = embed_all(tiny_run.config, {"query": other, "block": params["shared"]}, corpus, batch_tokens=1 << 20)
    np.testing.assert_allclose(found, one_by_one, atol=2e-5)


def test_some_blocks_in_any_order(tiny_run, corpus, params, one_by_one):
    blocks = np.random.default_rng(0).permutation(corpus.num_blocks)[:50]
    out = np.full((50, tiny_run.config.model.projection_dim), np.nan, np.float32)
    embed_corpus(tiny_run.config, params, corpus, out, blocks=blocks)
    np.testing.assert_allclose(out, one_by_one[blocks], atol=2e-5)


def test_ranges_are_cut_by_the_lengths_alone():
    lengths = np.array([5, 5, 5, 20, 1, 1, 8])
    assert ranges_of(lengths, 10) == [range(0, 2), range(2, 3), range(3, 6), range(6, 7)]
    assert ranges_of(lengths, 1000) == [range(0, 7)] and ranges_of(lengths[:0], 10) == []
    lengths = np.random.default_rng(0).integers(3, 288, 5000)
    cut = ranges_of(lengths, 10_000)
    assert [block for part in cut for block in part] == list(range(5000))
    assert max(lengths[part.start : part.stop].sum() for part in cut) < 10_000 + 288
    assert ranges_of(lengths[: cut[-2].stop], 10_000) == cut[:-1]  # what is added leaves the others as they are


def test_bfloat16_rows_are_rounded_ones(tiny_run, corpus, params, one_by_one):
    found = embed_all(tiny_run.config, params, corpus, batch_tokens=4096, dtype=ml_dtypes.bfloat16)
    np.testing.assert_allclose(found.astype(np.float32), one_by_one, rtol=2**-7, atol=1e-4)


def test_an_error_between_batches_stops_the_work(tiny_run, corpus, params):
    def stop(done, total):
        raise KeyboardInterrupt

    out = np.full((corpus.num_blocks, tiny_run.config.model.projection_dim), np.nan, np.float32)
    with pytest.raises(KeyboardInterrupt):
        embed_corpus(tiny_run.config, params, corpus, out, between_batches=stop)
    assert np.isnan(out).any() and not np.isnan(out).all()
