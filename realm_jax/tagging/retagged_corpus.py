"""A corpus with other salient spans: the same blocks, another tagger.

Each segment of the new corpus shares its text with the old one by hard links and gets the new tagger's spans, placed by
`blocks.place_spans`; its hash is the one that building it with that tagger would have given. A segment appears when it
is complete, so that a call that was killed goes on with the next one; the manifest is written last.
"""

import os
import pathlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
from etils import epath
from tokenizers import Tokenizer

from realm_jax.checksums import remembered_sha256
from realm_jax.config import ConfigError
from realm_jax.data.blocks import NUM_SPECIALS, place_spans
from realm_jax.data.corpus import Corpus
from realm_jax.data.manifest import MANIFEST, read_manifest, sha256, write_manifest
from realm_jax.data.segment import COLUMNS, SPAN, Segment, link, segment_hash
from realm_jax.lock import only_one
from realm_jax.records import Span
from realm_jax.workdir import read_json, write_json, write_text

CHUNK_SENTENCES = 8192
"""About how many sentences are tagged at once; a chunk consists of whole documents of one segment."""
STATE = "retag.json"  # of a corpus that is not finished
LOCK = "retag.lock"
NEW = ("blocks", "spans")
"""Columns that are written anew: blocks, which say where their spans lie, and the spans."""
OF_SPANS = ("misaligned_spans", "spans_beyond_limit", "spans_across_cuts")
"""Counts of a segment that start again from 0."""

Document = tuple[list[str], str]
"""(its sentences, its title)"""
DocumentsTagger = Callable[[list[Document]], list[list[list[Span]]]]
"""Spans of each sentence of each document, in characters of the sentence."""


