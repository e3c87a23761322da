"""Files that are not quite as they should be: a choice is a printed rule or one line, no record is lost uncounted."""

import bz2
import contextlib
import gzip
import json
import lzma
import os
import time
import types
from collections import Counter

import pyarrow
import pyarrow.parquet
import pytest
from etils import epath
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from realm_jax.config import ConfigError
from realm_jax.data.build import hub, source
from realm_jax.data.questions import questions
from realm_jax.data.sources import rows, sources
from tests.data import corpus_files
from tests.data.corpus_files import RECORDS, lines, table

BOM = b"\xef\xbb\xbf"
PLAIN = [{"id": i, "title": t, "text": x} for i, t, x in RECORDS]
LINES = lines(PLAIN)
NOTES = {"records", "records lost", "section headings"}  # counts that are not of records left out
TEXT_FORMATS = [
    name for name, (_, file, _) in corpus_files.files().items() if not file.endswith((".gz", ".bz2", ".xz", ".parquet"))
]


def one_line(error) -> str:
    assert "\n" not in str(error.value) and len(str(error.value)) < 4000
    return str(error.value)


def built(spec, folder, part_bytes=1 << 20, **options):
    """(records, counts) as a build reads them."""
    form, counts, records = source.find(str(spec), **options).open(), Counter(), []
    for part in form.plan(epath.Path(folder) / f"spilled-{part_bytes}", part_bytes):
        records += list(form.records(part, counts))
    return records, counts


def texts(records):
    return [(r.id, r.title, r.text) for r in records]


# ---- what does not matter


@pytest.mark.parametrize("name", TEXT_FORMATS)
def test_a_byte_order_mark_crlf_and_blank_lines_change_nothing(name, tmp_path):
    form, file, content = corpus_files.files()[name]
    plain, odd = tmp_path / "plain" / file, tmp_path / "odd" / file
    plain.parent.mkdir()
    odd.parent.mkdir()
    plain.write_bytes(content)
    content = content.replace(b"\r\n", b"\n")
    if form in ("dpr", "table"):  # a line break may stand in a field
        ends = [b'"\n', b"title\n", b"text\n"]
    else:
        ends = [b"\n"]
    for end in ends:
        content = content.replace(end, end[:-1] + b"\r\n" + (b"\r\n" if form != "wikiextractor" else b""))
    odd.write_bytes(BOM + b"\n" + content.rstrip())

    def read(path):
        return [(r.id, r.title, r.text.split()) for r in sources.read(str(path)).records()]

    assert read(odd) == read(plain)
    for part_bytes in (1, 1 << 20):
        found, counts = built(odd, tmp_path, part_bytes)
        assert [(r.id, r.title, r.text.split()) for r in found] == read(plain) and set(counts) <= NOTES


@pytest.mark.parametrize(
    ("row", "title"),
    [
        ({"_id": 7, "title": "", "text": "x"}, ""),
        ({"_id": 7, "text": "x"}, ""),
        ({"_id": 7, "title": None, "text": "x"}, ""),
        ({"docid": 7, "text": "x"}, ""),
        ({"id": 7, "title": "", "text": "x"}, ""),
        ({"id": 7.0, "title": "", "text": "x"}, ""),
        ({"_id": 7, "wikipedia_title": "A", "text": ["A\n", None, "x\n"]}, "A"),
        ({"id": 7, "title": "A", "section": "B", "text": "x"}, "A: B"),
        ({"id": 7, "title": "A", "section": "", "text": "x"}, "A"),
        ({"id": 7, "contents": "A\nx"}, "A"),
        ({"id": 7, "contents": '"A, ""B"" and C."\nx'}, 'A, "B" and C.'),
        ({"id": 7, "title": "T", "contents": "x"}, "T"),
    ],
)
def test_numbers_are_ids_and_titles_may_be_empty(row, title, tmp_path):
    (tmp_path / "a.jsonl").write_bytes(lines([row]))
    assert texts(sources.read(str(tmp_path / "a.jsonl")).records()) == [("7", title, "x")]
    assert texts(built(tmp_path / "a.jsonl", tmp_path)[0]) == [("7", title, "x")]


