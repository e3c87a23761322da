"""Every format of a source gives the records that were put into it, however it is cut."""

import bz2
import gzip
import json
import struct
from collections import Counter

import pytest
from etils import epath

from realm_jax.config import ConfigError
from realm_jax.data.build import source, source_parts
from realm_jax.data.build.annotated import examples_of
from realm_jax.data.corpus import Corpus
from tests.data.build.conftest import articles, build_entry

RECORDS = [
    {
        "id": str(i),
        "title": f"Place {i}",
        "text": f"Place {i} lies in Élan. It was built in {1800 + i}.\nEnd é{'!' * (i % 3)}",
    }
    for i in range(60)
]
BAD = [b"not json", b'["a list"]', b'{"id": "x", "title": "t"}', b'{"title": "t", "text": "no id"}']
BAD += [b'{"id": "y", "title": 5, "text": "z"}', b'{"id": "s", "title": "t", "text": "half \\ud800 pair"}']
BAD += [b'{"id": "n", "title": "t", "text": "a \\u0000 b"}']


def lines(records=RECORDS) -> bytes:
    return b"".join(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records)


def read(found: source.Source, folder, part_bytes: int):
    """(records, counts, parts) of a source in parts of some size."""
    form, counts, records = found.open(), Counter(), []
    planned = form.plan(epath.Path(folder), part_bytes)
    for part in planned:
        records += list(form.records(part, counts))
    return records, counts, planned


def texts(records):
    return [(record.id, record.title, record.text) for record in records]


EXPECTED = [(r["id"], r["title"], r["text"]) for r in RECORDS]


@pytest.mark.parametrize("part_bytes", [1, 700, 1 << 20])
@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".jsonl.bz2"])
def test_json_lines(ending, part_bytes, tmp_path):
    file = tmp_path / f"a{ending}"
    pack = {".jsonl": bytes, ".jsonl.gz": gzip.compress, ".jsonl.bz2": bz2.compress}[ending]
    file.write_bytes(pack(lines()))
    records, counts, planned = read(source.find(str(file)), tmp_path / "spill", part_bytes)
    assert texts(records) == EXPECTED and counts == {"records": 60}
    assert len(planned) == {1: 60, 700: len(planned), 1 << 20: 1}[part_bytes]
    assert sum(part.input_bytes for part in planned) == file.stat().st_size


def test_a_file_without_a_last_line_break_and_with_empty_lines(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"\n\n" + lines().replace(b"\n", b"\n\n").rstrip())
    records, _, _ = read(source.find(str(tmp_path / "a.jsonl")), tmp_path, 500)
    assert texts(records) == EXPECTED


def test_wikiextractor_folders(tmp_path):
    for i in range(0, 60, 7):
        file = tmp_path / "AA" / f"wiki_{i // 7:02}"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(lines([{**r, "url": "u", "revid": "1"} for r in RECORDS[i : i + 7]]))
    found = source.find(str(tmp_path))
    assert found.format == "wikiextractor"
    records, _, planned = read(found, tmp_path / "spill", 2000)
    assert texts(records) == EXPECTED and 1 < len(planned) < 9


def test_cc_news(tmp_path):
    (tmp_path / "news.jsonl").write_bytes(
        lines([{"url": f"http://x/{r['id']}", "title": r["title"], "maintext": r["text"]} for r in RECORDS])
    )
    records, _, _ = read(source.find(str(tmp_path / "news.jsonl"), "ccnews"), tmp_path, 4000)
    assert texts(records) == [(f"http://x/{i}", title, text) for i, title, text in EXPECTED]


