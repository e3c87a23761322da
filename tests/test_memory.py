"""Peak memory against what a process was told to hold."""

import subprocess
import sys
import time

from realm_jax import memory
from realm_jax.memory import PeakMemory

HOLDS = "import sys, time; held = bytes(64 << 20).replace(b'\\0', b'x'); print('held', flush=True); time.sleep(60)"


def test_the_peak_is_what_a_process_held_once(monkeypatch):
    monkeypatch.setattr(memory, "SAMPLE_S", 0.05)
    peaks = PeakMemory()
    process = subprocess.Popen([sys.executable, "-c", HOLDS], stdout=subprocess.PIPE)
    try:
        peaks.watch("holder", process.pid)
        assert process.stdout.readline() == b"held\n"
        time.sleep(0.5)
    finally:
        process.kill()
        process.wait()
    peaks.watch("gone", process.pid)
    found = peaks.close()
    assert 64 <= found["holder"] == found["together"] < 256 and "gone" not in found
