"""Adds records to a run's knowledge and deletes others: `index.knowledge_update` for values instead of a file."""

import json
import os
import pathlib
import re
import tempfile
import time
from collections.abc import Iterable, Mapping

from realm_jax.config import ConfigError
from realm_jax.data.corpus import Corpus
from realm_jax.index.knowledge_update import update_knowledge
from realm_jax.index.store import IndexStore
from realm_jax.inference.results import Changed
from realm_jax.workdir import Workdir

FIELDS = ("id", "title", "text")


def add(workdir: Workdir, records: Iterable[Mapping]) -> Changed:
    """Adds records {"id", "title", "text"} to the corpus and to every index of the run, for good.

    Raises:
        ConfigError: an id is there already, a record is malformed, or the run cannot be updated now.
    """
    started, records = time.monotonic(), [dict(record) for record in records]
    for number, record in enumerate(records, 1):
        if not all(isinstance(record.get(name), str) for name in FIELDS):
            raise ConfigError(f"record {number}: {record!r:.100} lacks one of the texts {', '.join(FIELDS)}: add it")
    if not records:
        raise ConfigError("there is no record to add: pass some, each with the texts " + ", ".join(FIELDS))
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "records.jsonl"
        file.write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")
        try:
            update_knowledge(workdir, os.fspath(file))
        except ConfigError as error:
            raise ConfigError(re.sub(rf"{re.escape(str(file))}(:(\d+))?", r"record \2", str(error))) from error
    ids = tuple(record["id"] for record in records)
    blocks = sum(map(len, Corpus.open(workdir.knowledge_folder).blocks_of(ids).values()))
    return Changed(ids, (), blocks, newest(workdir), round(time.monotonic() - started, 2))


def delete(workdir: Workdir, record_ids: Iterable[str]) -> Changed:
    """Deletes records by their ids: no block of theirs is found any more.

    Raises:
        ConfigError: an id is not there, or the run cannot be updated now.
    """
    started, ids = time.monotonic(), tuple(dict.fromkeys(record_ids))
    try:
        update_knowledge(workdir, delete=ids)
    except ConfigError as error:
        raise ConfigError(str(error).removeprefix("--delete: ")) from error
    return Changed((), ids, 0, newest(workdir), round(time.monotonic() - started, 2))


def newest(workdir: Workdir) -> str:
    """Name of the newest version of the run's own index; empty while there is none."""
    version = IndexStore(workdir.index_folder).latest()
    return version.name if version else ""
