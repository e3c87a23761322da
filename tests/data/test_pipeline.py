"""Training examples against slow per-row Python."""

import dataclasses

import numpy as np
import pytest

from realm_jax.batches import Tokens
from realm_jax.config import ConfigError
from realm_jax.data import pipeline
from realm_jax.data.masking import SpecialIds
from realm_jax.data.pipeline import Batches, Examples, MaskedSentences
from realm_jax.data.prepare import open_prepared

HELDOUT = 0.3


@pytest.fixture(scope="module")
def data(tiny_run):
    return open_prepared(tiny_run)


def sentences(data, tiny_run, heldout_fraction=HELDOUT, *, heldout=False, **policy):
    policy = dataclasses.replace(tiny_run.config.pretrain, **{"sampling": "span", **policy})
    return MaskedSentences(data.text, data.special, policy, heldout_fraction, heldout=heldout)


def all_spans(corpus):
    """(block, article, wordpieces of the sentence, span within it, span text) of every span, by reading."""
    rows = []
    for index in range(corpus.num_blocks):
        body, cut = corpus.body(index).tolist(), corpus.sentences(index)
        text = corpus.block(index).text.encode()
        for span in corpus.spans(index):
            start, limit = (int(x) for x in cut[span["sentence"]][["token_start", "token_limit"]])
            where = (int(span["token_start"]) - start, int(span["token_limit"]) - start)
            string = text[span["byte_start"] : span["byte_limit"]].decode().lower()
            rows.append((index, corpus.block(index).source_id, body[start:limit], where, string))
    return rows


def test_salient_query_is_the_sentence_with_its_span_masked(data, tiny_run):
    found = sentences(data, tiny_run, max_masks=3)
    spans = all_spans(data.text)
    length = tiny_run.config.pretrain.query_len_tokens
    rng = np.random.default_rng(0)
    for number in range(0, len(found), 7):
        block, _, tokens, (first, limit), _ = spans[found.rows[number]]
        example = found.example(number, rng)
        masked = [data.special.mask if first <= i < limit else t for i, t in enumerate(tokens)][: length - 2]
        assert example.query.ids[example.query.mask].tolist() == [data.special.cls, *masked, data.special.sep]
        used = example.mask_weights > 0
        assert example.mask_targets[used].tolist() == tokens[first:limit][:3]
        assert example.mask_positions[used].tolist() == list(range(first + 1, limit + 1))[:3]
        assert not example.mask_targets[~used].any() and not example.mask_positions[~used].any()
        assert example.source_block == block
        assert example.source_hash == data.text.block_hashes(np.array([block]))[0]
        assert found.answer(number).tolist() == tokens[first:limit]


@pytest.mark.parametrize("heldout", [False, True])
def test_examples_are_the_spans_of_one_part_that_fit(data, tiny_run, heldout):
    found = sentences(data, tiny_run, heldout=heldout, query_len_tokens=16)
    part = data.text.heldout(HELDOUT)
    spans = all_spans(data.text)
    expected = [i for i, (b, _, _, at, _) in enumerate(spans) if part[b] == heldout and at[1] <= 14]
    assert found.rows.tolist() == expected and 0 < part.sum() < len(part)
    assert found.skipped["other part (held out or not)"] == sum(part[b] != heldout for b, *_ in spans)
    assert found.skipped["span beyond query_len_tokens"] > 0
    assert sum(found.skipped.values()) + len(found) == len(spans)


def test_heldout_articles_give_no_training_example(data, tiny_run):
    articles = [
        {data.text.block(int(b)).source_id for b in _source_blocks(sentences(data, tiny_run, heldout=part))}
        for part in (False, True)
    ]
    assert articles[0] and articles[1] and not articles[0] & articles[1]


def _source_blocks(found):
    rng = np.random.default_rng(0)
    return [found.example(number, rng).source_block for number in range(len(found))]


def test_answer_elsewhere_means_another_article(data, tiny_run):
    found = sentences(data, tiny_run, 0.0, answer_elsewhere=True)
    spans = all_spans(data.text)
    articles = {}
    for _, article, _, _, string in spans:
        articles.setdefault(string, set()).add(article)
    fits = set(sentences(data, tiny_run, 0.0).rows.tolist())
    expected = [i for i, s in enumerate(spans) if i in fits and len(articles[s[4]]) > 1]
    assert found.rows.tolist() == expected and 0 < len(expected) < len(spans)
    assert found.skipped["answer in no other article"] == len(fits) - len(expected)


