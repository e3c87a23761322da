"""Changes what a run knows, without training: adds and deletes records, then publishes an index version that has it.

    python -m realm_jax.index.update --workdir=W --add=FILE_OR_FOLDER --delete=ID,ID

The model stays as it is and answers from the new texts (Guu et al. 2020, Table 4). New blocks are embedded by the block
tower that made the index: after fine-tuning, the embedder of a checkpoint is a query tower, and embeds no blocks. What
is added is a further segment of the corpus, what is deleted a tombstone; both appear in it at once. A command that was
killed is finished by the same command, or by the next one. A trainer may run beside it: it stops finding what is
deleted with this version, and finds what is added when it is started again.
"""

import contextlib
import dataclasses
import fcntl
import json
import pathlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import tyro

from realm_jax import cli
from realm_jax.config import ConfigError
from realm_jax.workdir import Workdir

if TYPE_CHECKING:
    from realm_jax.data.corpus import Corpus
    from realm_jax.data.prepare import RunData
    from realm_jax.data.sources import Source
    from realm_jax.index.version_files import Version

NAMED = 10  # unknown ids in an error message


def update(workdir: Workdir, add: str = "", delete: tuple[str, ...] = ()) -> list["Version"]:
    """Adds the records of a source, deletes others and publishes; the same call twice in a row is one change.

    Args:
        add: as `corpus.knowledge`; an id may be one of `delete`, whose record it then replaces.
        delete: ids of records, all of whose blocks go.

    Returns:
        the new version of the run's index, and of each that a fine-tuning made for itself; fewer if some had it all.

    Raises:
        ConfigError: an id to delete is not there, one to add is, a record is malformed, there is no index, or the index
            lacks its block tower. Nothing has changed then.
    """
    from realm_jax.data import sources
    from realm_jax.data.manifest import sha256
    from realm_jax.data.prepare import open_prepared
    from realm_jax.index.build_version import extend_version
    from realm_jax.index.versions import IndexStore

    source = sources.read(add) if add else None
    change = sha256(json.dumps([source and source.fingerprint, sorted(delete)]))
    with _alone(workdir):
        data = open_prepared(workdir)
        stores = [store for store in map(IndexStore, workdir.index_folders) if store.latest() is not None]
        if not stores:
            raise ConfigError(f"{workdir.path} has no index yet: run python -m realm_jax.run --workdir={workdir.path}")
        for store in stores:
            store.latest().check_corpus(data.knowledge.segment_hashes)
            if add:
                store.latest().load_tower()
        started, knowledge = time.monotonic(), data.knowledge
        if knowledge.latest_change == change:
            print("corpus: has this change already", flush=True)
        else:
            knowledge = _change(workdir, data, source, delete, change)
        published = []
        for store in stores:
            version = store.pin_latest()
            if not version.is_current(knowledge):
                published.append(extend_version(workdir.config, knowledge, store, version))
                print(f"searchable after {time.monotonic() - started:.1f} s: {published[-1].folder}", flush=True)
            store.unpin(version)
    return published


def _change(
    workdir: Workdir, data: "RunData", source: "Source | None", delete: tuple[str, ...], change: str
) -> "Corpus":
    """The corpus after the change."""
    from realm_jax.data import corpus, salient
    from realm_jax.progress import Progress

    knowledge = data.knowledge
    found = knowledge.blocks_of(delete)
    missing = [record_id for record_id in delete if record_id not in found]
    if missing:
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        raise ConfigError(
            f"--delete: {knowledge.folder} has no record with the id {' or '.join(map(repr, missing[:NAMED]))}{more}: "
            "nothing was changed; leave these out"
        )
    buried = [block for blocks in found.values() for block in blocks]
    if source is None:
        changed = corpus.bury(buried, knowledge.folder, change=change)
    else:
        changed = corpus.append(
            source.records(),
            knowledge.folder,
            tokenizer=data.tokenizer,
            tag=salient.make_tagger(workdir.config.corpus.tagger),
            total=source.num_records,
            progress=Progress("corpus, new records"),
            buried=buried,
            change=change,
        )
        entry = changed.manifest["segments"][-1]
        print(f"corpus: added {entry['num_sources']:,} records, {entry['num_blocks']:,} blocks; {entry['counts']}")
    if buried:
        print(f"corpus: deleted {len(found):,} records, {len(buried):,} blocks", flush=True)
    return changed


@contextlib.contextmanager
def _alone(workdir: Workdir) -> Iterator[None]:
    """Keeps others like us out: two at once would write the same segment."""
    with open(workdir.path / "update.lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"{workdir.path} is being updated by another process: wait and run this again") from error
        yield


@dataclasses.dataclass(frozen=True)
class _Flags:
    workdir: str = ""
    """Folder of the run (default: the newest under runs/)."""
    add: str = ""
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
    import jax

    from realm_jax import parallel

    if workdir.config.index.device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    parallel.set_up_compilation_cache()
    try:
        published = update(workdir, flags.add, delete)
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
            text = pathlib.Path(flag[1:]).expanduser().read_text(encoding="utf-8")
            ids = [line.removesuffix("\r") for line in text.split("\n")]
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--delete={flag}: cannot be read ({error}): pass a text file of ids") from error
    return tuple(dict.fromkeys(record_id for record_id in ids if record_id))


def command() -> None:
    """Console script."""
    cli.run(main)


if __name__ == "__main__":
    command()
