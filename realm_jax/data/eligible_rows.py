"""Which rows of a corpus can be masked: found once a run, kept in the workdir, and mapped into memory.

    examples/KEY/rows.bin      ordinals of the spans (or sentences) that can be masked, over all segments, ascending
    examples/KEY/limits.bin    where in `rows` each example starts, and the end; absent where each row is an example
    examples/KEY/about.json    how many there are, and how many rows cannot be masked, by reason

KEY is a hash of the corpus and of the settings that decide. Folders of other keys stay, for they may be in use on
another host: whoever needs the space may delete them. To find rows takes a few chunks of a table in memory, and a byte
or two a block, however large the corpus is.
"""

import contextlib
import dataclasses
import errno
import json
import pathlib
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from etils import epath
from jaxtyping import Bool, Integer, Shaped

from realm_jax.buckets import copy_files, is_remote, upload
from realm_jax.checksums import remembered_sha256
from realm_jax.config import ConfigError, PretrainConfig
from realm_jax.data.corpus import Corpus
from realm_jax.data.manifest import sha256
from realm_jax.data.mapped import map_file
from realm_jax.data.recurring_spans import recurring_spans
from realm_jax.data.segment import Segment
from realm_jax.data.table_chunks import block_ordinals, ordinal_dtype, table_chunks
from realm_jax.local_cache import copy_of, made_once, temporary_folder
from realm_jax.workdir import read_json, write_json

ROWS, LIMITS, ABOUT = "rows.bin", "limits.bin", "about.json"
FORMAT_VERSION = 1
ONLY_HERE = "answer in no other article"


@dataclass(frozen=True)
class Wanted:
    """What decides which rows can be masked, and how they become examples: the settings of a key."""

    column: str
    """The table whose rows count: spans or sentences."""
    example: str
    """What an example is: a block, a sentence or a span."""
    heldout_fraction: float
    heldout: bool
    query_len_tokens: int
    """Where a span has to end; 0 for sentences, which are cut."""
    answer_elsewhere: bool

    @classmethod
    def by(cls, config: PretrainConfig, heldout_fraction: float, heldout: bool) -> "Wanted":
        """Takes from the settings what matters."""
        is_salient = config.masking == "salient"
        column = "spans" if is_salient else "sentences"
        example = column[:-1] if config.sampling == "span" else config.sampling
        length = config.query_len_tokens if is_salient else 0
        return cls(column, example, heldout_fraction, heldout, length, config.answer_elsewhere)

    @property
    def each_row_is_one(self) -> bool:
        """Whether every row is an example by itself."""
        return f"{self.example}s" == self.column

    def key(self, corpus: Corpus) -> str:
        """Names the rows of a corpus: its segments and tombstones, and these settings."""
        return sha256(json.dumps([FORMAT_VERSION, corpus.hash, dataclasses.asdict(self)]))[:24]


@dataclass(frozen=True)
class EligibleRows:
    """The rows that can be masked, and the examples that they make."""

    rows: Integer[np.ndarray, " rows"]
    """Ordinals over all segments, ascending."""
    limits: Integer[np.ndarray, " examples_and_one"] | range
    """An example draws from the rows between its limit and the next."""
    skipped: Counter
    """How many rows cannot be masked, by reason."""


def eligible_rows(corpus: Corpus, wanted: Wanted, kept: epath.Path | None) -> EligibleRows:
    """Opens the rows that are kept in a folder, which gets them first if it lacks them.

    Args:
        kept: a folder of the workdir, maybe in a bucket; None to keep them as long as this process uses them.

    Raises:
        ConfigError: no row can be masked (the message counts why), the disk is full, or a file is damaged.
    """
    key = wanted.key(corpus)

    def make(empty: pathlib.Path) -> None:
        try:
            _make(empty, corpus, wanted)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise ConfigError(f"{empty}: no disk space left: free some and run again") from error

    def fetch(empty: pathlib.Path) -> None:
        if (kept / key / ABOUT).exists():
            copy_files([file.name for file in (kept / key).iterdir()], kept / key, epath.Path(empty))
        else:
            make(empty)
            upload(empty, kept / key, last=ABOUT)

    if kept is None:
        with temporary_folder() as temporary:
            make(pathlib.Path(temporary))
            return _open(pathlib.Path(temporary), wanted)  # files that are mapped may be deleted
    if is_remote(kept):
        return _open(copy_of(f"{kept.name}/{key}", fetch), wanted)
    return _open(made_once(pathlib.Path(kept), key, make), wanted)