@pytest.mark.parametrize("contents", ["A sentence alone.", "It is one.\nIt is two.", "a" * 300 + "\nb", "\n\nx", "A\n"])
def test_a_first_line_that_is_no_title_stays_in_the_text(contents, tmp_path):
    (tmp_path / "a.jsonl").write_bytes(lines([{"id": "7", "contents": contents}]))
    assert texts(sources.read(str(tmp_path / "a.jsonl")).records()) == [("7", "", contents)]


def test_a_title_with_quotes_and_entities_in_a_document(tmp_path):
    (tmp_path / "wiki_00").write_text(
        '<doc id="5" url="u" title="The "A" &amp; B">\nThe "A" &amp; B\n\nx &lt; y\n</doc>\n'
    )
    assert texts(sources.read(str(tmp_path / "wiki_00")).records()) == [("5", 'The "A" & B', "\nx < y\n")]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "c0ffee", "a.bz2"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_a_file_is_unpacked_if_it_is_packed_whatever_its_name_says(name, pack, tmp_path):
    (tmp_path / name).write_bytes(pack(LINES))
    assert texts(sources.read(str(tmp_path / name)).records()) == list(RECORDS)
    assert texts(built(tmp_path / name, tmp_path / "work", 100)[0]) == list(RECORDS)


def test_attributes_of_a_document_in_any_order(tmp_path):
    heads = ['title="The "A"" id="7"', 'id="7" url="u" title="The "A"" more="b"', 'id="7" title="The "A""']
    (tmp_path / "wiki_00").write_text("".join(f"<doc {head}>\nx\n</doc>\n" for head in [*heads, 'id="7" url="u"']))
    records, counts = built(tmp_path / "wiki_00", tmp_path)
    assert texts(records) == [("7", 'The "A"', "x\n")] * 3 and counts["without title"] == 1


def test_semicolons_part_the_columns_of_some_tables(tmp_path):
    (tmp_path / "a.csv").write_text('id;title;text\n1;A;"one; two, three"\n')
    assert texts(sources.read(str(tmp_path / "a.csv")).records()) == [("1", "A", "one; two, three")]


# ---- what is refused, or counted


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", lines([{"key": 1, "body": "x"}]), "first record has the keys 'key', 'body'.*known are dpr .id"),
        ("a.tsv", b"pid\tpassage\n1\tx\n", "has the columns 'pid', 'passage'.*--columns=id=NAME"),
        ("a.tsv", b"id\ttext\ttext\n1\tx\ty\n", "two of its columns are called 'text'"),
        ("a.csv", b'id,title,text\n1,a,"b\n2,c,d\n', r"a.csv:2: opens a quote that nothing closes"),
        ("a.jsonl", b"", "is empty"),
        ("a.jsonl", b"\n \n", "is empty"),
        ("a.tsv", b"1\tx\ty\n", r"id=1,text=2,title=3 if it has no header"),
        ("a.tsv", b"\x1f\x8b\x08", "cannot be read"),
        ("a.jsonl", b"\x28\xb5\x2f\xfd", "is zstandard: unpack it"),
        ("a.jsonl", '{"id": "1", "title": "é", "text": "x"}'.encode("latin-1"), "is a JSON object in UTF-8"),
        ("a.jsonl", "{}".encode("utf-16"), "is UTF-16"),
        ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("a.csv", b"<!DOCTYPE html><html>", "is a web page"),
        ("a.json", b'{"data": [{"title": 1}]}', "not SQuAD's"),
        ("a.json", b'{"data": [{"title": "a", "paragraphs": 3}]}', "not SQuAD's"),
        ("a.json", b"[" * 100_000, "neither JSON lines nor one JSON text"),
        ("a.json", b"[1, 2]", "holds no JSON object"),
        ("a.bin", bytes(100), "is no text"),
        ("a.csv", b"caf\xe9,b\n", "is no text that we know"),
        ("a.txt", b"It was, so they say, a house.\n", "no known format: .*pass the folder of texts, or pass"),
        ("dump", b"<mediawiki>\n", "MediaWiki dump: build a corpus of it"),
    ],
)
def test_what_is_no_corpus_is_one_line(name, content, says, tmp_path):
    (tmp_path / name).write_bytes(content)
    for read in (lambda: list(sources.read(str(tmp_path / name)).records()), lambda: built(tmp_path / name, tmp_path)):
        with pytest.raises(ConfigError, match=says) as error:
            read()
        one_line(error)


