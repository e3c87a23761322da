import subprocess
import sys
import threading
import time
import weakref

import pytest

from realm_jax.background import Background
from realm_jax.config import RunError

HANGS = """
import sys, threading
from realm_jax import background
from realm_jax.commands import cli
from realm_jax.config import RunError

background.CLOSE_S = 0.2

def main():
    work = background.Background("a search", 0.2)
    started = threading.Event()
    hung = work.submit(lambda: (started.set(), threading.Event().wait()))
    started.wait(10)
    try:
        {then}
    finally:
        work.close()

cli.run(main)
"""


@pytest.mark.parametrize(
    ("then", "status", "said"),
    [
        ("work.result(hung)", 1, "a search took over 0 s\n"),
        ("sys.exit(7)", 7, ""),
        ("sys.exit('no way')", 1, "no way\n"),
        ("raise KeyError('bug')", 1, "KeyError: 'bug'\n"),
        ("print('done')", 0, ""),
    ],
)
def test_a_call_that_hangs_does_not_keep_the_process(then, status, said):
    command = [sys.executable, "-c", HANGS.format(then=then)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == status and done.stderr.endswith(said)
    assert "left behind, since it does not end: a search\n" in done.stdout


def test_calls_are_made_in_order_and_their_errors_are_those_of_the_result():
    work, seen = Background("work", 10.0), []
    first = [work.submit(seen.append, number) for number in range(100)]
    late = work.submit(_raise, TimeoutError("the call's own"))
    with pytest.raises(TimeoutError, match="the call's own"):
        work.result(late)
    assert seen == list(range(100)) and all(work.result(done) is None for done in first)
    work.close()


def _raise(error):
    raise error


def test_an_idle_thread_keeps_nothing():
    work, given = Background("work", 10.0), threading.Event()
    seen = weakref.ref(given)
    future = work.submit(threading.Event.set, given)
    work.result(future)
    del given, future
    for _ in range(100):
        if seen() is None:
            break
        time.sleep(0.05)
    assert seen() is None
    work.close()


def test_two_threads_work_side_by_side():
    work, both = Background("work", 10.0, threads=2), threading.Barrier(2)
    for future in [work.submit(both.wait, 5) for _ in range(2)]:
        work.result(future)
    work.close()


def test_closing_drops_what_waits():
    work, started, goes_on = Background("work", 10.0), threading.Event(), threading.Event()
    running = work.submit(lambda: (started.set(), goes_on.wait(10)))
    waiting = work.submit(_raise, AssertionError("was to be dropped"))
    assert started.wait(10)
    threading.Timer(0.3, goes_on.set).start()
    work.close()
    assert running.done() and waiting.cancelled()


def test_the_deadline_is_of_each_result():
    work = Background("work", 0.1)
    goes_on = threading.Event()
    slow = work.submit(goes_on.wait, 10)
    with pytest.raises(RunError, match="work took over 0 s"):
        work.result(slow)
    goes_on.set()
    assert work.result(slow)
    work.close()
