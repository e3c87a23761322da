"""Where texts come from: each source yields `types.Record`s in a fixed order and knows the hash of its content.

`asset:wiki-leads`, `asset:mini`, `tfds:squad`, a .jsonl or .jsonl.gz file of {id, title, text}, or a folder of .txt
and .md files. How records become blocks is the business of `corpus`.
"""

import gzip
import hashlib
import json
import pathlib
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from realm_jax.config import ConfigError
from realm_jax.data import assets, published
from realm_jax.data.folders import visible_files
from realm_jax.paths import expand, printable
from realm_jax.types import Record

FIELDS = ("id", "title", "text")
WRAPPED_LINE_LEN = 40  # characters; a text file's line at least this long that ends no sentence goes on in the next


@dataclass(frozen=True)
class Source:
    """A collection of records that can be read any number of times."""

    description: dict[str, str]
    """`source` and `licence`, for the corpus manifest and for people."""
    fingerprint: str
    """SHA-256 of the content: equal fingerprints give equal records."""
    num_records: int
    records: Callable[[], Iterator[Record]]
    """Reads the records from the start; raises ConfigError at a bad one."""


def read(spec: str) -> Source:
    """Opens the source that `spec` names. Raises ConfigError if it is missing, unreadable or of an unknown kind."""
    if spec == "asset:wiki-leads":
        return _wiki_leads()
    if spec == assets.MINI_CORPUS:
        return _json_lines(assets.fetch(spec), {"source": spec, "licence": "that of realm_jax"})
    if spec == "tfds:squad":
        return _squad()
    path = pathlib.Path(expand(spec))
    description = {"source": str(path), "licence": "not stated"}
    if path.is_dir():
        return _folder(path, description)
    if path.is_file() and path.name.endswith((".jsonl", ".jsonl.gz")):
        return _json_lines(path, description)
    problem = "is neither .jsonl, .jsonl.gz nor a folder" if path.is_file() else "no such file or folder"
    raise ConfigError(
        f"{spec}: {problem}: pass --corpus=FILE.jsonl, a folder of .txt and .md files, asset:wiki-leads, "
        "asset:mini or tfds:squad"
    )


def squad_paragraphs(examples: Iterable[dict]) -> list[Record]:
    """The distinct paragraphs of SQuAD examples (one per question), by article and first appearance."""
    articles: dict[str, dict[str, None]] = {}
    for example in examples:
        title, context = (_decode(example[key]) for key in ("title", "context"))
        articles.setdefault(title.replace("_", " "), {})[context] = None
    return [
        Record(f"squad/{title}/{i}", title, text, f"tfds:squad {title}")
        for title in sorted(articles)
        for i, text in enumerate(articles[title])
    ]


def parse_markdown(text: str) -> tuple[str | None, str]:
    """(first heading or None, the rest as plain text): code, comments, images and markup are dropped."""
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)  # front matter
    text = re.sub(r"^(```|~~~).*?^\1[^\n]*$|<!--.*?-->", "", text, flags=re.DOTALL | re.MULTILINE)
    heading = re.search(r"^#{1,6}[ \t]+(.+?)[ \t]*#*$", text, flags=re.MULTILINE)
    if heading:
        text = text[: heading.start()] + text[heading.end() :]
    return heading and _strip_inline(heading.group(1)), _strip_inline(text)


def unwrap(text: str) -> str:
    """Joins the lines of hard-wrapped prose, so that a line break ends a sentence as `blocks` takes it."""
    lines: list[str] = []
    goes_on = False
    for line in text.splitlines():
        line = line.strip()
        if goes_on and line:
            lines[-1] += " " + line
        else:
            lines.append(line)
        goes_on = len(line) >= WRAPPED_LINE_LEN and line[-1] not in ".!?:;"
    return "\n".join(line for line in lines if line)


def _wiki_leads() -> Source:
    asset = assets.ASSETS["wiki-leads"]
    path = assets.fetch("asset:wiki-leads")
    content = path.read_bytes()
    articles = json.loads(content)

    def records() -> Iterator[Record]:
        for title, article in articles.items():
            yield Record(f"wiki-leads/{title}", article["title"], article["extract"], f"{path}: {title}")

    description = {"source": "asset:wiki-leads", "licence": asset.licence, "about": asset.about}
    return Source(description, hashlib.sha256(content).hexdigest(), len(articles), records)


