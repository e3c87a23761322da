"""What a file or folder of records is taken for, by its content.

A folder gives its files of one format; the others are named in a log line. Where several formats, splits or
configurations lie in one folder, nothing is chosen: that is an error which lists them.
"""

import contextlib
import functools
import os
import pathlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from etils import epath

from realm_jax.buckets import is_remote
from realm_jax.config import ConfigError
from realm_jax.data.manifest import AS_GIVEN
from realm_jax.data.sources import formats, rows, tables
from realm_jax.data.sources.folders import visible_files
from realm_jax.data.sources.formats import Form
from realm_jax.data.sources.tables import Container
from realm_jax.data.sources.unpacked import ENDINGS

NAMED = 3  # files left out that are named
KEYS = 12  # of an unknown record that are named
RECORDS = re.compile(rf"\.(jsonl?|ndjson|tsv|csv){ENDINGS}|\.parquet$|(^|/)wiki_\d+{ENDINGS}", re.IGNORECASE)
TEXTS = re.compile(r"\.(txt|text|md|markdown)$", re.IGNORECASE)
ABOUT = re.compile(r"(^|/)(readme|licen[cs]e|notice|changelog|citation)[^/]*$", re.IGNORECASE)
SPLIT = re.compile(r"(?P<name>.+?)-\d+-of-\d+")
SPLITS = ("train", "validation", "valid", "dev", "test")


@dataclass(frozen=True)
class Taken:
    """Files of records, and what they were taken for; can be sent to workers."""

    spec: str
    files: tuple[str, ...]
    container: Container
    form: str
    """The name of a form; "columns" where the user named the columns."""
    columns: str = ""
    """As `formats.of_columns` takes them."""
    left_out: tuple[str, ...] = ()
    """Files of the folder that are not read."""

    def the_form(self) -> Form:
        """Returns the form of the records."""
        return formats.of_columns(self.columns) if self.columns else formats.named(self.form)

    @property
    def wanted(self) -> tuple[str, ...]:
        """The columns of a parquet file that are read."""
        others = ("title", "section", "maintext")
        return tuple(key for either in self.the_form().keys for key in either.split("|")) + others

    def says(self) -> str:
        """`psgs_w100.tsv.gz is dpr (id, text, title), a table`, and what is left out, for people."""
        form = self.the_form()
        what = form.form if self.columns else f"{form.name} ({form.names})"
        files = f" in {len(self.files):,} files" if len(self.files) > 1 else ""
        return f"{_short(self.spec)} is {what}, {self.container}{files}{said_left_out(self.left_out)}"


def takes_as_given(blocks: str, usual: bool) -> bool:
    """Whether each record is a block as it came.

    Args:
        blocks: `auto`, `cut` or `as_given`, as a user said.
        usual: what `auto` means for the source's format.
    """
    return usual if blocks == "auto" else blocks == AS_GIVEN


def said_blocks(as_given: bool) -> str:
    """Says what becomes of the records of a source."""
    return "each record is a block as it came" if as_given else "each record is cut into blocks"


def recognise(spec: str, files: Sequence[epath.Path], form: str = "auto", columns: str = "") -> Taken:
    """Finds out what files of records are.

    Args:
        spec: the file or folder that holds them.
        form: name of the only form to be considered, or `auto`.
        columns: as `formats.of_columns` takes them; then no form is considered.

    Raises:
        ConfigError: they are of no known form, of several, or a choice would have to be made.
    """
    wanted = formats.of_columns(columns) if columns else None if form == "auto" else formats.named(form)
    names = formats.of_columns(columns).keys if columns else ()
    as_table = functools.partial(tables.header, numbered=bool(names) and all(name.isdigit() for name in names))
    if len(files) == 1:
        seen = rows.look(files[0], as_table)
        found = _form(files[0], seen, wanted)
        return Taken(spec, (str(files[0]),), seen.container, found.name, columns)
    groups: dict[tuple[str, Container], list[str]] = {}
    left_out, unknown = [], {}
    for file in files:
        if form == "auto" and not RECORDS.search(str(file)):
            left_out.append(str(file))
            continue
        try:
            seen = rows.look(file, as_table)
            found = _form(file, seen, wanted)
            groups.setdefault((found.name, seen.container), []).append(str(file))
        except _Unknown as error:
            unknown[str(file)] = (seen.container.kind, error)
        except ConfigError as error:
            unknown[str(file)] = ("", error)
    return _chosen(spec, columns, groups, unknown, left_out)


def _chosen(spec: str, columns: str, groups: dict, unknown: dict, left_out: list[str]) -> Taken:
    """Chooses the one group of files; unknown files whose records lie in another way are left out."""
    if not groups:
        raise next((error for _, error in unknown.values()), ConfigError(f"{spec}: has no file of records"))
    groups = _without_queries(spec, groups, unknown, left_out)
    kinds = {container.kind for _, container in groups}
    problems = [str(error) for kind, error in unknown.values() if kind in kinds]
    if len(groups) > 1 or problems:
        shown = "; ".join(f"{name}, {container}: {_listed(of)}" for (name, container), of in groups.items())
        other = f"; {problems[0]}" if problems else ""
        raise ConfigError(f"{spec}: holds records of several formats or columns: pass one file ({shown}{other})")
    ((found, container), chosen) = groups.popitem()
    one_split(spec, chosen)
    return Taken(spec, tuple(chosen), container, found, columns, (*left_out, *unknown))


