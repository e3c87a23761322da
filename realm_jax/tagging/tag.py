"""Trains a tagger of named entities, from which salient spans can be taken (Guu et al. 2020, §3.4)."""

import json
import logging
import pathlib

import jax
import numpy as np
from tokenizers import Tokenizer

from realm_jax import paths
from realm_jax.config import ConfigError, ModelConfig
from realm_jax.data import assets, salient
from realm_jax.data.sources import sources
from realm_jax.model_folder.checkpoint import weights_sha256
from realm_jax.model_folder.tokenizer import from_checkpoint
from realm_jax.model_folder.wordpiece import fits, size
from realm_jax.models import pretrained
from realm_jax.progress import Progress
from realm_jax.tagging import conll, silver, tagger_model
from realm_jax.tagging.bio import label_set
from realm_jax.tagging.conll import LabelledSentence, Split, types_of
from realm_jax.tagging.sentence_tagger import best_params
from realm_jax.tagging.tag_task import TagTask
from realm_jax.tagging.tagger_folder import METRIC, TagConfig, TaggerFolder, fingerprint
from realm_jax.training import loop
from realm_jax.training.best_params import BestParams
from realm_jax.workdir import write_json, write_text

log = logging.getLogger(__name__)


def train(folder: TaggerFolder) -> None:
    """Trains, or goes on from the last checkpoint, and writes the scores; does nothing once it is done.

    Raises:
        ConfigError: `init` or the sentences cannot be used, or differ from those that the tagger was begun with.
    """
    content = _content(folder)
    folder.check_content(content)
    if folder.scores_file.exists():
        log.info(f"{folder.path}: is done")
        return
    config = folder.config
    init = assets.fetch(config.init)
    content["init"] = weights_sha256(init)
    folder.check_content(content)
    tokenizer, model, bert = _open(init, config.dropout)
    sentences = {split: read(folder, split) for split in ("train", "dev", "test")}
    types = types_of(sentences["train"])
    first = first_params(config, model, bert, types)
    best = BestParams(folder.path, METRIC)
    task = TagTask(config, model, types, tokenizer, sentences["train"], sentences["dev"], first, best)
    folder.write_model(model, types, task.transitions)
    folder.write_content(content)
    write_text(folder.tokenizer_file, tokenizer.to_str())
    loop.run(task, folder.path)
    params = best_params(folder)
    scores = {split: task.scores(params, sentences[split]).to_json() for split in ("dev", "test")}
    told = {"sentences": {split: len(of_split) for split, of_split in sentences.items()}, "steps": task.steps}
    told |= {"best_step": best.step, "train_seconds": train_seconds(folder)}
    told["tagger"] = f"bert:{fingerprint(params, folder)}"
    write_json(folder.scores_file, told | scores)


def _content(folder: TaggerFolder) -> dict[str, str]:
    """Hashes of the weights and sentences that the settings name, where they are files on this machine."""
    config = folder.config
    init, data = (pathlib.Path(paths.expand(name)) for name in (config.init, config.data))
    found = {"init": weights_sha256(init)} if init.exists() else {}
    if config.data not in ("silver", "conll2003") and data.is_dir():
        found["data"] = conll.folder_sha256(data)
    return found


def _open(init: pathlib.Path, dropout: float) -> tuple[Tokenizer, ModelConfig, dict]:
    """Returns (vocabulary, shape, parameters) of a BERT. Raises ConfigError if they do not belong together."""
    tokenizer = from_checkpoint(init)
    model, bert = pretrained.load_bert(init, dropout)
    if not fits(tokenizer, model.vocab_size):
        found = f"{size(tokenizer)} wordpieces, the weights {model.vocab_size}"
        raise ConfigError(f"{init}: has {found}: pass another --init")
    return tokenizer, model, bert


def first_params(config: TagConfig, model: ModelConfig, bert: dict, types: tuple[str, ...]) -> dict:
    """A tagger's parameters on the host: a BERT's, and random ones for what a BERT lacks."""
    params = tagger_model.init(model, len(label_set(types)), jax.random.key(config.seed))
    return jax.tree.map(np.array, jax.device_get(params)) | {"bert": bert}


def read(folder: TaggerFolder, split: Split) -> list[LabelledSentence]:
    """Labelled sentences of a split; silver ones are made once and kept in the folder."""
    config, kept = folder.config, folder.path / "silver"
    if config.data == "conll2003":
        return conll.read_conll2003(split, data_dir=config.data_dir)
    if config.data != "silver":
        return conll.read_folder(config.data, split)
    if not kept.exists():
        wanted = {"train": config.sentences, "dev": config.dev_sentences, "test": config.test_sentences}
        progress = Progress(f"{config.labels} on {config.corpus}, sentences")
        silver.write_folder(sources.read(config.corpus), kept, salient.make_tagger(config.labels), wanted, progress)
    return silver.read_folder(kept, split)


def train_seconds(folder: TaggerFolder) -> float:
    """Seconds spent in training steps over all starts, from the metrics; evaluations do not count."""
    total, before = 0.0, 0
    for line in (folder.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        total += record["step_seconds"] * (record["step"] - before)
        before = record["step"]
    return round(total, 1)