def _open(folder: pathlib.Path, wanted: Wanted) -> EligibleRows:
    about = read_json(epath.Path(folder) / ABOUT)
    dtype, rows, examples = np.dtype(about["dtype"]), about["rows"], about["examples"]
    try:
        for name, expected in about.get("sha256", {}).items():  # earlier releases made none
            if remembered_sha256(folder / name) != expected:
                raise ValueError(f"{name} differs from its checksum")
        found = map_file(folder / ROWS, dtype, rows * dtype.itemsize)
        limits = range(rows + 1)
        if not wanted.each_row_is_one:
            limits = map_file(folder / LIMITS, dtype, (examples + 1) * dtype.itemsize)
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError(f"{folder}: is damaged ({error}): delete it, and it is made again") from error
    return EligibleRows(found, limits, Counter(about["skipped"]))


def _make(folder: pathlib.Path, corpus: Corpus, wanted: Wanted) -> None:
    """Writes the columns and what is to be known of them. Raises ConfigError if no row can be masked."""
    skipped: Counter = Counter()
    dtype = ordinal_dtype(sum(len(getattr(segment, wanted.column)) for segment in corpus.segments))
    rows, examples, last_group = 0, 0, -1
    with tempfile.TemporaryDirectory(dir=folder) as work, contextlib.ExitStack() as files:
        marks = _marks(corpus, wanted, pathlib.Path(work))
        rows_file = files.enter_context(open(folder / ROWS, "wb"))
        limits_file = None if wanted.each_row_is_one else files.enter_context(open(folder / LIMITS, "wb"))
        for segment, ordinals, table in _chosen(corpus, wanted, marks, skipped):
            rows_file.write(ordinals.astype(dtype).tobytes())
            if limits_file and len(table):
                groups = _groups(segment, table, wanted)
                starts = np.flatnonzero(np.diff(groups, prepend=last_group))
                limits_file.write((rows + starts).astype(dtype).tobytes())
                examples, last_group = examples + len(starts), groups[-1]
            rows += len(table)
        if limits_file:
            limits_file.write(np.array([rows], dtype).tobytes())
    if not rows:
        part = "held-out" if wanted.heldout else "training"
        raise ConfigError(
            f"{corpus.folder}: no {part} sentence can be masked (skipped: {dict(skipped)}): use a larger "
            "corpus, or change corpus.heldout_fraction, corpus.tagger or pretrain.masking"
        )
    about = {"rows": rows, "examples": examples if limits_file else rows, "dtype": dtype.str, "skipped": skipped}
    about["sha256"] = {name: remembered_sha256(folder / name) for name in ((ROWS, LIMITS) if limits_file else (ROWS,))}
    write_json(folder / ABOUT, about)


def _chosen(
    corpus: Corpus, wanted: Wanted, marks: Bool[np.ndarray, " spans"] | None, skipped: Counter
) -> Iterator[tuple[Segment, Integer[np.ndarray, " rows"], Shaped[np.ndarray, " rows"]]]:
    """Yields (segment, ordinals, rows) of those that can be masked, in order, and counts the others.

    Args:
        marks: spans that count alone; None for all.
    """
    part, live = corpus.heldout(wanted.heldout_fraction) == wanted.heldout, corpus.live
    for segment, first, table in table_chunks(corpus, wanted.column):
        keep = _eligible(segment, table, wanted, part, live, skipped)
        ordinals = first + np.flatnonzero(keep)
        if marks is not None:
            marked = marks[ordinals]
            skipped[ONLY_HERE] += int((~marked).sum())
            ordinals = ordinals[marked]
        yield segment, ordinals, table[ordinals - first]


def _eligible(
    segment: Segment, table: np.ndarray, wanted: Wanted, part: np.ndarray, live: np.ndarray, skipped: Counter
) -> np.ndarray:
    """bool per row; counts the others by their first reason."""
    block, ordinal = table["block"], block_ordinals(segment, table)
    reasons = {"other part (held out or not)": ~part[ordinal], "deleted": ~live[ordinal]}
    if wanted.column == "spans":
        sentence = segment.sentences[segment.blocks["sentence_start"][block] + table["sentence"]]
        last = table["token_limit"] - sentence["token_start"]
        reasons["span beyond query_len_tokens"] = last > wanted.query_len_tokens - 2
    keep = np.ones(len(table), bool)
    for reason, bad in reasons.items():
        skipped[reason] += int((keep & bad).sum())
        keep &= ~bad
    return keep


def _groups(segment: Segment, table: np.ndarray, wanted: Wanted) -> np.ndarray:
    """int64 [rows]: a number of each row's block or sentence; the rows of one are neighbours."""
    blocks = block_ordinals(segment, table)
    return blocks if wanted.example == "block" else blocks << 32 | table["sentence"]


def _marks(corpus: Corpus, wanted: Wanted, work: pathlib.Path) -> Bool[np.ndarray, " spans"] | None:
    """The spans whose text is elsewhere, where they alone are wanted; None too if none of these can be masked."""
    if not wanted.answer_elsewhere:
        return None
    marks = recurring_spans(corpus, work)
    has_any = any(marks[ordinals].any() for _, ordinals, _ in _chosen(corpus, wanted, None, Counter()))
    return marks if has_any else None
