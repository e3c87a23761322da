"""New knowledge for the same model: adds and deletes records, then publishes index versions that have the change.

`realm update` and the demo page call this.
"""

import contextlib
import json
import logging
import time
from collections.abc import Iterator

from etils import epath

from realm_jax.buckets import is_remote
from realm_jax.config import ConfigError
from realm_jax.console import tally
from realm_jax.data import corpus_writer, lost, salient
from realm_jax.data.corpus import Corpus
from realm_jax.data.manifest import sha256
from realm_jax.data.prepare import RunData, open_prepared
from realm_jax.data.sources import sources
from realm_jax.data.sources.sources import Source
from realm_jax.index.claims import claim, holders, is_pinned, own_pin
from realm_jax.index.index_builder import extend_version
from realm_jax.index.store import IndexStore
from realm_jax.index.version import Version
from realm_jax.lock import only_one
from realm_jax.progress import Progress
from realm_jax.workdir import Workdir

log = logging.getLogger(__name__)

NAMED = 10  # unknown ids in an error message


def update_knowledge(workdir: Workdir, add: str = "", delete: tuple[str, ...] = ()) -> list[Version]:
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
    source = sources.read(add, workdir.config.corpus.columns) if add else None
    change = sha256(json.dumps([source and source.fingerprint, sorted(delete)]))
    with _alone(workdir):
        data = open_prepared(workdir)
        stores = [store for store in map(IndexStore, workdir.index_folders) if store.latest() is not None]
        if not stores:
            raise ConfigError(f"{workdir.path} has no index yet: run realm run --workdir={workdir.path}")
        for store in stores:
            store.latest().check_corpus(data.knowledge.segment_hashes)
            if add:
                store.latest().load_tower()
        started, knowledge = time.monotonic(), data.knowledge
        if knowledge.latest_change == change:
            log.info("corpus: has this change already")
        else:
            knowledge = _change(workdir, data, source, delete, change)
        published = []
        for store in stores:
            version = store.pin_latest()
            if not version.is_current(knowledge):
                published.append(extend_version(workdir.config, knowledge, store, version))
                log.info(f"searchable after {time.monotonic() - started:.1f} s: {published[-1].folder}")
            store.unpin(version)
    return published


def _change(workdir: Workdir, data: RunData, source: Source | None, delete: tuple[str, ...], change: str) -> Corpus:
    """The corpus after the change."""
    knowledge = data.knowledge
    found = knowledge.blocks_of(delete)
    missing = [record_id for record_id in delete if record_id not in found]
    if missing:
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        raise ConfigError(
            f"--delete: {knowledge.folder} has no record with the id {' or '.join(map(repr, missing[:NAMED]))}{more}: "
            "nothing was changed; leave these out"
        )
    deleted = [block for blocks in found.values() for block in blocks]
    if source is None:
        changed = corpus_writer.delete(deleted, knowledge.folder, change=change)
    else:
        changed = corpus_writer.append(
            source.records(),
            knowledge.folder,
            tokenizer=data.tokenizer,
            tag=_tagger(knowledge.manifest["tagger"], workdir.config.corpus.tagger),
            total=source.num_records,
            progress=Progress("corpus, new records"),
            deleted=deleted,
            change=change,
        )
        entry = changed.manifest["segments"][-1]
        log.info(f"corpus: {source.says or source.description['source']}")
        log.info(
            f"corpus: added {entry['num_sources']:,} records, {entry['num_blocks']:,} blocks; {tally(entry['counts'])}"
        )
        for line in lost.lines({"segments": [entry]}):
            log.info(f"corpus: {line}")
    if deleted:
        log.info(f"corpus: deleted {len(found):,} records, {len(deleted):,} blocks")
    return changed


def _tagger(own: str, of_config: str) -> salient.Tagger:
    """The corpus's own tagger; the run's where a trained one, which a name does not bring back, made the spans."""
    name = own if own == "rules" or own.startswith("spacy:") else of_config
    if name != own:
        log.info(f"corpus: its salient spans are by {own}; those of the new records are by {name}")
    return salient.make_tagger(name)


def _alone(workdir: Workdir) -> contextlib.AbstractContextManager[None]:
    """Keeps other updates out: two at once would write the same segment."""
    busy = f"{workdir.path} is being updated"
    if is_remote(workdir.path):
        return _only_claim(workdir.path / "update", f"{busy} by another process: wait and run this again")
    return only_one(workdir.update_lock, busy)


@contextlib.contextmanager
def _only_claim(folder: epath.Path, busy: str) -> Iterator[None]:
    """The same in a bucket, which has no locks. If two processes claim at once, both give up."""
    busy += f"; or, if its host was lost, delete {folder}"
    if is_pinned(folder):
        raise ConfigError(busy)
    claim(own_pin(folder))
    try:
        if len(holders(folder)) > 1:
            raise ConfigError(busy)
        yield
    finally:
        own_pin(folder).unlink(missing_ok=True)
