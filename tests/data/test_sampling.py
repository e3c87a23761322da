"""What an epoch has once, and which span it draws, against counts that are made block by block."""

import dataclasses
from collections import Counter

import numpy as np
import pytest

from realm_jax.data import corpus_writer, salient
from realm_jax.data.pipeline import Examples, MaskedSentences
from realm_jax.data.prepare import open_prepared
from realm_jax.records import Record

HELDOUT = 0.2
SEED = 5
EPOCHS = {"block": 20, "sentence": 20, "span": 2}
MANY = 3  # spans of a sentence; few here have more
NEW = "In {year} Curie {year} went to Paris. Marie Curie of Warsaw met Albert Einstein in Brussels in May {year}."


@pytest.fixture(scope="module")
def data(tiny_run, copy_run, tmp_path_factory):
    """A run whose corpus has two segments, and a deleted block in the first."""
    run = copy_run(tiny_run, tmp_path_factory.mktemp("sampling") / "run")
    records = [Record(f"new-{i}", f"Curie {i}", NEW.format(year=1900 + i)) for i in range(9)]
    arguments = {"tokenizer": open_prepared(run).tokenizer, "tag": salient.make_tagger("rules")}
    corpus_writer.append(records, run.knowledge_folder, **arguments)
    corpus_writer.delete([2], run.knowledge_folder)
    data = open_prepared(run)
    assert len(data.text.segments) == 2
    return data


def sentences(data, tiny_run, sampling, **policy):
    policy = dataclasses.replace(tiny_run.config.pretrain, sampling=sampling, max_masks=8, **policy)
    return MaskedSentences(data.text, data.special, policy, HELDOUT)


@pytest.fixture(scope="module")
def places(data, tiny_run) -> dict:
    """(block, wordpieces of the query) -> (block, sentence, span) of all that can be masked, by reading."""
    text, length = data.text, tiny_run.config.pretrain.query_len_tokens
    heldout, found = text.heldout(HELDOUT), {}
    for block in np.flatnonzero(~heldout & text.live):
        body, cut = text.body(block).tolist(), text.sentences(block)
        for number, span in enumerate(text.spans(block)):
            start, limit = (int(x) for x in cut[span["sentence"]][["token_start", "token_limit"]])
            inside = range(int(span["token_start"]) - start, int(span["token_limit"]) - start)
            if inside.stop <= length - 2:
                masked = [data.special.mask if i in inside else t for i, t in enumerate(body[start:limit])]
                key = (int(block), tuple([data.special.cls, *masked[: length - 2], data.special.sep]))
                assert key not in found, "two spans would look alike"
                found[key] = (int(block), int(span["sentence"]), number)
    return found


def drawn(found, places, epochs) -> list[list[tuple]]:
    """What was masked in each epoch: (block, sentence, span)."""
    batch = Examples(len(found), found.example, SEED).batch(0, epochs * len(found))
    ids, mask, blocks = batch.query.ids, batch.query.mask, batch.source_block
    all_drawn = [places[int(b), tuple(row[used].tolist())] for b, row, used in zip(blocks, ids, mask, strict=True)]
    return [all_drawn[i : i + len(found)] for i in range(0, len(all_drawn), len(found))]


@pytest.fixture(scope="module")
def epochs(data, tiny_run, places):
    """What was masked in each of some epochs, by sampling."""
    return {name: drawn(sentences(data, tiny_run, name), places, count) for name, count in EPOCHS.items()}


@pytest.mark.parametrize(("sampling", "parts"), [("block", 1), ("sentence", 2), ("span", 3)])
def test_an_epoch_has_each_block_sentence_or_span_once(epochs, places, sampling, parts):
    groups = {place[:parts] for place in places.values()}
    assert 1 < len(groups) and (sampling == "span" or len(groups) < len(places))
    for epoch in epochs[sampling]:
        assert sorted(place[:parts] for place in epoch) == sorted(groups)
    assert len({tuple(epoch) for epoch in epochs[sampling]}) == EPOCHS[sampling]


@pytest.mark.parametrize(("sampling", "parts"), [("block", 1), ("sentence", 2)])
def test_the_spans_of_a_group_are_drawn_alike(epochs, places, sampling, parts):
    """Pearson's chi-square over all groups: its mean is the degrees of freedom, its variance twice as much."""
    sizes = Counter(place[:parts] for place in places.values())
    counts = Counter(place for epoch in epochs[sampling] for place in epoch)
    expected = {place: EPOCHS[sampling] / sizes[place[:parts]] for place in places.values()}
    chi_square = sum((counts[place] - e) ** 2 / e for place, e in expected.items())
    freedom = sum(size - 1 for size in sizes.values())
    assert freedom > 200
    assert abs(chi_square - freedom) < 4 * np.sqrt(2 * freedom)


