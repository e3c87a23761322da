"""Where answers stand, against searches in plain Python over each block by itself."""

import random
import re
import unicodedata

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from realm_jax.data.corpus_writer import build
from realm_jax.openqa.labels import AnswerFinder
from realm_jax.records import Question, Record

EVER = r"(a|aa)+[yz]"  # backtracks for ever on a long row of a
FLAGS = re.IGNORECASE | re.MULTILINE


def body(corpus, tokenizer, block) -> list:
    """Wordpieces of a block's text as one string, cut to the room that the title leaves."""
    text = corpus.block(block)
    room = corpus.block_len_tokens - 3 - len(tokenizer.encode(text.title, add_special_tokens=False).ids)
    return written(tokenizer, text.text)[:room]


def written(tokenizer, text: str) -> list:
    """Wordpieces of a text, but what is written there in lower case for each that the vocabulary lacks."""
    encoding = tokenizer.encode(text, add_special_tokens=False)
    return [
        plain(text[slice(*at)]) if piece == "[UNK]" else piece
        for piece, at in zip(encoding.tokens, encoding.offsets, strict=True)
    ]


def plain(word: str) -> str:
    """Lower case without accents."""
    return "".join(c for c in unicodedata.normalize("NFD", word.lower()) if not unicodedata.combining(c))


def places(pieces: list[int], wanted: list[int]) -> list[int]:
    return [i for i in range(len(pieces) - len(wanted) + 1) if wanted and pieces[i : i + len(wanted)] == wanted]


def matches(pattern: str, text: str) -> set[str]:
    return {m.group() for m in re.finditer(pattern, text, FLAGS)} - {""}


def slow_holds(corpus, tokenizer, question, blocks, rule) -> list[bool]:
    def has(block, answer):
        if question.is_regex:
            return bool(matches(answer, corpus.block(block).text))
        if rule == "substring":
            return answer != "" and answer in corpus.block(block).text
        return bool(places(body(corpus, tokenizer, block), written(tokenizer, answer)))

    return [block >= 0 and any(has(block, answer) for answer in question.answers) for block in blocks.tolist()]


def slow_spans(corpus, tokenizer, question, blocks, max_width) -> list[tuple[int, int, int]]:
    answers = set(question.answers)
    if question.is_regex:
        texts = [corpus.block(block).text for block in blocks.tolist() if block >= 0]
        answers = {match for text in texts for pattern in question.answers for match in matches(pattern, text)}
    found = set()
    for answer in answers:
        wanted = written(tokenizer, answer)
        if len(wanted) > max_width:
            continue
        for row, block in enumerate(blocks.tolist()):
            if block >= 0:
                starts = places(body(corpus, tokenizer, block), wanted)
                found |= {(row, start, start + len(wanted) - 1) for start in starts}
    return sorted(found)


def random_answers(rng: random.Random, texts: list[str]) -> tuple[str, ...]:
    """Slices of texts, their letters' case changed, what stands on a border of two joined blocks, and odd ones."""

    def one() -> str:
        text, other = rng.choice(texts), rng.choice(texts)
        start = rng.randrange(len(text))
        piece = text[start : start + rng.choice([1, 2, 5, 12, 30, 60])]
        words = text.split()
        first = rng.randrange(len(words))
        words = " ".join(words[first : first + rng.randint(1, 8)])
        border = text[-rng.randint(1, 6) :] + rng.choice(["", " ", "\n"]) + other[: rng.randint(1, 6)]
        return rng.choice([piece, piece.strip(), words, words, words.swapcase(), border, "", "art", "日本", "🙂", "e"])

    return tuple(one() for _ in range(rng.randint(0, 3)))


PATTERNS = [
    r"art",
    r"\bart\b",
    r"z?",
    r"\s+the|a*",
    r"\d{4}|2,000",
    r"\.\s*\w",
    r"[^x]+",
    "日本?",
    "^.*$",
    r"zo[eë]",
    r"\w+ \w+ \w+",
    "nowhere",
]


