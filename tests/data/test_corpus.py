"""The corpus store: what is read is what the tokenizer and the text say, and bad input leaves nothing behind."""

import errno
import gc
import json
import os
import pathlib
import pickle
import re
import resource

import numpy as np
import pytest
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors

from realm_jax.config import ConfigError
from realm_jax.data import blocks, corpus_writer, segment
from realm_jax.data.corpus import Corpus
from realm_jax.data.corpus_writer import build
from realm_jax.data.manifest import write_manifest
from realm_jax.data.segment import COLUMNS
from realm_jax.records import Record, Span

LIMIT = 40
DESCRIPTION = {"source": "test", "fingerprint": "f", "tagger": "capitals"}
WORDS = [
    "Paris",
    "is",
    "an",
    "old",
    "city",
    "of",
    "über",
    "2",
    "million",
    "people",
    "near",
    "the",
    "river",
    "Seine",
    "and",
    "Lyon",
]


def tokenizer() -> tokenizers.Tokenizer:
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        ".",
        "paris",
        "seine",
        *letters,
        *("##" + c for c in letters),
    ]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    result = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    result.normalizer = normalizers.BertNormalizer(lowercase=True)
    result.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    result.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return result


def tag(sentences: list[str], title: str) -> list[list[Span]]:
    return [[Span(*m.span(), "ENTITY") for m in re.finditer(r"[A-Z]\w+|über", s)] for s in sentences]


def make_records(num: int, *, seed: int = 0, prefix: str = "r") -> list[Record]:
    rng = np.random.default_rng(seed)
    records = []
    for i in range(num):
        sentences = [" ".join(rng.choice(WORDS, rng.integers(1, 9))) + "." for _ in range(rng.integers(1, 8))]
        records.append(Record(f"{prefix}{i}", f"Title {i}", " ".join(s.capitalize() for s in sentences), f"f:{i + 1}"))
    return records


def make(folder, records, **changes) -> Corpus:
    arguments = {"tokenizer": tokenizer(), "tag": tag, "block_len_tokens": LIMIT, "description": DESCRIPTION}
    return build(records, folder, **(arguments | changes))


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Corpus:
    return make(tmp_path_factory.mktemp("store") / "corpus", make_records(30))


def test_embedder_tokens_equal_the_tokenizers_pairs(store):
    oracle = tokenizer()
    oracle.enable_truncation(LIMIT, strategy="only_second")
    oracle.enable_padding(length=LIMIT)
    tokens = store.embedder_tokens(np.arange(store.num_blocks), LIMIT)
    for i in range(store.num_blocks):
        expected = oracle.encode(store.block(i).title, store.block(i).text)
        np.testing.assert_array_equal(tokens.ids[i], expected.ids)
        np.testing.assert_array_equal(tokens.mask[i], expected.attention_mask)
        np.testing.assert_array_equal(tokens.types[i], expected.type_ids)
        assert store.lengths[i] == sum(expected.attention_mask) <= LIMIT
    assert tokens.ids.dtype == tokens.types.dtype == np.int32 and tokens.mask.dtype == bool


@pytest.mark.parametrize("length", [3, 5, 12, LIMIT, LIMIT + 9])
def test_embedder_tokens_of_any_length_and_shape(store, length):
    indices = np.array([[3, -1, 0], [7, 7, store.num_blocks - 1]])
    tokens = store.embedder_tokens(indices, length)
    assert tokens.ids.shape == (2, 3, length)
    np.testing.assert_array_equal(tokens.ids[0, 1][:3], [2, 3, 3])
    np.testing.assert_array_equal(tokens.mask[0, 1], np.arange(length) < 3)
    np.testing.assert_array_equal(tokens.types[0, 1], np.arange(length) == 2)
    for at, index in np.ndenumerate(indices):
        if index >= 0:
            title, body = store.title(index).tolist(), store.body(index).tolist()
            title = title[: length - 3]
            expected = [2, *title, 3, *body[: length - 3 - len(title)], 3]
            assert tokens.ids[at].tolist() == expected + [0] * (length - len(expected))
            assert tokens.mask[at].sum() == len(expected)
    assert store.embedder_tokens(np.zeros((0, 4), int), length).ids.shape == (0, 4, length)