@pytest.mark.parametrize("part_bytes", [1, 1 << 20])
def test_parquet(part_bytes, tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    for name, chosen in (("train-00000.parquet", RECORDS[:40]), ("train-00001.parquet", RECORDS[40:])):
        pq.write_table(pa.Table.from_pylist([{**r, "url": "u"} for r in chosen]), tmp_path / name, row_group_size=9)
    records, counts, planned = read(source.find(str(tmp_path)), tmp_path, part_bytes)
    assert texts(records) == EXPECTED and counts["records"] == 60
    assert len(planned) == {1: 8, 1 << 20: 1}[part_bytes]
    pq.write_table(pa.table({"id": ["1"], "text": ["a"]}), tmp_path / "train-00000.parquet")
    with pytest.raises(ConfigError, match=r"several formats or columns: .* has the columns 'id', 'text'"):
        read(source.find(str(tmp_path)), tmp_path, 1)


def test_known_sources_are_read_too(tmp_path):
    found = source.find("asset:mini")
    records, _, planned = read(found, tmp_path, 1)
    from realm_jax.data.sources import sources

    assert texts(records) == texts(sources.read("asset:mini").records()) and len(planned) == 1


def test_bad_lines_are_counted(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([*BAD, lines()]))
    records, counts, _ = read(source.find(str(tmp_path / "a.jsonl")), tmp_path, 900)
    assert texts(records) == EXPECTED
    assert counts == {
        "records": 67,
        "records lost": 7,
        "not JSON": 1,
        "not a JSON object": 1,
        "without text": 1,
        "without id": 1,
        "without title": 1,
        "not text": 2,
    }


def test_an_id_that_is_there_twice_counts_once(build, tmp_path):
    twice = [*RECORDS, {"id": "3", "title": "Other", "text": "Another text."}]
    (tmp_path / "a.jsonl").write_bytes(lines(twice))
    build(tmp_path / "a.jsonl", tmp_path / "out")
    corpus = Corpus.open(tmp_path / "out")
    assert build_entry(tmp_path / "out")["counts"]["id there twice"] == 1
    assert [corpus.block(i).title for i in corpus.tombstones] == ["Other"]
    found = corpus.blocks_of(["3"])
    assert list(found) == ["3"] and {corpus.block(i).title for i in found["3"]} == {"Place 3"}


# ---- REALM's annotated corpus, in the shapes in which it is published.

TEXT = "Élan was founded in 1850. Anna Bell ran it. It closed."
SENTENCES = [(0, 26), (27, 44), (45, 55)]  # bytes: É takes two
SPANS = [(0, 5, "ENTITY"), (21, 25, "DATE"), (27, 36, "ENTITY"), (40, 48, "ENTITY")]  # the last one crosses


def example(values: dict) -> bytes:
    """A serialised tf.train.Example."""
    from tensorflow_datasets.proto import tf_example_pb2

    made = tf_example_pb2.Example()
    for name, value in values.items():
        feature = made.features.feature[name]
        if value and isinstance(value[0], int):
            feature.int64_list.value.extend(value)
        else:
            feature.bytes_list.value.extend([v if isinstance(v, bytes) else v.encode() for v in value])
    return made.SerializeToString()


def tfrecords(examples: list[bytes]) -> bytes:
    return b"".join(struct.pack("<QI", len(data), 0) + data + bytes(4) for data in examples)


def annotated(names: dict[str, str], **more) -> bytes:
    return example(
        {
            "title": ["Élan"],
            "text": [TEXT],
            names["span_start"]: [a for a, _, _ in SPANS],
            names["span_limit"]: [b for _, b, _ in SPANS],
            names["span_type"]: [t for _, _, t in SPANS],
            names["sentence_start"]: [a for a, _ in SENTENCES],
            names["sentence_limit"]: [b for _, b in SENTENCES],
            **more,
        }
    )


PUBLISHED = {
    k: f"{k.split('_')[0]}_byte_{k.split('_')[1]}"
    for k in ("span_start", "span_limit", "sentence_start", "sentence_limit")
}
PUBLISHED["span_type"] = "span_type"
PREPARED = {k: f"{k.split('_')[0]}s/{k.split('_')[1]}" for k in PUBLISHED}


@pytest.mark.parametrize("shape", ["published", "prepared", "array_record"])
def test_annotated_documents_keep_their_sentences_and_spans(shape, build, tmp_path):
    folder = tmp_path / "salient_span_wikipedia"
    folder.mkdir()
    if shape == "published":
        data = tfrecords([annotated(PUBLISHED, uid=["u7"])])
        (folder / "wikipedia_annotated_with_dates_public-00000-of-05000.tfrecord.gz").write_bytes(gzip.compress(data))
    elif shape == "prepared":
        (folder / "salient_span_wikipedia-train.tfrecord-00000-of-00001").write_bytes(tfrecords([annotated(PREPARED)]))
    else:
        from array_record.python import array_record_module

        writer = array_record_module.ArrayRecordWriter(
            str(folder / "salient_span_wikipedia-train.array_record-00000-of-00001"), "group_size:1"
        )
        writer.write(annotated(PREPARED))
        writer.close()
    found = source.find(str(folder))
    assert found.format == "tfds" and source.find(f"tfds:{folder.name}", "auto", str(tmp_path)).files == found.files
    build(folder, tmp_path / "out", "--block_len_tokens=48")
    corpus = Corpus.open(tmp_path / "out")
    assert corpus.num_blocks == 1 and build_entry(tmp_path / "out")["counts"]["spans across sentences"] == 1
    body = corpus.block(0).text.encode()
    assert body.decode() == TEXT
    assert [(int(s["byte_start"]), int(s["byte_limit"])) for s in corpus.sentences(0)] == SENTENCES
    kinds = corpus.segments[0].span_types
    found = [(int(s["byte_start"]), int(s["byte_limit"]), kinds[s["type"]]) for s in corpus.spans(0)]
    assert found == SPANS[:3]
    assert articles(tmp_path / "out")[0][0] == ("u7" if shape == "published" else f"{next(folder.iterdir()).name}:0")


def test_single_annotated_sentences(tmp_path):
    spans = {"spans/start": [0, 21], "spans/limit": [5, 25], "spans/type": ["ENTITY", "DATE"]}
    data = tfrecords([example({"title": ["Élan"], "text": ["Élan was founded in 1850."], **spans})])
    (tmp_path / "s.tfrecord-00000-of-00001").write_bytes(data)
    ((record,), _, _) = read(source.find(str(tmp_path)), tmp_path, 1)
    assert record.sentences == ((0, 25),)
    assert [record.text[s.start : s.limit] for s in record.spans] == ["Élan", "1850"]


@pytest.mark.parametrize("damage", [{"span_byte_start": [1, 21, 27, 40]}, {"sentence_byte_start": [0, 20, 45]}])
def test_offsets_that_make_no_sense_are_counted(damage, tmp_path):
    (tmp_path / "a.tfrecord").write_bytes(tfrecords([annotated(PUBLISHED, **damage), annotated(PUBLISHED)]))
    records, counts, _ = read(source.find(str(tmp_path / "a.tfrecord")), tmp_path, 1)
    assert len(records) == 1 and sum(n for reason, n in counts.items() if reason.startswith("offsets")) == 1


@pytest.mark.parametrize("cut", [3, 30, 200])
def test_a_truncated_record_file_is_refused(cut, tmp_path):
    file = epath.Path(tmp_path / "a.tfrecord")
    file.write_bytes(tfrecords([annotated(PUBLISHED)] * 2)[:-cut])
    with pytest.raises(ConfigError, match="truncated or damaged"):
        list(examples_of(file))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("nowhere.jsonl", "no such file or folder"),
        ("tfds:wikipedia/20230601.en", "no prepared copy under"),
        ("hf:wikimedia", "hf:OWNER/NAME/CONFIG"),
    ],
)
def test_a_source_that_is_not_there_is_one_clear_error(spec, says, tmp_path):
    with pytest.raises(ConfigError, match=says):
        source.find(spec, "auto", str(tmp_path))


def test_spilled_pieces_are_the_file_again(tmp_path):
    data = b"".join(b"%d%s|" % (i, b"x" * (i % 17)) for i in range(500))
    (tmp_path / "a.gz").write_bytes(gzip.compress(data))
    (tmp_path / "a.bin").write_bytes(data)
    packed = source_parts.spill(epath.Path(tmp_path / "a.gz"), epath.Path(tmp_path / "s"), 300, delimiter=b"|")
    plain = source_parts.by_bytes(epath.Path(tmp_path / "a.bin"), 300, b"|")
    for planned in (packed, plain):
        pieces = [source_parts.read_piece(*part.pieces[0]) for part in planned]
        assert b"".join(pieces) == data and all(piece.endswith(b"|") for piece in pieces)
        assert len(pieces) > 10 and min(map(len, pieces[:-1])) >= 300
