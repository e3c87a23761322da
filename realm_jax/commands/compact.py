"""Joins the small segments of a run's corpus after many changes, and drops deleted blocks.

    realm compact --workdir=W

Texts, blocks and search results stay the same; blocks behind a deleted one get lower ordinals, and so do their rows of
the index. Corpus and index change in one moment: a command that is killed has changed nothing, or the next command that
opens the run finishes it. Older index versions are deleted, since they count the old blocks. Nothing else may work on
the run meanwhile. Other runs that share segments by hard links keep theirs.
"""

import dataclasses

import tyro

from realm_jax.commands import cli
from realm_jax.config import ConfigError

MIB = 1 << 20


@dataclasses.dataclass(frozen=True)
class _Flags:
    workdir: cli.PathFlag = ""
    """Folder of the run (default: the newest under runs/)."""
    segment_mb: int = 64
    """Neighbouring segments are joined up to this many MiB of text."""


def main(argv: list[str] | None = None) -> None:
    """Entry point."""
    flags = tyro.cli(_Flags, description="Join a corpus's small segments, and drop deleted blocks.", args=argv)
    if flags.segment_mb < 1:
        raise ConfigError(f"--segment_mb={flags.segment_mb}: pass at least 1")
    workdir = cli.existing(flags.workdir)
    from realm_jax.index.knowledge_compaction import compact_knowledge

    cli.start_jax(cpu_only=workdir.config.index.device == "cpu")
    before, after = compact_knowledge(workdir, flags.segment_mb * MIB)
    print(
        f"corpus: {len(before.segments):,} segments are now {len(after.segments):,}; "
        f"{len(before.tombstones):,} deleted blocks dropped of {before.num_blocks:,}",
        flush=True,
    )
