"""How fine-tuning finds the beam of a question: exactly where that is feasible, else by ScaNN.

How much of the exact beam ScaNN finds is measured once, on training questions with the first weights. Exact search of
5,000 blocks streams the whole matrix: accelerators that hold it take a moment for 13 million blocks, a CPU takes a
minute a step.
"""

import logging
from collections.abc import Sequence

import numpy as np
from etils import epath
from jaxtyping import Bool, Float

from realm_jax import parallel
from realm_jax.config import Config, ConfigError
from realm_jax.data.prepare import RunData
from realm_jax.index.embed_blocks import TowerEmbedder
from realm_jax.index.exact import search_in_parts
from realm_jax.index.loaded_index import LoadedIndex, load
from realm_jax.index.probe import embed_queries
from realm_jax.index.store import IndexStore
from realm_jax.index.version import Version
from realm_jax.openqa.inputs import question_tokens
from realm_jax.records import Question
from realm_jax.workdir import read_json, write_json

log = logging.getLogger(__name__)

EXACT_BLOCKS = 1_000_000  # up to which the search is exact on any device
SHARE_OF_MEMORY = 0.25  # of the accelerators, that embeddings may take
MEASURED_QUESTIONS = 200
SEARCH_BATCH = 16  # ScaNN gathers twice the beam for each question
FILE = "search.json"


def search_to_build(config: Config, num_blocks: int) -> str:
    """The search that a fine-tuning's own index versions are built for, on whatever devices it will go on."""
    if config.finetune.search != "auto":
        return config.finetune.search
    return "scann" if num_blocks > EXACT_BLOCKS and config.index.search == "scann" else "exact"


def search_to_use(config: Config, version: Version) -> str:
    """`exact` or `scann`, for an index version on this process's devices.

    Raises:
        ConfigError: ScaNN is asked for, and the version was built for another search.
    """
    wanted, manifest = config.finetune.search, version.manifest
    if wanted == "scann" and manifest["search"] != "scann":
        raise ConfigError(
            f"finetune.search=scann: {version.folder} was built for index.search={manifest['search']}: pass "
            "--finetune.search=exact, or make a run with --index.search=scann"
        )
    if wanted != "auto" or manifest["search"] != "scann" or manifest["num_blocks"] <= EXACT_BLOCKS:
        return "exact" if wanted == "auto" else wanted
    size = manifest["num_blocks"] * manifest["dim"] * (2 if manifest["dtype"] == "bfloat16" else 4)
    return "exact" if size <= SHARE_OF_MEMORY * parallel.memory_bytes() else "scann"


def measure_search(
    config: Config, data: RunData, store: IndexStore, params: dict, questions: Sequence[Question], folder: epath.Path
) -> None:
    """Writes and logs how much of the exact beam ScaNN finds for training questions; nothing where search is exact.

    Args:
        params: first weights of the fine-tuning.
        folder: of the fine-tuning; the measurement is kept there and not made again.
    """
    version = store.latest()
    if search_to_use(config, version) == "exact" or (folder / FILE).exists():
        return
    asked = list(questions[:MEASURED_QUESTIONS])
    tokens = question_tokens(asked, data.tokenizer, data.special, config.finetune.question_len_tokens)
    query_emb = embed_queries(TowerEmbedder(config, params["embedder"], "query"), tokens)
    index = load(version, data.knowledge, config.index, "scann")
    depth = min(config.finetune.beam_blocks, len(index.embeddings))
    recall = beam_recall(index, version.live_blocks(data.knowledge), query_emb, depth)
    found = {"search": "scann", "recall": round(recall, 4), "beam": depth, "questions": len(asked)}
    write_json(folder / FILE, {**found, "version": version.name})
    log.info(f"finetune: {said(folder)}")


def beam_recall(
    index: LoadedIndex, live: Bool[np.ndarray, " blocks"], query_emb: Float[np.ndarray, "questions dim"], k: int
) -> float:
    """Share of the k exact best live blocks of each query that the index's search finds among its k."""
    starts = range(0, len(query_emb), SEARCH_BATCH)
    found = np.concatenate([index.search.search(query_emb[start : start + SEARCH_BATCH], k)[0] for start in starts])
    exact, _ = search_in_parts(index.embeddings, live, query_emb, k)
    hits = sum(int(np.isin(theirs[theirs >= 0], ours).sum()) for ours, theirs in zip(found, exact, strict=True))
    return hits / max(int((exact >= 0).sum()), 1)


def said(folder: epath.Path) -> str:
    """A sentence on the search of a fine-tuning; empty where it is exact."""
    if not (folder / FILE).exists():
        return ""
    found = read_json(folder / FILE)
    share, asked = f"{100 * found['recall']:.1f}%", f"{found['questions']:,} training questions"
    return f"ScaNN finds {share} of the {found['beam']:,} best blocks of {asked}"
