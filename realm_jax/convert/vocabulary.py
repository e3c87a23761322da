"""Finds the vocabulary of a conversion: that of --vocab, else the one on which all SOURCEs with a tokenizer agree."""

import os
from collections.abc import Sequence

from tokenizers import Tokenizer

from realm_jax.config import ConfigError
from realm_jax.data import assets
from realm_jax.model_folder.checkpoint import Checkpoint
from realm_jax.model_folder.tokenizer import ALL_FILES, from_checkpoint
from realm_jax.model_folder.wordpiece import fits, same, size
from realm_jax.models.parts import BLOCK_EMB


def find_tokenizer(sources: Sequence[Checkpoint], vocab: str, vocab_size: int) -> Tokenizer | None:
    """The vocabulary; None if neither `vocab` nor a SOURCE has one.

    Args:
        vocab: file, folder or Hugging Face id; empty for that of the SOURCEs.
        vocab_size: rows of the models' table of wordpieces.

    Raises:
        ConfigError: it cannot be read, does not fit the models, or two SOURCEs bring different ones.
    """
    if vocab:
        folders = [assets.fetch(vocab, weights=())]
    else:
        folders = [s.folder for s in sources if any(os.path.lexists(s.folder / name) for name in ALL_FILES)]
    found = [(folder, from_checkpoint(folder, flag="--vocab")) for folder in dict.fromkeys(folders)]
    for folder, other in found[1:]:
        if not same(other, found[0][1]):
            raise ConfigError(f"{found[0][0]} and {folder} have different vocabularies: pass the right one as --vocab")
    if not found:
        return None
    folder, tokenizer = found[0]
    if not fits(tokenizer, vocab_size):
        has_models = any(name != BLOCK_EMB for source in sources for name in source.tensors)
        fix = "--vocab of the one that it was trained with" if has_models else f"--model.vocab_size={size(tokenizer)}"
        raise ConfigError(f"{folder}: has {size(tokenizer)} wordpieces, the model {vocab_size}: pass {fix}")
    return tokenizer
