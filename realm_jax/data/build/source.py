"""What `--source` names: its files, their format, their fingerprint and how they are read.

A path (file or folder), `hf:OWNER/NAME/CONFIG` (parquet from Hugging Face), `tfds:NAME` (a copy prepared by
tensorflow-datasets under --data_dir, or REALM's annotated files), or what `data.sources` reads by itself (`asset:…`).
"""

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from etils import epath

from realm_jax.config import ConfigError
from realm_jax.data import sources
from realm_jax.data.build import parts
from realm_jax.data.build.annotated import TfExamples
from realm_jax.data.build.parts import Part, Progress
from realm_jax.data.build.record_files import JsonLines, Parquet
from realm_jax.data.folders import visible_files
from realm_jax.paths import expand, printable
from realm_jax.types import Record

FormatName = Literal["auto", "mediawiki", "wikiextractor", "jsonl", "ccnews", "parquet", "tfds", "known"]
PATTERNS = {
    "mediawiki": r"\.xml(-[^/.]+)?(\.bz2|\.gz|\.xz)?$",
    "parquet": r"\.parquet$",
    "tfds": r"\.(tfrecord|array_record)\b",
    "jsonl": r"\.jsonl?(\.gz|\.bz2|\.xz)?$",
    "wikiextractor": r"(^|/)wiki_\d+(\.bz2)?$",
}
PART_RECORDS = 20_000  # of a source that `data.sources` reads


@runtime_checkable
class Format(Protocol):
    """How the files of a source are cut into parts and read."""

    files: list[epath.Path]

    def plan(
        self, folder: epath.Path, part_bytes: int, *, most: int | None = None, progress: Progress | None = None
    ) -> list[Part]:
        """The parts of the source, in order; `folder` takes what must be unpacked, `most` is for a sample."""

    def records(self, part: Part, counts: Counter) -> Iterator[Record]:
        """Records of a part; what is dropped is counted by reason."""


class Known:
    """Format `known`: a source that `data.sources` reads."""

    def __init__(self, spec: str):
        self.files: list[epath.Path] = []
        self._spec = spec

    def plan(
        self, folder: epath.Path, part_bytes: int, *, most: int | None = None, progress: Progress | None = None
    ) -> list[Part]:
        """Parts of PART_RECORDS records."""
        del folder, part_bytes, progress
        total = sources.read(self._spec).num_records
        starts = range(0, total, PART_RECORDS)
        return [Part([(self._spec, i, min(i + PART_RECORDS, total))], min(PART_RECORDS, total - i)) for i in starts][
            :most
        ]

    def records(self, part: Part, counts: Counter) -> Iterator[Record]:
        """Records of a part; raises ConfigError at a bad one."""
        for spec, start, limit in part.pieces:
            for record in itertools.islice(sources.read(spec).records(), start, limit):
                counts["records"] += 1
                yield record


@dataclass(frozen=True)
class Source:
    """A source as a build was told of it; can be sent to workers."""

    spec: str
    format: str
    files: tuple[str, ...]

    def open(self) -> Format:
        """Its reader."""
        files = [epath.Path(file) for file in self.files]
        if self.format == "mediawiki":
            from realm_jax.data.build.mediawiki import MediaWiki

            return MediaWiki(files)
        if self.format in ("jsonl", "wikiextractor", "ccnews"):
            return JsonLines(files, self.format)
        if self.format == "parquet":
            return Parquet(files)
        return TfExamples(files) if self.format == "tfds" else Known(self.spec)

    def fingerprint(self, progress: Progress | None = None) -> str:
        """SHA-256 over names and contents of the files."""
        if self.format == "known":
            return sources.read(self.spec).fingerprint
        digest, done = hashlib.sha256(), 0
        total = sum(epath.Path(file).stat().length for file in self.files)
        for file in self.files:
            name = printable(epath.Path(file).name)
            digest.update(f"{name} {epath.Path(file).stat().length}\n".encode())
            with epath.Path(file).open("rb") as opened:
                while block := opened.read(16 * parts.READ_BYTES):
                    digest.update(block)
                    done += len(block)
                    if progress is not None:
                        progress(done, total)
        return digest.hexdigest()


def find(spec: str, form: str = "auto", data_dir: str = "") -> Source:
    """The source that a spec names. Raises ConfigError if there is none, or none of a known format."""
    if spec.startswith(("asset:", "tfds:squad")):
        sources.read(spec)
        return Source(spec, "known", ())
    if spec.startswith("hf:"):
        folder = _hugging_face(spec)
    elif spec.startswith("tfds:"):
        folder = _prepared(spec, data_dir)
    else:
        folder = epath.Path(expand(spec))
    files = _files(folder)
    if not files:
        raise ConfigError(f"{spec}: no such file or folder, or an empty one: pass --source=FILE_OR_FOLDER")
    if form == "auto":
        form = _format_of(spec, files)
    chosen = [file for file in files if form not in PATTERNS or len(files) == 1 or _matches(form, file)]
    if not chosen:
        raise ConfigError(f"{spec}: has no file of format {form}: pass another --format")
    return Source(spec, form, tuple(str(file) for file in chosen))


def _files(folder: epath.Path) -> list[epath.Path]:
    """The file itself, or the files of a folder and of those within, in natural order; hidden ones are left out."""
    if not folder.exists():
        return []
    if not folder.is_dir():
        return [folder]
    return sorted(visible_files(folder), key=lambda file: _natural(str(file)))


def _natural(name: str) -> list:
    """Key that sorts `pages2` before `pages10`."""
    return [int(piece) if piece.isdigit() else piece for piece in re.split(r"(\d+)", name)]


def _matches(form: str, file: epath.Path) -> bool:
    return re.search(PATTERNS[form], str(file)) is not None


def _format_of(spec: str, files: list[epath.Path]) -> str:
    for form in PATTERNS:
        if any(_matches(form, file) for file in files):
            return form
    raise ConfigError(
        f"{spec}: is of no format that its name shows: pass --format=mediawiki, wikiextractor, jsonl, ccnews, "
        "parquet or tfds"
    )


def _hugging_face(spec: str) -> epath.Path:
    """The folder of a dataset's parquet files, downloaded once."""
    import huggingface_hub

    owner, name, *folder = spec.removeprefix("hf:").split("/") if spec.count("/") else ("", "")
    if not owner:
        raise ConfigError(f"{spec}: pass --source=hf:OWNER/NAME/CONFIG, such as hf:wikimedia/wikipedia/20231101.en")
    pattern = "/".join([*folder, "*.parquet"])
    try:
        path = huggingface_hub.snapshot_download(f"{owner}/{name}", repo_type="dataset", allow_patterns=pattern)
    except Exception as error:  # its errors and those of its transport have no common base
        raise ConfigError(
            f"{spec}: could not be downloaded ({str(error).splitlines()[0]}): download {pattern} of "
            f"https://huggingface.co/datasets/{owner}/{name} and pass --source=FOLDER"
        ) from error
    return epath.Path(path) / "/".join(folder)


def _prepared(spec: str, data_dir: str) -> epath.Path:
    name = spec.removeprefix("tfds:")
    root = epath.Path(expand(data_dir or "~/tensorflow_datasets"))
    for folder in (root / name, root):
        if any(_matches("tfds", file) for file in _files(folder)):
            return folder
    raise ConfigError(
        f"{spec}: no prepared copy under {root / name}: pass --data_dir=FOLDER of one, or as --source the folder of "
        "its .tfrecord or .array_record files"
    )
