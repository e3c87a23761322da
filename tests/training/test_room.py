"""The sizes that batches are packed to: each holds its batch, they are few, and a restart has the same."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from realm_jax.batches import Packed
from realm_jax.config import Config, ModelConfig, PretrainConfig
from realm_jax.data.packing import Packing
from realm_jax.training.room import PackedBatches, Room
from tests import test_parallel
from tests.test_parallel import CANDIDATES, random_ict_batch, random_pretrain_batch

CONFIG = Config(
    model=ModelConfig(vocab_size=40, hidden_size=16, num_layers=1, num_heads=2, intermediate_size=32),
    pretrain=PretrainConfig(num_candidates=CANDIDATES),
)
SHARES = 2
PARTS = {"query": 2, "blocks": 4, "joint": 2, "null_joint": 2}


@pytest.fixture(params=["rows", "flat"], autouse=True)
def is_flat(request, monkeypatch) -> bool:
    """Rows as on accelerators, or flat ones as on a CPU."""
    monkeypatch.setattr("realm_jax.training.room._is_flat", lambda: request.param == "flat")
    return request.param == "flat"


def room(sizes=()) -> Room:
    return Room(CONFIG, SHARES, {"blocks": 2}, {"sizes": list(sizes)})


def batch(seed):
    """Lengths, and so the rows that are needed, differ from batch to batch."""
    made = random_pretrain_batch(seed)
    rng = np.random.default_rng(seed)
    longest = rng.uniform(0.3, 1.0)

    def shorter(tokens):
        length = tokens.ids.shape[-1]
        mask = tokens.mask & (np.arange(length) < max(4, round(longest * length)))
        return dataclasses.replace(tokens, mask=mask, ids=tokens.ids * mask, types=tokens.types * mask)

    return dataclasses.replace(made, blocks=shorter(made.blocks), joint=shorter(made.joint))


def test_a_batch_keeps_its_sequences_and_the_rest_of_it():
    made = batch(0)
    packed = room().pack(made)
    for name, parts in PARTS.items():
        tokens, found = getattr(made, name), getattr(packed, name)
        assert isinstance(found, Packed) and len(found.ids) == parts
        np.testing.assert_array_equal(found.lengths.reshape(-1), tokens.mask.sum(-1).reshape(-1))
        ids = [part.reshape(-1)[s : s + n] for part, ss, ns in zip(found.ids, found.starts, found.lengths, strict=True)
               for s, n in zip(ss, ns, strict=True)]  # fmt: skip
        np.testing.assert_array_equal(np.concatenate(ids), tokens.ids[tokens.mask])
    np.testing.assert_array_equal(packed.candidate_mask, made.candidate_mask)


def test_slots_are_those_of_the_predictions_of_each_share():
    packed = room().pack(batch(1))
    weights, slots = packed.mask_weights.reshape(SHARES, -1), packed.mask_slots.reshape(SHARES, -1)
    for used, listed in zip(weights, slots, strict=True):
        assert set(listed[listed < used.size]) == set(np.flatnonzero(used))


def test_sizes_are_few_and_little_is_wasted():
    packing, rows, needed = room(), 0, 0
    for seed in range(200):
        made = packing.pack(batch(seed))
        rows += made.joint.ids.size
        needed += made.joint.mask.sum()
    assert len(packing.sizes) <= 8
    assert packing.fill == pytest.approx(
        sum(getattr(made, name).mask.sum() for name in ("query", "blocks", "joint", "null_joint"))
        / sum(getattr(made, name).ids.size for name in ("query", "blocks", "joint", "null_joint"))
    )
    assert needed / rows > 0.6  # of rows of 16, which hold a sequence or two


def test_a_batch_like_the_last_one_gets_its_size():
    packing = room()
    for _ in range(3):
        packing.pack(batch(3))
    assert len(packing.sizes) == 1


def test_where_none_is_large_enough_the_new_one_is_as_large_as_all(monkeypatch):
    monkeypatch.setattr("realm_jax.training.room.WASTE", 100)  # so that there is no other reason
    monkeypatch.setattr("realm_jax.training.room.SPARE", 0)
    packing = room()
    for seed in (2, *range(200)):
        packing.pack(batch(seed))
    assert 1 < len(packing.sizes) <= 5
    for smaller, larger in itertools.pairwise(packing.sizes):
        assert all(larger[name] >= count for name, count in smaller.items()) and larger != smaller


def test_rows_to_spare_are_two_deviations(is_flat):
    made = batch(0)
    needed = Packing(made.joint, SHARES, is_flat=is_flat)
    of_queries = made.joint.mask.sum((1, 2))
    deviation = np.sqrt(len(of_queries) / SHARES * of_queries.var()) / (64 if is_flat else 16)
    packing = room()
    packing.pack(made)
    assert packing.sizes[0]["joint"] == min(needed.most, needed.rows + max(1, int(np.ceil(2 * deviation))))


def test_the_same_sizes_give_the_same_packing():
    """A restart knows the sizes up to the batch that it begins with."""
    first = room()
    for seed in range(20):
        first.pack(batch(seed))
    again = room(first.sizes)
    for seed in (19, 20, 21):
        jax.tree.map(np.testing.assert_array_equal, again.pack(batch(seed)), first.pack(batch(seed)))
    assert again.sizes == first.sizes


def test_the_greediest_process_decides(monkeypatch, is_flat):
    """Here one that needs two rows or slots more of each than this one."""
    packing, ours = room(), room()

    def greatest(wanted):
        return {name: n if name.startswith("spare") else n + 2 for name, n in wanted.items()}

    monkeypatch.setattr(packing._agreement, "greatest", greatest)
    made = batch(5)
    ours.pack(made)
    packed = packing.pack(made)
    most = {name: Packing(getattr(made, name), parts, is_flat=is_flat).most for name, parts in PARTS.items()}
    for name, count in ours.sizes[0].items():
        assert packing.sizes[0][name] == min(count + 2, most.get(name, 99))
    assert packed.mask_slots.size == SHARES * packing.sizes[0]["mask_slots"]


def test_a_restart_packs_the_batch_that_was_under_way_as_it_was():
    """Also one that needed a new size, of which a restart might want another, were it handed that one."""
    for first in range(0, 60, 4):
        unbroken = room()
        for seed in range(first, first + 4):
            packed = unbroken.pack(batch(seed))
            again = room(unbroken.sizes_before)
            jax.tree.map(np.testing.assert_array_equal, again.pack(batch(seed)), packed)
            assert again.sizes == unbroken.sizes


def test_a_stream_says_the_sizes_before_the_batch_that_comes_next(monkeypatch):
    monkeypatch.setattr("realm_jax.parallel.num_devices", lambda: SHARES)
    ict, alone = Room(CONFIG, SHARES, {}, {}), Room(CONFIG, SHARES, {}, {})
    alone.pack(random_ict_batch(0))
    stream = PackedBatches(random_ict_batch, ict, {})
    try:
        stream.take(None)
        assert stream.state() == {"position": 1, "sizes": alone.sizes}
        assert 0 < stream.metrics()["fill"] <= 1
    finally:
        stream.close()
    assert test_parallel.BATCH % SHARES == 0
