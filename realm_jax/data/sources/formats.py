"""The formats of corpora, each known by the keys of its records: where it is published and what becomes of a record.

`rows` knows how records lie in a file (JSON lines, a table, parquet); a form is what one record says. A record has the
first form of `FORMS` whose keys it has; `docs/formats.md` is made of this list.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from realm_jax.config import ConfigError
from realm_jax.data.sources import fields
from realm_jax.data.sources.checked import checked_record
from realm_jax.data.sources.fields import Made, Row
from realm_jax.records import Record

Kind = Literal["lines", "table", "documents", "json", "parquet"]
"""JSON lines; .tsv or .csv; `<doc>` elements; a file that is one JSON text; parquet."""


@dataclass(frozen=True)
class Form:
    """One format."""

    name: str
    """The name that `--format` takes."""
    form: str
    """Who publishes it, in which files, with which fields."""
    example: str
    """One record, for people."""
    becomes: str
    """What becomes of a record, for people."""
    kinds: tuple[Kind, ...]
    """How its records may lie in a file."""
    keys: tuple[str, ...]
    """The keys that a record must have; `a|b` stands for one of both."""
    make: Callable[[Row, Counter], Made]
    """Takes the fields of a record; counts what it leaves out of a text, by reason."""
    as_given: bool = False
    """Whether each record is a block already."""
    in_order: bool = False
    """Whether the columns must be `keys` and nothing else."""

    def has(self, row: Row, kind: Kind) -> bool:
        """Whether a record has this form."""
        if kind not in self.kinds or (self.in_order and tuple(row) != self.keys):
            return False
        return all(any(key in row for key in either.split("|")) for either in self.keys)

    @property
    def names(self) -> str:
        """Its keys, for people."""
        return ", ".join(self.keys).replace("|", " or ")


def form_of(row: Row, kind: Kind) -> Form | None:
    """Finds the form of a record; None if it has no known one."""
    return next((form for form in FORMS if form.has(row, kind)), None)


def named(name: str) -> Form:
    """Finds the form with a name."""
    return next(form for form in FORMS if form.name == name)


def of_columns(columns: str) -> Form:
    """Makes the form that `--columns=id=_id,text=passage,title=name` describes; without `title`, titles are empty.

    Raises:
        ConfigError: it says something else.
    """
    pairs = [pair.partition("=") for pair in columns.split(",")]
    keys = {ours.strip(): theirs.strip() for ours, _, theirs in pairs}
    if len(keys) != len(pairs) or not {"id", "text"} <= keys.keys() <= {"id", "text", "title"} or "" in keys.values():
        raise ConfigError(f"columns {columns!r}: write id=NAME,text=NAME,title=NAME (title may be left out)")

    def make(row: Row, _: Counter) -> Made:
        return row.get(keys["id"]), (row.get(keys["title"]) or "") if "title" in keys else "", row.get(keys["text"])

    kinds: tuple[Kind, ...] = ("lines", "table", "json", "parquet")
    return Form("columns", f"the columns {columns}", "", "", kinds, tuple(keys.values()), make)


def known() -> str:
    """Lists all forms with their keys, for error messages."""
    return "; ".join(f"{form.name} ({form.names})" for form in FORMS)


def record_of(form: Form, row: Row, counts: Counter, where: str = "") -> tuple[Record | None, str]:
    """Makes the record of a row, as `checked_record` does: (record or None, why it is left out)."""
    return checked_record(*form.make(row, counts), where)


FORMS = (
    Form(
        "dpr",
        "[DPR](https://github.com/facebookresearch/DPR)'s passages `psgs_w100.tsv(.gz)`, in which Contriever's and "
        "Atlas' are published too: a table of `id`, `text`, `title` in this order, quoted as csv",
        '7⇥"It is ""old""."⇥Élan',
        "a block as it came",
        ("table",),
        ("id", "text", "title"),
        fields.plain,
        as_given=True,
        in_order=True,
    ),
    Form(
        "kilt",
        "[KILT](https://github.com/facebookresearch/KILT)'s knowledge source, JSON lines or parquet",
        '{"wikipedia_id": "7", "wikipedia_title": "Élan", "text": ["Élan\\n", "Élan is old.\\n"]}',
        "an article, a paragraph a line: without the title's own line and `Section::::` lines, which are counted; "
        "`BULLET::::` goes, its item stays",
        ("lines", "json", "parquet"),
        ("wikipedia_title", "text", "wikipedia_id|_id|kilt_id"),
        fields.kilt,
    ),
    Form(
        "beir",
        "[BEIR](https://github.com/beir-cellar/beir)'s `corpus.jsonl`, alone or in its folder, of which nothing else "
        "is read",
        '{"_id": "7", "title": "Élan", "text": "Élan is old."}',
        "an article; `title` may be missing",
        ("lines", "json", "parquet"),
        ("_id", "text"),
        fields.beir,
    ),
    Form(
        "hotpotqa",
        "[HotpotQA](https://hotpotqa.github.io)'s Wikipedia (`AA/wiki_00.bz2`, …), JSON lines",
        '{"id": "7", "title": "Élan", "text": ["Élan is old.", " It closed."], "charoffset": […]}',
        "an article, its sentences joined, a paragraph a line",
        ("lines", "json", "parquet"),
        ("id", "title", "text", "charoffset"),
        fields.hotpotqa,
    ),
    Form(
        "atlas",
        "[Atlas](https://github.com/facebookresearch/atlas)' passages, JSON lines",
        '{"id": "7", "title": "Élan", "section": "History", "text": "It is old."}',
        "a block as it came, titled `Élan: History`",
        ("lines", "json", "parquet"),
        ("id", "section", "text"),
        fields.atlas,
        as_given=True,
    ),
    Form(
        "wikiextractor",
        "[WikiExtractor](https://github.com/attardi/wikiextractor)'s `<doc>` elements, or its `--json` lines, in "
        "files without an ending (`AA/wiki_00`)",
        '<doc id="7" url="…" title="Élan">⏎Élan⏎⏎Élan is old.⏎</doc>',
        "an article without its title's own line; entities such as `&amp;` are characters",
        ("documents", "lines"),
        ("id", "revid", "url", "title", "text"),
        fields.wikiextractor,
    ),
    Form(
        "jsonl",
        "JSON lines, or one JSON list, of `id`, `title`, `text`: ours, Contriever's, Wikipedia's copies",
        '{"id": "7", "title": "Élan", "text": "Élan is old."}',
        "an article",
        ("lines", "json"),
        ("id", "title", "text"),
        fields.plain,
    ),
    Form(
        "parquet",
        "parquet with such columns, as Hugging Face's `wikimedia/wikipedia` (`hf:OWNER/NAME/CONFIG`) has them",
        "id | title | text",
        "an article",
        ("parquet",),
        ("id", "title", "text"),
        fields.plain,
    ),
    Form(
        "table",
        "`.tsv` or `.csv` with these names in the first line, quoted as csv",
        '7,Élan,"Élan is old, they say."',
        "an article",
        ("table",),
        ("id", "title", "text"),
        fields.plain,
    ),
    Form(
        "pyserini",
        "[Anserini](https://github.com/castorini/anserini)'s and Pyserini's JsonCollection, JSON lines or a JSON list",
        '{"id": "7", "contents": "\\"Élan\\"\\nÉlan is old."}',
        "an article. Its title is `title`, else the first of several lines if it is quoted, or has at most 200 "
        "characters and does not end as a sentence, else empty",
        ("lines", "json", "parquet"),
        ("id", "contents"),
        fields.contents,
    ),
    Form(
        "tevatron",
        "[Tevatron](https://github.com/texttron/tevatron)'s corpora, JSON lines or parquet: `docid`, `doc_id` or "
        "`document_id`",
        '{"docid": "7", "title": "Élan", "text": "Élan is old."}',
        "an article; `title` may be missing",
        ("lines", "json", "parquet"),
        ("docid|doc_id|document_id", "text"),
        fields.tevatron,
    ),
    Form(
        "ccnews",
        "CC-News as news-please or Hugging Face has it: `url`, `title`, `text` or `maintext`",
        '{"url": "https://…", "title": "Élan", "maintext": "Élan is old."}',
        "an article with its address as id",
        ("lines", "json", "parquet"),
        ("url", "title", "text|maintext"),
        fields.news,
    ),
    Form(
        "squad",
        "[SQuAD](https://rajpurkar.github.io/SQuAD-explorer/) v1.1's or v2.0's JSON",
        '{"version": "1.1", "data": [{"title": "Élan", "paragraphs": [{"context": "It is old.", "qas": […]}]}]}',
        "each distinct paragraph an article, with the ids that `tfds:squad` gives (`squad/Élan/0`)",
        ("json",),
        ("id", "title", "context"),
        fields.squad,
    ),
)

FormatName = Literal["auto", "mediawiki", "tfds", *(form.name for form in FORMS)]
"""What `realm corpus --format` takes: these forms, dumps of Wikipedia, and what tensorflow-datasets has prepared."""