def _json_lines(path: pathlib.Path, description: dict[str, str]) -> Source:
    digest = hashlib.sha256()
    num_records = 0
    for _, line in _lines(path):
        digest.update(line)
        num_records += bool(line.strip())

    def records() -> Iterator[Record]:
        for where, line in _lines(path):
            if line.strip():
                yield _parse(line, where)

    return Source(description, digest.hexdigest(), num_records, records)


def _lines(path: pathlib.Path) -> Iterator[tuple[str, bytes]]:
    """Yields (file and line number, line)."""
    try:
        with gzip.open(path) if path.name.endswith(".gz") else open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                yield f"{path}:{number}", line
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"{path}: cannot be read ({error}): make it again or pass another --corpus") from error


def _parse(line: bytes, where: str) -> Record:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:  # not UTF-8, no JSON, or too deep
        raise ConfigError(f"{where}: is not JSON ({error}): correct or delete the line") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: is not a JSON object: write {{id, title, text}}")
    for name in FIELDS:
        if name not in values:
            raise ConfigError(f"{where}: has no field {name!r}: each line needs id, title and text")
        if name == "id" and isinstance(values[name], int):
            values[name] = str(values[name])
        if not isinstance(values[name], str):
            raise ConfigError(f"{where}: field {name!r} is not a string: put it in quotes")
        if re.search("[\ud800-\udfff]", values[name]):
            raise ConfigError(f"{where}: field {name!r} holds half of a surrogate pair: write the whole character")
    if not values["id"]:
        raise ConfigError(f"{where}: field 'id' is empty: give each line an id of its own")
    return Record(values["id"], values["title"], values["text"], where)


def _folder(folder: pathlib.Path, description: dict[str, str]) -> Source:
    paths = sorted(path for path in visible_files(folder) if path.suffix.lower() in (".txt", ".md"))
    if not paths:
        raise ConfigError(f"{folder}: has no .txt or .md file: pass another --corpus=FILE_OR_FOLDER")
    digest = hashlib.sha256()
    for path in paths:
        content, name = _content(path), printable(path.relative_to(folder))
        digest.update(f"{name} {len(content)} {hashlib.sha256(content).hexdigest()}\n".encode())

    def records() -> Iterator[Record]:
        for path in paths:
            try:
                text = re.sub("\r\n?", "\n", _content(path).decode("utf-8-sig"))
            except ValueError as error:
                raise ConfigError(f"{printable(path)}: is not UTF-8 ({error}): convert it") from error
            title, text = parse_markdown(text) if path.suffix.lower() == ".md" else (None, text)
            name = printable(path.relative_to(folder))
            yield Record(name, title or printable(path.stem), unwrap(text), printable(path))

    return Source(description, digest.hexdigest(), len(paths), records)


def _content(file: pathlib.Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{printable(file)}: cannot be read ({error.strerror}): mend it or take it away") from error


def _squad() -> Source:
    examples = published.read(published.SQUAD, "validation", or_else="or pass --corpus=FILE_OR_FOLDER")
    paragraphs = squad_paragraphs(examples)
    digest = hashlib.sha256("\n".join(f"{p.title}\t{p.text}" for p in paragraphs).encode())
    description = {"source": "tfds:squad", "licence": "CC BY-SA 4.0"}
    return Source(description, digest.hexdigest(), len(paragraphs), lambda: iter(paragraphs))


def _decode(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _strip_inline(text: str) -> str:
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)  # images
    text = re.sub(r"\[([^\]]*)\](\([^)]*\)|\[[^\]]*\])", r"\1", text)  # links
    text = re.sub(r"</?[A-Za-z][^>\n]*>", "", text)
    text = re.sub(r"^[ \t]*(#{1,6}|[-*+]|\d+\.|>)[ \t]+", "\n", text, flags=re.MULTILINE)  # headings, lists, quotes
    text = re.sub(r"(\*\*|__|`)(.+?)\1", r"\2", text)
    return re.sub(r"(?<!\w)([*_])(\S.*?)\1(?!\w)", r"\2", text).strip()
