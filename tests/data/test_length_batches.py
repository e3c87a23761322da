"""Every sequence is in one batch, none is cut without need, and little is padding."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_jax.data.length_batches import length_batches


@given(
    st.lists(st.integers(1, 70), max_size=80),
    st.sampled_from([64, 200, 5000]),
    st.sampled_from([1, 8]),
    st.integers(1, 9),
)
def test_batches(lengths, batch_tokens, devices, step):
    lengths = np.array(lengths, np.int64)
    seen = []
    for chosen, rows, length in length_batches(lengths, batch_tokens=batch_tokens, step=step, most=60, devices=devices):
        assert 0 < len(chosen) <= rows and rows % devices == 0
        assert rows * length <= max(batch_tokens, devices * length)
        assert length == 60 or length % step == 0
        assert (lengths[chosen] <= length).all() or length == 60
        seen += chosen.tolist()
    assert sorted(seen) == list(range(len(lengths)))


def test_little_padding_on_lengths_as_of_sentences():
    lengths = np.random.default_rng(0).gamma(4, 7, 20_000).astype(int) + 3
    plan = length_batches(lengths, batch_tokens=8192, step=8, most=512, devices=1)
    computed = sum(rows * length for _, rows, length in plan)
    assert computed == pytest.approx(lengths.sum(), rel=0.2)
