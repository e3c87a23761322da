"""One fine-tuning of a run: its folder, its settings, where its weights come from and which index it searches.

W/finetune/NAME/   config.json, checkpoints/, evaluations.json, best-<step>/, metrics.jsonl, DONE
                   index/ only where the run's own index was not made by the block tower that it starts from
"""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
from etils import epath

from realm_jax import processes
from realm_jax.config import CONVERTED, Config, ConfigError, FinetuneConfig
from realm_jax.data.prepare import RunData
from realm_jax.data.questions import datasets
from realm_jax.data.questions.questions import content_hash
from realm_jax.index.index_builder import IndexBuilder, with_search
from realm_jax.index.loaded_index import LoadedIndex, exact_index, is_too_large, load
from realm_jax.index.store import IndexStore
from realm_jax.index.version import Version
from realm_jax.models import embedder, reader
from realm_jax.models.names import Part
from realm_jax.records import Question
from realm_jax.training import phases, presets
from realm_jax.training.best_params import BestParams
from realm_jax.training.finetune_search import search_to_build, search_to_use
from realm_jax.training.finetune_task import METRIC
from realm_jax.workdir import CHANGEABLE, Workdir, read_json, write_json

FOLDER = "finetune"


class Finetuning:
    """A fine-tuning of `workdir` under a name, with the run's config but its own `finetune` section.

    Args:
        dataset, dev, columns: as `datasets.load` takes them.
        content: `questions.content_hash` of its training and development questions, by split; empty if not known.
    """

    def __init__(
        self,
        workdir: Workdir,
        name: str,
        dataset: str,
        settings: FinetuneConfig,
        dev: str = "",
        columns: str = "",
        content: dict[str, str] | None = None,
    ):
        self.workdir, self.name, self.dataset, self.dev, self.columns = workdir, name, dataset, dev, columns
        self.content = content or {}
        self.phase = f"{FOLDER}/{name}"
        self.folder: epath.Path = workdir.phase(self.phase)
        # The age limit of the run's config counts pre-training's versions; ours come every index_refresh_every steps.
        limit = settings.index_refresh_every if workdir.config.index.max_age_policy == "pause" else 0
        index = dataclasses.replace(
            workdir.config.index, max_age_steps=limit, max_age_policy="pause" if limit else "warn"
        )
        self.config: Config = dataclasses.replace(workdir.config, finetune=settings, index=index)

    @staticmethod
    def exists(workdir: Workdir, name: str) -> bool:
        """Whether a fine-tuning was begun: something was made with its settings."""
        folder = workdir.phase(f"{FOLDER}/{name}")
        made = any((folder / part).exists() for part in ("checkpoints", "index"))
        return made and (folder / "config.json").exists()  # a builder that waits for it makes parts of the folder

    @classmethod
    def open(cls, workdir: Workdir, name: str) -> "Finetuning":
        """Opens a fine-tuning that was begun. Raises ConfigError if there is none."""
        if name == CONVERTED:
            return cls(workdir, name, CONVERTED, workdir.config.finetune)
        if not cls.exists(workdir, name):
            raise ConfigError(f"{workdir.path} was not fine-tuned as {name}: {how_to_finetune(workdir, name)}")
        file = workdir.phase(f"{FOLDER}/{name}") / "config.json"
        values = read_json(file)
        try:
            settings = FinetuneConfig(**values.pop("finetune"))
            return cls(workdir, name, values.pop("dataset"), settings, **values)
        except TypeError as error:
            raise ConfigError(f"{file} was written by another version of realm_jax: {error}") from error

    @classmethod
    def create(cls, workdir: Workdir, name: str, dataset: str, settings: FinetuneConfig, **files: Any) -> "Finetuning":
        """Begins a fine-tuning, or goes on with the same settings and questions; fixes the number of epochs.

        Args:
            files: `dev`, `columns` and `content` as above.

        Raises:
            ConfigError: it was begun with other settings, or other questions whatever their file's name.
        """
        settings = presets.with_epochs(settings, dataset)
        finetuning = cls(workdir, name, dataset, settings, **files)
        dataclasses.replace(workdir.config, finetune=settings).check()
        if cls.exists(workdir, name):
            differ = finetuning._differences(cls.open(workdir, name))
            if differ:
                raise ConfigError(
                    f"{finetuning.folder} was begun with other settings ({'; '.join(differ)}): "
                    "pass --name=ANOTHER, or drop these flags"
                )
        values = {"dataset": dataset, "dev": finetuning.dev, "columns": finetuning.columns}
        values |= {"content": finetuning.content, "finetune": dataclasses.asdict(settings)}
        write_json(finetuning.folder / "config.json", values)
        return finetuning

    def _differences(self, begun: "Finetuning") -> list[str]:
        """Settings and questions that differ from those it was begun with; questions without a hash, by their path."""
        free = dict.fromkeys(CHANGEABLE["finetune"])
        ours, theirs = (dataclasses.asdict(f.config.finetune) | free for f in (self, begun))
        if self.content and begun.content:
            asked = {"train": "training questions", "dev": "development questions"}
            why = ", since the corpus has changed" if self.dataset == "cloze" else ""
            differ = (what for split, what in asked.items() if self.content[split] != begun.content[split])
            changed = [f"other {what}{why}" for what in differ]
        else:
            changed = []
            ours, theirs = (
                {"dataset": datasets.from_anywhere(f.dataset), "dev": datasets.from_anywhere(f.dev), **settings}
                for f, settings in ((self, ours), (begun, theirs))
            )
        return [
            f"{key}: {ours[key]!r} here, {theirs[key]!r} there" for key in ours if ours[key] != theirs[key]
        ] + changed

    def train_questions(self, data: RunData, data_dir: str) -> list[Question]:
        """The questions that it was trained on, read again. Raises ConfigError if they have changed."""
        files = {"data_dir": data_dir, "dev": self.dev, "columns": self.columns}
        found = datasets.load(self.dataset, "train", **files, run=data, config=self.config)
        if self.content and content_hash(found) != self.content["train"]:
            raise ConfigError(f"{self.dataset}: is not what {self.folder} was trained on: restore it")
        return found

    @property
    def is_done(self) -> bool:
        """True once it has trained all its steps."""
        return self.workdir.is_done(self.phase)

    @property
    def source(self) -> dict:
        """Phase and step of the checkpoint that it starts from, as the manifest of an index version names them."""
        phase = self.config.finetune.retriever_from
        if phase == "pretrain" and self.workdir.is_done("init") and not self.workdir.is_done("pretrain"):
            phase = "init"  # converted: there is nothing else
        steps = {"pretrain": self.config.pretrain.steps, "ict": self.config.ict.steps, "init": 0}
        return {"phase": phase, "step": steps[phase]}

    def first_params(self) -> dict:
        """`embedder` as two towers and `reader`, on the host.

        They are the retriever's and the encoder's last weights, and a span scorer at random unless the run was
        converted with one.

        Raises:
            ConfigError: a phase that the settings name is not done.
        """
        towers = self._trained(self.source["phase"], "embedder")
        return {
            "embedder": {side: jax.tree.map(np.array, embedder.tower(towers, side)) for side in ("query", "block")},
            "reader": self._first_reader(),
        }

    def _first_reader(self) -> dict:
        config, workdir = self.config, self.workdir
        phase = config.finetune.encoder_from
        if has_converted_reader(workdir):
            return phases.first_params(workdir, ("reader",))["reader"]
        if workdir.is_done("init") and not workdir.is_done("pretrain"):
            phase = "init"
        first = jax.device_get(reader.init(config.model, jax.random.key(config.seed)))
        return {**first, "bert": self._trained(phase, "encoder")["bert"]}

    def _trained(self, phase: str, part: Part) -> dict:
        """A part of the run's parameters after a phase; after `init`, those that it began with."""
        of = phases.first_params if phase == "init" else functools.partial(phases.last_params, phase=phase)
        return of(self.workdir, parts=(part,))[part]

    def index_store(self, data: RunData, params: dict) -> IndexStore:
        """Index versions made by the block tower of `params`: the run's, or our own, of which the first is built."""
        run = IndexStore(self.workdir.index_folder)
        newest = run.latest()
        if self.config.finetune.train_retriever != "both" and newest is not None and self._embedded(newest):
            return run
        own = IndexStore(self.folder / "index")
        if processes.from_first(own.latest() is None):
            self.index_builder(own, data).build(0, params["embedder"], embedded_by=self.source)
        return own

    def _embedded(self, version: Version) -> bool:
        """Whether the embedder that it starts from made the version."""
        if self.source["phase"] == "init" and not self.workdir.is_done("ict"):
            return version.step == 0  # converted: published embeddings, or made from the converted weights
        return version.manifest.get("embedded_by") == self.source

    def index_builder(self, store: IndexStore, data: RunData) -> IndexBuilder:
        """The builder of the fine-tuning's own index versions."""
        search = search_to_build(self.config, data.knowledge.num_blocks)
        return IndexBuilder(with_search(self.config, search), data, store, self.phase)

    def index_of(self, data: RunData, params: dict, store: IndexStore) -> LoadedIndex:
        """The index to search with `params`: the newest version, or fresh embeddings if the block tower learns.

        Where the block tower learns and the corpus is too large for that, it is the newest version, too, whose weights
        are up to `finetune.index_refresh_every` steps older.
        """
        if self.config.finetune.train_retriever == "both" and not is_too_large(self.config, data.knowledge):
            return exact_index(self.config, data.knowledge, params["embedder"], self.name)
        version = store.latest()
        return load(version, data.knowledge, self.config.index, search_to_use(self.config, version))

    def best_params(self) -> dict:
        """The parameters with the best exact match on the development questions, on the host.

        Those of a converted reader are as they came.

        Raises:
            ConfigError: there is no evaluation yet.
        """
        best = BestParams(self.folder, METRIC)
        if best.step is None and has_converted_reader(self.workdir):
            return self.first_params()
        if best.step is None:
            raise ConfigError(f"{self.folder} has no checkpoint yet: {how_to_finetune(self.workdir, self.name)}")
        like = jax.eval_shape(functools.partial(_two_towers, self.config), jax.random.key(0))
        return best.restore(like)


def _two_towers(config: Config, rng: jax.Array) -> dict:
    """Parameters of the shapes that are fine-tuned."""
    towers = embedder.init(config.model, rng)
    sides = {side: embedder.tower(towers, side) for side in ("query", "block")}
    return {"embedder": sides, "reader": reader.init(config.model, rng)}


def has_converted_reader(workdir: Workdir) -> bool:
    """Whether the run was converted from a checkpoint that is fine-tuned already, and not pre-trained further."""
    return workdir.is_done("init") and not workdir.is_done("pretrain") and "reader" in phases.converted_parts(workdir)


def finetunings(workdir: Workdir) -> list[str]:
    """Names of the run's fine-tunings that can be evaluated, newest last; a converted one comes first."""
    files = [f for f in (workdir.path / FOLDER).glob("*/evaluations.json") if BestParams(f.parent, METRIC).past]
    converted = [CONVERTED] if has_converted_reader(workdir) else []
    return converted + [file.parent.name for file in sorted(files, key=lambda file: file.stat().mtime)]


def how_to_finetune(workdir: Workdir, dataset: str) -> str:
    """Says which command fine-tunes the run."""
    return f"run realm finetune --workdir={workdir.path} --dataset={dataset}"