def cases(corpora, *, is_regex: bool):
    """(corpus, question, blocks): every corpus with many questions, blocks in any order, some -1, some twice."""
    for seed, corpus in enumerate(corpora):
        rng = random.Random(seed)
        texts = [corpus.block(block).text for block in range(corpus.num_blocks)]
        for number in range(60):
            if is_regex:
                answers = tuple(rng.sample(PATTERNS, rng.randint(1, 2)))
            elif number == 0:  # neighbours, and what would be there if nothing stood between them
                answers = tuple(texts[i][-4:] + gap + texts[i + 1][:4] for i in range(5) for gap in ("", " ", "\n"))
            else:
                answers = random_answers(rng, texts)
            blocks = [rng.randrange(-1, corpus.num_blocks) for _ in range(rng.randint(1, 12))]
            dtype = rng.choice([np.int32, np.int64])
            yield corpus, Question("q", "?", answers, is_regex), np.array(blocks if number else range(12), dtype)


def test_the_corpora_are_varied(random_corpora, pieces_tokenizer):
    assert {len(corpus.segments) for corpus in random_corpora} == {1, 2, 3}
    all_blocks = [(corpus, block) for corpus in random_corpora for block in range(corpus.num_blocks)]
    cut = [body(c, pieces_tokenizer, b) for c, b in all_blocks]
    whole = [written(pieces_tokenizer, c.block(b).text) for c, b in all_blocks]
    assert cut == whole
    for (corpus, b), pieces in zip(all_blocks, cut, strict=True):
        known = [pieces_tokenizer.id_to_token(int(piece)) for piece in corpus.body(b)]
        assert all(a in (b, "[UNK]") for a, b in zip(known, pieces, strict=True))


@pytest.mark.parametrize("is_regex", [False, True], ids=["strings", "expressions"])
@pytest.mark.parametrize("rule", ["substring", "wordpieces"])
def test_holds(random_corpora, pieces_tokenizer, rule, is_regex):
    finders = {id(corpus): AnswerFinder(corpus, pieces_tokenizer) for corpus in random_corpora}
    right = seen = 0
    for corpus, question, blocks in cases(random_corpora, is_regex=is_regex):
        found = finders[id(corpus)].holds(question, blocks, rule)
        assert found.dtype == bool
        assert found.tolist() == slow_holds(corpus, pieces_tokenizer, question, blocks, rule), question
        right, seen = right + found.sum(), seen + len(found)
    assert 0.1 * seen < right < 0.9 * seen


@pytest.mark.parametrize("max_width", [1, 3, 9])
@pytest.mark.parametrize("is_regex", [False, True], ids=["strings", "expressions"])
def test_spans(random_corpora, pieces_tokenizer, is_regex, max_width):
    finders = {id(corpus): AnswerFinder(corpus, pieces_tokenizer) for corpus in random_corpora}
    widths = set()
    for corpus, question, blocks in cases(random_corpora, is_regex=is_regex):
        found = finders[id(corpus)].spans(question, blocks, max_width)
        assert found.shape == (len(found), 3)
        expected = slow_spans(corpus, pieces_tokenizer, question, blocks, max_width)
        assert list(map(tuple, found.tolist())) == expected, question
        widths |= {last - first + 1 for _, first, last in expected}
    assert {1, max_width} <= widths <= set(range(1, max_width + 1))


# Accents of one and of two characters, letters whose case has another length, spaces, punctuation, articles, [UNK].
ODD = [
    *"art party the The a An Zoë Zoe\u0308 naïve İ ſ ß ﬁ K 日本 🙂 龍 Ω … — - “ ” 's , 2,000 U.S. [SEP] [UNK]".split()
]
ODD += [" ", "  ", "\u00a0", "\u200b", "\t", ".", ". "]
odd_text = st.lists(st.sampled_from(ODD), min_size=1, max_size=25).map("".join)


