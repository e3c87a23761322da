"""Whether something takes linear time."""

import time

import pytest


@pytest.fixture(scope="session")
def linear_time():
    """Asserts that four times the text takes about four times as long, not sixteen times."""

    def seconds(function, text):
        started = time.process_time()
        function(text)
        return time.process_time() - started

    def check(function, piece, size, start=""):
        short, long = (start + piece * (times * size // len(piece)) for times in (1, 4))
        for _ in range(3):  # other work on the machine disturbs the clock
            once, four_times = seconds(function, short), seconds(function, long)
            if four_times < 8 * once + 0.05:
                return
        raise AssertionError(f"{size:,} characters took {once:.3f} s, four times as many {four_times:.3f} s")

    return check
