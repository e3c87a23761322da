"""Sources: records, fingerprints and one-line errors that name file, line and fix."""

import gzip
import hashlib
import json
import os

import pytest
from etils import epath
from hypothesis import given
from hypothesis import strategies as st

from realm_jax.config import ConfigError
from realm_jax.data import assets
from realm_jax.data.sources import sources
from realm_jax.data.sources.squad_json import squad_paragraphs
from realm_jax.records import Record

LINES = [{"id": "a", "title": "A", "text": "One. Zwei é."}, {"id": 7, "title": "", "text": "Two."}]


def write_lines(path, lines):
    data = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["c.jsonl", "c.jsonl.gz"])
def test_json_lines(tmp_path, name):
    path = write_lines(tmp_path / name, [LINES[0], "", LINES[1]])
    source = sources.read(str(path))
    expected = [Record("a", "A", "One. Zwei é.", f"{path}:1"), Record("7", "", "Two.", f"{path}:3")]
    assert list(source.records()) == list(source.records()) == expected
    assert source.num_records == 2 and source.description["source"] == str(path)
    data = "".join(json.dumps(line) + "\n" for line in (LINES[0], LINES[1])).replace("\n", "\n\n", 1).encode()
    assert source.fingerprint == hashlib.sha256(data).hexdigest()  # of the content, packed or not


