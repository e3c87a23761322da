"""Where texts come from: each source yields `Record`s in a fixed order and knows the hash of its content.

`asset:wiki-leads`, `asset:mini`, `tfds:squad`, a folder of .txt and .md files, or a file or folder of records in a
format of `formats`. `blocks` cuts records into blocks.
"""

import hashlib
import json
import pathlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from etils import epath

from realm_jax.config import ConfigError
from realm_jax.data import assets, published, published_sets
from realm_jax.data.sources import markdown, record_source
from realm_jax.data.sources.recognise import (
    ABOUT,
    RECORDS,
    TEXTS,
    Taken,
    files_under,
    first_recognised,
    recognise,
    said_left_out,
)
from realm_jax.data.sources.squad_json import squad_paragraphs
from realm_jax.paths import expand, printable
from realm_jax.records import Record

OR_ELSE = (
    "pass --corpus=FILE.jsonl or a file of another format of docs/formats.md, a folder of .txt and .md files, "
    "asset:wiki-leads, asset:mini or tfds:squad"
)
WRAPPED_LINE_LEN = 40  # characters; a text file's line at least this long that ends no sentence goes on in the next


@dataclass(frozen=True)
class Source:
    """A collection of records that can be read any number of times."""

    description: dict[str, str]
    """`source` and `licence`, for the corpus manifest and for people."""
    fingerprint: str
    """The SHA-256 of the content: equal fingerprints give equal records."""
    num_records: int
    records: Callable[..., Iterator[Record]]
    """Reads the records from the start, and counts in a Counter what it leaves out. Raises ConfigError at a bad one."""
    says: str = ""
    """What a file or folder was taken for, for people."""
    as_given: bool = False
    """Whether each record is a block already, by its format."""


def read(spec: str, columns: str = "") -> Source:
    """Opens the source that `spec` names.

    Args:
        columns: names of the fields of its records, as `formats.of_columns` takes them; by default those of its format.

    Raises:
        ConfigError: it is missing, unreadable, of no known format, or of several.
    """
    if spec == "asset:wiki-leads":
        return _wiki_leads()
    if spec == assets.MINI_CORPUS:
        mini = recognise(spec, [epath.Path(assets.fetch(spec))])
        return _records(mini, {"source": spec, "licence": "that of realm_jax"})
    if spec == "tfds:squad":
        return _squad()
    path = pathlib.Path(expand(spec))
    description = {"source": str(path), "licence": "not stated"}
    files = files_under(epath.Path(path))
    if ":" in spec.split("/")[0] and not files:
        raise ConfigError(f"{spec}: is no source of a run: {OR_ELSE}")
    if not path.exists():
        raise ConfigError(f"{spec}: no such file or folder: {OR_ELSE}")
    if path.is_dir() and not columns and has_texts(spec, files):
        return _folder(path, description, files)
    if not any(path.is_file() or RECORDS.search(str(file)) for file in files):
        raise ConfigError(f"{spec}: has no .txt or .md file, and no file of records: {OR_ELSE}")
    return _records(recognise(spec, files, columns=columns), description)


def has_texts(spec: str, files: list[epath.Path]) -> bool:
    """Whether a folder holds texts, .txt and .md; those about its files of records (README, LICENSE) do not count.

    Raises:
        ConfigError: it has records and texts.
    """
    texts = [file for file in files if TEXTS.search(file.name)]
    others = [file for file in files if RECORDS.search(str(file))]
    records = first_recognised(others)
    is_about = all(ABOUT.search(file.name) for file in texts)
    if records and not is_about:
        raise ConfigError(f"{spec}: holds .txt or .md files and files of records ({records}): pass one of them alone")
    return bool(texts) and not records and not (is_about and any(file.suffix != ".json" for file in others))


def unwrap(text: str) -> str:
    """Joins the lines of hard-wrapped prose, so that a line break ends a sentence as `blocks` takes it."""
    pieces: list[str] = []
    goes_on = False
    for line in map(str.strip, text.splitlines()):
        pieces += [" " if goes_on else "\n", line] if line else []
        goes_on = len(line) >= WRAPPED_LINE_LEN and line[-1] not in ".!?:;"
    return "".join(pieces[1:])


def _wiki_leads() -> Source:
    asset = assets.ASSETS["wiki-leads"]
    path = assets.fetch("asset:wiki-leads")
    content = path.read_bytes()
    articles = json.loads(content)

    def records(_: Counter | None = None) -> Iterator[Record]:
        for title, article in articles.items():
            yield Record(f"wiki-leads/{title}", article["title"], article["extract"], f"{path}: {title}")

    description = {"source": "asset:wiki-leads", "licence": asset.licence, "about": asset.about}
    return Source(description, hashlib.sha256(content).hexdigest(), len(articles), records)


def _records(taken: Taken, description: dict[str, str]) -> Source:
    def records(counts: Counter | None = None) -> Iterator[Record]:
        return record_source.read(taken, counts)

    content, number = record_source.survey(taken)
    if not number:
        raise ConfigError(f"{taken.spec}: has no record: {OR_ELSE}")
    says = f"{taken.says()}; {number:,} records"
    return Source(description, content, number, records, says, as_given=taken.the_form().as_given)


def _folder(folder: pathlib.Path, description: dict[str, str], files: list[epath.Path]) -> Source:
    paths = sorted(pathlib.Path(file) for file in files if TEXTS.search(file.name))
    left_out = [str(file) for file in files if not TEXTS.search(file.name)]
    if not paths:
        raise ConfigError(f"{folder}: has no .txt or .md file: pass another --corpus=FILE_OR_FOLDER")
    digest = hashlib.sha256()
    for path in paths:
        content, name = _content(path), printable(path.relative_to(folder))
        digest.update(f"{name} {len(content)} {hashlib.sha256(content).hexdigest()}\n".encode())

    def records(_: Counter | None = None) -> Iterator[Record]:
        for path in paths:
            try:
                text = re.sub("\r\n?", "\n", _content(path).decode("utf-8-sig"))
            except ValueError as error:
                raise ConfigError(f"{printable(path)}: is not UTF-8 ({error}): convert it") from error
            is_markdown = path.suffix.lower() in (".md", ".markdown")
            title, text = markdown.parse(text) if is_markdown else (None, unwrap(text))
            name = printable(path.relative_to(folder))
            yield Record(name, title or printable(path.stem), text, printable(path))

    says = f"{folder.name} is a folder of {len(paths):,} texts (.txt, .md){said_left_out(left_out)}"
    return Source(description, digest.hexdigest(), len(paths), records, says)


def _content(file: pathlib.Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{printable(file)}: cannot be read ({error.strerror}): mend it or take it away") from error


def _squad() -> Source:
    examples = published.read(published_sets.SQUAD, "validation", or_else="or pass --corpus=FILE_OR_FOLDER")
    paragraphs = squad_paragraphs(examples)
    digest = hashlib.sha256("\n".join(f"{p.title}\t{p.text}" for p in paragraphs).encode())
    description = {"source": "tfds:squad", "licence": "CC BY-SA 4.0"}
    return Source(description, digest.hexdigest(), len(paragraphs), lambda _=None: iter(paragraphs))
