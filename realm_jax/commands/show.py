"""Shows blocks of a corpus with their salient spans, its numbers, and what was left out; writes a page of all that."""

import dataclasses
from typing import Annotated

import tyro

from realm_jax.commands import cli
from realm_jax.config import ConfigError


@dataclasses.dataclass(frozen=True)
class _Flags:
    folder: Annotated[tyro.conf.Positional[cli.NeededPath], tyro.conf.arg(metavar="FOLDER")]
    """A corpus, or a run, whose knowledge corpus is shown."""
    block: int | None = None
    """Ordinal of the one block to show."""
    search: str = ""
    """Show the first blocks that have all these words in title or text, whatever their case."""
    count: int = 3
    """How many blocks to show: those that --search finds, or random ones."""
    html: cli.PathFlag = ""
    """File of the page (default: corpus.html in the corpus, but no page with --block or --search)."""


def main(argv: list[str] | None = None) -> None:
    """Entry point."""
    flags = tyro.cli(
        _Flags, description="Look into a corpus: its blocks, its numbers, and a page of it all.", args=argv
    )
    if flags.count < 1:
        raise ConfigError(f"--count={flags.count}: pass at least 1")
    if flags.block is not None and flags.search:
        raise ConfigError("--block and --search both choose blocks: pass one of them")
    from rich.console import Console

    from realm_jax.data.show.show_corpus import show

    show(console=Console(highlight=False), **dataclasses.asdict(flags))
