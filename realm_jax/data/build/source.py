"""The source that `--source` names: its files, their format, their fingerprint and their reader.

A path (file or folder), `hf:OWNER/NAME/CONFIG` (files of records from Hugging Face), `tfds:NAME` (a copy prepared by
tensorflow-datasets under --data_dir, or REALM's annotated files), or what `sources` reads by itself (`asset:…`, a
folder of texts).
"""

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from etils import epath

from realm_jax.buckets import check_reach
from realm_jax.config import ConfigError
from realm_jax.data.build import hub, source_parts
from realm_jax.data.build.annotated import TfExamples
from realm_jax.data.build.record_files import RecordFiles
from realm_jax.data.build.source_parts import Part, Progress
from realm_jax.data.sources import sources
from realm_jax.data.sources.recognise import RECORDS, Taken, files_under, first_recognised, recognise, said_left_out
from realm_jax.paths import expand
from realm_jax.records import Record

BY_NAME = {
    "mediawiki": r"\.xml(-[^/.]+)?(\.bz2|\.gz|\.xz)?$",
    "tfds": r"\.(tfrecord|array_record)\b",
}
WITH_A_DUMP = r"-index\d*\.txt"  # where its streams begin
PART_RECORDS = 20_000  # of a source that `sources` reads


@runtime_checkable
class Format(Protocol):
    """How the files of a source are cut into parts and read."""

    files: list[epath.Path]

    def plan(
        self, folder: epath.Path, part_bytes: int, *, most: int | None = None, progress: Progress | None = None
    ) -> list[Part]:
        """Plans the parts, in order; `folder` takes what must be unpacked, and a sample needs `most` parts."""

    def records(self, part: Part, counts: Counter) -> Iterator[Record]:
        """Yields the records of a part; counts what is dropped, by reason."""


class Known:
    """The format `known`: a source that `sources` reads."""

    def __init__(self, spec: str):
        self.files: list[epath.Path] = []
        self._spec = spec

    def plan(
        self, folder: epath.Path, part_bytes: int, *, most: int | None = None, progress: Progress | None = None
    ) -> list[Part]:
        """Divides the source into parts of PART_RECORDS records."""
        del folder, part_bytes, progress
        total = sources.read(self._spec).num_records
        starts = range(0, total, PART_RECORDS)
        return [Part([(self._spec, i, min(i + PART_RECORDS, total))], min(PART_RECORDS, total - i)) for i in starts][
            :most
        ]

    def records(self, part: Part, counts: Counter) -> Iterator[Record]:
        """Yields the records of a part; raises ConfigError at a bad one."""
        for spec, start, limit in part.pieces:
            for record in itertools.islice(sources.read(spec).records(), start, limit):
                counts["records"] += 1
                yield record


@dataclass(frozen=True)
class Source:
    """A source of a build; can be sent to workers."""

    spec: str
    format: str
    files: tuple[str, ...]
    taken: Taken | None = None
    """What its files of records were taken for; None if it has none."""
    says: str = ""
    """What the source was taken for, for people."""

    def open(self) -> Format:
        """Makes its reader."""
        files = [epath.Path(file) for file in self.files]
        if self.taken is not None:
            return RecordFiles(self.taken)
        if self.format == "mediawiki":
            from realm_jax.data.build.mediawiki import MediaWiki  # needs mwxml, of the extra `data`

            return MediaWiki(files)
        return TfExamples(files) if self.format == "tfds" else Known(self.spec)

    @property
    def as_given(self) -> bool:
        """Whether each record is a block already, by its format."""
        return self.taken is not None and self.taken.the_form().as_given

    @property
    def columns(self) -> str:
        """The columns that the user named, or an empty text."""
        return self.taken.columns if self.taken else ""

    def num_bytes(self) -> int:
        """How many bytes its files have."""
        return sum(epath.Path(file).stat().length for file in self.files)

    def fingerprint(self, progress: Progress | None = None) -> str:
        """Computes the SHA-256 of names and contents of the files."""
        if self.format == "known":
            return sources.read(self.spec).fingerprint
        digest, done = hashlib.sha256(), 0
        total = self.num_bytes()
        for file in self.files:
            path = epath.Path(file)
            digest.update(f"{path.name} {path.stat().length}\n".encode(errors="surrogateescape"))
            with path.open("rb") as opened:
                while block := opened.read(16 * source_parts.READ_BYTES):
                    digest.update(block)
                    done += len(block)
                    if progress is not None:
                        progress(done, total)
        return digest.hexdigest()