def test_blocks_sentences_and_spans_agree_with_the_text(store):
    records = {record.id: record for record in make_records(30)}
    seen = []
    for i in range(store.num_blocks):
        block, body = store.block(i), store.body(i)
        text = block.text.encode()
        sentences, spans = store.sentences(i), store.spans(i)
        strings = [text[row["byte_start"] : row["byte_limit"]].decode() for row in sentences]
        assert " ".join(strings) == block.text and block.title == records[block.source_id].title
        for row in spans:
            word = text[row["byte_start"] : row["byte_limit"]].decode()
            pieces = body[row["token_start"] : row["token_limit"]].tolist()
            assert pieces == tokenizer().encode(word, add_special_tokens=False).ids
            inside = sentences[row["sentence"]]
            assert inside["byte_start"] <= row["byte_start"] < row["byte_limit"] <= inside["byte_limit"]
            assert row["text_hash"] == blocks.hash64(word.lower())
            assert store.segments[0].span_types[row["type"]] == "ENTITY"
        assert len(spans) == len(re.findall(r"[A-Z]\w+|über", block.text)) or store.lengths[i] == LIMIT
        of_record = store.blocks_of([block.source_id])[block.source_id]
        assert i in of_record and {store.block(j).source_id for j in of_record} == {block.source_id}
        assert " ".join(store.block(j).text for j in of_record) == records[block.source_id].text
        seen.append(block.source_id)
    assert list(dict.fromkeys(seen)) == list(records)  # the order of the source
    hashes = store.block_hashes(np.array([[0, 1], [1, 2]]))
    first = blocks.hash64(f"{store.block(1).title} <sep> {store.block(1).text}")
    assert hashes.dtype == np.uint64 and hashes[0, 1] == hashes[1, 0] == first


def test_heldout_depends_on_the_id_alone(store):
    held = store.heldout(0.3)
    for i in range(store.num_blocks):
        assert held[i] == (blocks.hash64(store.block(i).source_id) / 2**64 < 0.3)
    assert 0 < held.mean() < 0.7 and not store.heldout(0.0).any()


def test_counts_and_description_are_in_the_manifest(store):
    (entry,) = store.manifest["segments"]
    assert entry["num_sources"] == 30 and entry["num_blocks"] == store.num_blocks
    assert set(entry["counts"]) == set(blocks.DROPS)
    assert store.manifest["description"] == DESCRIPTION


def test_build_does_not_depend_on_the_batch_or_the_tokenizers_settings(store, tmp_path, monkeypatch):
    truncating = tokenizer()
    truncating.enable_truncation(4)
    truncating.enable_padding(length=4)
    monkeypatch.setattr(corpus_writer, "BATCH_RECORDS", 7)
    calls = []
    same = make(
        tmp_path / "c", make_records(30), tokenizer=truncating, total=30, progress=lambda *done: calls.append(done)
    )
    assert same.hash == store.hash and calls == [(7, 30), (14, 30), (21, 30), (28, 30), (30, 30)]
    assert truncating.truncation is not None  # the caller's tokenizer is left alone
    assert make(tmp_path / "d", make_records(30, seed=1)).hash != store.hash


