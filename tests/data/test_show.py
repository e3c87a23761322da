"""What is shown of a corpus, against plain Python over its blocks; nothing of its texts is obeyed."""

import html.parser
import shutil
from collections import Counter

import numpy as np
import pytest
import tokenizers
from rich.console import Console
from tokenizers import models, normalizers, pre_tokenizers, processors

from realm_jax.commands import show
from realm_jax.config import ConfigError
from realm_jax.data import blocks, corpus_writer
from realm_jax.data.corpus import Corpus
from realm_jax.data.manifest import read_manifest, write_manifest
from realm_jax.data.show import census, show_block, show_corpus, show_page
from realm_jax.records import Record, Span

EVIL = "<script>alert('x')</script>"
WORDS = ["Paris", "paris", "Lyon", "river", "old", "city", "1890", "2005", "the", EVIL, "\x1b[31mred"]
TYPES = {"Paris": "PLACE", "paris": "PLACE", "Lyon": "PLACE", "1890": "DATE", "2005": "DATE", EVIL: "EVIL<b>"}


def tokenizer() -> tokenizers.Tokenizer:
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "paris",
        "lyon",
        *"abcdefghijklmnopqrstuvwxyz0123456789<>'.()/[",
    ]
    pieces += [f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz0123456789"]
    result = tokenizers.Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    result.normalizer = normalizers.BertNormalizer(lowercase=True)
    result.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    result.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return result


def tag(sentences: list[str], title: str) -> list[list[Span]]:
    """Every known word is a span, and `Lyon` is a WORD in articles of odd number."""
    found = []
    for sentence in sentences:
        spans, at = [], 0
        for word in sentence[:-1].split(" "):
            if word in TYPES:
                kind = "WORD" if word == "Lyon" and title[-1] in "13579" else TYPES[word]
                spans.append(Span(at, at + len(word), kind))
            at += len(word) + 1
        found.append(spans)
    return found


def records(num: int, prefix: str, seed: int) -> list[Record]:
    rng = np.random.default_rng(seed)
    made = []
    for i in range(num):
        sentences = [" ".join(["So", *rng.choice(WORDS, rng.integers(1, 7))]) + "." for _ in range(rng.integers(1, 9))]
        made.append(Record(f"{prefix}{i}", f"Title {EVIL} {i}", "\n".join(sentences)))
    return made


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Corpus:
    """Three segments, whose span types come in different orders, and two tombstones."""
    folder = tmp_path_factory.mktemp("show") / "corpus"
    arguments = {"tokenizer": tokenizer(), "tag": tag}
    description = {"source": "test & co", "fingerprint": "f", "tagger": "words"}
    corpus_writer.create(folder, tokenizer=tokenizer(), block_len_tokens=90, description=description)
    for number, size in enumerate((20, 1, 15)):
        corpus_writer.append(records(size, f"r{number}-", number), folder, **arguments)
    manifest = read_manifest(folder)
    manifest["build"] = {"counts": {"pages": 40, "redirects": 12, "other <namespace>": 3}, "seconds": 65.0}
    write_manifest(folder, manifest)
    found = corpus_writer.delete([1, 5], folder)
    assert len({tuple(segment.span_types) for segment in found.segments}) > 1
    return found


def spans_of(store: Corpus) -> list[tuple[str, str]]:
    """(text, type) of every span, read block by block."""
    found = []
    for segment in store.segments:
        for index in range(segment.first_block, segment.first_block + len(segment.blocks)):
            text = store.block(index).text.encode()
            for span in store.spans(index):
                found.append((text[span["byte_start"] : span["byte_limit"]].decode(), segment.span_types[span["type"]]))
    return found


def as_counter(histogram: np.ndarray) -> Counter:
    return Counter({length: number for length, number in enumerate(histogram.tolist()) if number})


@pytest.mark.parametrize("part_blocks", [1, 7, 1 << 18])
def test_census_equals_counting_block_by_block(store, monkeypatch, part_blocks):
    monkeypatch.setattr(census, "PART_BLOCKS", part_blocks)
    counted = census.take(store)
    every = range(store.num_blocks)
    tokens = store.embedder_tokens(np.arange(store.num_blocks), 500)
    assert as_counter(counted.wordpieces_of_block) == Counter(tokens.mask.sum(-1).tolist())
    assert as_counter(counted.sentences_of_block) == Counter(len(store.sentences(i)) for i in every)
    articles = Counter(store.block(i).source_id for i in every)
    assert as_counter(counted.blocks_of_article) == Counter(articles.values()) and max(articles.values()) > 1
    in_sentence = Counter()
    for i in every:
        of = Counter(store.spans(i)["sentence"].tolist())
        in_sentence.update(of[sentence] for sentence in range(len(store.sentences(i))))
    assert as_counter(counted.spans_of_sentence) == in_sentence and in_sentence[0]
    spans = spans_of(store)
    assert counted.spans_by_type == Counter(kind for _, kind in spans)
    assert (counted.articles, counted.blocks, counted.deleted_blocks) == (len(articles), store.num_blocks, 2)
    assert (counted.sentences, counted.spans) == (sum(len(store.sentences(i)) for i in every), len(spans))


@pytest.mark.parametrize(("sorted_spans", "part_blocks"), [(1 << 24, 1 << 18), (9, 3)])
def test_frequent_spans_equal_a_counter(store, monkeypatch, sorted_spans, part_blocks):
    monkeypatch.setattr(census, "SORTED_SPANS", sorted_spans)
    monkeypatch.setattr(census, "PART_BLOCKS", part_blocks)
    spans = spans_of(store)
    expected = Counter((text.lower(), kind) for text, kind in spans)
    found = census.frequent_spans(store, 50)
    assert {(span.text.lower(), span.type): span.count for span in found} == expected
    assert ("lyon", "WORD") in expected and ("lyon", "PLACE") in expected
    first = {}
    for text, kind in spans:
        first.setdefault((text.lower(), kind), text)
    assert all(first[span.text.lower(), span.type] == span.text for span in found)
    assert [span.count for span in found] == sorted(expected.values(), reverse=True)
    few = census.frequent_spans(store, 2)
    assert [span.count for span in few] == sorted(expected.values(), reverse=True)[:2]


def test_dropped_lists_reading_and_cutting(store):
    rows = census.dropped(store.manifest)
    assert rows[:2] == [("reading", "redirects", 12), ("reading", "other <namespace>", 3)]
    summed = Counter()
    for entry in store.manifest["segments"]:
        summed.update(entry["counts"])
    assert {reason: n for when, reason, n in rows if when == "cutting"} == {
        reason.replace("_", " "): n for reason, n in summed.items() if reason not in (blocks.LOST, blocks.SPLIT)
    }


def test_a_shown_block_is_its_text_cut_at_its_spans(store):
    for index in range(store.num_blocks):
        shown = show_block.read(store, index)
        text = store.block(index).text
        assert " ".join("".join(p.text for p in sentence) for sentence in shown.sentences) == text.replace("\x1b", "�")
        marked = [(p.text, p.type) for sentence in shown.sentences for p in sentence if p.type]
        segment = next(s for s in store.segments if index < s.first_block + len(s.blocks))
        assert [kind for _, kind in marked] == [segment.span_types[span["type"]] for span in store.spans(index)]
        assert shown.wordpieces == store.lengths[index] and shown.is_deleted == (index in (1, 5))


def test_spans_inside_others_are_not_marked_twice(store, monkeypatch):
    index = next(i for i in range(store.num_blocks) if len(store.spans(i)) > 1)
    doubled = np.sort(np.concatenate([store.spans(index)] * 2), order=["sentence", "byte_start"])
    plain = show_block.read(store, index)
    monkeypatch.setattr(store, "spans", lambda _: doubled)
    assert show_block.read(store, index) == plain


class Page(html.parser.HTMLParser):
    """Tags in order, and the marked texts."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.marked, self.text, self._in_mark = Counter(), [], "", False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        if tag == "mark":
            self.marked.append([dict(attrs)["title"], ""])
        self._in_mark = tag == "mark"

    def handle_data(self, data):
        self.text += data
        if self._in_mark:
            self.marked[-1][1] += data
            self._in_mark = False


@pytest.fixture
def own(store, tmp_path) -> str:
    """A copy to write to, inside a run."""
    shutil.copytree(store.folder, tmp_path / "run" / "corpus")
    return str(tmp_path / "run")


def test_page_is_whole_escaped_and_alone(store, own, tmp_path, capsys):
    show.main([own, "--count=4"])
    text = (tmp_path / "run" / "corpus" / "corpus.html").read_text()
    page = Page(text)
    assert "script" not in page.tags and "alert" in page.text and "http-equiv" not in text
    assert page.tags["svg"] == 4 and page.tags["article"] == 4 and page.tags["b"] == 0
    assert not page.tags.keys() & {"img", "link", "iframe"} and "src=" not in text
    for expected in ("test & co", "other <namespace>", "redirects", "Frequent spans", "deleted blocks"):
        assert expected in page.text, expected
    types = sorted({kind for _, kind in spans_of(store)})
    assert page.marked[: len(types)] == [[kind, kind] for kind in types]
    assert {(text, kind) for kind, text in page.marked[len(types) :]} <= set(spans_of(store))
    assert str(tmp_path / "run" / "corpus" / "corpus.html") in capsys.readouterr().out.replace("\n", "")


def printed(folder: str, width: int = 100, *, styles: bool = False, **choice) -> str:
    console = Console(
        record=True,
        width=width,
        file=open("/dev/null", "w"),
        color_system="standard",
        force_terminal=True,
        highlight=False,
    )
    show_corpus.show(folder, console, **choice)
    return console.export_text(styles=styles)


def test_terminal_shows_one_block_with_legend_counts_and_no_page(store, own):
    index = next(i for i in range(store.num_blocks) if "\x1b" in store.block(i).text)
    text = printed(own, 2000, block=index)
    assert f"block {index} of record {store.block(index).source_id}: {store.lengths[index]} wordpieces" in text
    for number, sentence in enumerate(store.sentences(index), 1):
        raw = store.block(index).text.encode()[sentence["byte_start"] : sentence["byte_limit"]].decode()
        assert f"{number:3} {raw.replace(chr(27), '�')}" in text
    assert "\x1b" not in text and "spans: DATE EVIL<b> PLACE WORD" in text
    assert f"blocks: {store.num_blocks}" in text and "left out on reading: redirects: 12" in text
    assert "pages read: 40" in text and "left out on reading: pages" not in text
    assert "deleted blocks: 2" in text and "seconds to build: 65" in text and "page:" not in text
    assert not (Corpus.open(f"{own}/corpus").folder / "corpus.html").exists()
    coloured = printed(own, 2000, styles=True, block=index)
    types = sorted({kind for _, kind in spans_of(store)})
    for piece in (p for sentence in show_block.read(store, index).sentences for p in sentence if p.type):
        colour = 30 + [6, 3, 2, 5][types.index(piece.type)]
        assert f"\x1b[1;{colour}m{piece.text}\x1b[0m" in coloured


def test_search_finds_the_first_blocks_with_all_words(store, own, tmp_path):
    wanted = [i for i in range(store.num_blocks) if all(w in store.block(i).text.lower() for w in ("1890", "river"))]
    assert len(wanted) > 2
    file = tmp_path / "found.html"
    text = printed(own, search="RIVER 1890", count=2, html=str(file))
    assert [f"block {i} of" in text for i in wanted[:3]] == [True, True, False]
    assert Page(file.read_text()).tags["article"] == 2
    assert "no block has all of: [nothing] like" in printed(own, search="[nothing] like")


def test_random_blocks_are_live_and_the_same_each_time(store, own):
    chosen = show_corpus._chosen(store, None, "", 1000)
    assert chosen == np.flatnonzero(store.live).tolist()
    few = show_corpus._chosen(store, None, "", 5)
    assert few == show_corpus._chosen(store, None, "", 5) and len(few) == 5


def test_bars_keep_every_count_and_gather_the_tail():
    rng = np.random.default_rng(0)
    histogram = np.bincount(np.minimum(rng.geometric(0.02, 20_000) + 3, 900))
    starts, heights, width = show_page.bars(histogram)
    assert heights.sum() == 20_000 and len(starts) <= show_page.MAX_BARS and width > 1
    for start, height in zip(starts[:-1], heights, strict=False):
        assert height == histogram[start : start + width].sum()
    assert heights[-1] == histogram[starts[-1] :].sum()
    starts, heights, width = show_page.bars(np.array([0, 5]))
    assert (starts.tolist(), heights.tolist(), width) == ([1], [5], 1)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--block=999"], r"--block=999: the corpus has blocks 0 to \d+: pass one"),
        (["--block=-1"], "--block=-1: the corpus has blocks 0 to"),
        (["--count=0"], "--count=0: pass at least 1"),
        (["--block=1", "--search=x"], "pass one of them"),
    ],
)
def test_bad_flags_name_the_fix(own, flags, message):
    with pytest.raises(ConfigError, match=message):
        show.main([own, *flags])


def test_bad_folders_name_the_fix(tmp_path):
    with pytest.raises(ConfigError, match="no corpus here: build one with realm corpus"):
        show.main([str(tmp_path / "none")])
    description = {"source": "s", "fingerprint": "f", "tagger": "words"}
    corpus_writer.create(tmp_path / "new", tokenizer=tokenizer(), block_len_tokens=90, description=description)
    with pytest.raises(ConfigError, match="has no block yet: build it with"):
        show.main([str(tmp_path / "new")])
