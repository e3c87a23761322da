"""The settings of a tokenizer, in files beside its vocabulary.

They are in tokenizer_config.json, special_tokens_map.json and added_tokens.json, and config.json names a class. They
decide how a vocab.txt is used; a tokenizer.json has to agree with them. What they leave open is as in BERT: text is
lower-cased, accents are stripped then, and Chinese characters are split.
"""

import os
import pathlib
from collections.abc import Iterator
from typing import Any

from tokenizers import Tokenizer

from realm_jax.config import ConfigError
from realm_jax.model_folder.bert_config import check_kind
from realm_jax.model_folder.small_files import read_object, shown
from realm_jax.model_folder.wordpiece import SPECIALS, bert, effects

SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_CLASSES = ("Bert", "Realm", "DistilBert", "Electra", "MobileBert", "DPR", "Retribert", "RetriBert", "LayoutLM")
"""Tokenizers of `transformers` that split as BERT's does, by what their names begin with."""
_OTHER_CLASSES = ("BertJapanese", "BertGeneration", "Bertweet", "MPNet", "LayoutLMv3")
_PLAIN = {
    "do_basic_tokenize": (True,),
    "never_split": ([],),
    "word_tokenizer_type": ("basic",),
    "subword_tokenizer_type": ("wordpiece",),
}
"""Settings that could change how a text is split, with the values that do not."""
_ANY_CLASS = ("PreTrainedTokenizer", "PreTrainedTokenizerFast", "TokenizersBackend")
"""Names of classes that say nothing about splitting, which tokenizer.json then decides."""


class Settings:
    """The settings in a folder. Raises ConfigError if they are damaged, or of a tokenizer that is not BERT's."""

    def __init__(self, folder: pathlib.Path):
        self._files = {name: folder / name for name in SETTINGS if os.path.lexists(folder / name)}
        self._values = {name: read_object(file) for name, file in self._files.items()}
        self._config_file, self._model_file = folder / "tokenizer_config.json", folder / "config.json"
        self._model = read_object(self._model_file) if self._model_file.exists() else {}
        check_kind(self._model_file, self._model)
        self._config = self._values.get("tokenizer_config.json", {})
        for name, plain in _PLAIN.items():
            found = self._config.get(name)
            if isinstance(found, list):  # older libraries write special tokens, which are never split anyway
                found = [token for token in found if token not in SPECIALS]
            if found is not None and found not in plain:
                raise ConfigError(
                    f"{self._config_file}: has {name} {shown(found)}, which is not read here: pass another BERT"
                )
        for name in effects(bert({})):
            if not isinstance(self._config.get(name), bool | None):
                raise ConfigError(
                    f"{self._config_file}: has {name} {shown(self._config[name])}: correct it to true or false"
                )
        self._added_by_id = self._config.get("added_tokens_decoder") or {}
        if not isinstance(self._added_by_id, dict):
            raise ConfigError(f"{self._config_file}: has an added_tokens_decoder that is no object: download it again")
        self._check_class()
        self._check_special_names()

    def _check_class(self) -> None:
        for file, values in ((self._config_file, self._config), (self._model_file, self._model)):
            name = values.get("tokenizer_class")
            if name is None or name in _ANY_CLASS:
                continue
            if not isinstance(name, str) or not name.startswith(_CLASSES) or name.startswith(_OTHER_CLASSES):
                raise ConfigError(
                    f"{file}: asks for the tokenizer {shown(name)}; only BERT's WordPiece is read: pass another BERT"
                )

    def _check_special_names(self) -> None:
        for file, values in zip(self._files.values(), self._values.values(), strict=True):
            for special in SPECIALS:
                name = f"{special.strip('[]').lower()}_token"
                token = _content(values.get(name))
                if token not in (None, special):
                    raise ConfigError(
                        f"{file}: calls its {name} {shown(token)}, not {special}: pass a BERT with BERT's names"
                    )

    def _added(self) -> Iterator[tuple[pathlib.Path, str, object]]:
        """Yields (file, token, id) of tokens that were added to the vocabulary."""
        for token, token_id in self._values.get("added_tokens.json", {}).items():
            yield self._files["added_tokens.json"], token, token_id
        for token_id, token in self._added_by_id.items():
            is_number = token_id.isdecimal() and len(token_id) < 10
            yield self._config_file, str(_content(token)), int(token_id) if is_number else token_id

    def check(self, tokenizer: Tokenizer, file: pathlib.Path) -> None:
        """Raises ConfigError if a tokenizer.json disagrees with the settings."""
        for name, does in effects(tokenizer).items():
            says = self._config.get(name)
            if name == "strip_accents" and name in self._config and says is None:  # then it goes with the lower case
                says = effects(tokenizer)["do_lower_case"]
            if says not in (None, does):
                raise ConfigError(
                    f"{self._config_file} has {name} {shown(says)}, and {file.name} does the opposite: correct one"
                )
        for source, token, token_id in self._added():
            if tokenizer.token_to_id(token) != token_id:
                raise ConfigError(
                    f"{source} has {shown(token)} as {shown(token_id)}, {file.name} as {tokenizer.token_to_id(token)}: "
                    "correct the wrong one"
                )

    def of_vocabulary(self, file: pathlib.Path, vocabulary: dict[str, int]) -> Tokenizer:
        """The tokenizer of a vocab.txt. Raises ConfigError if the settings leave open how it splits text."""
        lower = self._config.get("do_lower_case")
        capitals = next((p for p in vocabulary if p not in SPECIALS and p[0] != "[" and p.lower() != p), None)
        if lower is None and capitals is not None:
            raise ConfigError(
                f"{file}: has wordpieces with capitals ({shown(capitals)}), and no tokenizer_config.json beside it "
                'says whether text is lower-cased: write {"do_lower_case": false} (or true) into one'
            )
        for source, token, token_id in self._added():
            if token not in SPECIALS or vocabulary.get(token) != token_id:
                raise ConfigError(
                    f"{source}: adds {shown(token)} as {shown(token_id)} to {file.name}: add a tokenizer.json, which "
                    "says how it is split"
                )
        chinese = self._config.get("tokenize_chinese_chars")
        return bert(
            vocabulary,
            lower=lower is not False,
            accents=self._config.get("strip_accents"),
            chinese=chinese is not False,
        )


def _content(token: Any) -> Any:
    return token.get("content") if isinstance(token, dict) else token