def find(spec: str, form: str = "auto", data_dir: str = "", columns: str = "") -> Source:
    """Finds the source that a spec names.

    Args:
        form: the name of its format, or `auto`.
        data_dir: the folder of copies that tensorflow-datasets prepared.
        columns: the names of its records' fields, as `formats.of_columns` takes them.

    Raises:
        ConfigError: there is none, or none of a known format, or of several.
    """
    if spec.startswith(("asset:", "tfds:squad")):
        if columns or form != "auto":
            raise ConfigError(f"{spec}: has its own format and columns: leave --format and --columns out")
        return Source(spec, "known", (), says=sources.read(spec).says or spec)
    check_reach(spec)
    folder = _prepared(spec, data_dir) if spec.startswith("tfds:") else epath.Path(expand(spec))
    files = hub.files(spec) if spec.startswith("hf:") else files_under(folder)
    if not files:
        raise ConfigError(f"{spec}: no such file or folder, or an empty one: pass --source=FILE_OR_FOLDER")
    named = None if columns else _by_name(spec, files, form)
    if named is not None:
        return named
    if form == "auto" and not columns and folder.is_dir() and sources.has_texts(spec, files):
        return Source(spec, "known", (), says=sources.read(spec).says or spec)
    taken = recognise(spec, files, form, columns)
    return Source(spec, taken.form, taken.files, taken, taken.says())


def _by_name(spec: str, files: list[epath.Path], form: str) -> Source | None:
    """Finds the dump, or files of tensorflow-datasets, among these, or None. Raises ConfigError if there are both."""
    names = [form] if form != "auto" else list(BY_NAME)
    found = {name: [file for file in files if name in BY_NAME and _matches(name, file)] for name in names}
    found = {name: of for name, of in found.items() if of}
    if form in BY_NAME and len(files) == 1:
        found = {form: files}
    if not found:
        if form in BY_NAME:
            raise ConfigError(f"{spec}: has no file of format {form}: pass another --format")
        return None
    if len(found) > 1:
        raise ConfigError(f"{spec}: holds files of {' and '.join(found)}: pass --format, or a folder of one of them")
    ((name, chosen),) = found.items()
    others = [str(f) for f in files if f not in chosen and not re.search(WITH_A_DUMP, f.name)]
    records = first_recognised([epath.Path(file) for file in others if RECORDS.search(file)])
    if records and form == "auto":
        raise ConfigError(
            f"{spec}: holds files of {name} and of records ({records}): pass --format={name}, or the file"
        )
    what = {"mediawiki": "a MediaWiki dump", "tfds": "examples of tensorflow-datasets"}[name]
    says = f"{spec} is {what} in {len(chosen):,} file{'s' * (len(chosen) > 1)}{said_left_out(others)}"
    return Source(spec, name, tuple(str(file) for file in chosen), says=says)


def _matches(form: str, file: epath.Path) -> bool:
    return re.search(BY_NAME[form], str(file)) is not None


def _prepared(spec: str, data_dir: str) -> epath.Path:
    name = spec.removeprefix("tfds:")
    root = epath.Path(expand(data_dir or "~/tensorflow_datasets"))
    for folder in (root / name, root):
        if any(_matches("tfds", file) for file in files_under(folder)):
            return folder
    raise ConfigError(
        f"{spec}: no prepared copy under {root / name}: pass --data_dir=FOLDER of one, or as --source the folder of "
        "its .tfrecord or .array_record files"
    )
