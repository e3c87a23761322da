"""Makes a corpus and an index version of published knowledge: a `block_records.npy` and its blocks' embeddings.

The published ones are 13,353,718 bodies of up to 285 wordpieces, and 7 GB of embeddings, so both are read as streams.
The corpus grows by segments, and a conversion that was stopped goes on with the next one.
"""

import itertools
import pathlib
from collections.abc import Iterator

import numpy as np
from etils import epath
from jaxtyping import Float, Shaped
from tokenizers import Tokenizer

from realm_jax.config import Config, ConfigError
from realm_jax.convert.block_records import count_records, read_records
from realm_jax.data import corpus_writer, salient
from realm_jax.data.corpus import Corpus
from realm_jax.index.publish import copy_rows, publish
from realm_jax.index.store import IndexStore
from realm_jax.progress import Progress
from realm_jax.records import Record

SEGMENT_BLOCKS = 200_000


def build_corpus(file: pathlib.Path, folder: pathlib.Path, tokenizer: Tokenizer, config: Config, source: str) -> Corpus:
    """Builds the corpus whose block i is record i of a `block_records.npy`; goes on where an earlier call stopped.

    Args:
        source: the name of the file's origin, for the manifest.

    Raises:
        ConfigError: the file is damaged, or a record is empty.
    """
    description = {
        "source": source,
        "licence": "not stated",
        "fingerprint": f"{file.name} of {file.stat().st_size} bytes",
        "tagger": config.corpus.tagger,
    }
    common = {"tokenizer": tokenizer, "block_len_tokens": config.corpus.block_len_tokens}
    if not (folder / "manifest.json").exists():
        corpus_writer.create(folder, description=description, **common)
    built = Corpus.open(folder)
    built.check_against(description, **common)
    total = count_records(file)
    progress = Progress("knowledge corpus, blocks")
    records = itertools.islice(_records(file), built.num_blocks, None)
    tag = salient.make_tagger(config.corpus.tagger)
    while built.num_blocks < total:
        done = built.num_blocks
        built = corpus_writer.append(
            itertools.islice(records, SEGMENT_BLOCKS),
            folder,
            tokenizer=tokenizer,
            tag=tag,
            whole_records=True,
            progress=lambda count, _, done=done: progress(done + count, total),
        )
    return built


def check_shapes(file: pathlib.Path, embeddings: Shaped[np.ndarray, "*shape"], dim: int, source: str) -> None:
    """Raises ConfigError if the embeddings are not [records, dim]."""
    expected = (count_records(file), dim)
    if embeddings.shape != expected:
        raise ConfigError(
            f"{source}: block_emb has shape {embeddings.shape}, the records and the embedder make {expected}: "
            "pass the block_records.npy and the embedder that belong together"
        )


def publish_index(
    embeddings: Float[np.ndarray, "blocks dim"],
    blocks: Corpus,
    folder: epath.Path,
    config: Config,
    tower: dict | None,
    source: str,
) -> None:
    """Publishes embeddings as the index version of step 0.

    Args:
        tower: the block tower that made them, if it was converted too.
        source: the name of their origin, for the manifest.
    """
    store = IndexStore(folder)
    if store.latest() is not None:  # of an earlier start
        return
    with store.begin(0) as draft:
        copy = draft.embeddings(*embeddings.shape, config.index.dtype)
        copy_rows(embeddings, copy, Progress("index, blocks"))
        publish(draft, store, copy, blocks, config.index, tower=tower, embedded_by=source)


def _records(file: pathlib.Path) -> Iterator[Record]:
    for i, text in enumerate(read_records(file)):
        yield Record(str(i), "", text, f"{file}: record {i}")
