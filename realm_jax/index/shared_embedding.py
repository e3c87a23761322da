"""Blocks embedded by several processes: each takes ranges, and one of them joins what all have made.

The process that joins writes its own ranges straight into the result; the others hand theirs over as files. So a
process that is alone writes nothing twice.
"""

import functools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import ml_dtypes
import numpy as np
from jaxtyping import Float, Int

from realm_jax.config import Config, RunError
from realm_jax.data.corpus import Corpus
from realm_jax.index.embed_blocks import TowerEmbedder, embed_range
from realm_jax.index.shared_work import JOIN, SharedWork, claims_and_parts

log = logging.getLogger(__name__)

POLL_S = 0.2
Between = Callable[[int, int], None]


@dataclass
class SharedEmbedding:
    """The embedding of some blocks of a corpus, as far as this process takes part in it."""

    config: Config
    params: dict
    """The embedder's parameters on the host, the same in all processes."""
    corpus: Corpus
    blocks: Int[np.ndarray, " blocks"]
    """Ordinals of the blocks."""
    ranges: list[range]
    """What is done as one part: rows of `blocks`."""
    work: SharedWork
    between: Between = lambda done, total: None
    """Called after each batch and in each wait with (about how many blocks are done, all blocks); may raise to stop."""

    def __post_init__(self):
        self._heard, self._shown = time.monotonic(), 0

    def join(self, out: Float[np.ndarray, "blocks dim"]) -> None:
        """Fills `out` with what this process embeds and what others hand over.

        Args:
            out: float32 or bfloat16; may be a memory map.

        Raises:
            RunError: others that take part had nothing done within `index.wait_timeout_s`.
        """
        filled: set[int] = set()
        while len(filled) < len(self.ranges):
            _, over = claims_and_parts(self.work.folder)
            for number in over - filled:
                out[self._rows(number)] = self.work.read_part(number).view(out.dtype)
                self._heard = time.monotonic()
            filled |= over
            number = self.work.take_part(len(self.ranges), filled)
            if number is not None:
                self._embed(number, out[self._rows(number)])
                filled.add(number)
            elif len(filled) < len(self.ranges):
                self._wait()
        if self.work.done < len(self.ranges):
            theirs = len(self.ranges) - self.work.done
            log.info(f"other processes embedded {theirs} of {len(self.ranges)} ranges of blocks")

    def help(self, dtype: str) -> None:
        """Embeds ranges for the process that joins them, until nobody joins any more or the work is over.

        Args:
            dtype: float32 or bfloat16, that of the result.

        Raises:
            RunError: others that take part had nothing done within `index.wait_timeout_s`.
        """
        known: set[int] = set()
        while self.work.is_open() and self.work.holder(JOIN):
            number = self.work.take_part(len(self.ranges), set())
            if number is not None:
                self._hand_over(number, dtype)
                continue
            _, over = claims_and_parts(self.work.folder)
            if over != known:
                known, self._heard = over, time.monotonic()
            self._wait()
        if self.work.done:
            log.info(f"embedded {self.work.done} of {len(self.ranges)} ranges of blocks for another process")

    def _hand_over(self, number: int, dtype: str) -> None:
        kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.float32
        part = np.empty((len(self.ranges[number]), self.config.model.projection_dim), kind)
        self._embed(number, part)
        if self.work.is_open():  # else others were faster
            self.work.hand_over(number, part.view(np.uint16) if dtype == "bfloat16" else part)  # .npy knows no bfloat16

    def _embed(self, number: int, out: np.ndarray) -> None:
        rows = self._rows(number)

        def between(done: int) -> None:
            self._shown = rows.start + done
            self.between(self._shown, len(self.blocks))

        embed_range(self.config, self._tower, self.corpus, self.blocks[rows], out, between)
        self._heard = time.monotonic()
        self.work.count_done()

    @functools.cached_property
    def _tower(self) -> TowerEmbedder:
        return TowerEmbedder(self.config, self.params, "block")

    def _rows(self, number: int) -> slice:
        return slice(self.ranges[number].start, self.ranges[number].stop)

    def _wait(self) -> None:
        timeout_s = self.config.index.wait_timeout_s
        if time.monotonic() - self._heard > timeout_s:
            raise RunError(
                f"{self.work.folder}: other processes had nothing done for {timeout_s:.0f} s: look at them "
                "(realm inspect), or make a run with a longer --index.wait_timeout_s"
            )
        time.sleep(POLL_S)
        self.between(self._shown, len(self.blocks))
