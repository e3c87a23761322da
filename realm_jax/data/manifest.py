"""A corpus's manifest: what it was made from, its segments in order with their hashes, and its tombstones.

Written last and whole, so that a reader sees the corpus before a change or after it.
"""

import hashlib
import json

from etils import epath
from tokenizers import Tokenizer

from realm_jax.config import ConfigError
from realm_jax.workdir import write_json

FORMAT_VERSION = 1
SPECIALS = ("[CLS]", "[SEP]", "[PAD]")
MANIFEST = "manifest.json"
CUT, AS_GIVEN = "cut", "as_given"
"""What `blocks` of a manifest says: records are cut into blocks, or each of them is a block as it came."""


def first_manifest(description: dict, tokenizer: Tokenizer, block_len_tokens: int) -> dict:
    """Makes the manifest of a corpus without segments. Raises ConfigError if the tokenizer lacks a special token."""
    manifest = {"format_version": FORMAT_VERSION, **identity(description, tokenizer, block_len_tokens)}
    special_ids = [tokenizer.token_to_id(token) for token in SPECIALS]
    if None in special_ids:
        raise ConfigError(f"the tokenizer lacks {SPECIALS[special_ids.index(None)]}: use a BERT wordpiece tokenizer")
    return manifest | {"description": description, "special_ids": special_ids, "segments": [], "tombstones": []}


def identity(description: dict, tokenizer: Tokenizer, block_len_tokens: int) -> dict:
    """Collects what decides whether a corpus can be used again; error messages show the names."""
    return {
        "fingerprint": description["fingerprint"],
        "tagger": description["tagger"],
        "tokenizer_sha256": sha256(tokenizer.to_str()),
        "block_len_tokens": block_len_tokens,
        "blocks": description.get("blocks", CUT),
    }


def read_manifest(folder: epath.PathLike) -> dict:
    """Reads a corpus's manifest. Raises ConfigError if there is none, or if it cannot be read."""
    path = epath.Path(folder) / MANIFEST
    if not path.is_file():
        raise ConfigError(f"{path}: no corpus here: build one with realm corpus")
    try:
        manifest = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not JSON ({error}): delete {folder} and build it again") from error
    if manifest.get("format_version") != FORMAT_VERSION:
        raise ConfigError(f"{path}: was written in another format: delete {folder} and build it again")
    return manifest


def write_manifest(folder: epath.PathLike, manifest: dict) -> None:
    """Replaces the manifest in one step. Raises ConfigError when the disk is full."""
    write_json(epath.Path(folder) / MANIFEST, manifest)


def sha256(text: str) -> str:
    """Computes the SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
