"""Labels and entities: the rule of CoNLL's scorer on hand-made cases, and that nothing is lost in between."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_jax.config import ConfigError
from realm_jax.tagging.bio import bio, chunks, label_set, split

CASES = {
    "O O": [],
    "B-PER I-PER O B-LOC": [(0, 2, "PER"), (3, 4, "LOC")],
    "I-PER I-PER O": [(0, 2, "PER")],  # IOB1
    "I-PER B-PER I-PER": [(0, 1, "PER"), (1, 3, "PER")],  # IOB1: B- only between neighbours
    "B-PER I-LOC": [(0, 1, "PER"), (1, 2, "LOC")],  # invalid: begins anew
    "O I-LOC B-LOC": [(1, 2, "LOC"), (2, 3, "LOC")],
    "B-X-Y I-X-Y": [(0, 2, "X-Y")],
}


@pytest.mark.parametrize("labels", CASES)
def test_entities_of_labels(labels):
    assert chunks(labels.split()) == CASES[labels]


@given(st.lists(st.sampled_from(label_set(("PER", "LOC", "ORG")))))
def test_spelling_entities_again_changes_no_entity(labels):
    found = chunks(labels)
    assert chunks(bio(len(labels), found)) == found
    assert all(a[1] <= b[0] for a, b in zip(found, found[1:], strict=False))
    inside = {i for start, limit, _ in found for i in range(start, limit)}
    assert inside == {i for i, label in enumerate(labels) if label != "O"}


def test_labels_of_types():
    assert label_set(("PER", "LOC")) == ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    with pytest.raises(ConfigError, match="at least one"):
        label_set(())


@pytest.mark.parametrize("label", ["", "B", "B-", "E-PER", "PER", "I PER", "o"])
def test_other_labels_are_refused(label):
    with pytest.raises(ValueError, match="none of O, B-TYPE and I-TYPE"):
        split(label)