def stored(corpus, tokenizer, block) -> list:
    """As `body`, but sentence by sentence, as a corpus stores it: what stands on a border of two may differ."""
    text = corpus.block(block).text.encode()
    parts = [text[int(s["byte_start"]) : int(s["byte_limit"])].decode() for s in corpus.sentences(block)]
    return [piece for part in parts for piece in written(tokenizer, part)]


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(st.lists(odd_text, min_size=1, max_size=6), st.data())
def test_unusual_texts(tmp_path_factory, pieces_tokenizer, texts, data):
    records = [Record(str(i), "T", "Art " + text) for i, text in enumerate(texts)]
    arguments = {"tokenizer": pieces_tokenizer, "tag": lambda sentences, title: [[] for _ in sentences]}
    description = {"source": "s", "fingerprint": "f", "tagger": "t"}
    folder = tmp_path_factory.mktemp("odd") / "corpus"
    corpus = build(records, folder, block_len_tokens=32, description=description, **arguments)
    finder, blocks = AnswerFinder(corpus, pieces_tokenizer), np.arange(-1, corpus.num_blocks)
    texts = [corpus.block(block).text for block in range(corpus.num_blocks)]
    bodies = [stored(corpus, pieces_tokenizer, block) for block in range(corpus.num_blocks)]
    text = data.draw(st.sampled_from(texts))
    start, limit = sorted(data.draw(st.integers(0, len(text)), "slice") for _ in range(2))
    cut = text[start:limit]
    for answer in (cut, cut.strip(), cut.swapcase(), text, text + text, f" {cut} ", data.draw(odd_text)):
        question, wanted = Question("q", "?", (answer,)), written(pieces_tokenizer, answer)
        expected = [False, *(answer != "" and answer in other for other in texts)]
        assert finder.holds(question, blocks, "substring").tolist() == expected, answer
        found = [places(pieces, wanted) for pieces in bodies]
        assert finder.holds(question, blocks, "wordpieces").tolist() == [False, *map(bool, found)], answer
        spans = [[row, at, at + len(wanted) - 1] for row, of in enumerate(found, 1) for at in of]
        assert finder.spans(question, blocks, 40).tolist() == spans, answer


@pytest.fixture
def three(tmp_path, pieces_tokenizer):
    """A finder over three blocks."""
    texts = ["A party in Zoë's house.", "Art of the party. The art.", "a" * 80 + "."]
    records = [Record(str(i), "T", text) for i, text in enumerate(texts)]
    arguments = {"tokenizer": pieces_tokenizer, "tag": lambda sentences, title: [[] for _ in sentences]}
    description = {"source": "s", "fingerprint": "f", "tagger": "t"}
    corpus = build(records, tmp_path / "c", block_len_tokens=128, description=description, **arguments)
    return AnswerFinder(corpus, pieces_tokenizer)


ALL = np.array([0, -1, 1, 2])


@pytest.mark.parametrize(
    ("answer", "substring", "wordpieces"),
    [
        ("art", [True, False, True, False], [False, False, True, False]),  # "art" is in "party"
        ("party", [True, False, True, False], [True, False, True, False]),
        ("PARTY", [False] * 4, [True, False, True, False]),
        ("Zoë", [True, False, False, False], [True, False, False, False]),
        ("Zoe", [False] * 4, [True, False, False, False]),
        ("house. Art", [False] * 4, [False] * 4),
        ("", [False] * 4, [False] * 4),
    ],
)
def test_the_two_rules(three, answer, substring, wordpieces):
    question = Question("q", "?", (answer,))
    assert three.holds(question, ALL, "substring").tolist() == substring
    assert three.holds(question, ALL, "wordpieces").tolist() == wordpieces


def test_an_unknown_word_is_the_same_word_and_not_any_unknown_one(tmp_path, pieces_tokenizer):
    texts = ["The sign: 茶 of Ωa.", "The sign 龍茶. And ωá here.", "A sign."]
    records = [Record(str(i), "T", text) for i, text in enumerate(texts)]
    arguments = {"tokenizer": pieces_tokenizer, "tag": lambda sentences, title: [[] for _ in sentences]}
    description = {"source": "s", "fingerprint": "f", "tagger": "t"}
    finder = AnswerFinder(
        build(records, tmp_path / "c", block_len_tokens=64, description=description, **arguments), pieces_tokenizer
    )
    expected = {
        "龍": [1],
        "酒": [],
        "茶": [0, 1],
        "龍茶": [1],
        "ΩA": [0, 1],
        "of ωa": [0],
        "茶 of ξ": [],
        "sign": [0, 1, 2],
    }
    blocks = np.arange(3)
    for answer, rows in expected.items():
        question = Question("q", "?", (answer,))
        assert np.flatnonzero(finder.holds(question, blocks, "wordpieces")).tolist() == rows, answer
        assert sorted({row for row, _, _ in finder.spans(question, blocks, 8).tolist()}) == rows, answer
    by_pattern = Question("q", "?", ("[龍酒]",), is_regex=True)
    at = written(pieces_tokenizer, texts[1]).index("龍")
    assert finder.spans(by_pattern, blocks, 8).tolist() == [[1, at, at]]


