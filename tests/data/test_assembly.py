"""Token assembly against plain Python: sequences, masked queries, joint sequences, slots."""

import dataclasses

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from realm_jax.batches import Tokens
from realm_jax.config import ConfigError
from realm_jax.data import assembly
from realm_jax.data.assembly import SpecialIds
from realm_jax.data.pipeline import Examples, MaskedSentences
from realm_jax.data.prepare import open_prepared

IDS = SpecialIds(cls=2, sep=3, mask=4, pad=0)


def query_of(tokens, positions, *, query_len_tokens=16, max_masks=10):
    tokens, positions = np.array(tokens, np.uint16), np.array(positions, int)
    return assembly.masked_query(tokens, positions, query_len_tokens, max_masks, IDS)


def test_masked_query_by_hand():
    query, positions, targets, weights = query_of([10, 11, 12, 13], [1, 2], query_len_tokens=8, max_masks=3)
    assert query.ids.tolist() == [2, 10, 4, 4, 13, 3, 0, 0]
    assert query.mask.tolist() == [True] * 6 + [False] * 2
    assert query.types.tolist() == [0] * 8
    assert positions.tolist() == [2, 3, 0]
    assert targets.tolist() == [11, 12, 0]
    assert weights.tolist() == [1, 1, 0]
    assert [a.dtype for a in (query.ids, query.mask, query.types)] == [np.int32, np.bool_, np.int32]
    assert [a.dtype for a in (positions, targets, weights)] == [np.int32, np.int32, np.float32]


def test_long_span_is_masked_whole_and_predicted_in_part():
    query, positions, targets, weights = query_of(range(100, 114), range(12), max_masks=10)
    assert query.ids.tolist() == [2] + [4] * 12 + [112, 113, 3]
    assert positions.tolist() == list(range(1, 11))
    assert targets.tolist() == list(range(100, 110))
    assert weights.sum() == 10


def test_truncated_sentence_ends_in_sep():
    query, *_ = query_of(range(100, 150), [13], query_len_tokens=16)
    assert query.ids.tolist() == [2, *range(100, 113), 4, 3]
    assert query.mask.all()


@pytest.mark.parametrize("positions", [[14], [3, 40], [50], []])
def test_positions_outside_the_query_raise(positions):
    with pytest.raises(ValueError, match="14 wordpieces"):
        query_of(range(100, 150), positions, query_len_tokens=16)


def test_position_past_the_sentence_raises():
    with pytest.raises(ValueError, match="4 wordpieces"):
        query_of([10, 11, 12, 13], [4])


@given(st.data())
def test_targets_restore_the_sentence(data):
    tokens = data.draw(st.lists(st.integers(5, 65535), min_size=1, max_size=40))
    query_len = data.draw(st.integers(3, 50))
    fits = min(len(tokens), query_len - 2)
    positions = sorted(data.draw(st.sets(st.integers(0, fits - 1), min_size=1)))
    max_masks = data.draw(st.integers(len(positions), len(positions) + 3))
    query, at, targets, weights = query_of(tokens, positions, query_len_tokens=query_len, max_masks=max_masks)
    assert (query.ids == IDS.mask).sum() == len(positions) == weights.sum()
    restored = query.ids.copy()
    restored[at[weights > 0]] = targets[weights > 0]
    expected = [IDS.cls, *tokens[:fits], IDS.sep]
    assert restored.tolist() == expected + [IDS.pad] * (query_len - len(expected))
    assert query.mask.sum() == len(expected)


def tokenizer_with(*tokens):
    vocab = {token: i for i, token in enumerate(tokens)}
    return tokenizers.Tokenizer(tokenizers.models.WordPiece(vocab, unk_token="[UNK]"))


def test_special_ids_come_from_the_vocabulary():
    tokenizer = tokenizer_with("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a")
    assert SpecialIds.from_tokenizer(tokenizer) == IDS


def test_missing_special_token_is_named():
    with pytest.raises(ConfigError, match=r"\[MASK\]"):
        SpecialIds.from_tokenizer(tokenizer_with("[PAD]", "[UNK]", "[CLS]", "[SEP]"))


def test_concatenate_keeps_every_separator_when_it_cuts():
    tokens = assembly.concatenate([np.arange(10, 14), np.arange(20, 30)], IDS, 9)
    assert tokens.ids.tolist() == [2, 10, 11, 12, 13, 3, 20, 21, 3]
    tokens = assembly.concatenate([np.arange(10, 30), np.arange(20, 30)], IDS, 6)
    assert tokens.ids.tolist() == [2, 10, 11, 12, 3, 3] and tokens.types.tolist() == [0, 0, 0, 0, 0, 1]
    tokens = assembly.concatenate([np.array([7])], IDS, 5)
    assert tokens.ids.tolist() == [2, 7, 3, 0, 0] and tokens.mask.tolist() == [True] * 3 + [False] * 2


