"""The vocabulary of a run: BERT's lower-cased WordPiece, loaded from a checkpoint or trained from the corpus."""

import os
import pathlib
from collections.abc import Sequence

from etils import epath
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from realm_jax.config import ConfigError

FILES = ("tokenizer.json", "vocab.txt")
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def load(file: os.PathLike, *, flag: str = "--init") -> Tokenizer:
    """Reads a tokenizer.json, without its truncation and padding.

    Args:
        flag: named in the error.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        tokenizer = Tokenizer.from_str(epath.Path(file).read_text(encoding="utf-8"))
    except Exception as error:  # the Rust library raises plain Exception
        raise ConfigError(f"{file} is no tokenizer.json ({error}): pass {flag}=FOLDER of a BERT with one") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def from_checkpoint(path: pathlib.Path, *, flag: str = "--init") -> Tokenizer:
    """The tokenizer of a BERT folder, or of one file: tokenizer.json, or an uncased vocab.txt.

    Raises:
        ConfigError: there is neither; names the flag.
    """
    files = [path] if path.is_file() else [path / name for name in FILES if (path / name).exists()]
    if not files:
        raise ConfigError(f"{path} has neither tokenizer.json nor vocab.txt: pass {flag}=FOLDER of a BERT with one")
    if files[0].suffix == ".json":
        return load(files[0], flag=flag)
    try:
        pieces = files[0].read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{files[0]} is no vocab.txt ({error}): pass the one of a BERT") from error
    return _bert({piece: i for i, piece in enumerate(pieces) if piece})


def train(texts: Sequence[str], vocab_size: int) -> Tokenizer:
    """A vocabulary of exactly `vocab_size` pieces: learned ones, then [unusedN]. Depends on the texts alone.

    Raises:
        ConfigError: the texts have more different letters than that.
    """
    tokenizer = _bert({})
    # The trainer breaks ties by id, and numbers the pieces ##x in hash order: number them first, ourselves.
    split = tokenizer.pre_tokenizer.pre_tokenize_str
    words = {word for text in texts for word, _ in split(tokenizer.normalizer.normalize_str(text))}
    inner = sorted({"##" + character for word in words for character in word[1:]})
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=[*SPECIALS, *inner], min_frequency=2, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    learned = sorted(set(tokenizer.get_vocab()) - set(SPECIALS))
    if len(SPECIALS) + len(learned) > vocab_size:
        raise ConfigError(
            f"the corpus has too many different letters for a vocabulary of {vocab_size}: "
            f"pass --model.vocab_size={len(SPECIALS) + len(learned)} or more"
        )
    unused = [f"[unused{i}]" for i in range(vocab_size - len(SPECIALS) - len(learned))]
    return _bert({piece: i for i, piece in enumerate([*SPECIALS, *learned, *unused])})


def _bert(vocabulary: dict[str, int]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens([special for special in SPECIALS if special in vocabulary])
    return tokenizer
