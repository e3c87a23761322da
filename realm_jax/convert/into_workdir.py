"""Makes a workdir from published checkpoints, for pre-training, fine-tuning, evaluation and the index builder."""

import dataclasses
import json
import os
import pathlib
import shutil
from collections.abc import Collection
from dataclasses import dataclass

from etils import epath
from tokenizers import Tokenizer

from realm_jax import config as config_lib
from realm_jax import config_json
from realm_jax.checkpoints import Checkpoints
from realm_jax.config import CONVERTED, Config, ConfigError
from realm_jax.convert import knowledge, lengths
from realm_jax.convert.model_config import model_config
from realm_jax.convert.model_sources import open_source
from realm_jax.convert.vocabulary import find_tokenizer
from realm_jax.data import lost
from realm_jax.data.prepare import prepare
from realm_jax.model_folder.checkpoint import Checkpoint
from realm_jax.models import parts, pretrained
from realm_jax.models.names import flatten
from realm_jax.models.parts import BLOCK_EMB, Model, Row
from realm_jax.workdir import Workdir, with_absolute_paths, write_json, write_text

_PLAN = "plan.json"  # in the unfinished folder: the arguments that it is made with
_NEEDED = {
    "embedder": "retrieval and pre-training need it",
    "encoder": "pre-training needs it",
    "reader": "fine-tuning starts one at random",
    "vocabulary": "every command with text asks for it: convert again with --vocab=FOLDER_OR_FILE",
    "corpus": "pass --corpus=FILE_OR_FOLDER to the first command",
    "index": "the first command builds one",
}


@dataclass(frozen=True)
class Conversion:
    """What was made."""

    rows: list[Row]
    notices: list[str]
    has: list[str]
    """Parts of the workdir that were made, of embedder, encoder, reader, vocabulary, corpus, index."""
    missing: list[str]
    """The other parts, each with what it is needed for."""


@dataclass
class _Chosen:
    """The models that the parts of the workdir come from."""

    towers: dict[str, Model]
    encoder: Model | None
    reader: Model | None
    same: list[tuple[Model, Model]]
    """Models that only repeat another, with that other."""


def convert(
    specs: list[str],
    out: pathlib.Path,
    base: Config,
    vocab: str,
    *,
    with_corpus: bool = False,
    given_lengths: Collection[str] = (),
) -> Conversion:
    """Writes `out`, which appears complete or not at all; the same call goes on where an earlier one stopped.

    Args:
        specs: SOURCEs; see `model_sources.open_source`.
        base: the config of the run, whose model becomes that of the checkpoints.
        vocab: file, folder or Hugging Face id of the vocabulary; empty for the one that a SOURCE brings.
        with_corpus: whether to build the corpus that `base` names; otherwise the first command builds it.
        given_lengths: names of lengths of `base` that stay; the others are made to fit (see `lengths.fitting`).

    Raises:
        ConfigError: see the functions of this folder; nothing is written.
    """
    if out.exists():
        raise ConfigError(f"{out}: is there already: pass another OUT, or delete it")
    sources = [open_source(spec) for spec in specs]
    models = [model for source in sources for model in parts.find_models(source)]
    chosen = _choose(models)
    model, notices = model_config(models, base.model) if models else (base.model, [])
    model = dataclasses.replace(model, shared_tower="query" not in chosen.towers)
    tokenizer = find_tokenizer(sources, vocab, model.vocab_size)
    records, embeddings = _knowledge(sources, model, has_vocabulary=tokenizer is not None, with_corpus=with_corpus)
    if embeddings and not records:
        notices.append(f"{embeddings.spec}: block_emb is left out: without block_records.npy nobody knows its texts")
        embeddings = None
    trees, rows = _read(chosen, model, base.seed)
    rows += [row for source in sources for row in parts.carried(source)]
    config = _config(base, out.name, model, chosen, has_knowledge=records is not None)
    config, shorter = lengths.fitting(config, given_lengths)
    notices += shorter
    config = with_absolute_paths(config.check())
    partial = _partial(out, {"sources": specs, "vocab": vocab, "config": config_json.to_json(config)})
    workdir = Workdir(partial, config)
    try:
        _write_weights(workdir, trees, rows)
        if tokenizer:
            write_text(workdir.tokenizer_file, tokenizer.to_str())
        if records:
            notices += _write_knowledge(workdir, records, embeddings, tokenizer, _block_tower(chosen, trees))
        elif with_corpus:
            prepare(workdir)
        write_json(workdir.config_file, config_json.to_json(config))
    except ConfigError as error:  # a kill or a full disk leaves the folder for the next call; a bad source does not
        if not isinstance(error.__cause__, OSError):
            shutil.rmtree(partial, ignore_errors=True)
        raise
    (partial / _PLAN).unlink()
    os.replace(partial, out)
    made = {"vocabulary": tokenizer, "corpus": records or with_corpus, "index": embeddings}
    has = [*trees, *(name for name, is_there in made.items() if is_there)]
    missing = [f"{name} ({why})" for name, why in _NEEDED.items() if name not in has]
    return Conversion(rows, notices, has, missing)