def test_a_pipe_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for read in (sources.read, source.find, questions.read):
        with pytest.raises(ConfigError, match="is a pipe or a device, .*: write it to a file"):
            read(str(tmp_path / "pipe"))


def test_parquet_that_is_damaged_or_has_two_columns_of_a_name(tmp_path):
    file = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table([["1"]] * 4, names=["id", "title", "text", "text"]), file)
    with pytest.raises(ConfigError, match="two of its columns are called 'text'"):
        sources.read(str(file))
    rows_ = [{"id": str(i), "title": "A", "text": f"{i} " * 20} for i in range(500)]
    content = bytearray(corpus_files.parquet(rows_))
    content[1000:1200] = bytes(200)
    file.write_bytes(content)
    for read in (lambda: sources.read(str(file)), lambda: built(file, tmp_path)):
        with pytest.raises(ConfigError, match="or damaged .*: download it again") as error:
            read()
        one_line(error)


def test_bad_rows_are_counted_by_a_build_and_named_by_a_run(tmp_path):
    good = lines(PLAIN[:2]).decode().splitlines()
    more = [
        "not json",
        "[1]",
        '{"id": "x", "title": "t"}',
        '{"_id": "x", "text": "t"}',
        '{"id":"e","title":"","text":" "}',
    ]
    (tmp_path / "a.jsonl").write_text("\n".join([good[0], *more, good[1]]))
    records, counts = built(tmp_path / "a.jsonl", tmp_path)
    assert [r.id for r in records] == ["1", "2"] and counts == {
        "records": 7,
        "records lost": 4,
        "not JSON": 1,
        "not a JSON object": 1,
        "without text": 1,
        "without id": 1,
        "empty text": 1,
    }
    with pytest.raises(ConfigError, match=r"a.jsonl:2: not JSON: correct or delete it"):
        list(sources.read(str(tmp_path / "a.jsonl")).records())
    rows_ = [b"id,title,text", b'1,A,"one, two"', b'2,B,"a"b', b"3,C", b"4,D,x,y", b"id,title,text", b'5,E,"a ""b"""']
    (tmp_path / "a.csv").write_bytes(b"\n".join(rows_))
    records, counts = built(tmp_path / "a.csv", tmp_path)
    assert texts(records) == [("1", "A", "one, two"), ("5", "E", 'a "b"')]
    reasons = {"quotes within a field that are not doubled": 1, "another number of columns": 2}
    assert counts == {"records": 5, "records lost": 3, **reasons}
    with pytest.raises(ConfigError, match=r"a.csv:3: quotes within a field"):
        list(sources.read(str(tmp_path / "a.csv")).records())
    head = '<doc id="%s" url="" title="A">\na\n'
    (tmp_path / "wiki_00").write_text(head % 1 + head % 2 + "</doc>\nlost\n\nlost\n" + head % 3)
    records, counts = built(tmp_path / "wiki_00", tmp_path)
    assert [r.id for r in records] == ["2"]
    assert counts == {"records": 5, "records lost": 4, "line outside of a document": 2, "document without end": 2}


# ---- columns


@pytest.mark.parametrize("ending", ["jsonl", "tsv", "csv", "parquet", "json"])
def test_columns_of_other_names(ending, tmp_path):
    named = [{"_key": i, "name": t, "passage": x, "extra": None} for i, t, x in RECORDS]
    cells = [["_key", "name", "passage", "extra"], *([i, t, x, ""] for i, t, x in RECORDS)]
    content = {
        "jsonl": lambda: lines(named),
        "json": lambda: json.dumps(named).encode(),
        "tsv": lambda: table(cells, "\t"),
        "csv": lambda: table(cells, ","),
        "parquet": lambda: corpus_files.parquet([{k: v for k, v in row.items() if v is not None} for row in named]),
    }[ending]()
    file = tmp_path / f"a.{ending}"
    file.write_bytes(content)
    columns = "id=_key, text=passage,title=name"
    of_run = sources.read(str(file), columns)
    assert texts(of_run.records()) == list(RECORDS) == texts(built(file, tmp_path, columns=columns)[0])
    untitled = sources.read(str(file), "id=_key,text=passage")
    assert texts(untitled.records()) == [(i, "", x) for i, _, x in RECORDS]
    assert untitled.fingerprint != of_run.fingerprint and columns in of_run.says
    with pytest.raises(ConfigError, match="has the (keys|columns) '_key'.*not _key, body"):
        sources.read(str(file), "id=_key,text=body")


