"""Makes a run's corpus one of few segments again, after many changes: joins small ones, and drops deleted blocks.

    realm compact --workdir=W

Texts, blocks and what is found stay as they are; blocks behind a deleted one get lower ordinals, and with them the rows
of the index. Corpus and index change together, in one moment: a command that is killed has changed nothing, or is
finished by the next command that opens the run. Older index versions go, since they count the old blocks. Nothing else
may work on the run meanwhile. Other runs that share segments by hard links keep theirs.
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
    """MiB of text up to which neighbours are joined."""


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