def first_recognised(files: Sequence[epath.Path]) -> str:
    """Finds the first file of a known format; an empty text if there is none."""
    for file in files:
        with contextlib.suppress(ConfigError):
            _form(file, rows.look(file), None)
            return str(file)
    return ""


def one_split(spec: str, files: Iterable[str]) -> None:
    """Raises ConfigError where files are of several splits or configurations, and lists them."""
    splits: dict[str, int] = {}
    for file in files:
        path = pathlib.PurePosixPath(file)
        match = SPLIT.match(path.name)
        name = match["name"] if match else path.name.split(".")[0]
        if match or name in SPLITS:
            split = str(path.parent / name)
            splits[split] = splits.get(split, 0) + 1
    if len(splits) > 1:
        shown = ", ".join(f"{split} ({count})" for split, count in splits.items())
        raise ConfigError(
            f"{spec}: holds several splits or configurations, with their files: {shown}: pass one of the files, a "
            "folder of one of them, or hf:OWNER/NAME/CONFIG/SPLIT"
        )


def files_under(folder: epath.Path) -> list[epath.Path]:
    """Lists the file itself, or all files below a folder, in natural order; hidden ones are left out.

    Raises:
        ConfigError: it is neither, but a pipe or a device.
    """
    if not folder.exists():
        return []
    if not is_remote(folder) and not folder.is_dir() and not os.path.isfile(folder):
        raise ConfigError(f"{folder}: is a pipe or a device, which cannot be read twice: write it to a file")
    return sorted(visible_files(folder) if folder.is_dir() else [folder], key=lambda file: _natural(str(file)))


def said_left_out(files: Sequence[str]) -> str:
    """Says `; left out: 2 files (a.png, b.png)`, or nothing."""
    return f"; left out: {_listed(files)}" if files else ""


def _natural(name: str) -> list:
    """Makes a key that sorts `pages2` before `pages10`."""
    return [int(piece) if piece.isdigit() else piece for piece in re.split(r"(\d+)", name)]


class _Unknown(ConfigError):
    """A file of records of no known format."""


def _form(file: epath.Path, seen: rows.Look, wanted: Form | None) -> Form:
    """Finds the form of a file's records. Raises _Unknown if it is not known, or not the wanted one."""
    kind = seen.container.kind
    for row in seen.rows:
        found = formats.form_of(row, kind) if wanted is None else wanted if wanted.has(row, kind) else None
        if found is not None:
            return found
    keys = [repr(key) for key in seen.rows[0]]
    shown = ", ".join(keys[:KEYS]) + (", …" if len(keys) > KEYS else "")
    what = "columns" if kind in ("table", "parquet") else "keys"
    if wanted is not None and kind not in wanted.kinds:
        raise _Unknown(
            f"{file}: {wanted.name} lies in {' or '.join(wanted.kinds)}, this is {kind}: pass another --format"
        )
    if wanted is not None:
        raise _Unknown(f"{file}: has the {what} {_cut(shown)}, not {wanted.names}: name others")
    hint = "pass the folder of texts, " if TEXTS.search(file.name) else ""
    hint += "or pass --columns=id=NAME,text=NAME,title=NAME"
    hint += " (id=1,text=2,title=3 if it has no header)" if kind == "table" else ""
    raise _Unknown(
        f"{file}: is of no known format: its first record has the {what} {_cut(shown)}: rename them, "
        f"{hint}, which a run calls --corpus.columns; known are {formats.known()}"
    )


def _without_queries(spec: str, groups: dict, unknown: dict, left_out: list[str]) -> dict:
    """Takes the corpus of BEIR's folder, beside `queries.jsonl`. Raises ConfigError if there are several."""
    files = {file: pathlib.PurePosixPath(file).name.split(".")[0] for of in groups.values() for file in of}
    corpus = [file for file, name in files.items() if name == "corpus"]
    if not corpus or "queries" not in files.values():
        return groups
    if len(corpus) > 1:
        raise ConfigError(f"{spec}: holds several corpora with their queries: pass one of {', '.join(corpus[:NAMED])}")
    left_out += [file for file in (*files, *unknown) if file not in corpus]
    unknown.clear()
    return {key: corpus for key, of in groups.items() if corpus[0] in of}


def _listed(files: Sequence[str]) -> str:
    shown = [pathlib.PurePosixPath(file).name for file in files[:NAMED]]
    more = ", …" if len(files) > NAMED else ""
    return f"{len(files):,} file{'s' * (len(files) > 1)} ({', '.join(shown)}{more})"


def _short(spec: str) -> str:
    return spec if ":" in spec else pathlib.PurePath(spec).name or spec


def _cut(text: str) -> str:
    return text if len(text) <= 300 else text[:300] + "…"