def test_a_stray_quote_that_joins_rows_loses_as_many_as_it_joins(tmp_path):
    rows_ = [f"{i}\tA line.\tT" for i in range(9)]
    rows_[2] = '2\t"A line.\tT'
    rows_[6] = '6\tA "good" line.\tT'
    (tmp_path / "a.tsv").write_text("\n".join(["id\ttext\ttitle", *rows_]))
    records, counts = built(tmp_path / "a.tsv", tmp_path)
    assert [r.id for r in records] == ["0", "1", "7", "8"]
    assert counts == {"records": 9, "records lost": 5, "quotes within a field that are not doubled": 5}
    with pytest.raises(ConfigError, match="a.tsv:4: quotes within a field"):
        list(sources.read(str(tmp_path / "a.tsv")).records())


def test_a_format_that_does_not_fit_is_refused(tmp_path):
    corpus_files.write(tmp_path, "jsonl")
    with pytest.raises(ConfigError, match="dpr lies in table, this is lines: pass another --format"):
        source.find(str(tmp_path / "a.jsonl"), "dpr")
    with pytest.raises(ConfigError, match="has the keys 'id', 'title', 'text', not _id, text"):
        source.find(str(tmp_path / "a.jsonl"), "beir")
    with pytest.raises(ConfigError, match="leave --format and --columns out"):
        source.find("asset:mini", columns="id=id,text=text")
    (tmp_path / "b.jsonl").write_bytes(lines([{**row, "data": [1]} for row in PLAIN]))
    assert texts(sources.read(str(tmp_path / "b.jsonl")).records()) == list(RECORDS)


def test_columns_by_number_and_wrong_ones(tmp_path):
    (tmp_path / "collection.tsv").write_text("0\tThe first.\n1\tThe second.\n")
    records, _ = built(tmp_path / "collection.tsv", tmp_path, columns="id=1,text=2")
    assert texts(records) == [("0", "", "The first."), ("1", "", "The second.")]
    for columns in ("id=a", "text=b,id=", "id=a,text=b,body=c", "id", "id=a,id=b,text=c"):
        with pytest.raises(ConfigError, match="write id=NAME,text=NAME,title=NAME"):
            sources.read(str(tmp_path / "collection.tsv"), columns)


# ---- folders


