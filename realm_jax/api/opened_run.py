"""A run that is opened from Python: it searches, fills blanks, answers, embeds, and takes new texts."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, overload

import jax
import numpy as np
from jaxtyping import Float

from realm_jax import parallel, paths
from realm_jax.api import evaluated
from realm_jax.api.evaluated import Evaluation
from realm_jax.api.shown import Page
from realm_jax.buckets import check_reach
from realm_jax.config import Config, ConfigError
from realm_jax.eval.examples import describe
from realm_jax.eval.heldout import heldout_set
from realm_jax.eval.run_plots import finetuning_plots, run_plots
from realm_jax.eval.summary import index_facts
from realm_jax.index.loaded_index import open_exact
from realm_jax.index.store import IndexStore
from realm_jax.inference import change
from realm_jax.inference.answered import Answered
from realm_jax.inference.filled import Filled
from realm_jax.inference.results import Changed, Hit, IndexVersion, Results
from realm_jax.inference.state import Loader, State, heldout_sentences, nothing_to_search
from realm_jax.openqa.retriever import Retriever
from realm_jax.records import Block, Question
from realm_jax.report import Plot, parts_as_markdown
from realm_jax.workdir import Workdir, newest, read_json, read_json_lines


def open_run(
    workdir: str | os.PathLike = "",
    *,
    finetuning: str = "",
    version: str = "",
    device: Literal["accelerator", "cpu"] = "accelerator",
) -> "Run":
    """Opens a run with what is newest in it: parameters, index version and fine-tuning.

    It follows nothing by itself: `Run.refresh` takes what is newer. Models are loaded when they are first needed.

    Args:
        workdir: folder of the run, also while it trains; the newest under `runs/` by default.
        finetuning: name of the fine-tuning that answers questions; the newest by default.
        version: name of the index version to search, from `Run.index.versions()`; the newest by default.
        device: `cpu` leaves the accelerator to training. It holds for all of this process, and must be said before
            JAX has computed anything.

    Raises:
        ConfigError: there is no such run, fine-tuning or index version.
    """
    if device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    parallel.set_up_compilation_cache()
    path = paths.expand(os.fspath(workdir)) or str(newest())
    check_reach(path)
    return Run(Workdir.open(path), finetuning=finetuning, version=version)


class Run:
    """An opened run, from `realm_jax.open`. After a `with` block it gives up its index versions.

    The versions that it searches are pinned: the index builder deletes none of them while the run is open.
    """

    def __init__(self, workdir: Workdir, *, finetuning: str = "", version: str = ""):
        self.workdir = workdir
        self._loader = Loader(workdir, finetuning, version)
        try:
            self._state: State = self._loader.load(self._loader.key())
        except ConfigError:
            self._loader.close()
            raise

    def __repr__(self) -> str:
        version = self._state.version.name if self._state.version else "no index version"
        return f"{self.config.name}: {self.workdir.path}, {version}"

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives up the pins of its index versions. A closed run still answers until these are deleted."""
        self._state.unpin()
        self._loader.close()

    def refresh(self) -> bool:
        """Takes newer parameters, index versions and fine-tunings. Returns whether there were any."""
        key = self._loader.key()
        if key == self._state.key:
            return False
        before, self._state = self._state, self._loader.load(key)
        before.unpin(but=self._state)
        return True

    @overload
    def search(self, texts: str, k: int = 5) -> Results[Hit]: ...
    @overload
    def search(self, texts: Sequence[str], k: int = 5) -> list[Results[Hit]]: ...
    def search(self, texts, k=5):
        """Finds the k blocks of the highest retrieval score f(x, z), exactly (Guu et al. 2020, §3.1).

        The query tower is that of the fine-tuning if there is one, else that of pre-training.

        Args:
            texts: a query, or several; each is cut to `finetune.question_len_tokens` wordpieces, or
                `pretrain.query_len_tokens` without a fine-tuning.
            k: blocks for each; there are fewer if the corpus has no more.

        Returns:
            the blocks by score; for several texts, a list of such lists.

        Raises:
            ConfigError: there is no index yet.
        """
        if k < 1:
            raise ConfigError(f"k={k}: nothing can be found: pass a number of 1 or more")
        queries, corpus = [texts] if isinstance(texts, str) else list(texts), self._state.data.knowledge
        if not queries:
            return []
        retriever = self._retriever()
        blocks, scores = retriever.search(self.embed(queries), k)
        found = [
            Results(_hit(corpus.block(block), score) for block, score in zip(*row, strict=True) if block >= 0)
            for row in zip(blocks.tolist(), scores.tolist(), strict=True)
        ]
        return found[0] if isinstance(texts, str) else found

    def embed(
        self, texts: Sequence[str] | Sequence[tuple[str, str]], side: Literal["query", "block"] = "query"
    ) -> Float[np.ndarray, "texts dim"]:
        """Embeds texts with one tower of the retriever; inner products of the two sides are retrieval scores.

        Args:
            texts: queries for `side="query"`, pairs of title and text for `side="block"`; longer ones are cut, blocks
                to `corpus.block_len_tokens` wordpieces.

        Returns:
            float32 [texts, dim]; dim is `model.projection_dim`.

        Raises:
            ConfigError: there is no checkpoint with an index yet, or the texts are not of the side's kind.
        """
        retriever, texts = self._retriever(), list(texts)
        kind = {"query": str, "block": (tuple, list)}.get(side)
        if kind is None or not all(isinstance(text, kind) for text in texts):
            raise ConfigError(f'side={side!r}: pass texts with side="query", (title, text) pairs with side="block"')
        if not texts:
            return np.zeros((0, self.config.model.projection_dim), np.float32)
        if side == "block":
            return retriever.embed_blocks([(title, text) for title, text in texts])
        return retriever.encode([Question("", text) for text in texts])[1]

    def fill(self, text: str) -> Filled:
        """Fills every [MASK] by p(y|x) = sum_z p(y|z,x) p(z|x) over the retrieved blocks and the null block (§3.1).

        Raises:
            ConfigError: the text has no [MASK], or there is no checkpoint with an index yet.
        """
        return self._state.fill(text)

    def ask(self, question: str) -> Answered:
        """Answers a question by a span of the blocks that are retrieved for it, with the fine-tuned reader (§3.3).

        Raises:
            ConfigError: the run is not fine-tuned; the message has the command that does it.
        """
        return self._state.ask(question)

    def add(self, records: Iterable[Mapping[str, str]]) -> Changed:
        """Adds records {"id", "title", "text"} to the knowledge corpus for good, and searches them from now on.

        Nothing is trained: the block tower that made the index embeds them. The workdir changes for all its users.

        Raises:
            ConfigError: an id is in the corpus already, a record lacks a text, or another process changes the corpus.
        """
        return self._changed(change.add(self.workdir, records))

    def delete(self, record_ids: Iterable[str]) -> Changed:
        """Deletes records by their ids for good: none of their blocks is found any more. Twice in a row is once.

        Raises:
            ConfigError: an id is not in the corpus, or another process changes it.
        """
        ids = [record_ids] if isinstance(record_ids, str) else record_ids
        return self._changed(change.delete(self.workdir, ids))

    def _changed(self, changed: Changed) -> Changed:
        self.refresh()
        self._state.pin()  # the update gave up this process's pins
        return changed

    def _retriever(self) -> Retriever:
        if self._state.retriever is None:
            raise ConfigError(nothing_to_search(self.workdir))
        return self._state.retriever

    @property
    def config(self) -> Config:
        """The settings that the run was made with."""
        return self.workdir.config

    @property
    def index(self) -> "RunIndex":
        """The index versions on disk."""
        return RunIndex(self.workdir)

    @property
    def summary(self) -> dict[str, Any]:
        """What the run measured at its end: states on held-out sentences, the index, time and memory.

        Raises:
            ConfigError: the run is not finished.
        """
        if not self.workdir.summary_file.exists():
            raise ConfigError(f"{self.workdir.path} has no summary yet: run realm run --workdir={self.workdir.path}")
        return read_json(self.workdir.summary_file)

    def metrics(self, phase: str) -> list[dict[str, int | float | None]]:
        """What a phase logged: a dict for each line, with `step` and every metric; losses are nats a wordpiece.

        Args:
            phase: `ict`, `pretrain` or `finetune/NAME`.

        Raises:
            ConfigError: there is no such phase, or it has logged nothing yet.
        """
        lines, _ = read_json_lines(self.workdir.phase(phase) / "metrics.jsonl")
        if not lines:
            folders = ("*", "finetune/*")
            files = [file for folder in folders for file in self.workdir.path.glob(f"{folder}/metrics.jsonl")]
            known = sorted(file.parent.relative_to(self.workdir.path).as_posix() for file in files)
            raise ConfigError(
                f"{self.workdir.path} has no metrics of {phase}: there are those of {known or 'no phase'}"
            )
        return lines

    def curves(self, *names: str) -> Results[Plot]:
        """Curves of training: losses, utility, recall by index version, index age; those of the given names, or all.

        Raises:
            ConfigError: there is no curve of a name.
        """
        plots = [*run_plots(self.workdir, index_facts(self.workdir)), *finetuning_plots(self.workdir)]
        missing = set(names) - {plot.name for plot in plots}
        if missing:
            known = ", ".join(plot.name for plot in plots) or "none yet"
            raise ConfigError(f"{self.workdir.path} has no curve {sorted(missing)[0]}: there are {known}")
        return Results(plot for plot in plots if not names or plot.name in names)

    def report(self, section: str = "") -> Page:
        """The run's report on its held-out sentences, or a section of it: the one whose title begins so.

        Raises:
            ConfigError: the run is not finished, or has no such section.
        """
        file = self.workdir.path / "report.md"
        if not file.exists():
            raise ConfigError(f"{self.workdir.path} has no report yet: run realm run --workdir={self.workdir.path}")
        page = Page(file.read_text(encoding="utf-8"))
        return page.section(section) if section else page

    def evaluation(self, name: str = "") -> Evaluation:
        """The report of an evaluation on questions, as `realm_jax.evaluate` gives it; the newest by default.

        Args:
            name: name of its folder in `eval/`, which begins with the dataset's name.

        Raises:
            ConfigError: there is none.
        """
        return evaluated.read(self.workdir, name)

    def heldout(self, count: int = 4) -> tuple[str, ...]:
        """Held-out sentences of the run's own corpus with a [MASK], to be filled; none if nothing is held out."""
        return heldout_sentences(self._state.data, self.config, count)

    def examples(self, count: int = 3) -> Page:
        """Held-out sentences with what is retrieved: p(z|x), the block's own guess, and r(z), what a block was worth.

        Raises:
            ConfigError: there is no checkpoint with an index yet, or nothing is held out.
        """
        state = self._state
        if state.filler is None:
            raise ConfigError(nothing_to_search(self.workdir))
        heldout = heldout_set(self.config, state.data)
        search = open_exact(state.version, state.data.knowledge).search
        parts = describe(self.config, state.data, heldout, state.params, search, count)
        return Page(parts_as_markdown(parts))


class RunIndex:
    """The run's own index: versions, each made with the retriever's weights of one training step."""

    def __init__(self, workdir: Workdir):
        self._store = IndexStore(workdir.index_folder)

    def versions(self) -> Results[IndexVersion]:
        """The versions on disk, the newest last; none before the first."""
        return Results(
            IndexVersion(
                name=version.name,
                step=version.step,
                blocks=version.manifest["num_blocks"],
                built=version.manifest["finished"],
                seconds=version.manifest["seconds"],
                recall=version.manifest.get("probe", {}),
            )
            for version in self._store.whole_versions()
        )

    def history(self) -> list[dict]:
        """What happened: versions that were published, adopted by the trainer or pruned, the oldest event first."""
        return self._store.history()


def _hit(block: Block, score: float) -> Hit:
    return Hit(block.index, block.source_id, block.title, block.text, score)
