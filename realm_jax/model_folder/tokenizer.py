"""Reads a BERT's WordPiece tokenizer from tokenizer.json or vocab.txt, and the settings in the files beside it."""

import json
import os
import pathlib

from tokenizers import Tokenizer

from realm_jax.config import ConfigError
from realm_jax.model_folder.small_files import read_object, read_text, shown
from realm_jax.model_folder.tokenizer_settings import Settings
from realm_jax.model_folder.weights import SUFFIXES
from realm_jax.model_folder.wordpiece import SPECIALS, parse, size

FILES = ("tokenizer.json", "vocab.txt")
MOST = 1 << 16
"""Most wordpieces of a vocabulary: a corpus stores them as uint16."""
OTHER_KINDS = {
    "spiece.model": "SentencePiece",
    "sentencepiece.bpe.model": "SentencePiece",
    "tokenizer.model": "SentencePiece",
    "spm.model": "SentencePiece",
    "merges.txt": "byte-pair",
}
"""Files of vocabularies of other kinds than WordPiece."""
ALL_FILES = (*FILES, *OTHER_KINDS)
"""Files any of which means that a folder has a tokenizer."""
_KINDS = {"BPE": "byte-pair", "Unigram": "SentencePiece"}


def from_checkpoint(path: pathlib.Path, *, flag: str = "--init") -> Tokenizer:
    """The tokenizer of a BERT, by its folder, its weights, a tokenizer.json, or a vocab.txt beside its settings.

    Raises:
        ConfigError: there is none, it is no WordPiece of BERT's kind, or two files disagree. It names `flag`.
    """
    if (path.suffix in SUFFIXES or path.name.endswith(".index.json")) and path.is_file():
        path = path.parent
    folder = path.parent if path.is_file() else path
    files = [path] if path.is_file() else [path / name for name in FILES if os.path.lexists(path / name)]
    if not files:
        others = [f"{name} ({kind})" for name, kind in OTHER_KINDS.items() if (path / name).exists()]
        if others:
            raise ConfigError(f"{path}: has {others[0]}: only WordPiece is read: pass {flag}=FOLDER of a BERT with one")
        raise ConfigError(f"{path} has neither tokenizer.json nor vocab.txt: pass {flag}=FOLDER of a BERT with one")
    settings = Settings(folder)
    if files[0].suffix == ".json":
        tokenizer = _from_json(files[0], flag)
        settings.check(tokenizer, files[0])
        if len(files) > 1:
            _check_equal(files[0], _model_vocabulary(tokenizer), files[1], _from_lines(files[1]))
    else:
        tokenizer = settings.of_vocabulary(files[0], _from_lines(files[0]))
    lacks = [special for special in SPECIALS if tokenizer.token_to_id(special) is None]
    if lacks:
        raise ConfigError(f"{files[0]}: has no {', '.join(lacks)}: pass {flag} of a BERT")
    if len(set(tokenizer.get_vocab().values())) < tokenizer.get_vocab_size():
        raise ConfigError(f"{files[0]}: gives one id to several wordpieces: pass {flag} of another BERT")
    if size(tokenizer) > MOST:
        raise ConfigError(
            f"{files[0]}: has {size(tokenizer)} wordpieces, a corpus stores {MOST}: pass {flag} with fewer"
        )
    return tokenizer


def _from_json(file: pathlib.Path, flag: str) -> Tokenizer:
    values = read_object(file)
    model = values.get("model")
    kind = model.get("type") if isinstance(model, dict) else None
    if kind is None and isinstance(model, dict) and "continuing_subword_prefix" in model:
        kind = "WordPiece"  # old files name no type
    if kind != "WordPiece":
        name = _KINDS.get(kind, shown(kind)) if isinstance(kind, str) else "nameless"
        raise ConfigError(
            f"{file}: is a {name} vocabulary: only WordPiece is read: pass {flag}=FOLDER of a BERT with one"
        )
    for name, value in (("continuing_subword_prefix", "##"), ("unk_token", "[UNK]")):
        if model.get(name, value) != value:
            raise ConfigError(f"{file}: has {name} {shown(model[name])}, BERT's is {value}: pass another BERT")
    return parse(json.dumps(values), file, flag)


def _from_lines(file: pathlib.Path) -> dict[str, int]:
    return {line: i for i, line in enumerate(read_text(file).split("\n")) if line}


def _model_vocabulary(tokenizer: Tokenizer) -> dict[str, int]:
    return tokenizer.get_vocab(with_added_tokens=False)


def _check_equal(file: pathlib.Path, ours: dict[str, int], other: pathlib.Path, theirs: dict[str, int]) -> None:
    if ours == theirs:
        return
    first = min((p for p in ours.keys() | theirs.keys() if ours.get(p) != theirs.get(p)), key=lambda p: (len(p), p))
    raise ConfigError(
        f"{file} and {other.name} are different vocabularies: {shown(first)} is {ours.get(first)} in the one, "
        f"{theirs.get(first)} in the other: delete the wrong one"
    )