def put(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def both(spec):
    """What a run and a build say of a source."""
    return sources.read(str(spec)).says, source.find(str(spec)).says


def test_of_beirs_folder_the_corpus_is_taken(tmp_path):
    corpus = lines([{"_id": i, "title": t, "text": x} for i, t, x in RECORDS])
    queries = lines([{"_id": "q1", "text": "Where?", "metadata": {}}])
    qrels = "query-id\tcorpus-id\tscore\nq1\t1\t1\n"
    folder = put(tmp_path, corpus_dot_jsonl=corpus, queries_dot_jsonl=queries, qrels__test_dot_tsv=qrels)
    assert [r.id for r in sources.read(str(folder)).records()] == [i for i, _, _ in RECORDS]
    for says in both(folder):
        assert "is beir (_id, text), JSON lines; left out: 2 files (queries.jsonl, test.tsv)" in says


def test_of_two_of_beirs_folders_none_is_chosen_and_no_query_is_a_text(tmp_path):
    for name in ("a", "b"):
        corpus, queries = lines([{"_id": "1", "text": "x"}]), lines([{"_id": "q", "text": "Where?"}])
        put(tmp_path / name, corpus_dot_jsonl=corpus, queries_dot_jsonl=queries)
    for read in (sources.read, source.find):
        with pytest.raises(ConfigError, match=r"several corpora with their queries: pass one of .*a/corpus.jsonl, "):
            read(str(tmp_path))


def test_a_folder_of_one_format_is_read_in_natural_order(tmp_path):
    shards = {f"part{n}_dot_jsonl": lines([PLAIN[n]]) for n in (1, 2, 10)}
    folder = put(tmp_path, **shards, README_dot_md="about", picture_dot_png=b"\x89PNG", _dot_hidden_dot_jsonl="x")
    records = list(sources.read(str(folder)).records())
    assert [r.id for r in records] == [PLAIN[n]["id"] for n in (1, 2, 10)]
    assert texts(records) == texts(built(folder, tmp_path / "work")[0])
    for says in both(folder):
        assert "in 3 files; left out: 2 files (README.md, picture.png)" in says


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (
            {"a_dot_jsonl": LINES, "b_dot_tsv": "id\ttext\ttitle\n1\tx\ty\n"},
            r"several formats .*jsonl, JSON lines: 1 file \(a",
        ),
        (
            {"a_dot_jsonl": LINES, "b_dot_jsonl": lines([{"_id": "1", "text": "x"}])},
            "beir, JSON lines: 1 file",
        ),
        ({"a_dot_jsonl": LINES, "b_dot_jsonl": lines([{"question": "1"}])}, "b.jsonl: is of no known format"),
        ({"a_dot_json": LINES, "b_dot_json": json.dumps(PLAIN)}, "jsonl, JSON lines: 1 .*jsonl, one JSON text: 1"),
        ({"a_dot_jsonl": LINES, "b_dot_txt": "x"}, "holds .txt or .md files and files of records"),
        (
            {"train_dot_jsonl": LINES, "test_dot_jsonl": LINES},
            r"several splits .*test \(1\).*train \(1\)",
        ),
        ({"README_dot_md": "x", "a_dot_jsonl": lines([{"question": "1"}])}, "a.jsonl: is of no known format"),
        (
            {"en__train-00000-of-00001_dot_jsonl": LINES, "de__train-00000-of-00001_dot_jsonl": LINES},
            r"several splits .*de/train \(1\).*en/train \(1\)",
        ),
    ],
)
def test_nothing_is_chosen_in_silence(files, says, tmp_path):
    folder = put(tmp_path / "folder", **files)
    for read in (sources.read, source.find):
        with pytest.raises(ConfigError, match=says) as error:
            read(str(folder))
        one_line(error)


def test_longer_endings_of_texts(tmp_path):
    folder = put(tmp_path / "notes", a_dot_markdown="# A\n\n*One.*", b_dot_text="*Two.*", C_dot_MD="# C\n\nThree.")
    found = [(title, text) for _, title, text in texts(sources.read(str(folder)).records())]
    assert found == [("C", "Three."), ("A", "One."), ("b", "*Two.*")]


def test_a_folder_of_texts_names_what_it_leaves_out(tmp_path):
    folder = put(tmp_path / "notes", a_dot_txt="One.", package_dot_json='{"name": "x"}', b_dot_png=b"\x89")
    for says in both(folder):
        assert says == "notes is a folder of 1 texts (.txt, .md); left out: 2 files (b.png, package.json)"
    assert source.find(str(folder)).format == "known"


def test_the_files_of_a_data_set_of_the_hub_are_chosen_by_name():
    names = [".gitattributes", "README.md", "en/train-00000-of-00002.parquet", "en/train-00001-of-00002.parquet"]
    names += ["en/validation-00000-of-00001.parquet", "enwiki/train-00000-of-00001.parquet"]
    assert hub.choose("hf:a/b", names, "en/train") == names[2:4]
    assert hub.choose("hf:a/b", names, "enwiki") == names[-1:]
    with pytest.raises(ConfigError, match=r"en/train \(2\), en/validation \(1\)"):
        hub.choose("hf:a/b", names, "en")
    with pytest.raises(ConfigError, match="several splits"):
        hub.choose("hf:a/b", names, "")
    with pytest.raises(ConfigError, match="no file of records there, but in en, enwiki: name one"):
        hub.choose("hf:a/b", names, "de")
    match = hub.SPEC.fullmatch("hf:a/b@main/en/train")
    assert match["repo"] == "a/b" and match["revision"] == "main" and match["within"] == "en/train"