@pytest.mark.parametrize("policy", ["uniform", "span"])
def test_random_policies_mask_every_sentence(data, tiny_run, policy):
    found = sentences(data, tiny_run, masking=policy, max_masks=4)
    part = data.text.heldout(HELDOUT)
    assert len(found) == sum(len(data.text.sentences(i)) for i in np.flatnonzero(~part))
    rng = np.random.default_rng(0)
    widths = set()
    for number in range(60):
        _, block, sentence, span = found.locate(number)
        example = found.example(number, rng)
        start = int(block["token_start"]) + int(sentence["token_start"])
        tokens = data.text.segments[0].tokens[start : int(block["token_start"]) + int(sentence["token_limit"])]
        used = example.mask_weights > 0
        at = example.mask_positions[used]
        restored = example.query.ids.copy()
        restored[at] = example.mask_targets[used]
        visible = tokens[: found.config.query_len_tokens - 2].tolist()
        assert restored[example.query.mask][1:-1].tolist() == visible and span is None
        assert (example.query.ids[at] == data.special.mask).all() and 1 <= used.sum() <= 4
        assert policy == "uniform" or (np.diff(at) == 1).all()
        widths.add(int(used.sum()))
    assert len(widths) > 1


def test_one_per_sentence(data, tiny_run):
    found = sentences(data, tiny_run)
    numbers = found.one_per_sentence(10_000, seed=3)
    keys = [(int(found.locate(n)[2]["block"]), int(found.locate(n)[2]["byte_start"])) for n in range(len(found))]
    assert len({keys[n] for n in numbers}) == len(numbers) == len(set(keys))
    assert numbers.tolist() == found.one_per_sentence(10_000, seed=3).tolist()
    assert numbers[:5].tolist() == found.one_per_sentence(5, seed=3).tolist()
    assert numbers.tolist() != sorted(numbers.tolist())
    assert len(sentences(data, tiny_run, masking="span").one_per_sentence(9, seed=0)) == 9


def test_no_example_at_all_is_an_error(data, tiny_run):
    with pytest.raises(ConfigError, match="no training sentence can be masked.*corpus.heldout_fraction"):
        sentences(data, tiny_run, 0.9999999)
    with pytest.raises(ConfigError, match="no held-out sentence can be masked"):
        sentences(data, tiny_run, 0.0, heldout=True)


def draw(number, rng):
    return np.array([number, rng.integers(1 << 30)])


def test_a_batch_is_a_function_of_seed_and_number():
    examples = Examples(50, draw, seed=7)
    forwards = [examples.batch(i, 8) for i in range(12)]
    again = Examples(50, draw, seed=7)
    for i in reversed(range(12)):
        np.testing.assert_array_equal(again.batch(i, 8), forwards[i])
    assert (Examples(50, draw, seed=8).batch(0, 8) != forwards[0]).any()
    # The batch size only cuts the sequence.
    np.testing.assert_array_equal(again.batch(0, 96), np.concatenate(forwards))


def test_every_epoch_is_another_permutation():
    rows = Examples(50, draw, seed=7).batch(0, 200)
    epochs = rows[:, 0].reshape(4, 50)
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 4
    assert len(np.unique(rows[:, 1])) == 200  # random draws differ between epochs, too


def test_batches_state_is_that_of_the_last_batch_taken():
    made = []

    def make(number):
        made.append(number)
        return number * 10

    stream = Batches(make, {})
    assert [stream.take(None) for _ in range(3)] == [0, 10, 20]
    assert stream.state() == {"position": 3} and stream.metrics() == {}
    stream.close()
    assert set(made) <= set(range(4))
    resumed = Batches(make, stream.state())
    assert resumed.take(None) == 30
    resumed.close()


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
    joint = pipeline.joint_tokens(Tokens(ids, mask, np.zeros_like(ids)), Tokens(*shaped), length)
    for i in range(batch):
        for z in range(k):
            at = i * k + z
            expected = slow_joint(queries[i], blocks[at], kinds[at], length)
            assert (joint.ids[i, z].tolist(), joint.mask[i, z].tolist(), joint.types[i, z].tolist()) == expected


def test_with_candidates_puts_the_null_block_first_and_masks_missing_ones(data, tiny_run):
    found = sentences(data, tiny_run)
    queries = Examples(len(found), found.example, 0).batch(0, 8)
    rng = np.random.default_rng(0)
    candidates = rng.integers(data.knowledge.num_blocks, size=(8, 3))
    candidates[2, 1:] = -1
    batch = pipeline.with_candidates(queries, candidates, data.knowledge, 4)
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
    slots = pipeline.mask_slots(weights, devices).reshape(devices, -1)
    per_device = 8 // devices
    for device in range(devices):
        share = weights[device * per_device : (device + 1) * per_device]
        expected = [b * 6 + j for b in range(per_device) for j in range(6) if share[b, j]]
        row = slots[device].tolist()
        assert row == expected + [per_device * 6] * (len(row) - len(expected))


def test_contains():
    tokens = np.array([1, 2, 2, 3], np.uint16)
    for wanted, expected in [
        ([2, 3], True),
        ([1], True),
        ([3], True),
        ([2, 2, 3], True),
        ([3, 1], False),
        ([1, 2, 3], False),
        ([9], False),
        ([1, 2, 2, 3, 4], False),
    ]:
        assert pipeline.contains(tokens, np.array(wanted, np.uint16)) == expected, wanted
