"""Packs a task's batches into rows, of a few sizes: each is another program, which takes seconds or minutes to compile.

How many rows a batch needs is known once its sequences are placed (`data.packing`). It gets the cheapest of the sizes
that were used before, if it fits and is not much more than is needed. Else a new one is added, with rows to spare for
the batches to come; where none was large enough, it has at least the rows of all others. All kinds of input are decided
together, since each combination is a program. Of several processes each needs something else, and all take what the
greediest needs. A checkpoint keeps the sizes: a restart compiles the same programs and computes the same bits.
"""

import dataclasses
import logging
import math
from typing import Any

import jax
import numpy as np

from realm_jax import parallel, processes
from realm_jax.batches import PretrainBatch, Tokens
from realm_jax.config import Config
from realm_jax.data.assembly import mask_slots
from realm_jax.data.packing import Packing
from realm_jax.data.pipeline import Batches
from realm_jax.plan import longest_batch, work

log = logging.getLogger(__name__)

SLOTS = "mask_slots"
SPARE = 2  # standard deviations of the rows that batches need, and a row at least
WASTE, WASTE_MORE = 0.15, 0.05  # of the cost that a size may have in vain; and for each size that there is


class Room:
    """The sizes of a phase's batches.

    Args:
        shares: into how many this process's batch will be split, over its devices and into micro-batches.
        parts: in how many parts the sequences of a share are computed, by field of the batch; 1 where it is not named.
        state: of the stream, from a checkpoint; empty at first.
    """

    def __init__(self, config: Config, shares: int, parts: dict[str, int], state: dict):
        self._shares, self._parts = shares, parts
        self._model, self._candidates = config.model, config.pretrain.num_candidates
        self._agreement = processes.Agreement(config.index.wait_timeout_s)
        self.sizes: list[dict[str, int]] = [dict(size) for size in state.get("sizes", [])]
        """Rows of each part by the field of the batch, and slots of each share, of every program."""
        self.sizes_before = list(self.sizes)
        """What they were before the last batch, which a restart packs again: it has to decide the same."""
        self.fill: float = math.nan
        """Share of the positions of the last batch that are real."""

    def pack(self, batch: Any) -> Any:
        """The batch with packed sequences, of one of the sizes."""
        self.sizes_before = list(self.sizes)
        tokens = {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch)}
        placed = {
            name: Packing(value, self._shares * self._parts.get(name, 1), is_flat=_is_flat())
            for name, value in tokens.items()
            if isinstance(value, Tokens)
        }
        needed = {name: packing.rows for name, packing in placed.items()}
        if isinstance(batch, PretrainBatch):
            needed[SLOTS] = _slots(batch.mask_weights, self._shares)
        spare = {name: max(1, math.ceil(SPARE * packing.deviation)) for name, packing in placed.items()}
        wanted = needed | {f"spare {name}": count for name, count in spare.items()}
        agreed = self._agreement.greatest(wanted)
        rows = self._size(
            {name: agreed[name] for name in needed}, {name: agreed[f"spare {name}"] for name in spare}, placed
        )
        packed = {name: packing.packed(rows[name]) for name, packing in placed.items()}
        self.fill = sum(x.lengths.sum() for x in packed.values()) / sum(x.ids.size for x in packed.values())
        if SLOTS in rows:
            packed[SLOTS] = mask_slots(batch.mask_weights, self._shares, rows[SLOTS])
        return dataclasses.replace(batch, **packed)

    def _size(self, needed: dict[str, int], spare: dict[str, int], placed: dict[str, Packing]) -> dict[str, int]:
        def cost(size):
            """Multiply-adds of a share."""
            macs = work.head_macs(self._model, self._candidates * size.get(SLOTS, 0))
            for name, packing in placed.items():
                positions = size[name] * self._parts.get(name, 1) * packing.row_length
                macs += positions * work.bert_macs(self._model, np.array([packing.longest])) / packing.longest
            return macs

        fitting = [size for size in self.sizes if all(size[name] >= count for name, count in needed.items())]
        best = min(fitting, key=cost, default=None)
        new = needed | {name: min(needed[name] + spare[name], packing.most) for name, packing in placed.items()}
        if best is None or cost(best) > (1 + WASTE + WASTE_MORE * len(self.sizes)) * cost(new):
            others = self.sizes if best is None else []
            best = {name: max([count, *(size[name] for size in others)]) for name, count in new.items()}
            self.sizes.append(best)
            log.info(f"a batch of a new size is compiled: {', '.join(f'{n} {c}' for n, c in best.items())}")
        return best


def of_phase(config: Config, phase: str, state: dict) -> Room:
    """The room of `ict`, `pretrain` or `finetune` on the devices that there are."""
    devices = jax.device_count()
    shares = parallel.num_devices() * longest_batch.micro_batches(config, phase, devices)
    return Room(config, shares, longest_batch.parts(config, phase, devices), state)


def _is_flat() -> bool:
    """Whether each part is one row: on CPUs, where attention goes from one sequence to the next.

    Elsewhere its work and memory grow with the length of rows.
    """
    return jax.default_backend() == "cpu"


def _slots(mask_weights: np.ndarray, shares: int) -> int:
    """Slots that the share with most predictions needs: a multiple of two for each query, which few numbers are."""
    most, step = (mask_weights > 0).reshape(shares, -1).sum(1).max(), 2 * (len(mask_weights) // shares)
    return min(int(-(-most // step)) * step, mask_weights.size // shares)


class PackedBatches(Batches):
    """Batches that depend on their number alone, packed.

    Args:
        make: batch number -> this process's share of it.
    """

    def __init__(self, make: Any, room: Room, state: dict):
        self._room = room
        super().__init__(lambda number: parallel.shard(room.pack(make(number))), state)

    def state(self) -> dict:
        """Returns how many batches were taken, and the sizes before the next one, which is being made."""
        self._thread.result(self._next)
        return super().state() | {"sizes": self._room.sizes_before}

    def metrics(self) -> dict[str, float]:
        """How full the rows are."""
        return {"fill": self._room.fill}