def test_append_and_delete_keep_ordinals(store, tmp_path):
    first = make(tmp_path / "c", make_records(30))
    both = corpus_writer.append(make_records(9, seed=5, prefix="s"), first.folder, tokenizer=tokenizer(), tag=tag)
    alone = make(tmp_path / "alone", make_records(9, seed=5, prefix="s"))
    assert both.segment_hashes == [first.segment_hashes[0], alone.segment_hashes[0]]
    assert both.num_blocks == first.num_blocks + alone.num_blocks and both.hash != first.hash
    indices = np.array([both.num_blocks - 1, 2, -1, first.num_blocks, 5])
    tokens = both.embedder_tokens(indices, LIMIT)
    np.testing.assert_array_equal(tokens.ids[[1, 4]], first.embedder_tokens(indices[[1, 4]], LIMIT).ids)
    np.testing.assert_array_equal(
        tokens.ids[[0, 3]], alone.embedder_tokens(np.array([alone.num_blocks - 1, 0]), LIMIT).ids
    )
    np.testing.assert_array_equal(both.lengths, np.concatenate([first.lengths, alone.lengths]))
    assert both.heldout(0.5).shape == (both.num_blocks,)
    assert both.block(first.num_blocks).source_id == "s0" and both.blocks_of(["s0"])["s0"].start == first.num_blocks
    deleted = corpus_writer.delete([1, first.num_blocks], first.folder)
    live = np.ones(deleted.num_blocks, bool)
    live[[1, first.num_blocks]] = False
    np.testing.assert_array_equal(deleted.is_live(np.arange(deleted.num_blocks)), live)
    assert deleted.segment_hashes == both.segment_hashes and deleted.hash != both.hash
    with pytest.raises(ConfigError, match="f:1: id 's0' is in the corpus already: delete that record first"):
        corpus_writer.append(make_records(5, prefix="s"), first.folder, tokenizer=tokenizer(), tag=tag)
    assert Corpus.open(first.folder).hash == deleted.hash


def test_a_deleted_record_gives_its_id_to_another_in_one_change(store, tmp_path):
    first = make(tmp_path / "c", make_records(30))
    arguments = {"tokenizer": tokenizer(), "tag": tag}
    found = first.blocks_of(["r3", "r7", "nobody"])
    assert {i: {first.block(b).source_id for b in blocks} for i, blocks in found.items()} == {
        "r3": {"r3"},
        "r7": {"r7"},
    }
    assert {i: len(blocks) for i, blocks in found.items()} == {
        i: sum(first.block(b).source_id == i for b in range(first.num_blocks)) for i in found
    }
    again = [Record("r7", "Seven", "Lyon is another city.", "g:1")]
    with pytest.raises(ConfigError, match="g:1: id 'r7' is in the corpus already"):
        corpus_writer.append(again, first.folder, deleted=found["r3"], **arguments)
    assert Corpus.open(first.folder).manifest == first.manifest  # neither half was done
    both = corpus_writer.append(again, first.folder, deleted=found["r7"], change="seven", **arguments)
    assert both.latest_change == "seven" and both.segment_hashes[:1] == first.segment_hashes
    assert both.blocks_of(["r7"]) == {"r7": range(first.num_blocks, first.num_blocks + 1)}
    assert np.flatnonzero(~both.live).tolist() == both.tombstones.tolist() == list(found["r7"])
    with pytest.raises(ConfigError, match="id 'r7' is in the corpus already"):
        corpus_writer.append(again, first.folder, **arguments)
    half = corpus_writer.delete(list(found["r3"])[:1], first.folder, change="half of r3")
    assert half.latest_change == "half of r3" and half.tombstones.tolist() == sorted([*found["r7"], found["r3"][0]])
    assert ("r3" in half.blocks_of(["r3"])) == (len(found["r3"]) > 1)


def test_many_segments_hold_no_file_open_and_go_with_their_last_array(store, tmp_path):
    segments, entry = 300, store.manifest["segments"][0]
    for i in range(segments):
        (tmp_path / f"segment-{i:05}").mkdir()
        for column in COLUMNS:
            os.link(store.folder / entry["name"] / f"{column}.bin", tmp_path / f"segment-{i:05}" / f"{column}.bin")
    entries = [entry | {"name": f"segment-{i:05}"} for i in range(segments)]
    write_manifest(tmp_path, store.manifest | {"segments": entries})

    def mapped():
        return pathlib.Path("/proc/self/maps").read_text().count(f"{tmp_path}/segment-")

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(name) for name in os.listdir("/proc/self/fd")) + 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(used + 9, soft), hard))
    try:
        corpus = Corpus.open(tmp_path)
        copy = pickle.loads(pickle.dumps(corpus))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(copy.segments) == segments and mapped() > 2 * 7 * segments
    assert copy.block(copy.num_blocks - 1).text == store.block(store.num_blocks - 1).text
    with pytest.raises(ValueError, match="read-only"):
        corpus.segments[0].tokens[0] = 1
    last = corpus.segments[0].tokens[3:5]
    expected = store.segments[0].tokens[3:5].tolist()
    del corpus, copy
    gc.collect()
    assert mapped() == 1 and last.tolist() == expected
    del last
    assert mapped() == 0


