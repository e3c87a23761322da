"""Changes what a run knows, without training: adds and deletes records, then publishes an index version that has it.

    realm update --workdir=W --add=FILE_OR_FOLDER --delete=ID,ID

The model stays as it is and answers from the new texts (Guu et al. 2020, Table 4). New blocks are embedded by the block
tower that made the index: a fine-tuned embedder is a query tower, and embeds no blocks. New records become a segment of
the corpus, deleted ones get tombstones; both changes appear at once. If the command is killed, the same command, or the
next update, finishes it. A trainer may run beside it: with the new version it no longer finds what is deleted; it finds
what is added after it was started again.
"""

import dataclasses
import pathlib

import tyro

from realm_jax import paths
from realm_jax.commands import cli
from realm_jax.config import ConfigError


@dataclasses.dataclass(frozen=True)
class _Flags:
    workdir: cli.PathFlag = ""
    """Folder of the run (default: the newest under runs/)."""
    add: cli.PathFlag = ""
    """Records to add: a .jsonl or .jsonl.gz file of {id, title, text}, or a folder of .txt and .md files."""
    delete: str = ""
    """Ids of records to delete: ID,ID or @FILE with one a line. One that --add has too is replaced."""


def main(argv: list[str] | None = None) -> None:
    """Entry point."""
    flags = tyro.cli(_Flags, description="Add records to what a run knows, and delete others.", args=argv)
    delete = _ids(flags.delete)
    if not flags.add and not delete:
        raise ConfigError("nothing to do: pass --add=FILE_OR_FOLDER, --delete=IDS or both")
    workdir = cli.existing(flags.workdir)
    from realm_jax.index.knowledge_update import update_knowledge

    cli.start_jax(cpu_only=workdir.config.index.device == "cpu")
    try:
        published = update_knowledge(workdir, flags.add, delete)
    except ConfigError as error:  # sources name the flag of a new run
        raise ConfigError(str(error).replace("--corpus=", "--add=")) from error
    if not published:
        print("index: has this change already", flush=True)


def _ids(flag: str) -> tuple[str, ...]:
    """The ids that --delete names, each once."""
    if not flag.startswith("@"):
        ids = flag.split(",")
    else:
        try:
            text = pathlib.Path(paths.expand(flag[1:])).read_text(encoding="utf-8-sig")
            ids = [line.removesuffix("\r") for line in text.split("\n")]
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--delete={flag}: cannot be read ({error}): pass a text file of ids") from error
    return tuple(dict.fromkeys(record_id for record_id in ids if record_id))
