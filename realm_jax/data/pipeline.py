"""Training examples: which masked sentences there are, in which order, and how they become batches.

Which spans can be masked is found once (`eligible_rows`), and grouped: an example is a block, a sentence or a span.
Example i of the endless shuffled sequence, the span that it draws included, is a pure function of (seed, i) through
grain, so the data position of a run is one integer and any batch can be made again.
That order knows no processes: of each global batch a process makes its own share, so a run may go on with another
number of them and still see every example once an epoch.
Retrieval happens elsewhere: `assembly.with_candidates` joins queries and blocks once the candidates are known.
"""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, SupportsIndex

import grain
import numpy as np
from etils import epath
from jaxtyping import Int, UInt16

from realm_jax import batches
from realm_jax.background import Background
from realm_jax.batches import MaskedQueries
from realm_jax.config import PretrainConfig
from realm_jax.console import tally
from realm_jax.data.assembly import SpecialIds, masked_query
from realm_jax.data.corpus import Corpus
from realm_jax.data.eligible_rows import ONLY_HERE, Wanted, eligible_rows
from realm_jax.data.masking import choose_span, choose_uniform
from realm_jax.data.segment import Segment
from realm_jax.records import Process

log = logging.getLogger(__name__)

ALONE = Process()
PERMUTED = 1 << 22  # numbers that are shuffled in memory
BATCH_TIMEOUT_S = 3600.0


class MaskedSentences:
    """The sentences of a text that can be masked, held out or not.

    `len` and the numbers of `example` count what `pretrain.sampling` says: blocks, sentences or spans. Every other
    method takes a place in `rows`, which is an example's number where sampling is `span`.

    Args:
        corpus: the pre-training text X.
        config: policies of masking and sampling, and lengths.
        heldout: take the held-out articles instead of the others.
        kept: where what is found is kept (see `eligible_rows`); None to find it anew.

    Raises:
        ConfigError: no sentence can be masked; the message counts why.
    """

    def __init__(
        self,
        corpus: Corpus,
        special: SpecialIds,
        config: PretrainConfig,
        heldout_fraction: float,
        *,
        heldout: bool = False,
        kept: epath.Path | None = None,
    ):
        self.corpus, self.config = corpus, config
        self._special = special
        wanted = Wanted.by(config, heldout_fraction, heldout)
        self._column, self._example = wanted.column, wanted.example
        found = eligible_rows(corpus, wanted, kept)
        self.rows = found.rows
        """[rows]: ordinals over all segments of the spans (or sentences) that can be masked."""
        self._limits = found.limits
        """[examples + 1]: an example draws from the rows between its limit and the next."""
        self.skipped = found.skipped
        """How many spans (or sentences) cannot be masked, by reason."""
        self._starts = np.cumsum([0, *(len(getattr(segment, self._column)) for segment in corpus.segments[:-1])])
        if wanted.answer_elsewhere and ONLY_HERE not in self.skipped:
            log.info(f"notice: {ONLY_HERE} for all {len(self.rows)} masked sentences, so all are used")

    def __len__(self) -> int:
        return len(self._limits) - 1

    def summary(self) -> str:
        """How many examples there are, what each of them is, and what gives none."""
        return (
            f"{len(self):,} examples, each a {self._example} ({len(self.rows):,} {self._column}); "
            f"skipped {self._column}: {tally(self.skipped)}"
        )

    def rows_of(self, number: SupportsIndex) -> range:
        """Lists the places in `rows` of which an example draws one."""
        return range(self._limits[number], self._limits[number + 1])

    def locate(self, place: SupportsIndex) -> tuple[Segment, np.void, np.void, np.void | None]:
        """Finds (segment, block row, sentence row, span row) of a place in `rows`; no span row for a sentence."""
        ordinal = self.rows[place]
        at = int(np.searchsorted(self._starts, ordinal, side="right")) - 1
        segment = self.corpus.segments[at]
        row = getattr(segment, self._column)[int(ordinal) - self._starts[at]]
        block = segment.blocks[row["block"]]
        if self._column == "sentences":
            return segment, block, row, None
        return segment, block, segment.sentences[int(block["sentence_start"]) + int(row["sentence"])], row

    def answer(self, place: SupportsIndex) -> UInt16[np.ndarray, " tokens"]:
        """Reads the wordpieces of the salient span at a place in `rows`."""
        segment, block, _, span = self.locate(place)
        start = int(block["token_start"])
        return segment.tokens[start + int(span["token_start"]) : start + int(span["token_limit"])]

    def example(self, number: SupportsIndex, rng: np.random.Generator) -> MaskedQueries:
        """Makes one masked sentence: `rng` draws one of the example's rows uniformly, and random masks."""
        config = self.config
        rows = self.rows_of(number)
        segment, block, sentence, span = self.locate(rng.integers(rows.start, rows.stop))  # one row takes no draw
        start = int(block["token_start"])
        tokens = segment.tokens[start + int(sentence["token_start"]) : start + int(sentence["token_limit"])]
        visible = min(len(tokens), config.query_len_tokens - 2)
        if config.masking == "salient":
            first = int(span["token_start"] - sentence["token_start"])
            masked = np.arange(first, first + int(span["token_limit"] - span["token_start"]))
        elif config.masking == "span":
            masked = np.arange(*choose_span(visible, rng, max_width=config.max_masks))
        else:
            masked = choose_uniform(visible, rng, max_masks=config.max_masks)
        query, positions, targets, weights = masked_query(
            tokens, masked, config.query_len_tokens, config.max_masks, self._special
        )
        source_block = segment.first_block + int(sentence["block"])
        return MaskedQueries(query, positions, targets, weights, np.uint64(block["hash"]), np.int64(source_block))

    def one_per_sentence(self, count: int, seed: int) -> Int[np.ndarray, " places"]:
        """Chooses up to `count` places in `rows`, in a shuffled order, at most one of each sentence."""
        seen, chosen = set(), []
        for number in shuffled(len(self.rows), seed):
            segment, _, sentence, _ = self.locate(number)
            key = (segment.first_block, int(sentence["block"]), int(sentence["byte_start"]))
            if key not in seen:
                seen.add(key)
                chosen.append(number)
            if len(chosen) == count:
                break
        return np.array(chosen)


