"""benchmarks/gpu.py is for a machine that tests do not have: its parts run at tiny sizes, and its counts are right."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
BENCHMARKS = REPOSITORY / "benchmarks"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def dry_run(folder: pathlib.Path, *flags: str) -> tuple[dict, str]:
    """Values of a run in a copy of the scripts, and what it printed."""
    shutil.copytree(BENCHMARKS, folder / "benchmarks", ignore=shutil.ignore_patterns("__pycache__", "results"))
    command = [sys.executable, "benchmarks/gpu.py", "--dry_run", f"--out={folder / 'out'}", *flags]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "JAX_NUM_CPU_DEVICES": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    assert list((folder / "benchmarks" / "results").iterdir()) == []  # it measured nothing
    return json.loads((folder / "out" / "gpu_dry_run.json").read_text())["values"], done.stdout


def test_a_part_writes_its_rows_and_a_table_is_printed(tmp_path):
    values, printed = dry_run(tmp_path, "--parts=ceilings")
    device, matmul, copy = values["parts"]["ceilings"]["rows"]
    assert device["device"] == "cpu" and matmul["tflop_per_s"] > 0 and copy["tb_per_s"] > 0
    assert "**One GPU** (cpu: a bfloat16 matmul reaches" in printed and "Incomplete" not in printed


@pytest.mark.slow
@pytest.mark.long
def test_every_part_runs(tmp_path):
    values, printed = dry_run(tmp_path, "--minutes=60")
    errors = {name: part.get("error") for name, part in values["parts"].items()}
    assert set(errors.values()) == {None}
    failed = {row["attention"] for row in values["parts"]["attention"]["rows"] if "error" in row}
    assert failed == {"cudnn", "cudnn, padding skipped"}  # a CPU has none
    for part in ("step_base", "step_minilm", "step_base_checkpointed", "step_base_rbg"):
        rows = values["parts"][part]["rows"]
        assert [row["batch"] for row in rows] == [2, 4]  # the first size, then the largest that fits
        assert all(0 < row["real_tflop_per_s"] < row["padded_tflop_per_s"] for row in rows)
    rows = values["parts"]["search"]["rows"]
    assert [row["same_ids"] for row in rows if row["search"] == "lax.top_k"] == [1.0, 1.0]
    (row,) = values["parts"]["gradients_base"]["rows"]
    assert 1e-5 < row["relative_error"]["all"] < 0.5
    assert "| base, checkpointed |" in printed


def test_rows_before_a_failure_or_the_time_limit_are_kept():
    import gpu

    row = "print('row: {\"a\": 1}', flush=True)"
    failed = gpu.run([sys.executable, "-c", f"{row}; print('other'); raise SystemExit('no memory')"], 60)
    assert failed["rows"] == [{"a": 1}] and failed["error"] == "exit status 1: no memory" and "other" in failed["log"]
    hung = gpu.run([sys.executable, "-c", f"import time; {row}; time.sleep(60)"], 3)
    assert hung["rows"] == [{"a": 1}] and hung["error"] == "stopped after 3 s"


def test_the_table_copes_with_what_is_missing():
    import gpu_table

    values = {
        "parts": {"ceilings": {"rows": [], "error": "exit status 1: x"}, "search": {"skipped": "no time was left"}}
    }
    text = gpu_table.markdown(values)
    assert text.endswith("Incomplete: ceilings (exit status 1: x); search (no time was left).") and "|" not in text


def test_flops_of_real_wordpieces_are_those_of_each_sequence_alone():
    import flops

    from realm_jax.batches import PretrainBatch, Tokens
    from realm_jax.config import ModelConfig

    rng, macs, model = np.random.default_rng(0), 0, ModelConfig(num_layers=3, hidden_size=8, intermediate_size=20)

    def tokens(*shape: int) -> Tokens:
        nonlocal macs
        lengths = rng.integers(3, shape[-1] + 1, shape[:-1])
        for length in lengths.reshape(-1).tolist():
            macs += 3 * length * (4 * 8 * 8 + 2 * 8 * 20 + 2 * length * 8)
        mask = np.arange(shape[-1]) < lengths[..., None]
        return Tokens(mask * 7, mask, mask * 0)

    sequences = tokens(5, 9), tokens(5, 3, 20), tokens(5, 3, 29), tokens(5, 10)
    weights = np.repeat([[1, 0, 0], [1, 1, 0]], [4, 1], axis=0)
    batch = PretrainBatch(*sequences, np.ones((5, 4), bool), weights, weights, weights, np.arange(10))
    macs += 3 * 3 * (4 * 8 * 8 + 2 * 8 * 20 + 2 * 3 * 8) + 6 * 4 * 8 * (8 + 30522)
    assert flops.real_flops(model, batch) == 6 * macs