def _knowledge(
    sources: list[Checkpoint], model: config_lib.ModelConfig, *, has_vocabulary: bool, with_corpus: bool
) -> tuple[Checkpoint | None, Checkpoint | None]:
    """The source with block records and the source with their embeddings; None where there is none."""
    records = [source for source in sources if source.block_records]
    embeddings = [source for source in sources if BLOCK_EMB in source.tensors]
    for kind, found in (("block embeddings", embeddings), ("block records", records)):
        if len(found) > 1:
            raise ConfigError(f"{' and '.join(s.spec for s in found)} all have {kind}: pass those of one corpus")
    if records and not has_vocabulary:
        raise ConfigError(f"{records[0].spec}: block records need a vocabulary: pass --vocab=FOLDER_OR_FILE")
    if records and with_corpus:
        raise ConfigError(f"{records[0].spec}: its block records are the corpus: leave out --corpus")
    if records and embeddings:
        found = records[0].block_records, embeddings[0].tensors[BLOCK_EMB]
        knowledge.check_shapes(*found, model.projection_dim, embeddings[0].spec)
    return next(iter(records), None), next(iter(embeddings), None)


def _write_knowledge(
    workdir: Workdir, records: Checkpoint, embeddings: Checkpoint | None, tokenizer: Tokenizer, tower: dict | None
) -> list[str]:
    """Writes the corpus, and the index if there are embeddings. Returns lines on what was lost of the texts."""
    folder = pathlib.Path(workdir.knowledge_folder)
    corpus = knowledge.build_corpus(records.block_records, folder, tokenizer, workdir.config, records.spec)
    if embeddings:
        block_emb = embeddings.tensors[BLOCK_EMB]
        knowledge.publish_index(block_emb, corpus, workdir.index_folder, workdir.config, tower, embeddings.spec)
    return lost.lines(corpus.manifest)


def _partial(out: pathlib.Path, plan: dict) -> epath.Path:
    """The folder that becomes `out`: what an earlier call with the same arguments left, or a new one."""
    partial = epath.Path(out.with_name(out.name + ".partial"))
    plan_file = partial / _PLAN
    if not plan_file.exists() or json.loads(plan_file.read_text(encoding="utf-8")) != json.loads(json.dumps(plan)):
        shutil.rmtree(partial, ignore_errors=True)
        write_json(plan_file, plan)
    return partial


def _write_weights(workdir: Workdir, trees: dict[str, dict], rows: list[Row]) -> None:
    if trees and not workdir.is_done("init"):
        workdir.phase("init").rmtree(missing_ok=True)  # of a call that was killed
        with Checkpoints(workdir.phase("init")) as checkpoints:
            checkpoints.save(0, trees)
        write_json(workdir.conversion_file, {"parts": sorted(trees), "rows": [vars(row) for row in rows]})
        workdir.mark_done("init", 0)


def _choose(models: list[Model]) -> _Chosen:
    by_kind: dict[str, list[Model]] = {}
    for model in models:
        by_kind.setdefault(model.kind, []).append(model)
    towers, same = _towers(by_kind.get("embedder", []))
    chosen = {}
    for kind in ("encoder", "reader", "bert"):
        found = by_kind.get(kind, [])
        if len(found) > 1:
            raise ConfigError(f"{' and '.join(m.source.spec for m in found)} each hold a {kind}: pass one")
        chosen[kind] = found[0] if found else None
    bert = chosen["bert"]
    if bert is not None:
        if towers and chosen["encoder"]:
            raise ConfigError(f"{bert.source.spec}: a plain BERT beside an embedder and an encoder: leave it out")
        towers = towers or {"shared": bert}
        chosen["encoder"] = chosen["encoder"] or bert
    return _Chosen(towers, chosen["encoder"], chosen["reader"], same)


