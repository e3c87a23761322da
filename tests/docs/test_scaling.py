"""The figures of docs/scaling.md: the planner's are calculated a second time, measured ones are the results'."""

import json
import statistics

import pytest
from documented import REPOSITORY

from realm_jax.config import PretrainConfig
from realm_jax.experiments import base_wikipedia

PAGE = (REPOSITORY / "docs" / "scaling.md").read_text()
BASE, BLOCKS = {"h": 768, "layers": 12}, 13_353_718
VOCAB, PARAMETERS = 30522, 219_095_226


def bert(length: int, h: int, layers: int) -> int:
    return layers * length * (4 * h * h + 2 * h * 4 * h + 2 * length * h)


def step(batch: int, h: int, layers: int) -> int:
    """FLOPs with 8 candidates, lengths 96 and 288, 10 predictions."""
    shape = {"h": h, "layers": layers}
    embedder = batch * bert(96, **shape) + 7 * batch * bert(288, **shape)
    encoder = 7 * batch * bert(384, **shape) + batch * bert(96, **shape)
    return 6 * (embedder + encoder + bert(3, **shape) + batch * 10 * 8 * h * (h + VOCAB))


def result(name: str) -> dict:
    return json.loads((REPOSITORY / "benchmarks" / "results" / f"{name}.json").read_text())["values"]


def padded_rows() -> list[dict]:
    return [row for row in result("pretrain_step")["rows"] if row["row"] == "padded"]


@pytest.mark.parametrize(("row", "shape"), list(zip(padded_rows(), [(128, 2), (384, 6)], strict=True)))
def test_the_formula_and_what_was_measured(row, shape):
    calculated = step(row["batch"], *shape) / 1e9
    assert calculated == pytest.approx(row["our_gflop"], rel=1e-3)
    assert f"{calculated:,.1f} GFLOP" in PAGE or f"{calculated:,.0f} GFLOP" in PAGE
    rate = row["our_examples_per_s"]
    assert f"{row['batch'] / rate:.2f} s" in PAGE and f"{rate:.2f}" in PAGE
    assert f"{row['share_of_matmul_rate']:.0%}" in PAGE


def test_calculated_figures():
    one, refresh = step(512, **BASE), 2 * BLOCKS * bert(288, **BASE)
    ict = 6 * 4096 * (bert(64, **BASE) + bert(288, **BASE)) * 100_000
    figures = [f"{one:.2e}", f"{one * 200_000:.2e}", f"{ict:.2e}", f"{refresh:.2e}", f"{refresh * 400:.2e}"]
    for figure in figures:
        assert f"{figure.replace('e+', 'e')} FLOP" in PAGE


def plan_row(what: str) -> list[float]:
    """A row of the plans: v3-8, v4-32, h100x8."""
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| {what} |")]
    return [float(cell.split()[0].replace(",", "")) for cell in row.split("|")[2:-1]]


SUSTAINED = [0.4 * peak for peak in (8 * 61.5e12, 16 * 275e12, 8 * 989e12)]
"""FLOP/s of all devices of each machine, at the share of their peak that the page assumes."""


def test_hours_of_the_papers_run():
    config, forward = base_wikipedia.get_config(), step(512, **BASE) / 3
    passes = 3 + config.model.gradient_checkpointing + bool(config.pretrain.micro_candidates)
    # The head is not computed again, and few of its slots are used; queries are embedded once more.
    for found, rate in zip(plan_row("pre-training: seconds a step"), SUSTAINED, strict=True):
        assert found == pytest.approx(forward * passes / rate, rel=0.02)
    for found, a_step in zip(plan_row("pre-training: hours"), plan_row("pre-training: seconds a step"), strict=True):
        assert found == pytest.approx(200_000 * a_step / 3600, rel=0.01)
    passes = 3 + config.model.gradient_checkpointing + bool(config.ict.micro_batch)
    ict = 2 * 4096 * (bert(64, **BASE) + bert(288, **BASE)) * passes
    for found, rate in zip(plan_row("ICT: seconds a step"), SUSTAINED, strict=True):
        assert found == pytest.approx(ict / rate, rel=0.01)


