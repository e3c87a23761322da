"""Training examples against slow per-row Python."""

import dataclasses

import numpy as np
import pytest

from realm_jax.config import ConfigError
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
