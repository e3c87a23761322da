"""Signs of life: only a process that lives looks alive."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import psutil
import pytest
from etils import epath

from realm_jax import heartbeat
from realm_jax.config import ConfigError
from realm_jax.heartbeat import Heartbeat

IN_THE_BACKGROUND = """
import sys, time
from etils import epath
from realm_jax.heartbeat import Heartbeat
Heartbeat(epath.Path(sys.argv[1]), role="trainer")
print("beats", flush=True)
time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path):
    return epath.Path(tmp_path)


def write(folder, **changes):
    beat = {"host": socket.gethostname(), "pid": os.getpid(), "started": None, "time": time.time()}
    (folder / heartbeat.FILE).write_text(json.dumps(beat | changes))


def test_nothing_beats_in_an_empty_folder(folder):
    assert heartbeat.read(folder) is None


def test_a_process_runs_until_it_closes_and_says_what_it_is_at(folder):
    with Heartbeat(folder, role="trainer", steps=9) as beating:
        beating.tell(doing="ict")
        found = heartbeat.read(folder)
        assert (found["state"], found["pid"], found["steps"]) == ("runs", os.getpid(), 9) and found["doing"] == "ict"
    assert heartbeat.read(folder)["state"] == "ended"


def test_a_killed_process_died_at_once(folder):
    process = subprocess.Popen([sys.executable, "-c", IN_THE_BACKGROUND, str(folder)], stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"beats\n"
        assert heartbeat.read(folder)["state"] == "runs"
    finally:
        process.kill()
    deadline = time.monotonic() + 30
    while heartbeat.read(folder)["state"] == "runs" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert heartbeat.read(folder)["state"] == "died"  # though nobody has waited for it: a zombie has an id still
    process.wait()
    assert heartbeat.read(folder)["state"] == "died"


def test_another_process_under_the_same_id_is_not_taken_for_it(folder):
    own = heartbeat.process_start(os.getpid())
    write(folder, started=own)
    assert heartbeat.read(folder)["state"] == "runs"
    write(folder, started=own - 60)
    assert heartbeat.read(folder)["state"] == "died"


def test_a_process_starts_some_time_after_its_host_and_before_now():
    since_boot = float(pathlib.Path("/proc/uptime").read_text().split()[0])
    process = subprocess.Popen(["sleep", "60"])
    try:
        assert heartbeat.process_start(process.pid) == pytest.approx(since_boot, abs=3)
    finally:
        process.kill()
        process.wait()
    with pytest.raises(psutil.NoSuchProcess):
        heartbeat.process_start(process.pid)


def test_on_another_host_only_the_beat_speaks(folder):
    write(folder, host="elsewhere", time=time.time() - heartbeat.SILENCE_S / 2)
    assert heartbeat.read(folder)["state"] == "runs"
    write(folder, host="elsewhere", time=time.time() - heartbeat.SILENCE_S - 1)
    assert heartbeat.read(folder)["state"] == "silent"


def test_beats_come_again(folder, monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.01)
    with Heartbeat(folder):
        first = json.loads((folder / heartbeat.FILE).read_text())["time"]
        deadline = time.monotonic() + 30
        while json.loads((folder / heartbeat.FILE).read_text())["time"] == first and time.monotonic() < deadline:
            time.sleep(0.01)
        assert json.loads((folder / heartbeat.FILE).read_text())["time"] > first


@pytest.mark.parametrize("text", ["{", '{"host": "a"}', "[]", "\xff"])
def test_a_damaged_file_is_named(folder, text):
    (folder / heartbeat.FILE).write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match="heartbeat.json is damaged"):
        heartbeat.read(folder)


def test_a_folder_that_cannot_be_written_stops_nobody(folder):
    (folder / "file").write_text("")
    with Heartbeat(folder / "file" / "below", role="trainer"):
        pass
