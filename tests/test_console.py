"""What people see: on a terminal a line that is overwritten, elsewhere few lines, none of them wider than a screen."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

from realm_jax import console

ROWS, COLUMNS = 50, 110
WORKS = """
import logging, sys, time
from realm_jax import console
from realm_jax.commands import cli
from realm_jax.progress import Progress

console.EVERY_S = console.RELAYED_EVERY_S = float(sys.argv[1])
log = logging.getLogger("realm_jax.toy")

def main():
    console.set_up(sys.argv[2])
    log.info("begins")
    for work in ("first", "second"):
        progress = Progress(work)
        for done in range(1, 201):
            progress(done, 200)
            time.sleep(0.005)
            if done == 100:
                log.info(work + " is half done")
    print("a table")
    if "fails" in sys.argv:
        Progress("third")(1, 2)
        raise cli.ConfigError("no third")

cli.run(main)
"""
RELAYING = """
import subprocess, sys
from realm_jax import console
from realm_jax.commands import cli

def main():
    environment = {**__import__("os").environ, console.RELAYS: "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", sys.argv[1], "0.05", "other: "], env=environment, stdout=subprocess.PIPE
    )
    relay = console.Relay(process.stdout, "other: ", "stdout")
    own, facts = console.Line("own"), ["loss 1.5", *["more"] * 30]
    while process.poll() is None:
        own.show(7, 9, *facts)
    relay.join()
    own.close()

cli.run(main)
"""


class Screen:
    """As much of a terminal as shows whether a line was overwritten: cursor, end of line, erasing."""

    def __init__(self):
        self.lines, self.row, self.column, self.has_cursor = [""], 0, 0, True
        self.seen: list[list[str]] = []

    def feed(self, text: str) -> None:
        for part in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", text):
            if part == "\r":
                self.column = 0
                self.seen.append(list(self.lines))
            elif part == "\n":
                self.row += 1
                self.lines += [""] * (self.row + 1 - len(self.lines))
            elif part.endswith("A"):
                self.row -= int(part[2:-1] or 1)
            elif part == "\x1b[2K":
                self.lines[self.row] = ""
            elif part in ("\x1b[?25l", "\x1b[?25h"):
                self.has_cursor = part.endswith("h")
            elif not part.startswith("\x1b"):
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[: self.column] + part + line[self.column + len(part) :]
                self.column += len(part)


def on_a_terminal(code: str, *arguments: str) -> Screen:
    """What a terminal shows of a program, with all that it showed meanwhile."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"}
    command = [sys.executable, "-c", code, *arguments]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment):
        os.close(theirs)
        output = b""
        try:
            while part := os.read(ours, 65_536):
                output += part
        except OSError:  # the program has ended
            pass
    os.close(ours)
    screen = Screen()
    screen.feed(output.decode())
    return screen


def through_a_pipe(code: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def shown(screen: Screen) -> list[str]:
    return [line.rstrip() for line in screen.lines if line.strip()]


def test_a_line_is_overwritten_on_a_terminal_and_gone_at_the_end():
    screen = on_a_terminal(WORKS, "20", "")
    assert shown(screen) == ["begins", "first is half done", "second is half done", "a table"]
    counts = [sum("/200 " in line for line in lines) for lines in screen.seen]
    assert max(counts) == 1 and sum(counts) > 5  # it was there, and never twice
    half = [re.findall(r"(?:first|second) .* (\d+)/200  +[\d,]+/s  0:\d\d left", "\n".join(s)) for s in screen.seen]
    assert len({count for counts in half for count in counts}) > 4
    assert screen.has_cursor


def test_an_error_comes_after_the_line_and_gives_the_cursor_back():
    screen = on_a_terminal(WORKS, "20", "", "fails")
    assert shown(screen)[-2:] == ["a table", "error: no third"] and screen.has_cursor


def test_the_lines_of_two_processes_stand_one_below_the_other():
    screen = on_a_terminal(RELAYING, WORKS)
    assert shown(screen) == [
        "other: begins",
        "other: first is half done",
        "other: second is half done",
        "other: a table",
    ]
    both = [lines for lines in screen.seen if any("own" in x and "7/9  loss 1.5" in x for x in lines)]
    assert any(re.match(r"other: (first|second) [━╸╺]+ \d+/200 ", line) for lines in both for line in lines)
    assert all(len(line) <= COLUMNS for lines in both for line in lines)  # what is too much is cut off


@pytest.mark.parametrize(("every", "most"), [("20", 0), ("0.5", 5)])
def test_a_pipe_gets_a_line_now_and_then(every, most):
    done = through_a_pipe(WORKS, every, "")
    lines = done.stdout.splitlines()
    progress = [line for line in lines if "/200 " in line]
    assert [line for line in lines if line not in progress] == [
        "begins",
        "first is half done",
        "second is half done",
        "a table",
    ]
    assert bool(progress) == bool(most) and len(progress) <= most and not done.stderr
    assert all(re.fullmatch(r"(first|second): \d+/200  [\d,]+/s  0:\d\d left", line) for line in progress)
    assert "\x1b" not in done.stdout and "\r" not in done.stdout


def test_each_line_is_marked_and_fits(capsys):
    console.set_up("index builder: ")
    long, path = "word " * 60, "/a" * 100
    console.LOGGER.info(f"{long}\n{path}")
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("index builder: ") for line in lines) and len(lines) > 3
    assert max(len(line) for line in lines if path not in line) <= console.WIDTH
    assert " ".join(lines).replace("index builder: ", "").split() == [*long.split(), path]


def test_a_warning_says_so(capsys):
    console.LOGGER.warning("it is old")
    console.LOGGER.debug("no matter")
    assert capsys.readouterr().out == "warning: it is old\n"


def test_counts_of_nothing_are_left_out():
    assert console.tally({"too_long": 1200, "empty": 0}) == "too long 1,200"
    assert console.tally({"empty": 0}) == "none"
