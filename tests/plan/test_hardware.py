"""The table of hardware: figures that follow from each other, and devices as JAX names them."""

import time

import pytest

from realm_jax.config import ConfigError
from realm_jax.plan import hardware

NAMED = [hardware.named(name) for name in hardware.NAMES if name != hardware.CPU]


def test_it_has_all_that_is_promised():
    assert set(hardware.NAMES) == {
        *("v3-8", "v4-8", "v4-32", "v5e-8", "v5p-8", "v6e-8", "a100x8", "h100x8", "h200", "cpu"),
    }


@pytest.mark.parametrize("machine", NAMED, ids=lambda machine: machine.name)
def test_each_row_is_whole(machine):
    assert machine.source.startswith("https://") and machine.devices % machine.hosts == 0
    assert 50e12 < machine.peak_flops < 1e15 and 15e9 < machine.memory_bytes < 150e9
    assert 50 < machine.peak_flops / machine.bandwidth < 600  # FLOPs a byte: the units are right


def test_a_slice_of_four_hosts_is_four_of_one():
    one, four = hardware.named("v4-8"), hardware.named("v4-32")
    assert (four.devices, four.hosts) == (4 * one.devices, 4 * one.hosts)
    assert (four.peak_flops, four.memory_bytes) == (one.peak_flops, one.memory_bytes)


@pytest.mark.parametrize(
    ("kind", "devices", "hosts", "name"),
    [
        ("TPU v3", 8, 1, "v3-8"),
        ("TPU v4", 16, 4, "v4-32"),
        ("TPU v5 lite", 8, 1, "v5e-8"),
        ("TPU v5", 4, 1, "v5p-8"),
        ("NVIDIA H100 80GB HBM3", 8, 1, "h100x8"),
        ("NVIDIA H100 80GB HBM3", 2, 1, "2 x NVIDIA H100 80GB HBM3"),
    ],
)
def test_devices_as_jax_names_them(kind, devices, hosts, name):
    found = hardware.of_devices(kind, devices, hosts)
    assert (found.name, found.devices, found.hosts) == (name, devices, hosts)


def test_devices_that_the_table_lacks():
    assert hardware.of_devices("TPU v2", 8, 1) is None
    assert hardware.of_devices("NVIDIA A100-SXM4-40GB", 8, 1) is None
    with pytest.raises(ConfigError, match="use one of v3-8, "):
        hardware.named("v2-8")


def test_this_cpu_is_measured():
    cpu = hardware.named("cpu")
    assert cpu.devices == 1 and cpu.is_cpu and 1e9 < cpu.peak_flops < 1e14


def test_a_core_is_measured_by_one_thread():
    wall, used = time.perf_counter(), time.process_time()
    hardware._core_flops()
    assert time.process_time() - used < 1.5 * (time.perf_counter() - wall)
