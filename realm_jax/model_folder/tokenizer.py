"""The tokenizer of a BERT's folder: WordPiece, from tokenizer.json or vocab.txt, as all files beside it describe it.

tokenizer_config.json, special_tokens_map.json and added_tokens.json say how a vocab.txt is used, and have to agree with
a tokenizer.json. What they leave open is BERT's default: lower case, accents stripped with it, Chinese split.
"""

import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from etils import epath
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from realm_jax.config import ConfigError
from realm_jax.model_folder.bert_config import check_kind
from realm_jax.model_folder.small_files import read_object, read_text, shown
from realm_jax.model_folder.weights import SUFFIXES

FILES = ("tokenizer.json", "vocab.txt")
SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
MOST = 1 << 16
"""Wordpieces that a corpus, which stores uint16, can tell apart."""
OTHER_KINDS = {
    "spiece.model": "SentencePiece",
    "sentencepiece.bpe.model": "SentencePiece",
    "tokenizer.model": "SentencePiece",
    "spm.model": "SentencePiece",
    "merges.txt": "byte-pair",
}
"""Files of vocabularies that are no WordPiece."""
ALL_FILES = (*FILES, *OTHER_KINDS)
"""Any of them says that a folder has a tokenizer."""
_KINDS = {"BPE": "byte-pair", "Unigram": "SentencePiece"}
_CLASSES = ("Bert", "Realm", "DistilBert", "Electra", "MobileBert", "DPR", "Retribert", "RetriBert", "LayoutLM")
"""Tokenizers of `transformers` that split as BERT's does, by what their names begin with."""
_OTHER_CLASSES = ("BertJapanese", "BertGeneration", "Bertweet", "MPNet", "LayoutLMv3")
_PLAIN = {
    "do_basic_tokenize": (True,),
    "never_split": ([], SPECIALS),
    "word_tokenizer_type": ("basic",),
    "subword_tokenizer_type": ("wordpiece",),
}
"""Settings that would cut a text otherwise: the values that do not."""
_ANY_CLASS = ("PreTrainedTokenizer", "PreTrainedTokenizerFast", "TokenizersBackend")
"""Names that say nothing: tokenizer.json does."""


def load(file: os.PathLike, *, flag: str = "--init") -> Tokenizer:
    """Reads a tokenizer.json, without its truncation and padding.

    Args:
        flag: named in the error.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        text = epath.Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is no tokenizer.json ({error}): pass {flag}=FOLDER of a BERT with one") from error
    return _parsed(text, file, flag)


def from_checkpoint(path: pathlib.Path, *, flag: str = "--init") -> Tokenizer:
    """The tokenizer of a BERT, by its folder, its weights, a tokenizer.json, or a vocab.txt beside its settings.

    Raises:
        ConfigError: there is none, it is no WordPiece of BERT's kind, or two files disagree; names the flag.
    """
    if path.suffix in SUFFIXES and path.is_file():
        path = path.parent
    folder = path.parent if path.is_file() else path
    files = [path] if path.is_file() else [path / name for name in FILES if os.path.lexists(path / name)]
    if not files:
        others = [f"{name} ({kind})" for name, kind in OTHER_KINDS.items() if (path / name).exists()]
        if others:
            raise ConfigError(f"{path}: has {others[0]}: only WordPiece is read: pass {flag}=FOLDER of a BERT with one")
        raise ConfigError(f"{path} has neither tokenizer.json nor vocab.txt: pass {flag}=FOLDER of a BERT with one")
    settings = _Settings(folder)
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
    if size(tokenizer) > MOST:
        raise ConfigError(
            f"{files[0]}: has {size(tokenizer)} wordpieces, a corpus stores {MOST}: pass {flag} with fewer"
        )
    return tokenizer


def bert(
    vocabulary: dict[str, int], *, lower: bool = True, accents: bool | None = None, chinese: bool = True
) -> Tokenizer:
    """BERT's tokenizer of a vocabulary.

    Args:
        lower: whether it lower-cases.
        accents: whether it strips accents; by default if it lower-cases.
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
    """Rows that a table of words needs at least: one more than the greatest id."""
    return 1 + max(tokenizer.get_vocab().values(), default=-1)


def fits(tokenizer: Tokenizer, rows: int) -> bool:
    """Whether a table of words is as long as the vocabulary, or padded from there to a multiple of 8, 16, … or 128."""
    least = size(tokenizer)
    return any(rows == -(-least // multiple) * multiple for multiple in (1, 8, 16, 32, 64, 128))


def piece(tokenizer: Tokenizer, token_id: int) -> str:
    """The wordpiece of an id, for people; a row that only pads the table of words has none."""
    return tokenizer.id_to_token(token_id) or f"[row {token_id}]"


def effects(tokenizer: Tokenizer) -> dict[str, bool]:
    """What it does to a text before it splits it, under the names of tokenizer_config.json."""

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


class _Settings:
    """What the files beside a vocabulary say of it."""

    def __init__(self, folder: pathlib.Path):
        self._files = {name: folder / name for name in SETTINGS if os.path.lexists(folder / name)}
        self._values = {name: read_object(file) for name, file in self._files.items()}
        self._config_file, self._model_file = folder / "tokenizer_config.json", folder / "config.json"
        self._model = read_object(self._model_file) if self._model_file.exists() else {}
        check_kind(self._model_file, self._model)
        self._config = self._values.get("tokenizer_config.json", {})
        for name, plain in _PLAIN.items():
            found = self._config.get(name)
            if found is not None and found not in plain:
                raise ConfigError(
                    f"{self._config_file}: has {name} {shown(found)}, which is not read here: pass another BERT"
                )
        for name in effects(bert({})):
            if not isinstance(self._config.get(name), bool | None):
                raise ConfigError(
                    f"{self._config_file}: has {name} {shown(self._config[name])}: correct it to true or false"
                )
        if not isinstance(self._config.setdefault("added_tokens_decoder", {}), dict):
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
        """(file, token, id) of tokens that were added to the vocabulary."""
        for token, token_id in self._values.get("added_tokens.json", {}).items():
            yield self._files["added_tokens.json"], token, token_id
        for token_id, token in self._config.get("added_tokens_decoder", {}).items():
            yield self._config_file, str(_content(token)), int(token_id) if token_id.isdecimal() else token_id

    def check(self, tokenizer: Tokenizer, file: pathlib.Path) -> None:
        """Raises ConfigError if tokenizer.json does otherwise."""
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
        """The tokenizer of a vocab.txt."""
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


def _from_json(file: pathlib.Path, flag: str) -> Tokenizer:
    values = read_object(file)
    model = values.get("model")
    kind = model.get("type") if isinstance(model, dict) else None
    if kind is None and isinstance(model, dict) and "continuing_subword_prefix" in model:
        kind = "WordPiece"  # old files name no type
    if kind != "WordPiece":
        name = _KINDS.get(kind, shown(kind)) if isinstance(kind, str) else "unknown"
        raise ConfigError(
            f"{file}: is a {name} vocabulary: only WordPiece is read: pass {flag}=FOLDER of a BERT with one"
        )
    for name, value in (("continuing_subword_prefix", "##"), ("unk_token", "[UNK]")):
        if model.get(name, value) != value:
            raise ConfigError(f"{file}: has {name} {shown(model[name])}, BERT's is {value}: pass another BERT")
    return _parsed(json.dumps(values), file, flag)


def _parsed(text: str, file: os.PathLike, flag: str) -> Tokenizer:
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


def _content(token: Any) -> Any:
    return token.get("content") if isinstance(token, dict) else token
