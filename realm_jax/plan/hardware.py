"""The one table of machines that a run can be planned for, each figure with its source.

A device is what JAX counts as one: a TensorCore of a TPU v3, a chip of all later TPUs, a GPU, or all cores of a CPU. A
CPU's peak is not in any table: a short matmul measures it where the plan is made.
"""

import os
import time
from dataclasses import dataclass

import numpy as np
import psutil

from realm_jax.config import ConfigError
from realm_jax.plan.device_memory import Platform

GIB, GB = 2**30, 10**9
TPU_DOCS, NVIDIA = "https://cloud.google.com/tpu/docs/", "https://www.nvidia.com/en-us/data-center/"
CPU = "cpu"
MATMUL_ROWS, MATMUL_SECONDS = 64, 0.1


@dataclass(frozen=True)
class Hardware:
    """One machine or slice."""

    name: str
    devices: int
    """Devices over all hosts, as JAX counts them."""
    peak_flops: float
    """FLOP/s of a device: dense bfloat16 of accelerators, float32 of a CPU."""
    memory_bytes: int
    """Memory of a device."""
    bandwidth: float
    """Bytes a second between a device and its memory; 0 where it is not known."""
    hosts: int
    host_memory_bytes: int
    """Memory of one host; 0 where its maker's page does not say."""
    kind: str
    """How JAX's `device_kind` of such a device begins."""
    source: str

    @property
    def is_cpu(self) -> bool:
        """Whether trainer and builder share the host's cores and memory."""
        return self.name == CPU

    @property
    def platform(self) -> Platform:
        """JAX's name of what it is."""
        return "cpu" if self.is_cpu else "tpu" if self.kind.startswith("TPU") else "gpu"

    @property
    def says(self) -> str:
        """What people call it."""
        return f"{_cores()} CPU cores" if self.is_cpu else self.name


# Of a v3, a device is half a chip: 123 TFLOP/s, 32 GiB and 900 GB/s a chip of two TensorCores. The hosts of eight GPUs
# are Google Cloud's a2-ultragpu-8g and a3-highgpu-8g. NVIDIA prints twice these peaks, with sparsity.
_ACCELERATORS = [
    Hardware("v3-8", 8, 61.5e12, 16 * GIB, 450e9, 1, 0, "TPU v3", f"{TPU_DOCS}v3"),
    Hardware("v4-8", 4, 275e12, 32 * GIB, 1200e9, 1, 0, "TPU v4", f"{TPU_DOCS}v4"),
    Hardware("v4-32", 16, 275e12, 32 * GIB, 1200e9, 4, 0, "TPU v4", f"{TPU_DOCS}v4"),
    Hardware("v5e-8", 8, 197e12, 16 * GB, 819e9, 1, 512 * GIB, "TPU v5 lite", f"{TPU_DOCS}v5e"),
    Hardware("v5p-8", 4, 459e12, 95 * GB, 2765e9, 1, 0, "TPU v5", f"{TPU_DOCS}v5p"),
    Hardware("v6e-8", 8, 918e12, 32 * GB, 1638e9, 1, 1536 * GIB, "TPU v6 lite", f"{TPU_DOCS}v6e"),
    Hardware("a100x8", 8, 312e12, 80 * GB, 2039e9, 1, 1360 * GB, "NVIDIA A100-SXM4-80GB", f"{NVIDIA}a100/"),
    Hardware("h100x8", 8, 989e12, 80 * GB, 3350e9, 1, 1872 * GB, "NVIDIA H100 80GB HBM3", f"{NVIDIA}h100/"),
    Hardware("h200", 1, 989e12, 141 * GB, 4800e9, 1, 0, "NVIDIA H200", f"{NVIDIA}h200/"),
]
_BY_NAME = {hardware.name: hardware for hardware in _ACCELERATORS}
NAMES = [*_BY_NAME, CPU]


def named(name: str) -> Hardware:
    """Looks a machine up; `cpu` is this machine, whose speed is measured.

    Raises:
        ConfigError: the table has no such machine.
    """
    if name == CPU:
        return this_cpu()
    if name not in _BY_NAME:
        raise ConfigError(f"--hardware={name!r} is unknown: use one of {', '.join(NAMES)}")
    return _BY_NAME[name]


def of_devices(kind: str, devices: int, hosts: int) -> Hardware | None:
    """The machine that JAX's devices belong to; None for a kind that the table lacks.

    Args:
        kind: `device_kind` of a device.
        devices, hosts: how many there are in all.
    """
    if kind == CPU:
        return this_cpu()
    like = [row for row in _ACCELERATORS if kind.startswith(row.kind)]
    if not like:
        return None
    row = max(like, key=lambda row: (len(row.kind), row.devices == devices))  # "TPU v5 lite" begins like "TPU v5"
    name = row.name if row.devices == devices else f"{devices} x {row.kind}"
    found = {**vars(row), "name": name, "devices": devices, "hosts": hosts}
    return Hardware(**found)


def this_cpu() -> Hardware:
    """This machine: one device of all cores, as JAX has it, with the speed of float32 matmuls."""
    memory, peak = psutil.virtual_memory().total, _cores() * _core_flops()
    return Hardware(CPU, 1, peak, memory, 0.0, 1, memory, CPU, "matmuls on this machine")


def _cores() -> int:
    """Cores of this machine; two threads of one core count once, since they share its arithmetic."""
    return psutil.cpu_count(logical=False) or os.cpu_count() or 1


def _core_flops() -> float:
    """FLOP/s of one core: the best of many matmuls, so small that NumPy takes one thread for them.

    Two threads wait for each other: where other processes have a core, every such matmul takes a time slice.
    """
    matrix = np.random.default_rng(0).standard_normal((MATMUL_ROWS, MATMUL_ROWS), np.float32)
    best, end = float("inf"), time.perf_counter() + MATMUL_SECONDS
    while True:
        started = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - started)
        if time.perf_counter() > end:
            return 2 * MATMUL_ROWS**3 / best