def _towers(found: list[Model]) -> tuple[dict[str, Model], list[tuple[Model, Model]]]:
    """Decides which embedder embeds queries and which embeds blocks; also returns those that repeat another."""
    distinct: list[Model] = []
    same: list[tuple[Model, Model]] = []
    for model in sorted(found, key=lambda m: m.root == "query_embedder."):
        twin = next((m for m in distinct if model.equals(m)), None)  # the scorer of a shared tower stores it twice
        if twin is None:
            distinct.append(model)
        else:
            same.append((model, twin))
    query = [m for m in distinct if m.root == "query_embedder."]
    block = [m for m in distinct if m.root != "query_embedder."]
    if not query and len(block) == 2:
        tuned = [m for m in block if m.is_tuned]
        if len(tuned) == 1:
            query, block = tuned, [m for m in block if m is not tuned[0]]
    if len(query) > 1 or len(block) > 1:
        raise ConfigError(
            f"{' and '.join(m.source.spec for m in distinct)} each hold an embedder: pass one, or two towers"
        )
    if query and block:
        return {"query": query[0], "block": block[0]}, same
    return ({"shared": distinct[0]} if distinct else {}), same


def _block_tower(chosen: _Chosen, trees: dict[str, dict]) -> dict | None:
    """The tower that embeds new blocks as it did the published ones; None if there is only a fine-tuned one."""
    for side in ("block", "shared"):
        if side in chosen.towers and not chosen.towers[side].is_tuned:
            return trees["embedder"][side]
    return None


def _read(chosen: _Chosen, model: config_lib.ModelConfig, seed: int) -> tuple[dict[str, dict], list[Row]]:
    """The parameters by part, and the rows of the table of tensors."""
    trees: dict[str, dict] = {}
    rows: list[Row] = []
    leaves: dict[int, dict] = {}  # the parameters that were read, by model
    plain = [m for m in (*chosen.towers.values(), chosen.encoder) if m is not None and m.kind == "bert"]
    for source in plain:  # before any memory is taken for what config.json promises
        parts.read(source, "encoder", model, "encoder")
    random = pretrained.init_params(model, None, seed)[0] if plain else {}

    def read(source: Model, part: parts.Part, ours: str, start: dict | None) -> dict:
        tree, found = parts.read(source, part, model, ours)
        rows.extend(found)
        leaves.setdefault(id(source), {}).update(flatten(tree))
        if source.kind != "bert":
            return tree
        tree, filled = _overlay(start, tree, ours)
        rows.extend(filled)
        return tree

    if chosen.towers:
        start = random.get("embedder", {})
        trees["embedder"] = {
            side: read(source, "embedder", f"embedder.{side}", start.get(side))
            for side, source in chosen.towers.items()
        }
    if chosen.encoder:
        trees["encoder"] = read(chosen.encoder, "encoder", "encoder", random.get("encoder"))
    if chosen.reader:
        trees["reader"] = read(chosen.reader, "reader", "reader", None)
    used = [*chosen.towers.values(), chosen.encoder, chosen.reader]
    for source in {id(m): m for m in used if m is not None}.values():
        rows += parts.unused(source, leaves[id(source)])
    for source, twin in chosen.same:
        rows += parts.repeated(source, twin)
    return trees, rows


def _overlay(start: dict, tree: dict, ours: str) -> tuple[dict, list[Row]]:
    """`start` with the leaves of `tree` in their places, and rows for those that stay at random."""
    rows = []
    for key, value in start.items():
        if isinstance(value, dict):
            tree[key], below = _overlay(value, tree.get(key, {}), f"{ours}.{key}")
            rows += below
        elif key not in tree:
            tree[key] = value
            rows.append(Row(f"{ours}.{key}", value.shape, "random: the BERT has none"))
    return tree, rows


def _config(base: Config, name: str, model: config_lib.ModelConfig, chosen: _Chosen, *, has_knowledge: bool) -> Config:
    """The run's config, not yet checked; what comes from REALM gets no warm start by ICT."""
    corpus, ict = base.corpus, base.ict
    init = CONVERTED if chosen.towers or chosen.encoder or chosen.reader else base.init
    if has_knowledge:
        corpus = dataclasses.replace(corpus, knowledge=CONVERTED, pretrain_text="")
    if any(tower.kind == "embedder" for tower in chosen.towers.values()):
        ict = dataclasses.replace(ict, steps=0)
    changes = {"name": name, "init": init, "model": model, "corpus": corpus, "ict": ict}
    return dataclasses.replace(base, **changes)
