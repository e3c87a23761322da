"""Entity scores against a slow scorer that walks over the words as CoNLL's Perl script does, and by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_jax.tagging.entities import score_labels, score_spans

LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def starts(before, label):
    """Whether an entity starts at a word, from its label and the one before."""
    position, kind = label[0], label[2:]
    return position == "B" or (position == "I" and (before == "O" or before[2:] != kind))


def ends(label, after):
    """Whether an entity ends at a word."""
    return label != "O" and (after[0] in "BO" or after[2:] != label[2:])


def walk(gold, predicted):
    """(true, predicted, right) entities over one stream of words; a pair is open while both agree on it."""
    counts = [0, 0, 0]
    open_pair = False
    before = ("O", "O")
    for i, (g, p) in enumerate(zip(gold, predicted, strict=True)):
        after = (gold[i + 1], predicted[i + 1]) if i + 1 < len(gold) else ("O", "O")
        begins = starts(before[0], g), starts(before[1], p)
        if begins[0] != begins[1] or g[2:] != p[2:]:
            open_pair = False
        if all(begins) and g[2:] == p[2:]:
            open_pair = True
        finishes = ends(g, after[0]), ends(p, after[1])
        if open_pair and all(finishes):
            counts[2] += 1
        if any(finishes):
            open_pair = False
        counts[0] += begins[0]
        counts[1] += begins[1]
        before = g, p
    return tuple(counts)


sentence = st.integers(0, 12).flatmap(
    lambda n: st.tuples(*[st.lists(st.sampled_from(LABELS), min_size=n, max_size=n)] * 2)
)


@given(st.lists(sentence, max_size=4))
def test_counts_are_those_of_a_walk_over_the_words(sentences):
    gold, predicted = [s[0] for s in sentences], [s[1] for s in sentences]
    flat = [[label for labels in side for label in [*labels, "O"]] for side in (gold, predicted)]
    overall = score_labels(gold, predicted).overall
    assert (overall.gold, overall.predicted, overall.correct) == walk(*flat)


def test_by_hand():
    gold = ["B-PER I-PER O B-LOC O O".split(), "B-ORG O".split()]
    predicted = ["B-PER I-PER O B-ORG O B-LOC".split(), "B-ORG I-ORG".split()]
    scores = score_labels(gold, predicted)
    assert (scores.overall.gold, scores.overall.predicted, scores.overall.correct) == (3, 4, 1)
    assert scores.overall.precision == 1 / 4 and scores.overall.recall == 1 / 3
    assert scores.overall.f1 == pytest.approx(2 * (1 / 4) * (1 / 3) / (1 / 4 + 1 / 3))
    assert scores.by_type["PER"].f1 == 1.0 and scores.by_type["LOC"].f1 == 0.0 and scores.by_type["ORG"].correct == 0
    assert scores.to_json()["overall"] == {
        **{"precision": 0.25, "recall": 0.3333, "f1": 0.2857},
        **{"gold": 3, "predicted": 4, "correct": 1},
    }


def test_nothing_to_find():
    overall = score_labels([["O"]], [["O"]]).overall
    assert (overall.precision, overall.recall, overall.f1) == (0.0, 0.0, 0.0)


def test_spans_of_any_kind():
    assert score_spans([[(0, 4, "A")], []], [[(0, 4, "A")], [(0, 4, "A")]]).overall.precision == 0.5


def test_another_number_of_labels_is_an_error():
    with pytest.raises(ValueError, match="1 labels are predicted for 2 words"):
        score_labels([["O", "O"]], [["O"]])
    with pytest.raises(ValueError, match="zip"):
        score_labels([["O"]], [])