def retag(
    corpus: Corpus,
    out: str | os.PathLike,
    *,
    tokenizer: Tokenizer,
    tag: DocumentsTagger,
    tagger: str,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> Corpus:
    """Makes the corpus `out` of the same blocks with other spans, or goes on with it.

    Args:
        tokenizer: the one that the corpus was cut with, without truncation and padding.
        tagger: name of `tag` for the manifest; with another name it is another corpus.
        progress: is called with (sentences done, sentences that this call has to do).

    Raises:
        ConfigError: another tokenizer, or `out` is something else.
    """
    out = pathlib.Path(out)
    if sha256(tokenizer.to_str()) != corpus.manifest["tokenizer_sha256"]:
        raise ConfigError(f"{corpus.folder}: was cut with another vocabulary: pass its --tokenizer=FILE")
    identity = {"from": corpus.hash, "tagger": tagger}
    if (out / MANIFEST).exists():
        if read_manifest(out).get("retagged") != identity:
            raise ConfigError(f"{out}: is another corpus: pass another --out")
        return Corpus.open(out)
    check_unfinished(out, identity)
    with only_one(out / LOCK, f"{out} is being tagged"):
        made = _retag(corpus, out, identity, tokenizer=tokenizer, tag=tag, progress=progress)
        (out / LOCK).unlink()
    return made


def _retag(
    corpus: Corpus,
    out: pathlib.Path,
    identity: dict,
    *,
    tokenizer: Tokenizer,
    tag: DocumentsTagger,
    progress: Callable[[int, int | None], None],
) -> Corpus:
    tagger = identity["tagger"]
    begun = check_unfinished(out, identity) or {**identity, "segments": []}
    write_json(out / STATE, begun)
    entries = begun["segments"]
    todo = corpus.segments[len(entries) :]
    total, done = sum(len(segment.sentences) for segment in todo), 0
    for segment, old in zip(todo, corpus.manifest["segments"][len(entries) :], strict=True):
        room = corpus.block_len_tokens - NUM_SPECIALS
        maker = _SegmentMaker(segment, old, tokenizer, room)
        entries.append(maker.make(out / old["name"], tag, lambda more, done=done: progress(done + more, total)))
        write_json(out / STATE, {**identity, "segments": entries})
        done += len(segment.sentences)
    write_text(out / "tokenizer.json", tokenizer.to_str())
    description = {**corpus.manifest["description"], "tagger": tagger}
    changes = {"tagger": tagger, "description": description, "segments": entries, "retagged": identity}
    write_manifest(out, corpus.manifest | changes)
    (out / STATE).unlink()
    return Corpus.open(out)


def check_unfinished(out: pathlib.Path, identity: dict) -> dict | None:
    """The state that a call that was stopped left in `out`; None if `out` is empty.

    Args:
        identity: what must be the same there: `from` (hash of the old corpus), `tagger`, or both.

    Raises:
        ConfigError: `out` is something else.
    """
    if (out / STATE).exists():
        begun = read_json(epath.Path(out / STATE))
        if any(begun[name] != value for name, value in identity.items()):
            raise ConfigError(f"{out}: was begun from another corpus or tagger: pass another --out or delete it")
        return begun
    if out.exists() and (not out.is_dir() or any(entry.name != LOCK for entry in out.iterdir())):
        raise ConfigError(f"{out}: is not an empty folder: pass another --out")
    return None


class _SegmentMaker:
    """One segment with new spans.

    Args:
        room: wordpieces of a block besides the special ones.
    """

    def __init__(self, segment: Segment, entry: dict, tokenizer: Tokenizer, room: int):
        self._segment, self._entry = segment, entry
        self._tokenizer, self._room = tokenizer, room
        self._counts = Counter(entry["counts"] | dict.fromkeys(OF_SPANS, 0))
        self._types: dict[str, int] = {}

    def make(self, folder: pathlib.Path, tag: DocumentsTagger, progress: Callable[[int], None]) -> dict:
        """Writes the segment's folder and returns its entry of the manifest."""
        partial = folder.with_name(folder.name + ".partial")
        for left in (partial, folder):  # of a call that was killed
            shutil.rmtree(left, ignore_errors=True)
        partial.mkdir(parents=True)
        blocks = np.array(self._segment.blocks)
        num_spans = done = 0
        with open(partial / "spans.bin", "wb") as file:
            for first, limit in self._chunks():
                rows = self._spans(first, limit, tag)
                file.write(rows.tobytes())
                begun, over = (int(self._segment.sources[name][i]) for name, i in _ends(first, limit))
                ends = num_spans + np.searchsorted(rows["block"], np.arange(begun, over + 1))
                blocks["span_start"][begun:over], blocks["span_limit"][begun:over] = ends[:-1], ends[1:]
                num_spans += len(rows)
                done += int(blocks["sentence_limit"][over - 1] - blocks["sentence_start"][begun])
                progress(done)
        (partial / "blocks.bin").write_bytes(blocks.tobytes())
        for name in COLUMNS.keys() - set(NEW):
            link(self._segment.folder / f"{name}.bin", partial / f"{name}.bin")
        os.replace(partial, folder)
        types = list(self._types)
        return self._entry | {
            "hash": segment_hash({name: remembered_sha256(folder / f"{name}.bin") for name in COLUMNS}, types),
            "num_spans": num_spans,
            "counts": dict(self._counts),
            "span_types": types,
            "bytes": {name: (folder / f"{name}.bin").stat().st_size for name in COLUMNS},
        }

    def _chunks(self) -> Iterator[tuple[int, int]]:
        """Ranges [first, limit) of documents."""
        sources, sentences = self._segment.sources, self._segment.blocks["sentence_limit"]
        first = begun = 0
        for i, last in enumerate(sources["block_limit"]):
            if int(sentences[last - 1]) - begun >= CHUNK_SENTENCES or i + 1 == len(sources):
                yield first, i + 1
                first, begun = i + 1, int(sentences[last - 1])

    def _spans(self, first: int, limit: int, tag: DocumentsTagger) -> np.ndarray:
        """Rows of the documents' spans, in order."""
        segment = self._segment
        places, documents = [], []
        for source in segment.sources[first:limit]:
            title_tokens = int(source["title_token_limit"] - source["title_token_start"])
            texts = []
            for block in segment.blocks[int(source["block_start"]) : int(source["block_limit"])]:
                body = segment.text[int(block["text_start"]) : int(block["text_limit"])].tobytes()
                rows = segment.sentences[int(block["sentence_start"]) : int(block["sentence_limit"])]
                for ordinal, row in enumerate(rows):
                    texts.append(body[int(row["byte_start"]) : int(row["byte_limit"])].decode())
                    byte, token = int(row["byte_start"]), int(row["token_start"])
                    places.append((int(row["block"]), ordinal, byte, token, self._room - title_tokens))
            title = segment.titles[int(source["title_start"]) : int(source["title_limit"])].tobytes().decode()
            documents.append((texts, title))
        sentences = [sentence for texts, _ in documents for sentence in texts]
        spans = [of_sentence for of_document in tag(documents) for of_sentence in of_document]
        encodings = self._tokenizer.encode_batch(sentences, add_special_tokens=False)
        rows = []
        for place, sentence, encoding, found in zip(places, sentences, encodings, spans, strict=True):
            block, ordinal, byte, token, room = place
            where = {"byte": byte, "token": token, "room": room, "counts": self._counts}
            for *offsets, kind, text_hash in place_spans(sentence, encoding, found, **where):
                number = self._types.setdefault(kind, len(self._types))
                rows.append((block, ordinal, *offsets, number, text_hash))
        return np.array(rows, SPAN)


def _ends(first: int, limit: int) -> tuple[tuple[str, int], tuple[str, int]]:
    """Column and row of `sources` that hold the first block of documents [first, limit), and the end of the last."""
    return ("block_start", first), ("block_limit", limit - 1)