def test_a_pickled_corpus_maps_its_files_again(store):
    data = pickle.dumps(store)
    assert len(data) < 1000 and pickle.loads(data).block(3) == store.block(3)


@pytest.mark.parametrize("index", [-1, 10**6])
def test_a_block_that_is_not_there_is_an_index_error(store, index):
    with pytest.raises(IndexError):
        store.block(index)


def failing_records(error: BaseException):
    yield from make_records(3)
    raise error


@pytest.mark.parametrize(
    "records, message",
    [
        ([], "test: holds no text: pass another --corpus"),
        ([Record("a", "t", " \n", "f:1")], "test: holds no text"),
        ([*make_records(2), Record("r1", "t", "Text.", "f:3")], "f:3: id 'r1' is there twice: make ids unique"),
        ([Record("a", "x" * 30, "Text.", "f:1")], "f:1: the title of record 'a' has 30 wordpieces"),
        (failing_records(OSError(errno.ENOSPC, "full")), "no disk space left: free some or pass another --workdir"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, records, message):
    monkeypatch.setattr(corpus_writer, "BATCH_RECORDS", 1)
    with pytest.raises(ConfigError, match=message) as error:
        make(tmp_path / "c", records)
    assert "\n" not in str(error.value) and list(tmp_path.iterdir()) == []


def test_a_full_disk_and_an_interrupt_leave_nothing(tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "c", failing_records(KeyboardInterrupt()))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "c.partial").mkdir()  # of a build that was killed
    (tmp_path / "c.partial" / "junk").write_text("x")
    assert sorted(p.name for p in make(tmp_path / "c", make_records(3)).folder.iterdir()) == [
        "manifest.json",
        "segment-00000",
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_a_folder_in_use_is_kept(tmp_path, store):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(ConfigError, match="is not an empty folder"):
        make(tmp_path, make_records(3))
    assert (tmp_path / "mine.txt").read_text() == "x"


@pytest.mark.parametrize("name", segment.COLUMNS)
def test_open_refuses_a_damaged_column(tmp_path, name):
    folder = make(tmp_path / "c", make_records(3)).folder
    path = folder / "segment-00000" / f"{name}.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ConfigError, match=f"{name}.bin: is not the file of .* delete"):
        Corpus.open(folder)


def test_open_refuses_what_is_no_corpus(tmp_path):
    with pytest.raises(ConfigError, match="manifest.json: no corpus here"):
        Corpus.open(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ConfigError, match="is not JSON"):
        Corpus.open(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"format_version": 99}))
    with pytest.raises(ConfigError, match="another format"):
        Corpus.open(tmp_path)


def test_check_against_names_what_differs(store):
    store.check_against(DESCRIPTION, tokenizer=tokenizer(), block_len_tokens=LIMIT)
    other = tokenizer()
    other.add_tokens(["new"])
    for changes, key in [
        ({"description": DESCRIPTION | {"fingerprint": "g"}}, "when it held something else: put that back"),
        ({"description": DESCRIPTION | {"tagger": "rules"}}, "tagger 'capitals', now it is 'rules'"),
        ({"tokenizer": other}, "tokenizer_sha256"),
        ({"block_len_tokens": 41}, "block_len_tokens 40, now it is 41"),
    ]:
        arguments = {"description": DESCRIPTION, "tokenizer": tokenizer(), "block_len_tokens": LIMIT} | changes
        with pytest.raises(ConfigError, match=f"{key}.*pass another --workdir or delete this folder"):
            store.check_against(arguments.pop("description"), **arguments)


def test_unfit_tokenizers_are_refused(tmp_path):
    large = tokenizer()
    large.add_tokens([f"token{i}" for i in range(1 << 16)])
    with pytest.raises(ConfigError, match="the corpus stores uint16"):
        make(tmp_path / "c", make_records(1), tokenizer=large)
    plain = tokenizers.Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"))
    with pytest.raises(ConfigError, match=r"lacks \[CLS\]"):
        make(tmp_path / "c", make_records(1), tokenizer=plain)
