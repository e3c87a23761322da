"""Writes what docs/scaling.md shows of the planner: the paper's run on three machines, its work, the table of hardware.

python docs/plans.py
python docs/plans.py --check      (for `make lint`: only compares)
"""

import pathlib

from marked import filled, write_or_check

from realm_jax import report
from realm_jax.config import Config
from realm_jax.experiments import base_wikipedia
from realm_jax.plan import corpus_size, hardware, plan_table, planned, work

PAGE = pathlib.Path(__file__).with_name("scaling.md")
BLOCKS = 13_353_718  # of the released REALM's Wikipedia
MACHINES = ("v3-8", "v4-32", "h100x8")
GIB, GB, TERA = 2**30, 10**9, 10**12


def main() -> None:
    write_or_check(PAGE, page(PAGE.read_text()))


def page(text: str) -> str:
    """The page with fresh tables between its marks."""
    config = base_wikipedia.get_config()
    corpus = corpus_size.assumed(BLOCKS, config.corpus.block_len_tokens)
    plans = [planned.plan(config, corpus, hardware.named(name)) for name in MACHINES]
    one = plans[0]
    fresh = {
        "plans": _table(plan_table.compared(plans)),
        "advice": "\n".join(f"- {plan.hardware.name}: {line}" for plan in plans for line in _advice(plan)),
        "sizes": "\n\n".join(map(_table, plan_table.tables(one)[1:])),
        "work": _work(config),
        "hardware": _hardware(),
    }
    return filled(PAGE, text, {name: content + "\n" for name, content in fresh.items()})


def _table(table: report.Table) -> str:
    return report.table(table.header, table.rows, table.words)


def _advice(plan: planned.Plan) -> list[str]:
    return [phase.advice for phase in plan.phases if phase.advice] or ["every phase fits."]


def _work(config: Config) -> str:
    step, ict = (work.of_step(config, phase).model for phase in ("pretrain", "ict"))
    embedding = work.of_embedding(config.model, [(BLOCKS, config.corpus.block_len_tokens)])
    refreshes = config.pretrain.steps // config.pretrain.index_refresh_every
    flops = {
        f"one step, B = {config.pretrain.batch_size}": step,
        f"{config.pretrain.steps:,} steps": step * config.pretrain.steps,
        f"ICT, {config.ict.steps:,} steps of {config.ict.batch_size:,}": ict * config.ict.steps,
        f"embedding {BLOCKS:,} blocks of {config.corpus.block_len_tokens} once": embedding,
        f"{refreshes} such refreshes": refreshes * embedding,
    }
    what = "BERT-base, lengths 96/288, k = 8"
    rows = [[name, f"{value:.2e} FLOP".replace("e+", "e")] for name, value in flops.items()]
    return report.table([what, "calculated"], rows, words=[what])


def _hardware() -> str:
    header = ["name", "devices", "hosts", "TFLOP/s", "GiB", "GB/s", "a host's GiB", "source"]
    rows = [
        [
            row.name,
            f"{row.devices}",
            f"{row.hosts}",
            f"{row.peak_flops / TERA:g}",
            f"{row.memory_bytes / GIB:.1f}",
            f"{row.bandwidth / GB:,.0f}",
            f"{row.host_memory_bytes / GIB:,.0f}" if row.host_memory_bytes else "",
            row.source,
        ]
        for row in map(hardware.named, hardware.NAMES)
        if not row.is_cpu
    ]
    return report.table(header, rows, words=["name", "source"])


if __name__ == "__main__":
    main()
