"""Chooses how much of a run's index ScaNN looks at: the fastest settings that reach a recall.

    realm tune --workdir=W --recall=0.99

Measures recall@5 and queries a second of the newest index version on the run's own masked sentences, prints them, and
writes the chosen settings into the run's config: later index versions, training and evaluation use them. A process that
is at work in the run keeps its settings until it is started again.
"""

import dataclasses

import tyro

from realm_jax import lock
from realm_jax.commands import cli
from realm_jax.config import ConfigError
from realm_jax.workdir import TUNED

LEAST_QUERIES = 64


@dataclasses.dataclass(frozen=True)
class _Flags:
    workdir: cli.PathFlag = ""
    """Folder of the run (default: the newest under runs/)."""
    recall: float = 0.99
    """Share of the exact five best blocks of a query that the search has to find."""
    queries: int = 2048
    """How many masked sentences are searched for: one half chooses the settings, the other half judges them."""


def main(argv: list[str] | None = None) -> None:
    """Entry point."""
    flags = tyro.cli(_Flags, description="Choose the settings of a run's search by their recall.", args=argv)
    if not 0 < flags.recall <= 1:
        raise ConfigError(f"--recall={flags.recall}: pass a share in (0, 1], such as 0.99")
    if flags.queries < LEAST_QUERIES:
        raise ConfigError(f"--queries={flags.queries}: pass at least {LEAST_QUERIES}")
    workdir = cli.existing(flags.workdir)
    from realm_jax.data.prepare import open_prepared
    from realm_jax.index.store import IndexStore

    cli.start_jax(cpu_only=workdir.config.index.device == "cpu")
    data, store = open_prepared(workdir), IndexStore(workdir.index_folder)  # first: it finishes a killed compaction
    version = store.pin_latest()
    if version is None:
        raise ConfigError(f"{workdir.path} has no index version yet: run realm run --workdir={workdir.path}")
    try:
        _tune(workdir, version, data, flags)
    finally:
        store.unpin(version)


def _tune(workdir, version, data, flags: _Flags) -> None:
    from realm_jax.index import tuning
    from realm_jax.progress import Progress

    search = tuning.open_tunable(version, data, workdir.config.index)
    params = _embedder_params(workdir, version)
    query_emb, what = tuning.query_embeddings(version, data, workdir.config, params, flags.queries)
    blocks = version.manifest["num_blocks"]
    print(f"index of step {version.step}: {blocks:,} blocks; {len(query_emb):,} queries: {what}", flush=True)
    exact_ids = tuning.exact_best(version, data, query_emb)
    with Progress("tune: settings") as progress:
        tuned = tuning.tune(search, query_emb, exact_ids, flags.recall, progress)
    print(tuning.show(tuned))
    if tuned.chosen is None:
        best = max(tuned.rows, key=lambda row: row.recall)
        raise ConfigError(
            f"no settings of ScaNN reach recall@5 {flags.recall} here, the best {best.recall:.4f}: nothing was "
            "written; pass a lower --recall, or make a run with --index.search=exact"
        )
    _write(workdir, version, tuned, {"recall_wanted": flags.recall, "queries": len(query_emb), "queries_are": what})


def _embedder_params(workdir, version) -> dict:
    """The tower that made the index, if it embeds queries too; else the embedder of the run's last state."""
    if workdir.config.model.shared_tower and version.has_tower:
        return {"shared": version.load_tower()}
    from realm_jax.eval.zero_shot import embedder_states

    return list(embedder_states(workdir).values())[-1]


def _write(workdir, version, tuned, facts: dict) -> None:
    judged = tuned.judged
    facts |= {"recall_at_5": round(judged.recall, 4), "queries_per_s": round(judged.queries_per_s)}
    facts |= {"version": version.name, "blocks": version.manifest["num_blocks"]}
    before = {name: getattr(workdir.config.index, name) for name in TUNED}
    after = workdir.tune_index(judged.settings, facts).config.index
    for name, value in before.items():
        print(f"index.{name}: {value} before, now {getattr(after, name)}")
    print(f"recall@5 {judged.recall:.4f} and {judged.queries_per_s:,.0f} queries/s on the half that did not choose")
    print(f"written: {workdir.config_file}, {workdir.tuned_file}")
    if lock.is_held(workdir.trainer_lock):
        print("this run is being trained: its trainer and builder keep their settings until they are started again")
    print(f"next: realm eval --workdir={workdir.path} --only=recall", flush=True)
