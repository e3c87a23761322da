"""`realm show`: prints blocks with their salient spans, what was counted and left out, and writes a page of all."""

import itertools
from collections.abc import Iterator

import numpy as np
from etils import epath
from rich.console import Console

from realm_jax.buckets import check_reach
from realm_jax.config import ConfigError
from realm_jax.data import lost
from realm_jax.data.blocks import SPLIT
from realm_jax.data.corpus import Corpus
from realm_jax.data.manifest import MANIFEST
from realm_jax.data.show import census, show_block
from realm_jax.data.show.show_page import corpus_page
from realm_jax.workdir import write_text

PAGE = "corpus.html"
NUM_FREQUENT = 50
SEED = 0  # of the blocks shown when none are named


def show(
    folder: str, console: Console, *, block: int | None = None, search: str = "", count: int = 3, html: str = ""
) -> None:
    """Prints blocks and numbers, and writes the page.

    Args:
        folder: the folder of a corpus, or of a run, whose knowledge corpus is shown.
        block: the ordinal of the one block to show.
        search: show the first blocks that have all these words.
        count: how many blocks to show, found ones or else random ones.
        html: the file of the page; by default it lies in the corpus, and `block` or `search` make none.

    Raises:
        ConfigError: there is no corpus, it is empty, it has no such block, or the page cannot be written.
    """
    check_reach(folder)
    corpus = Corpus.open(_corpus_folder(folder))
    if not corpus.num_blocks:
        raise ConfigError(f"{corpus.folder}: has no block yet: build it with realm corpus")
    types = show_block.span_types(corpus)
    blocks = [show_block.read(corpus, index) for index in _chosen(corpus, block, search, count)]
    if blocks:
        console.print(show_block.terminal_legend(types))
    else:
        console.print(f"no block has all of: {search}", markup=False)
    for shown in blocks:
        console.print()
        console.print(show_block.terminal(shown, types))
    counted, drops = census.take(corpus), census.dropped(corpus.manifest)
    facts = _facts(corpus, counted)
    lines = [f"{name}: {value}" for name, value in facts]
    lines += [f"left out on {when}: {reason}: {number:,}" for when, reason, number in drops if number]
    lines += lost.lines(corpus.manifest)
    console.print()
    console.print("\n".join(lines), markup=False, soft_wrap=True)
    is_look = block is not None or search
    if html or not is_look:
        frequent = census.frequent_spans(corpus, NUM_FREQUENT)
        file = epath.Path(html) if html else corpus.folder / PAGE
        write_text(file, corpus_page(f"Corpus {folder}", facts, counted, drops, frequent, blocks, types))
        console.print(f"page: {file}", markup=False, soft_wrap=True)


def _corpus_folder(folder: str) -> epath.Path:
    path = epath.Path(folder)
    of_run = path / "corpus"
    is_run = (of_run / MANIFEST).is_file() and not (path / MANIFEST).is_file()
    return of_run if is_run else path


def _chosen(corpus: Corpus, block: int | None, search: str, count: int) -> list[int]:
    """Chooses the ordinals of the blocks to show."""
    if block is not None:
        if not 0 <= block < corpus.num_blocks:
            raise ConfigError(f"--block={block}: the corpus has blocks 0 to {corpus.num_blocks - 1}: pass one")
        return [block]
    if search:
        return list(itertools.islice(_found(corpus, search), count))
    enough = min(corpus.num_blocks, count + len(corpus.tombstones))  # though all tombstones were drawn
    drawn = np.random.default_rng(SEED).choice(corpus.num_blocks, enough, replace=False)
    return sorted(drawn[corpus.is_live(drawn)][:count].tolist())


def _found(corpus: Corpus, words: str) -> Iterator[int]:
    """Finds the ordinals of the blocks with all the words, in order; deleted ones, too."""
    wanted = words.lower().split()
    for index in range(corpus.num_blocks):
        block = corpus.block(index)
        text = f"{block.title}\n{block.text}".lower()
        if all(word in text for word in wanted):
            yield index


def _facts(corpus: Corpus, counted: census.Census) -> list[tuple[str, str]]:
    """Lists (what, value): what the corpus was made from, and how much it has of everything."""
    description, build = corpus.manifest["description"], corpus.manifest.get("build", {})
    facts = [(key, str(value)) for key, value in description.items() if key != "fingerprint"]
    facts.append(("limit of a block", f"{corpus.block_len_tokens} wordpieces"))
    facts.append(("segments", f"{len(corpus.segments):,}"))
    for name in ("articles", "blocks", "deleted_blocks", "sentences", "spans"):
        facts.append((name.replace("_", " "), f"{getattr(counted, name):,}"))
    facts.append(("sentences cut into pieces", f"{census.cutting_counts(corpus.manifest)[SPLIT]:,}"))
    facts += [
        (f"lost on {loss.stage}", f"{loss.lost:,} {loss.unit}, {loss.share:.1%}")
        for loss in lost.losses(corpus.manifest)
    ]
    facts += [(f"spans of type {name}", f"{number:,}") for name, number in sorted(counted.spans_by_type.items())]
    facts += [(f"{what} read", f"{number:,}") for what, number in census.was_read(corpus.manifest)]
    if "seconds" in build:
        facts.append(("seconds to build", f"{build['seconds']:,.0f}"))
    return facts