def test_devices_that_keep_the_index_fresh():
    refresh = 2 * BLOCKS * bert(288, **BASE)
    of_a_device = [rate / devices for rate, devices in zip(SUSTAINED, (8, 16, 8), strict=True)]
    every = [500 * seconds for seconds in plan_row("pre-training: seconds a step")]
    for found, rate, interval in zip(
        plan_row("devices that build one every 500 steps"), of_a_device, every, strict=True
    ):
        assert found - 1.1 <= refresh / rate / interval <= found + 0.1
    for found, rate in zip(plan_row("an index version, minutes"), SUSTAINED, strict=True):
        assert found == pytest.approx(refresh / rate / 60, abs=0.5)


def memory_row(what: str) -> str:
    """A row of the table of memory."""
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| {what} |")]
    return row


def test_calculated_bytes():
    assert result("convert_published")["parameters"] == PARAMETERS
    for size in (PARAMETERS * 12, PARAMETERS * 4):
        assert f"{size / 1e9:.1f} GB" in memory_row("parameters and optimizer")
    for what in ("embeddings of one version", "exact search of a version"):  # float32, and bfloat16
        assert f"| {BLOCKS * 512 / 1e9:.1f} GB ({BLOCKS * 256 / 1e9:.1f} GB)" in memory_row(what)
    sample = f"{PretrainConfig().eval_blocks * 512 / 1e9:.1f} GB"
    in_all = f"with 0, {BLOCKS * 512 / 1e9:.1f} GB each |"
    assert f"| {sample} on the host and {sample} over its devices; {in_all}" in memory_row(
        "exact search of an evaluation"
    )


def test_bytes_that_follow_from_measured_ones():
    short, long = result("corpus_memory"), result("long_blocks_memory")
    for what, figure in {"ScaNN, built": " in a build", "ScaNN, open": ""}.items():
        measured = short[f"scann: anonymous bytes a block{figure}"]
        assert f"measured: {measured:,.0f} bytes a block" in memory_row(what)
        assert f"| {BLOCKS * measured / 1e9:.1f} GB" in memory_row(what)
    for memory in (long, short):
        on_disk = memory["corpus on disk, bytes a block"]
        length, spans = memory["mean block length in wordpieces"], memory["mean spans of a block"]
        assert f"{on_disk:,} bytes a block at {length:.0f} wordpieces and {spans:.0f} spans" in memory_row("corpus")
        assert f"{BLOCKS * on_disk / 1e9:.1f} GB" in memory_row("corpus")
    assert f"measured at {short['blocks']:,} synthetic blocks" in PAGE
    built = long["scann: anonymous bytes a block in a build"]
    fewer = f"ScaNN over {long['blocks']:,} takes {built:,.0f} bytes a block"
    assert f"{long['blocks']:,} of the long ones" in PAGE and fewer in PAGE


def test_measured_figures():
    run = result("nano")["realm"]
    build = statistics.median(run["index"]["publish_seconds"][1:-1])  # beside the trainer
    seconds = run["phase_seconds"]["pretrain"] / 800
    assert f"takes {build:.0f} s, a step {seconds:.2f} s, hence {build / seconds:.0f}" in PAGE.replace("\n", " ")
    ages = [adopted["trainer_step"] - adopted["step"] for adopted in run["index"]["adopted"][1:]]
    assert f"adopted its versions {min(ages)} to {max(ages)} steps after" in PAGE
    for phase, name in {"ict": "ICT", "pretrain": "REALM", "evaluation": "evaluation"}.items():
        assert f"{name} {run['phase_seconds'][phase]:.0f} s" in PAGE
    assert f"{run['peak_memory_mib']['together'] * 2**20 / 1e9:.1f} GB at the peak" in PAGE
    searches = {row["search"]: row for row in result("index_recall")["rows"] if row.get("leaves_share", 0.1) == 0.1}
    assert f"{searches['exact']['queries_per_s']:,} queries" in PAGE
    assert f"{searches['scann tree_ah']['queries_per_s']:,} queries" in PAGE
    rates = [result("finetune_step")[name]["questions_per_second"] for name in ("as long as leads", "full blocks")]
    assert "{:.1f} questions a second, {:.1f} where all blocks are full".format(*rates) in PAGE
    assert f"{result('build_corpus')['22 GB of bz2']['core_hours']} core-hours" in PAGE


def test_planned_memory_is_the_compilers():
    rows = result("plan")["memory"]
    assert f"of the {len(rows)} steps of `benchmarks/plan.py`" in PAGE and "within 10% of" in PAGE
    assert all(abs(row["planned_bytes"] / row["compiled_bytes"] - 1) < 0.1 for row in rows)
