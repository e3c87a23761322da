"""A signal ends a command within seconds, wherever it is, with one line and the status that shells give it."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

from realm_jax import signals

NAMES = {signal.SIGTERM: 143, signal.SIGINT: 130}
PLACES = {
    "in Python": "time.sleep(60)",
    # As a compiler or a search in C++ does, it lets other threads run, but no handler.
    "in C": "import ctypes; [ctypes.CDLL(None).sleep(60) for _ in range(9)]",
    "in a thread": "import concurrent.futures as c; c.ThreadPoolExecutor().submit(time.sleep, 60).result()",
    "in a clean-up": "\n    try:\n        time.sleep(60)\n    finally:\n        time.sleep(60)",
    "in an import": "import tests.slow_import",
    "in an object half made": """
    class Half:
        def __init__(self):
            time.sleep(60)
            self.file = sys.stdin
        def __del__(self):
            self.file.close()
    Half()""",
    "beside a coroutine": "import asyncio; begun = asyncio.sleep(1); time.sleep(60)",
    "beside a task": """
    import asyncio
    async def fail():
        raise ValueError
    async def wait():
        kept.append(asyncio.ensure_future(fail()))
        await asyncio.sleep(0)
        time.sleep(60)
    kept = []
    asyncio.run(wait())""",
    "beside a thread": """
    import threading
    def work():
        while not signals.sys.is_finalizing() and threading.main_thread().is_alive():
            time.sleep(0.1)
        raise ValueError
    threading.Thread(target=work).start()
    time.sleep(60)""",
}
COMMAND = """
import sys, time
from realm_jax import signals
with signals.ending():
    print("begun", flush=True)
    {place}
"""


def begin(code: str) -> subprocess.Popen:
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", code], **options)
    assert process.stdout.readline() == "begun\n"
    time.sleep(0.3)  # until it is at its place
    return process


@pytest.mark.parametrize("number", NAMES)
@pytest.mark.parametrize("place", PLACES)
def test_it_ends_with_one_line(place, number):
    with begin(COMMAND.format(place=PLACES[place])) as process:
        started = time.monotonic()
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == NAMES[number] and time.monotonic() - started < 6
    assert errors == f"stopped by {number.name}: the same command goes on where it was\n"


def test_a_second_signal_ends_it_at_once():
    with begin(COMMAND.format(place=PLACES["in C"])) as process:
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        assert abs(process.wait(timeout=30)) in (143, signal.SIGTERM) and time.monotonic() - started < 2


def test_a_process_does_not_outlive_the_parent_that_holds_it(tmp_path):
    """The parent is killed; the child is anywhere, and would go on for a minute."""
    code = COMMAND.format(place="signals.end_with_parent(); " + PLACES["in C"])
    parent = f"""
from realm_jax import signals
import os, subprocess, sys, time
environment = os.environ | {{signals.HELD: "1"}}
child = subprocess.Popen([sys.executable, "-c", {code!r}], stdin=subprocess.PIPE, env=environment)
print(child.pid, flush=True)
time.sleep(60)"""
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        said = {process.stdout.readline(), process.stdout.readline()} - {"begun\n"}
        child = psutil.Process(int(said.pop()))
        process.kill()
    child.wait(timeout=signals.GRACE_S + 2)  # not earlier than that: it is no child of ours, so that psutil polls


def test_signals_of_a_forked_process_are_its_own():
    code = """
    import os, signal
    child = os.fork()
    if not child:
        time.sleep(60)
    time.sleep(0.2)
    os.kill(child, signal.SIGTERM)
    assert os.waitpid(child, 0)[1] == signal.SIGTERM
    time.sleep(signals.GRACE_S + 1)
    print("goes on", flush=True)"""
    with begin(COMMAND.format(place=code.strip())) as process:
        out, errors = process.communicate(timeout=30)
    assert (out, errors, process.returncode) == ("goes on\n", "", 0)