def test_places_of_an_answer_that_repeats(three):
    question = Question("q", "?", ("ART", "art", "the art", "of the"))
    assert three.spans(question, ALL, 10).tolist() == [[2, 0, 0], [2, 1, 2], [2, 5, 6], [2, 6, 6]]
    assert three.spans(question, ALL, 1).tolist() == [[2, 0, 0], [2, 6, 6]]


def test_no_blocks_at_all(three):
    for is_regex in (False, True):
        question = Question("q", "?", ("art",), is_regex)
        for blocks in (np.array([-1, -1]), np.array([], np.int64)):
            assert three.holds(question, blocks, "substring").tolist() == [False] * len(blocks)
            assert three.holds(question, blocks, "wordpieces").tolist() == [False] * len(blocks)
            assert three.spans(question, blocks, 10).shape == (0, 3)


def test_an_expression_marks_what_it_matches_wherever_that_stands(three):
    question = Question("q", "?", (r"(?<=the )art|z..'s",), is_regex=True)
    assert three.holds(question, ALL, "substring").tolist() == [True, False, True, False]
    assert three.spans(question, ALL, 10).tolist() == [[0, 4, 6], [2, 0, 0], [2, 6, 6]]
    assert not three.bad_patterns


@pytest.mark.parametrize(
    "bad", ["(", "[a", r"\p{Foo}", "a{5,2}", r"\N{NOPE}", "(?L)a", "(?a)é", "(" * 3000, "(?:z{1000}|[)(]){1000}"]
)
def test_a_malformed_expression_is_survived_and_remembered(three, bad):
    question = Question("q", "?", (bad, "zo."), is_regex=True)
    for _ in range(2):
        assert three.holds(question, ALL, "wordpieces").tolist() == [True, False, False, False]
        assert three.spans(question, ALL, 10).tolist() == [[0, 4, 4]]
    assert three.bad_patterns == {bad}


@pytest.mark.parametrize("pattern", ["x*", "", r"\b", "(?=art)", "^", "$", "x?|(?:)"])
def test_an_expression_that_matches_only_nothing_says_nothing(three, pattern):
    question = Question("q", "?", (pattern,), is_regex=True)
    assert not three.holds(question, ALL, "substring").any()
    assert not len(three.spans(question, ALL, 10))


def test_what_comes_after_an_empty_match_counts(three):
    question = Question("q", "?", ("q*|zoë",), is_regex=True)
    expected = [bool(matches("q*|zoë", text)) for text in ("A party in Zoë's house.", "Art of the party.")]
    assert three.holds(question, ALL, "substring").tolist() == [expected[0], False, expected[1], False]


def test_an_expression_that_backtracks_for_ever_is_tried_once(three, monkeypatch):
    import regex

    compiled, compile_ = [], regex.compile
    monkeypatch.setattr(regex, "compile", lambda pattern, *rest: compiled.append(pattern) or compile_(pattern, *rest))
    question = Question("q", "?", (EVER, "art"), is_regex=True)
    assert three.holds(question, ALL, "substring").tolist() == [True, False, True, False]
    assert three.bad_patterns == {EVER}
    assert three.holds(question, ALL, "wordpieces").tolist() == [True, False, True, False]
    assert three.spans(question, ALL, 10).tolist() == [[2, 0, 0], [2, 6, 6]]
    assert three.bad_patterns == {EVER} and compiled.count(EVER) == 1 < compiled.count("art")


def test_an_expression_that_is_slow_on_many_texts_is_given_up(three, monkeypatch):
    monkeypatch.setattr("realm_jax.openqa.labels.ALL_TEXTS_TIMEOUT_S", -1.0)
    question = Question("q", "?", ("art",), is_regex=True)
    assert not three.holds(question, ALL, "substring").any() and three.bad_patterns == {"art"}
