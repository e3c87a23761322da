"""Keeps printing from ending a command: every encoding takes every text, and the reader of a pipe may go away."""

import os
import select
import sys
from typing import NoReturn

SIGPIPE_STATUS = 141  # what shells report of a program whose reader went away


def print_anything() -> None:
    """Makes stdout and stderr take every text; a letter that the encoding lacks is printed as its number."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started us: the next file that we open must not become it
            opened = os.open(os.devnull, os.O_WRONLY)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
            setattr(sys, name, open(descriptor, "w", encoding="utf-8", errors="backslashreplace", closefd=False))
        elif hasattr(stream, "reconfigure"):  # a notebook's stream has none, and takes all
            stream.reconfigure(errors="backslashreplace")


def reader_is_gone() -> bool:
    """Whether stdout or stderr is a pipe that nobody reads any more, as after `| head`."""
    poll = select.poll()
    for descriptor in (1, 2):
        poll.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def end_without_reader() -> NoReturn:
    """Ends the process as one whose reader went away; Python's end shall not stumble over what is left to print."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    sys.exit(SIGPIPE_STATUS)
