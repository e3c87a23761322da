"""How a run takes a corpus that `realm corpus` (or `realm retag`) has built.

The run gets a manifest of its own beside hard links to the segments, which nobody changes: so the run's corpus can
grow, and many runs share one copy on a disk. A run in a bucket gets copies.
"""

import pathlib

from etils import epath
from tokenizers import Tokenizer

from realm_jax.buckets import is_remote
from realm_jax.config import ConfigError
from realm_jax.data import compaction, run_tokenizer
from realm_jax.data.corpus import Corpus
from realm_jax.data.manifest import MANIFEST, write_manifest
from realm_jax.data.new_folder import new_folder
from realm_jax.data.segment import COLUMNS, link
from realm_jax.paths import expand

TOKENIZER = "tokenizer.json"
UNFINISHED = "work"
BM25 = "bm25"
"""First word of the name of a folder beside the segments: an index that `eval.bm25_index` makes and reads."""


def is_built(spec: str) -> bool:
    """Whether a spec names a built corpus. Raises ConfigError if the build is not finished."""
    folder = epath.Path(expand(spec))
    if (folder / MANIFEST).is_file() and (folder / TOKENIZER).is_file():
        return True
    if (folder / UNFINISHED / "plan.json").is_file():
        raise ConfigError(f"{spec}: this corpus is not finished: run its realm corpus command again")
    return False


def tokenizer_of(spec: str) -> Tokenizer:
    """Loads the vocabulary that a built corpus was cut with."""
    return run_tokenizer.load(epath.Path(expand(spec)) / TOKENIZER, flag="--corpus")


def take(spec: str, target: epath.PathLike, block_len_tokens: int) -> Corpus:
    """Opens the run's copy of a built corpus, and makes it first if it is not there.

    Raises:
        ConfigError: its blocks have another length, or `target` is the copy of another corpus.
    """
    built, target = Corpus.open(epath.Path(expand(spec))), epath.Path(target)
    if built.block_len_tokens != block_len_tokens:
        raise ConfigError(
            f"{spec}: has blocks of {built.block_len_tokens} wordpieces, not {block_len_tokens}: "
            f"pass --corpus.block_len_tokens={built.block_len_tokens}, or build it with --block_len_tokens"
        )
    if (target / MANIFEST).exists():
        taken = Corpus.open(target)
        if compaction.hashes_as_built(taken.manifest)[: len(built.segment_hashes)] != built.segment_hashes:
            raise ConfigError(f"{target}: is not a copy of {spec}: pass another --workdir or delete this folder")
        return taken
    with new_folder(target) as partial:
        for entry, segment in zip(built.manifest["segments"], built.segments, strict=True):
            (partial / entry["name"]).mkdir()
            for column in COLUMNS:
                link(segment.folder / f"{column}.bin", partial / entry["name"] / f"{column}.bin")
        _take_bm25(built.folder, partial)
        write_manifest(partial, built.manifest)
    return Corpus.open(target)


def _take_bm25(built: epath.Path, partial: pathlib.Path) -> None:
    """Links the BM25 index of a built corpus, if it has one; a corpus in a bucket keeps its own to itself."""
    if is_remote(built):
        return
    for manifest in built.glob(f"{BM25}-*/{MANIFEST}"):
        target = partial / manifest.parent.name
        target.mkdir()
        for file in manifest.parent.iterdir():
            link(file, target / file.name)