def slow_joint(query_ids, block_ids, block_types, length):
    """One row of `joint_tokens` from unpadded lists."""
    body = [t for t, kind in zip(block_ids, block_types, strict=True) if kind == 1]
    ids = [*query_ids, *body]
    padding = [0] * (length - len(ids))
    return ids + padding, [True] * len(ids) + [False] * len(padding), [0] * len(query_ids) + [1] * len(body) + padding


def pad_rows(rows, length):
    ids = np.zeros((len(rows), length), np.int32)
    mask = np.zeros((len(rows), length), bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = row, True
    return ids, mask


def test_joint_tokens_row_by_row():
    rng = np.random.default_rng(0)
    batch, k, query_len, block_len = 5, 3, 9, 11
    queries = [rng.integers(5, 99, rng.integers(2, query_len + 1)).tolist() for _ in range(batch)]
    blocks = [rng.integers(5, 99, rng.integers(3, block_len + 1)).tolist() for _ in range(batch * k)]
    titles = [int(rng.integers(1, len(block))) for block in blocks]
    kinds = [[0] * title + [1] * (len(block) - title) for title, block in zip(titles, blocks, strict=True)]
    ids, mask = pad_rows(queries, query_len)
    block_ids, block_mask = pad_rows(blocks, block_len)
    block_types, _ = pad_rows(kinds, block_len)
    shaped = [x.reshape(batch, k, block_len) for x in (block_ids, block_mask, block_types)]
    length = query_len + block_len
    joint = assembly.joint_tokens(Tokens(ids, mask, np.zeros_like(ids)), Tokens(*shaped), length)
    for i in range(batch):
        for z in range(k):
            at = i * k + z
            expected = slow_joint(queries[i], blocks[at], kinds[at], length)
            assert (joint.ids[i, z].tolist(), joint.mask[i, z].tolist(), joint.types[i, z].tolist()) == expected


def test_body_mask_of_any_shape():
    ids = np.arange(12, dtype=np.int32).reshape(2, 6)
    mask = np.array([[1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0]], bool)
    types = np.array([[0, 0, 1, 1, 1, 0], [0, 0, 1, 0, 0, 0]], np.int32)
    expected = [[False, False, True, True, False, False], [False] * 6]
    assert assembly.body_mask(Tokens(ids, mask, types)).tolist() == expected
    assert assembly.body_mask(Tokens(ids[1], mask[1], types[1])).tolist() == expected[1]


def test_with_candidates_puts_the_null_block_first_and_masks_missing_ones(tiny_run):
    data, policy = open_prepared(tiny_run), dataclasses.replace(tiny_run.config.pretrain, sampling="span")
    found = MaskedSentences(data.text, data.special, policy, 0.3)
    queries = Examples(len(found), found.example, 0).batch(0, 8)
    rng = np.random.default_rng(0)
    candidates = rng.integers(data.knowledge.num_blocks, size=(8, 3))
    candidates[2, 1:] = -1
    batch = assembly.with_candidates(queries, candidates, data.knowledge, 4)
    special: SpecialIds = data.special
    assert batch.candidate_mask.tolist() == [[True, *(row >= 0).tolist()] for row in candidates]
    for i in range(8):
        query = queries.query.ids[i][queries.query.mask[i]].tolist()
        assert batch.null_joint.ids[i][batch.null_joint.mask[i]].tolist() == [*query, special.sep]
        assert batch.null_joint.types[i].sum() == 1
        for z, block in enumerate(candidates[i]):
            body = data.knowledge.body(int(block)).tolist() if block >= 0 else []
            expected = [*query, *body, special.sep]
            assert batch.joint.ids[i, z][batch.joint.mask[i, z]].tolist() == expected
            title = data.knowledge.title(int(block)).tolist() if block >= 0 else []
            whole = [special.cls, *title, special.sep, *body, special.sep]
            assert batch.blocks.ids[i, z][batch.blocks.mask[i, z]].tolist() == whole
    assert batch.mask_slots.shape[0] % 4 == 0


@pytest.mark.parametrize("devices", [1, 2, 4])
@pytest.mark.parametrize("most", [1, 3, 6])
def test_mask_slots_list_the_real_predictions_of_each_device(devices, most):
    rng = np.random.default_rng(most)
    weights = (np.arange(6) < rng.integers(0, most + 1, 8)[:, None]).astype(np.float32)
    slots = assembly.mask_slots(weights, devices).reshape(devices, -1)
    per_device = 8 // devices
    for device in range(devices):
        share = weights[device * per_device : (device + 1) * per_device]
        expected = [b * 6 + j for b in range(per_device) for j in range(6) if share[b, j]]
        row = slots[device].tolist()
        assert row == expected + [per_device * 6] * (len(row) - len(expected))
