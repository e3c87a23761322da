"""A large corpus in the store's own format, drawn and written by columns: a million blocks in less than a minute.

What `realm corpus` would leave behind, with the vocabulary of its words; no text is cut or tokenised. Every block has
5 sentences of 16 words and 2 salient spans each, so its columns are arithmetic; the words are random.
"""

import pathlib

import numpy as np
from tokenizers import Tokenizer

from realm_jax.data.blocks import hash64
from realm_jax.data.built import TOKENIZER
from realm_jax.data.manifest import first_manifest, write_manifest
from realm_jax.data.segment import BLOCK, SENTENCE, SOURCE, SPAN, SegmentWriter
from realm_jax.model_folder import wordpiece

NUM_WORDS = 8000
WORD_BYTES = 5  # w0123
SENTENCES, WORDS, SPANS = 5, 16, 2  # of a block, of a sentence
SENTENCE_BYTES = WORDS * (WORD_BYTES + 1) + 1  # a space or full stop behind each word, a space behind the sentence
SENTENCE_TOKENS = WORDS + 1
TEXT_BYTES, TEXT_TOKENS = SENTENCES * SENTENCE_BYTES - 1, SENTENCES * SENTENCE_TOKENS
BLOCKS_PER_RECORD = 2
BLOCK_LEN_TOKENS = TEXT_TOKENS + 11  # a title of one word and three special wordpieces, and some room
SEGMENT_BLOCKS, CHUNK_BLOCKS = 250_000, 10_000
WORD_LIST = [f"w{i:04}" for i in range(NUM_WORDS)]
VOCABULARY = [*wordpiece.SPECIALS, ".", *WORD_LIST]


def tokenizer() -> Tokenizer:
    return wordpiece.bert({piece: i for i, piece in enumerate(VOCABULARY)})


def write(folder: pathlib.Path, num_blocks: int) -> None:
    """Writes a corpus that `--corpus=FOLDER` takes; `num_blocks` is even."""
    folder.mkdir(parents=True)
    description = {"source": "drawn", "fingerprint": str(num_blocks), "tagger": "drawn", "blocks": "cut"}
    manifest = first_manifest(description, tokenizer(), BLOCK_LEN_TOKENS)
    rng = np.random.default_rng(0)
    hashes = np.array([hash64(word) for word in WORD_LIST], np.uint64)
    for number, first in enumerate(range(0, num_blocks, SEGMENT_BLOCKS)):
        name, limit = f"segment-{number:05}", min(first + SEGMENT_BLOCKS, num_blocks)
        (folder / name).mkdir()
        writer = SegmentWriter(folder / name)
        for start in range(first, limit, CHUNK_BLOCKS):
            writer.extend(_rows(start, min(CHUNK_BLOCKS, limit - start), rng, hashes), ["WORD"])
        manifest["segments"].append({"name": name, **writer.close()})
    (folder / TOKENIZER).write_text(tokenizer().to_str())
    write_manifest(folder, manifest)


def _rows(start: int, count: int, rng: np.random.Generator, hashes: np.ndarray) -> dict[str, np.ndarray]:
    """All columns of some blocks, with offsets from 0; `start` is the first one's ordinal."""
    records, words = count // BLOCKS_PER_RECORD, rng.integers(NUM_WORDS, size=(count, SENTENCES, WORDS))
    titles = rng.integers(NUM_WORDS, size=records)
    spelled = np.frombuffer("".join(WORD_LIST).encode(), np.uint8).reshape(NUM_WORDS, WORD_BYTES)
    names = [f"record-{start // BLOCKS_PER_RECORD + i:08}" for i in range(records)]
    return {
        "tokens": _tokens(words),
        "text": _text(words, spelled),
        "title_tokens": (titles + len(VOCABULARY) - NUM_WORDS).astype("<u2"),
        "titles": spelled[titles].ravel(),
        "ids": np.frombuffer("".join(names).encode(), np.uint8),
        "sources": _sources(records, names),
        "blocks": _blocks(count, rng),
        "sentences": _sentences(count),
        "spans": _spans(count, hashes[words[:, :, :SPANS]]),
    }


def _tokens(words: np.ndarray) -> np.ndarray:
    tokens = np.full((len(words), SENTENCES, SENTENCE_TOKENS), VOCABULARY.index("."), "<u2")
    tokens[:, :, :WORDS] = words + len(VOCABULARY) - NUM_WORDS
    return tokens.ravel()


def _text(words: np.ndarray, spelled: np.ndarray) -> np.ndarray:
    text = np.full((len(words), SENTENCES, SENTENCE_BYTES), ord(" "), np.uint8)
    of_words = text[:, :, :-1].reshape(len(words), SENTENCES, WORDS, WORD_BYTES + 1)  # a copy
    of_words[..., :WORD_BYTES] = spelled[words]
    of_words[:, :, -1, -1] = ord(".")
    text[:, :, :-1] = of_words.reshape(len(words), SENTENCES, -1)
    return text.reshape(len(words), -1)[:, :TEXT_BYTES].ravel()


def _place(table: np.ndarray, name: str, numbers: np.ndarray, size: int) -> None:
    """Says that row i has the pieces [i * size, (i + 1) * size) of a column."""
    table[f"{name}_start"], table[f"{name}_limit"] = numbers * size, (numbers + 1) * size


def _sources(records: int, names: list[str]) -> np.ndarray:
    table, numbers = np.zeros(records, SOURCE), np.arange(records)
    sizes = {"title": WORD_BYTES, "title_token": 1, "id": len(names[0]), "block": BLOCKS_PER_RECORD}
    for name, size in sizes.items():
        _place(table, name, numbers, size)
    table["hash"] = [hash64(name) for name in names]
    return table


def _blocks(count: int, rng: np.random.Generator) -> np.ndarray:
    table, numbers = np.zeros(count, BLOCK), np.arange(count)
    table["source"] = numbers // BLOCKS_PER_RECORD
    sizes = {"text": TEXT_BYTES, "token": TEXT_TOKENS, "sentence": SENTENCES, "span": SENTENCES * SPANS}
    for name, size in sizes.items():
        _place(table, name, numbers, size)
    table["hash"] = rng.integers(1 << 64, size=count, dtype=np.uint64)
    return table


def _sentences(count: int) -> np.ndarray:
    table, numbers = np.zeros((count, SENTENCES), SENTENCE), np.arange(SENTENCES)
    table["block"] = np.arange(count)[:, None]
    _place(table, "token", numbers, SENTENCE_TOKENS)
    _place(table, "byte", numbers, SENTENCE_BYTES)
    table["byte_limit"] -= 1
    return table.ravel()


def _spans(count: int, hashes: np.ndarray) -> np.ndarray:
    table = np.zeros((count, SENTENCES, SPANS), SPAN)
    sentence, number = np.arange(SENTENCES)[:, None], np.arange(SPANS)
    table["block"], table["sentence"] = np.arange(count)[:, None, None], sentence
    table["byte_start"] = sentence * SENTENCE_BYTES + number * (WORD_BYTES + 1)
    table["byte_limit"] = table["byte_start"] + WORD_BYTES
    table["token_start"] = sentence * SENTENCE_TOKENS + number
    table["token_limit"] = table["token_start"] + 1
    table["text_hash"] = hashes
    return table.ravel()
