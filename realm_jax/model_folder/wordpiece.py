"""BERT's WordPiece tokenizer: made from a vocabulary or a tokenizer.json, examined, and compared with another."""

import os

from etils import epath
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from realm_jax.config import ConfigError

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def load(file: os.PathLike, *, flag: str = "--init") -> Tokenizer:
    """Reads a tokenizer.json, without its truncation and padding.

    Args:
        flag: the flag that the error names.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        text = epath.Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is no tokenizer.json ({error}): pass {flag}=FOLDER of a BERT with one") from error
    return parse(text, file, flag)


def parse(text: str, file: os.PathLike, flag: str) -> Tokenizer:
    """The tokenizer of a tokenizer.json's text, without its truncation and padding.

    Args:
        file: the file that the text comes from.
        flag: the flag that the error names.

    Raises:
        ConfigError: the text describes no tokenizer.
    """
    try:
        tokenizer = Tokenizer.from_str(text)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the Rust library raises plain Exception, and panics that are none
        reason = " ".join(str(error).split())
        raise ConfigError(f"{file} is no tokenizer.json ({reason}): pass {flag}=FOLDER of a BERT with one") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def bert(
    vocabulary: dict[str, int], *, lower: bool = True, accents: bool | None = None, chinese: bool = True
) -> Tokenizer:
    """BERT's tokenizer of a vocabulary.

    Args:
        lower: whether it lower-cases.
        accents: whether it strips accents; by default it does if it lower-cases.
        chinese: whether it splits Chinese characters.
    """
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(
        lowercase=lower, strip_accents=accents, handle_chinese_chars=chinese
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens([special for special in SPECIALS if special in vocabulary])
    return tokenizer


def size(tokenizer: Tokenizer) -> int:
    """The fewest rows of a table of wordpieces: one more than the greatest id."""
    return 1 + max(tokenizer.get_vocab().values(), default=-1)


def fits(tokenizer: Tokenizer, rows: int) -> bool:
    """Whether a table of wordpieces is as long as the vocabulary, or padded from there to a multiple of 8, … or 128."""
    least = size(tokenizer)
    return any(rows == -(-least // multiple) * multiple for multiple in (1, 8, 16, 32, 64, 128))


def piece(tokenizer: Tokenizer, token_id: int) -> str:
    """The wordpiece of an id, for people; rows that only pad the table of wordpieces have none."""
    return tokenizer.id_to_token(token_id) or f"[row {token_id}]"


def effects(tokenizer: Tokenizer) -> dict[str, bool]:
    """What a tokenizer does to a text before it splits it, by the names of tokenizer_config.json."""

    def normal(text: str) -> str:
        return tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer is not None else text

    return {
        "do_lower_case": normal("A") == "a",
        "strip_accents": normal("\N{LATIN SMALL LETTER E WITH ACUTE}") == "e",
        "tokenize_chinese_chars": normal("\u4e2d").strip() != normal("\u4e2d"),
    }


def same(a: Tokenizer, b: Tokenizer) -> bool:
    """Whether two tokenizers of BERT's kind give the same wordpieces."""
    return a.get_vocab() == b.get_vocab() and effects(a) == effects(b)