@pytest.mark.parametrize(
    "line, message",
    [
        ("{not json", r"c.jsonl:2: not JSON: correct or delete it"),
        ("[1]", r"c.jsonl:2: not a JSON object"),
        ("[" * 100_000, r"c.jsonl:2: not JSON"),
        (
            {"id": "b", "title": "B"},
            r"c.jsonl:2: without text: correct or delete it; each record needs id",
        ),
        ({"id": "b", "text": "B"}, r"c.jsonl:2: without title"),
        ({"id": "b", "title": None, "text": "B"}, r"c.jsonl:2: without title"),
        ({"id": "", "title": "B", "text": "B"}, r"c.jsonl:2: without id"),
        ({"id": True, "title": "B", "text": "B"}, r"c.jsonl:2: without id"),
        ({"id": "b", "title": "B", "text": "\ud800"}, r"c.jsonl:2: not text"),
        ({"id": "\ud800", "title": "B", "text": "B"}, r"c.jsonl:2: not text"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    path = write_lines(tmp_path / "c.jsonl", [LINES[0], line])
    with pytest.raises(ConfigError, match=message) as error:
        list(sources.read(str(path)).records())
    assert "\n" not in str(error.value)


def test_bytes_that_are_not_utf8_or_not_gzip_are_named(tmp_path):
    (tmp_path / "c.jsonl").write_bytes(b'{"id": "a", "title": "\xff", "text": "x"}\n')
    with pytest.raises(ConfigError, match="c.jsonl: none of its first lines is a JSON object"):
        list(sources.read(str(tmp_path / "c.jsonl")).records())
    (tmp_path / "d.jsonl.gz").write_bytes(b"\x1f\x8bplain")
    with pytest.raises(ConfigError, match="d.jsonl.gz: cannot be read"):
        sources.read(str(tmp_path / "d.jsonl.gz"))
    whole = write_lines(tmp_path / "e.jsonl.gz", LINES)
    whole.write_bytes(whole.read_bytes()[:-12])
    with pytest.raises(ConfigError, match="e.jsonl.gz: cannot be read"):
        sources.read(str(whole))


def test_folder_in_a_fixed_order(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.md").write_text("hidden")
    (tmp_path / "b" / "two.md").write_text("intro\n\n# A *fine* title\n\nBody with a [link](http://x.y).\n")
    (tmp_path / "a.txt").write_bytes("\ufeffPlain # text\nstays.".encode())
    (tmp_path / "image.png").write_bytes(b"\x89")
    source = sources.read(str(tmp_path))
    records = list(source.records())
    assert [(r.id, r.title, r.text) for r in records] == [
        ("a.txt", "a", "Plain # text\nstays."),
        ("b/two.md", "A fine title", "intro\nBody with a link."),
    ]
    assert source.num_records == 2 and records[1].where.endswith("two.md")
    fingerprint = source.fingerprint
    assert sources.read(str(tmp_path)).fingerprint == fingerprint
    (tmp_path / "a.txt").write_text("Plain # text.")
    assert sources.read(str(tmp_path)).fingerprint != fingerprint


def test_folder_errors(tmp_path):
    with pytest.raises(ConfigError, match="has no .txt or .md file"):
        sources.read(str(tmp_path))
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ConfigError, match="a.txt: is not UTF-8"):
        list(sources.read(str(tmp_path)).records())


def test_links_are_followed_and_each_folder_is_read_once(tmp_path, capsys):
    texts, more = tmp_path / "texts", tmp_path / "more"
    for folder in (texts / "inner", more / "deep"):
        folder.mkdir(parents=True)
    for file in (texts / "a.txt", texts / "inner" / "b.txt", more / "c.txt", more / "deep" / "d.txt"):
        file.write_text(f"Text of {file.name}.")
    links = {
        "a_more": "../more",
        "again": "../more",
        "0_inner": "inner",
        "e.txt": "a.txt",
        "gone.txt": "no.txt",
        "x": "x",
    }
    for name, target in links.items():
        (texts / name).symlink_to(target)
    (more / "deep" / "up").symlink_to("../../texts")  # in a circle
    ids = [record.id for record in sources.read(str(texts)).records()]
    assert ids == ["a.txt", "a_more/c.txt", "a_more/deep/d.txt", "e.txt", "inner/b.txt"]
    (line,) = capsys.readouterr().out.splitlines()
    assert line == f"{texts}: left out, since nothing is where the link leads: {texts}/gone.txt, {texts}/x"


def test_names_of_any_bytes(tmp_path):
    for name in (b"caf\xe9.txt", "Łódź #1%20 'q\".txt".encode(), b"two\nlines.md"):
        (tmp_path / os.fsdecode(name)).write_text("Some text.")
    source = sources.read(str(tmp_path))
    assert {record.id for record in source.records()} == {"caf\\xe9.txt", "Łódź #1%20 'q\".txt", "two\nlines.md"}
    for record in source.records():
        assert (record.id + record.title + record.where).encode()


@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_cannot_be_read_is_named(tmp_path, monkeypatch, what):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a.txt").write_text("x")

    def refuse(path, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    name = "inner/a.txt" if what == "file" else "inner"
    if what == "file":
        monkeypatch.setattr(type(tmp_path), "read_bytes", refuse)
    else:
        kind = type(epath.Path(tmp_path))
        listed = kind.iterdir
        monkeypatch.setattr(kind, "iterdir", lambda path: refuse(path) if path.name == "inner" else listed(path))
    with pytest.raises(ConfigError, match=f"{name}: cannot be read .Permission denied.: mend"):
        sources.read(str(tmp_path))


@pytest.mark.parametrize("spec", ["nothing/here", "nothing.jsonl", "asset:other", "tfds:other"])
def test_an_unknown_source_names_the_known_ones(spec):
    with pytest.raises(ConfigError, match="pass --corpus=FILE.jsonl .*, a folder of .* or tfds:squad"):
        sources.read(spec)


def test_wrapped_lines_are_joined():
    long = "This line of prose is longer than forty characters and goes"
    text = f"\n{long}\non here. \n\nshort item\nother item\n{long}.\nNext\n{long}\n\n{long}\n"
    assert sources.unwrap(text).splitlines() == [
        f"{long} on here.",
        "short item",
        "other item",
        f"{long}.",
        "Next",
        long,
        long,
    ]


@given(
    st.lists(st.sampled_from(["a", "word " * 9, "end. ", "é日", "\n", "\n\n", "\r\n", " ", "\x0c", "\u2028"])).map(
        "".join
    )
)
def test_joining_lines_loses_nothing(text):
    assert sources.unwrap(text).split() == text.split()


def test_joining_lines_takes_linear_time(linear_time):
    linear_time(sources.unwrap, "This line of prose is longer than forty characters and goes\n", 500_000)


def test_squad_paragraphs_are_distinct_and_in_order_of_article():
    examples = [
        {"title": b"Zeta_Ray", "context": b"z1"},
        {"title": b"Alpha", "context": "a2 é".encode()},
        {"title": b"Zeta_Ray", "context": b"z1"},
        {"title": b"Alpha", "context": b"a1"},
        {"title": b"Zeta_Ray", "context": b"z0"},
    ]
    found = [(r.id, r.title, r.text) for r in squad_paragraphs(examples)]
    assert found == [
        ("squad/Alpha/0", "Alpha", "a2 é"),
        ("squad/Alpha/1", "Alpha", "a1"),
        ("squad/Zeta Ray/0", "Zeta Ray", "z1"),
        ("squad/Zeta Ray/1", "Zeta Ray", "z0"),
    ]


def test_wiki_leads(tmp_path, monkeypatch):
    path = tmp_path / "summaries.json"
    path.write_text(json.dumps({"B": {"title": "B", "extract": "b."}, "A": {"title": "A", "extract": "a."}}))
    monkeypatch.setattr(assets, "fetch", lambda spec: {"asset:wiki-leads": path}[spec])
    source = sources.read("asset:wiki-leads")
    assert [(r.id, r.title, r.text) for r in source.records()] == [
        ("wiki-leads/B", "B", "b."),
        ("wiki-leads/A", "A", "a."),
    ]
    assert source.num_records == 2 and source.description["licence"] == "CC BY-SA 4.0"


def test_mini_corpus_reads_without_a_download(monkeypatch):
    source = sources.read("asset:mini")
    records = list(source.records())
    assert len(records) == source.num_records == len({r.id for r in records}) > 100
    assert all(r.text and r.title for r in records)
