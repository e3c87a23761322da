"""Command: looks into a corpus. Blocks with their salient spans, what was counted and left out, and a page of all."""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Annotated

import numpy as np
import tyro
from etils import epath
from rich.console import Console

from realm_jax import cli
from realm_jax.buckets import check_reach
from realm_jax.config import ConfigError
from realm_jax.data import lost
from realm_jax.data.blocks import SPLIT
from realm_jax.data.corpus import Corpus
from realm_jax.data.manifest import MANIFEST
from realm_jax.data.show import census, show_block
from realm_jax.workdir import write_text

PAGE = "corpus.html"
NUM_FREQUENT = 50
SEED = 0  # of the blocks shown when none are named


@dataclasses.dataclass(frozen=True)
class Flags:
    """The command's flags."""

    folder: Annotated[tyro.conf.Positional[cli.NeededPath], tyro.conf.arg(metavar="FOLDER")]
    """A corpus, or a run, of which the knowledge corpus is shown."""
    block: int | None = None
    """Ordinal of the one block to show."""
    search: str = ""
    """Show the first blocks that have all these words in title or text, whatever their case."""
    count: int = 3
    """How many blocks to show: found ones, or else random ones."""
    html: cli.PathFlag = ""
    """File of the page (default: corpus.html in the corpus, but no page with --block or --search)."""


def show(flags: Flags, console: Console) -> None:
    """Prints blocks and numbers, and writes the page.

    Raises:
        ConfigError: there is no corpus, it is empty, it has no such block, or the page cannot be written.
    """
    check_reach(flags.folder)
    corpus = Corpus.open(_corpus_folder(flags.folder))
    if not corpus.num_blocks:
        raise ConfigError(f"{corpus.folder}: has no block yet: build it with python -m realm_jax.data.build")
    types = show_block.span_types(corpus)
    blocks = [show_block.read(corpus, index) for index in _chosen(corpus, flags)]
    if blocks:
        console.print(show_block.terminal_legend(types))
    else:
        console.print(f"no block has all of: {flags.search}", markup=False)
    for block in blocks:
        console.print()
        console.print(show_block.terminal(block, types))
    counted, drops = census.take(corpus), census.dropped(corpus.manifest)
    facts = _facts(corpus, counted)
    lines = [f"{name}: {value}" for name, value in facts]
    lines += [f"left out on {when}: {reason}: {number:,}" for when, reason, number in drops if number]
    lines += lost.lines(corpus.manifest)
    console.print()
    console.print("\n".join(lines), markup=False, soft_wrap=True)
    is_look = flags.block is not None or flags.search
    if flags.html or not is_look:
        from realm_jax.data.show.show_page import corpus_page  # matplotlib takes long to load

        frequent = census.frequent_spans(corpus, NUM_FREQUENT)
        file = epath.Path(flags.html) if flags.html else corpus.folder / PAGE
        write_text(file, corpus_page(f"Corpus {flags.folder}", facts, counted, drops, frequent, blocks, types))
        console.print(f"page: {file}", markup=False, soft_wrap=True)


def _corpus_folder(folder: str) -> epath.Path:
    path = epath.Path(folder)
    of_run = path / "corpus"
    is_run = (of_run / MANIFEST).is_file() and not (path / MANIFEST).is_file()
    return of_run if is_run else path


def _chosen(corpus: Corpus, flags: Flags) -> list[int]:
    """Ordinals of the blocks to show."""
    if flags.block is not None:
        if not 0 <= flags.block < corpus.num_blocks:
            raise ConfigError(f"--block={flags.block}: the corpus has blocks 0 to {corpus.num_blocks - 1}: pass one")
        return [flags.block]
    if flags.search:
        return list(itertools.islice(_found(corpus, flags.search), flags.count))
    enough = min(corpus.num_blocks, flags.count + len(corpus.tombstones))  # though all tombstones were drawn
    drawn = np.random.default_rng(SEED).choice(corpus.num_blocks, enough, replace=False)
    return sorted(drawn[corpus.is_live(drawn)][: flags.count].tolist())


def _found(corpus: Corpus, words: str) -> Iterator[int]:
    """Ordinals of the blocks with all the words, in order; deleted ones, too."""
    wanted = words.lower().split()
    for index in range(corpus.num_blocks):
        block = corpus.block(index)
        text = f"{block.title}\n{block.text}".lower()
        if all(word in text for word in wanted):
            yield index


def _facts(corpus: Corpus, counted: census.Census) -> list[tuple[str, str]]:
    """(what, value): what the corpus was made from, and how much there is of what."""
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


def main(argv: list[str] | None = None) -> None:
    """Entry point."""
    flags = tyro.cli(Flags, description="Look into a corpus: its blocks, its numbers, and a page of it all.", args=argv)
    if flags.count < 1:
        raise ConfigError(f"--count={flags.count}: pass at least 1")
    if flags.block is not None and flags.search:
        raise ConfigError("--block and --search both choose blocks: pass one of them")
    show(flags, Console(highlight=False))


def command() -> None:
    """Console script."""
    cli.run(main)


if __name__ == "__main__":
    command()