def test_sentences_full_of_names_weigh_as_their_definition_says(epochs, places):
    """Share of the examples that come from sentences with three spans or more."""
    spans = [*places.values()]
    in_sentence, in_block = (Counter(span[:parts] for span in spans) for parts in (2, 1))
    is_full = {span: in_sentence[span[:2]] >= MANY for span in spans}
    shares = {
        "span": np.mean([is_full[span] for span in spans]),
        "sentence": np.mean([number >= MANY for number in in_sentence.values()]),
        "block": sum(is_full[span] / in_block[span[:1]] for span in spans) / len(in_block),
    }
    found = {name: np.mean([[is_full[place] for place in epoch] for epoch in epochs[name]]) for name in shares}
    assert shares["span"] > max(shares["block"], shares["sentence"]) + 0.05
    assert found["span"] == pytest.approx(shares["span"]) and found["sentence"] == pytest.approx(shares["sentence"])
    n = EPOCHS["block"] * len(in_block)
    assert found["block"] == pytest.approx(shares["block"], abs=4 * np.sqrt(shares["block"] / n))


@pytest.mark.parametrize("sampling", ["block", "sentence"])
def test_the_span_is_a_function_of_seed_and_position(data, tiny_run, places, epochs, sampling):
    found = sentences(data, tiny_run, sampling)
    examples = Examples(len(found), found.example, SEED)
    late = examples.batch(3, 50)
    keys = [
        places[int(block), tuple(ids[mask].tolist())]
        for block, ids, mask in zip(late.source_block, late.query.ids, late.query.mask, strict=True)
    ]
    assert keys == [place for epoch in epochs[sampling][:3] for place in epoch][150:200]
    other = Examples(len(found), found.example, SEED + 1).batch(3, 50)
    assert (other.source_block != late.source_block).any()


@pytest.mark.parametrize("masking", ["uniform", "span"])
def test_random_masks_draw_a_sentence_of_the_block(data, tiny_run, masking):
    """Each block once; and where a row is a sentence, `sentence` and `span` are the same."""
    by_block, by_sentence, by_span = (
        sentences(data, tiny_run, sampling, masking=masking) for sampling in ("block", "sentence", "span")
    )
    text = data.text
    live = np.flatnonzero(~text.heldout(HELDOUT) & text.live)
    number_of = {int(block): len(text.sentences(block)) for block in live}
    assert len(by_block) == len(live) < len(by_span) == len(by_sentence) == sum(number_of.values())
    epochs = 6
    batch = Examples(len(by_block), by_block.example, SEED).batch(0, epochs * len(by_block))
    for i in range(epochs):
        epoch = batch.source_block[i * len(live) : (i + 1) * len(live)]
        assert sorted(epoch.tolist()) == live.tolist()
    lengths = {block: set() for block in number_of}
    for block, mask in zip(batch.source_block.tolist(), batch.query.mask, strict=True):
        lengths[block].add(int(mask.sum()))
    visible = tiny_run.config.pretrain.query_len_tokens
    expected = {
        b: {min(visible, int(s["token_limit"] - s["token_start"]) + 2) for s in text.sentences(b)} for b in lengths
    }
    assert all(lengths[block] <= expected[block] for block in lengths)
    assert sum(map(len, lengths.values())) > 0.8 * sum(map(len, expected.values())) > len(live)
    for number in range(0, len(by_span), 9):
        one, other = (s.example(number, np.random.default_rng(number)) for s in (by_sentence, by_span))
        assert one.query.ids.tolist() == other.query.ids.tolist() and one.source_block == other.source_block


def test_what_gives_no_example_is_counted_alike(data, tiny_run, places):
    policy = {"answer_elsewhere": True, "query_len_tokens": 20}
    blocks, spans = (sentences(data, tiny_run, sampling, **policy) for sampling in ("block", "span"))
    assert blocks.skipped == spans.skipped and all(blocks.skipped.values())
    assert blocks.rows.tolist() == spans.rows.tolist()
    assert len(blocks) == len({spans.locate(i)[1]["hash"] for i in range(len(spans))}) < len(spans)
    counted = f"({len(spans):,} spans); skipped spans: "
    assert blocks.summary().startswith(f"{len(blocks):,} examples, each a block {counted}")
    assert spans.summary().startswith(f"{len(spans):,} examples, each a span {counted}")
    assert "each a sentence" in sentences(data, tiny_run, "span", masking="uniform").summary()