def test_a_data_set_of_the_hub_is_downloaded_at_the_revision_that_is_printed(tmp_path, monkeypatch, capsys):
    import huggingface_hub

    snapshot, asked = tmp_path / "c0ffee", []
    put(snapshot, en__train_dot_jsonl=LINES, en__test_dot_jsonl="not looked at")
    names = ["en/train.jsonl", "en/test.jsonl", "README.md"]

    class Api:
        def dataset_info(self, repo, revision):
            asked.append((repo, revision))
            siblings = [types.SimpleNamespace(rfilename=name) for name in names]
            return types.SimpleNamespace(siblings=siblings, sha="c0ffee")

    def download(**fetch):
        asked.append(fetch)
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    records, _ = built("hf:a/b@main/en/train", tmp_path / "work")
    assert texts(records) == list(RECORDS) and "revision c0ffee (pass hf:a/b@REVISION" in capsys.readouterr().out
    wanted = {"repo_id": "a/b", "repo_type": "dataset", "revision": "c0ffee", "allow_patterns": ["en/train.jsonl"]}
    assert asked == [("a/b", "main"), wanted]
    with pytest.raises(ConfigError, match="several splits"):
        source.find("hf:a/b")
    assert len(asked) == 3  # nothing was downloaded
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    records, _ = built("hf:a/b/en/train", tmp_path / "work")
    assert texts(records) == list(RECORDS)


# ---- anything at all


def check(file, folder):
    """Both doors read a file, or refuse it in one line; what a build does not keep is counted, however it is cut."""
    with contextlib.suppress(ConfigError):
        list(sources.read(str(file)).records())
    found = []
    for part_bytes in (1, 150, 1 << 20):
        try:
            records, counts = built(file, folder, part_bytes)
        except ConfigError as error:
            assert "\n" not in str(error)
            found.append("refused")
        else:
            assert counts["records"] == len(records) + sum(counts[reason] for reason in counts.keys() - NOTES)
            found.append((texts(records), counts))
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(TEXT_FORMATS), st.lists(st.tuples(st.integers(0), st.integers(0, 40), st.binary(max_size=6))))
def test_a_damaged_file_is_never_a_traceback(tmp_path, name, damages):
    _, file, content = corpus_files.files()[name]
    data = bytearray(content)
    for at, length, new in damages:
        at %= len(data) + 1
        data[at : at + length] = new
    (tmp_path / file).write_bytes(data)
    found = check(tmp_path / file, tmp_path)
    assert found[0] == found[1] == found[2]


def test_documents_on_one_line_are_cut_as_they_are_read(tmp_path):
    file = tmp_path / "wiki_00"
    file.write_text("".join(f'<doc id="{i}" url="" title="t">\nt\n\nText {i}.\n</doc>' for i in range(9)))
    assert [r.id for r in sources.read(str(file)).records()] == [str(i) for i in range(9)]
    assert check(file, tmp_path)[0] == check(file, tmp_path)[2]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
KEYS = (
    "id _id docid title text contents section charoffset url maintext wikipedia_title wikipedia_id revid data".split()
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1), min_size=1, max_size=4), st.booleans())
def test_records_of_any_values_are_never_a_traceback(tmp_path, made, as_lines):
    file = tmp_path / ("a.jsonl" if as_lines else "a.json")
    file.write_text("\n".join(map(json.dumps, made)) if as_lines else json.dumps(made))
    check(file, tmp_path)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("a.jsonl", b'{"id": "%d", "title": "t", "text": "x"}\n'),
        ("a.csv", b'%d,"t ""t""\n","x"\n'),
        ("a.csv", b'%d,t,"x"x\n'),
        ("wiki_00", b'<doc id="%d" url="" title="t">\nt\n'),
        ("wiki_01", b'<doc id="%d" url="" title="t">\n&amp;\n</doc>\n">">">'),
        ("a.jsonl", b'{"id": "%d", "contents": "\\n\\n\\n\\n\\n"}\n'),
    ],
)
def test_time_is_linear_in_the_size(name, unit, tmp_path):
    def seconds(times):
        head = b"id,title,text\n" if name.endswith(".csv") else b""
        (tmp_path / name).write_bytes(head + b"".join(unit % i for i in range(times)))
        container = rows.look(tmp_path / name).container
        best = 1e9
        for _ in range(3):
            started = time.process_time()
            for _ in rows.read_file(tmp_path / name, container):
                pass
            best = min(best, time.process_time() - started)
        return best

    assert seconds(4000) < 4 * 2.5 * seconds(1000) + 0.05
