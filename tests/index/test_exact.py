import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realm_jax.index import exact
from realm_jax.index.exact import ExactSearch


def slow_top_k(embeddings, live, query_emb, k):
    """Every score, sorted in plain Python: by score, then by the lower id."""
    ids, scores = np.full((len(query_emb), k), -1), np.full((len(query_emb), k), -np.inf)
    for row, query in enumerate(query_emb):
        pairs = [(-float(query @ block), i) for i, block in enumerate(embeddings) if live[i]]
        for column, (negative, i) in enumerate(sorted(pairs)[:k]):
            ids[row, column], scores[row, column] = i, -negative
    return ids, scores


# Few sizes, because each is a compilation; small integers, because they give many ties and exact sums.
@settings(max_examples=40, deadline=None)
@given(
    blocks=st.sampled_from([1, 7, 8, 50]),
    k=st.sampled_from([1, 3, 9]),
    batch=st.integers(1, 8),
    seed=st.integers(0, 10_000),
    dead=st.sampled_from([0.0, 0.4, 1.0]),
)
def test_matches_a_sort_with_ties_and_tombstones(blocks, k, batch, seed, dead):
    rng = np.random.default_rng(seed)
    embeddings = rng.integers(-2, 3, (blocks, 4)).astype(np.float32)
    query_emb = rng.integers(-2, 3, (batch, 4)).astype(np.float32)
    live = rng.random(blocks) >= dead
    ids, scores = ExactSearch(embeddings, live).search(query_emb, k)
    expected_ids, expected_scores = slow_top_k(embeddings, live, query_emb, k)
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_array_equal(scores, expected_scores)
    assert ids.dtype == np.int32 and scores.dtype == np.float32


@pytest.mark.parametrize("chunk_rows", [1, 3, 8, 1000])
def test_chunks_change_nothing(monkeypatch, chunk_rows):
    monkeypatch.setattr(exact, "CHUNK_ROWS", chunk_rows)
    rng = np.random.default_rng(1)
    embeddings = rng.integers(-2, 3, (83, 4)).astype(np.float32)
    query_emb = rng.integers(-2, 3, (5, 4)).astype(np.float32)
    ids, scores = ExactSearch(embeddings).search(query_emb, 6)
    expected_ids, expected_scores = slow_top_k(embeddings, np.ones(83, bool), query_emb, 6)
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_array_equal(scores, expected_scores)


def test_bfloat16_embeddings_are_scored_in_float32():
    rng = np.random.default_rng(2)
    embeddings = rng.standard_normal((60, 8)).astype(ml_dtypes.bfloat16)
    query_emb = rng.standard_normal((4, 8)).astype(np.float32)
    _, scores = ExactSearch(embeddings).search(jnp.asarray(query_emb), 5)
    expected = -np.sort(-(query_emb @ embeddings.astype(np.float32).T), axis=1)[:, :5]
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_devices_hold_the_embeddings_in_their_own_type(dtype):
    embeddings = np.ones((8 * jax.local_device_count(), 4), dtype)
    assert ExactSearch(embeddings)._embeddings.nbytes == embeddings.nbytes


def test_no_score_row_over_all_blocks():
    blocks, batch, k, chunk = 1000, 8, 5, 16
    jaxpr = jax.make_jaxpr(exact._device_top_k, static_argnums=(3, 4))(
        jnp.zeros((blocks, 4)), jnp.ones(blocks, bool), jnp.zeros((batch, 4)), k, chunk
    )
    assert "f32[8,21]" in str(jaxpr)  # a chunk and the running best
    assert "f32[8,1000]" not in str(jaxpr)


def test_batches_and_versions_share_compilations(monkeypatch):
    traces, top_k = [], exact.lax.top_k
    monkeypatch.setattr(exact.lax, "top_k", lambda *args: traces.append(1) or top_k(*args))
    embeddings = np.random.default_rng(3).standard_normal((1717, 5)).astype(np.float32)
    for batch in (5, 1, 0, 8):
        ids, _ = ExactSearch(embeddings).search(embeddings[:batch], 2)
        assert ids.shape == (batch, 2)
        traces.append(0)
    assert sum(traces[traces.index(0) :]) == 0 and traces[0] == 1  # nothing is traced after the first search
