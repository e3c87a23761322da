"""The vocabulary of a run: read from a BERT's folder (`model_folder.tokenizer`), or trained from the corpus."""

from collections.abc import Sequence

from tokenizers import Tokenizer, trainers

from realm_jax.config import ConfigError
from realm_jax.model_folder.tokenizer import from_checkpoint
from realm_jax.model_folder.wordpiece import SPECIALS, bert, load

__all__ = ["SPECIALS", "from_checkpoint", "load", "train"]


def train(texts: Sequence[str], vocab_size: int) -> Tokenizer:
    """A vocabulary of exactly `vocab_size` pieces: learned ones, then [unusedN]. Depends on the texts alone.

    Raises:
        ConfigError: the texts have more different letters than that.
    """
    tokenizer = bert({})
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
    return bert({piece: i for i, piece in enumerate([*SPECIALS, *learned, *unused])})
