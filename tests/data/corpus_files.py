"""Tiny files of every format of corpora, of texts of our own, written from the published descriptions.

DPR and Contriever: README of facebookresearch/DPR; BEIR: its wiki; KILT: README of facebookresearch/KILT; Anserini:
`JsonCollection`; HotpotQA: "Preprocessed Wikipedia for HotpotQA"; Atlas: README and `index_io.py`; WikiExtractor: its
README; Tevatron: README; SQuAD: its explorer; CC-News: news-please.
"""

import bz2
import csv
import gzip
import html
import io
import json
import lzma
import pathlib

WORDS = "amber birch cobalt dune ember fjord granite harbour iris juniper kelp lagoon".split()
RECORDS = [
    (str(i), f'The {word} "house"', f'The {word} house, or "Élan {i}", stands by a lake.\nIt was built in {1800 + i}.')
    for i, word in enumerate(WORDS, 1)
]
"""(id, title, text): each text has quotes, a line break and a letter beyond ASCII."""


def lines(rows, line_break="\n") -> bytes:
    """JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + line_break for row in rows).encode()


def table(rows, delimiter, line_break="\n") -> bytes:
    """A table as the csv module writes it."""
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, lineterminator=line_break).writerows(rows)
    return file.getvalue().encode()


def documents(records) -> bytes:
    """WikiExtractor's text output; it escapes <, > and &."""
    made = []
    for i, title, text in records:
        head = f'<doc id="{i}" url="https://en.wikipedia.org/wiki?curid={i}" title="{title}">'
        made.append(f"{head}\n{title}\n\n{html.escape(text, quote=False)}\n</doc>\n")
    return "".join(made).encode()


def squad(records, version="1.1") -> bytes:
    """One article for each record, its paragraph there twice, with an unanswerable question in v2.0."""
    answerable = {"id": "q", "question": "When?", "answers": [{"text": "18", "answer_start": 0}]}
    not_answerable = {"id": "r", "question": "Who?", "answers": [], "is_impossible": True}
    questions = [answerable, not_answerable] if version == "v2.0" else [answerable]
    articles = [
        {"title": title.replace(" ", "_"), "paragraphs": [{"context": text, "qas": questions}] * 2}
        for _, title, text in records
    ]
    return json.dumps({"version": version, "data": articles}).encode()


def parquet(rows) -> bytes:
    """A parquet file of two row groups."""
    import pyarrow
    import pyarrow.parquet

    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink, row_group_size=7)
    return sink.getvalue()


def files(records=RECORDS) -> dict[str, tuple[str, str, bytes]]:
    """What it is -> (form, name of the file, content)."""
    plain = [{"id": i, "title": t, "text": x} for i, t, x in records]
    beir = [{"_id": i, "title": t, "text": x, "metadata": {}} for i, t, x in records]
    kilt = [
        {"_id": i, "wikipedia_id": i, "wikipedia_title": t, "anchors": []}
        | {"text": [f"{t}\n", x.split("\n")[0] + "\n", "Section::::History.\n", "BULLET::::- " + x.split("\n")[1]]}
        for i, t, x in records
    ]
    hotpotqa = [
        {"id": i, "url": "u", "title": t, "charoffset": [], "text": [[line] for line in x.split("\n")]}
        for i, t, x in records
    ]
    atlas = [{"id": i, "title": t, "section": "", "text": x} for i, t, x in records]
    contents = [{"id": i, "contents": f'"{t}"\n{x}'.replace('"house"', '""house""')} for i, t, x in records]
    news = [{"url": i, "title": t, "maintext": x, "date_publish": None} for i, t, x in records]
    tevatron = [{"docid": i, "title": t, "text": x} for i, t, x in records]
    extracted = [{**row, "url": "u", "revid": "9", "text": html.escape(row["text"], quote=False)} for row in plain]
    passages = [["id", "text", "title"], *([i, x, t] for i, t, x in records)]
    columns = [["id", "title", "text"], *records]
    return {
        "dpr": ("dpr", "psgs_w100.tsv", table(passages, "\t")),
        "dpr packed": ("dpr", "psgs_w100.tsv.gz", gzip.compress(table(passages, "\t"))),
        "beir": ("beir", "corpus.jsonl", lines(beir)),
        "pyserini": ("pyserini", "docs.jsonl", lines(contents)),
        "pyserini as one JSON list": ("pyserini", "docs.json", json.dumps(contents, indent=1).encode()),
        "kilt": ("kilt", "kilt_knowledgesource.json", lines(kilt)),
        "hotpotqa": ("hotpotqa", "wiki_00.bz2", bz2.compress(lines(hotpotqa))),
        "atlas": ("atlas", "text-list-100-sec.jsonl", lines(atlas)),
        "tevatron": ("tevatron", "corpus.jsonl.xz", lzma.compress(lines(tevatron))),
        "wikiextractor": ("wikiextractor", "wiki_00", documents(records)),
        "wikiextractor --json": ("wikiextractor", "wiki_01", lines(extracted)),
        "ccnews": ("ccnews", "news.jsonl", lines(news)),
        "squad": ("squad", "dev-v1.1.json", squad(records)),
        "squad 2.0": ("squad", "dev-v2.0.json", squad(records, "v2.0")),
        "jsonl": ("jsonl", "a.jsonl", lines(plain)),
        "tsv": ("table", "a.tsv", table(columns, "\t")),
        "csv": ("table", "a.csv", table(columns, ",", "\r\n")),
        "parquet": ("parquet", "train-00000-of-00001.parquet", parquet(plain)),
    }


def write(folder: pathlib.Path, name: str) -> pathlib.Path:
    """Writes one of `files`; returns where."""
    _, file, content = files()[name]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_bytes(content)
    return folder / file


def ids(name: str) -> list[str]:
    """Ids of the records, in the order of RECORDS: SQuAD's have none of their own."""
    return [f"squad/{title}/0" for _, title, _ in RECORDS] if name.startswith("squad") else [i for i, _, _ in RECORDS]