def shuffled(size: int, seed: int) -> Iterator[int]:
    """Yields the numbers below `size` in a random order: few of many are drawn without the memory for all."""
    rng = np.random.default_rng(seed)
    if size <= PERMUTED:
        yield from rng.permutation(size).tolist()
        return
    seen: set[int] = set()
    while len(seen) < size:
        number = int(rng.integers(size))
        if number not in seen:
            seen.add(number)
            yield number


class Examples:
    """The endless, shuffled sequence of a set's examples: `batch(i)` is a pure function of (seed, i) and the process.

    Args:
        size: number of examples; each run of `size` positions of the sequence is an epoch and has each of them once.
        example: makes the arrays of an example from its number and the random generator of its position.
        process: the process whose share of each batch is made.
    """

    def __init__(
        self, size: int, example: Callable[[int, np.random.Generator], Any], seed: int, process: Process = ALONE
    ):
        self._process = process
        self._sequence = grain.MapDataset.range(size).seed(seed).shuffle().repeat().random_map(example)

    def batch(self, number: SupportsIndex, batch_size: int, rows: int = 0) -> Any:
        """Makes this process's share of the examples [number * batch_size, (number + 1) * batch_size), stacked.

        The shares of all processes, one after the other, are the global batch in its order.

        Args:
            rows: how many rows the global batch has once it is padded with its last example; 0 for no padding.

        Raises:
            ValueError: the batch does not divide over the processes (`parallel.check_batch_size` says so to users).
        """
        share, rest = divmod(rows or batch_size, self._process.count)
        if rest:
            raise ValueError(f"a batch of {rows or batch_size} does not divide over {self._process.count} processes")
        first, last = number * batch_size, (number + 1) * batch_size - 1
        ours = range(first + self._process.index * share, first + (self._process.index + 1) * share)
        return batches.stack([self._sequence[min(i, last)] for i in ours])


class Batches:
    """A stream (see `training.loop.Stream`) whose batches depend on their number alone, made one ahead."""

    def __init__(self, make: Callable[[int], Any], state: dict):
        self._make, self._taken = make, state.get("position", 0)
        self._thread = Background("making a batch", BATCH_TIMEOUT_S)
        self._next: Future = self._thread.submit(make, self._taken)

    def take(self, params: Any) -> Any:
        """Returns the next batch; the parameters do not matter."""
        del params
        batch = self._thread.result(self._next)
        self._taken += 1
        self._next = self._thread.submit(self._make, self._taken)
        return batch

    def state(self) -> dict:
        """Returns how many batches were taken, from which a new stream goes on."""
        return {"position": self._taken}

    def metrics(self) -> dict[str, float]:
        """Nothing is measured."""
        return {}

    def close(self) -> None:
        """Stops the thread."""
        self._thread.close()
