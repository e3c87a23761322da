"""One piece of work that several processes share through a folder: who takes part, who does which part, what is done.

    pins/HOST-PID.json       one for each process that takes part; it counts as `claims` says, and so does what it took
    plan.json                what the first of them decided, for all
    join.000.json            which process joins the parts: the highest number counts
    part-00007.000.json      which process does part 7
    part-00007.npy           part 7, handed over by a process that does not join

Nobody coordinates. Whoever finds a part that nobody has, or whose process is gone, takes it: a file is created, which
one process alone can do, under the next number. The work must be deterministic, since in doubt a part is done twice.
This file knows no embeddings, and imports no JAX, so that `realm inspect` starts at once.
"""

import contextlib
import io
import logging
import os
import re
import shutil
import time
import uuid
from typing import NamedTuple

import numpy as np
from etils import epath
from jaxtyping import Shaped

from realm_jax.buckets import is_remote
from realm_jax.heartbeat import this_process
from realm_jax.index.claims import OWNER_LIMIT_S, Renewed, holders, own_pin
from realm_jax.workdir import create_json, read_json

log = logging.getLogger(__name__)

PLAN = "plan.json"
JOIN = "join"
REMOVE_ATTEMPTS = 3
CLAIM = re.compile(r"(join|part-(\d+))\.(\d+)\.json")


class Process(NamedTuple):
    """A process, anywhere."""

    host: str
    pid: int
    started: float

    @classmethod
    def of(cls, claimed: dict) -> "Process":
        """The process that a claim names."""
        return cls(claimed["host"], claimed["pid"], claimed["started"])


class SharedWork:
    """This process's part in the work of a folder. As a context manager it gives up what it has not done.

    Args:
        limit_s: seconds after which a process on another host that gave no sign counts as gone.
    """

    def __init__(self, folder: epath.Path, *, limit_s: float = OWNER_LIMIT_S):
        self.folder, self._limit_s = folder, limit_s
        self._me, self._pin = Process.of(this_process()), own_pin(folder)
        self._taken: list[epath.Path] = []
        self.done = 0
        """Parts that this process has done."""

    def __enter__(self) -> "SharedWork":
        self._claim = Renewed(self._pin, done=0)
        return self

    def __exit__(self, *exception) -> None:
        self._leave()

    def agree(self, plan: dict) -> dict | None:
        """The plan of the process that came first; None if the work is over."""
        try:
            create_json(self.folder / PLAN, plan)
            return read_json(self.folder / PLAN)
        except FileNotFoundError:
            return None

    def take(self, name: str) -> bool:
        """Takes `join`, or a part, for this process; False if a process has it that still takes part."""
        number, holder = self._last(name)
        if holder in self._processes():
            return False
        file = self.folder / f"{name}.{number + 1:03d}.json"
        try:
            if not create_json(file, {**self._me._asdict(), "claim": uuid.uuid4().hex}):  # another one was faster
                return False
        except FileNotFoundError:  # the work is over
            return False
        if holder:
            log.info(f"index: {name} is taken over from process {holder.pid} on {holder.host}, which is gone")
        self._taken.append(file)
        return True

    def take_part(self, count: int, done: set[int]) -> int | None:
        """Takes the first part that nobody has; None if there is none.

        Args:
            count: how many parts there are.
            done: numbers of parts that need not be done.
        """
        claimed, over = claims_and_parts(self.folder)
        left = [number for number in range(count) if number not in over | done]
        free = [number for number in left if number not in claimed]
        for number in free or left:
            if self.take(part_name(number)):
                return number
        return None

    def holder(self, name: str) -> Process | None:
        """The process that has `join` or a part; None if nobody has it, or its process is gone."""
        _, holder = self._last(name)
        return holder if holder in self._processes() else None

    def is_mine(self, name: str) -> bool:
        """Whether this process, and no later one, has it."""
        return self._last(name)[1] == self._me

    def is_open(self) -> bool:
        """Whether the work goes on: its folder is there."""
        return (self.folder / PLAN).exists()

    def hand_over(self, number: int, rows: Shaped[np.ndarray, "rows ..."]) -> None:
        """Writes a part for the process that joins them, unless the work ends meanwhile; readers see it whole."""
        file, buffer = self._part(number), io.BytesIO()
        np.save(buffer, rows)
        if is_remote(file):
            file.write_bytes(buffer.getbuffer())
            return
        temporary = file.parent / f".{file.name}.{uuid.uuid4().hex[:8]}"
        try:
            temporary.write_bytes(buffer.getbuffer())
            temporary.replace(file)
        except FileNotFoundError:
            if self.is_open():  # else its folder is gone
                raise

    def count_done(self) -> None:
        """Tells the others that this process has done one more part."""
        self.done += 1
        self._claim.renew(done=self.done)

    def read_part(self, number: int) -> Shaped[np.ndarray, "rows ..."]:
        """A part that another process handed over."""
        return np.load(io.BytesIO(self._part(number).read_bytes()))

    def _leave(self) -> None:
        """Gives up what this process took; the last one to leave removes the folder unless a part is in it."""
        for file in self._taken:
            file.unlink(missing_ok=True)
        self._claim.give_up()
        claimed, over = claims_and_parts(self.folder)
        if not claimed and not over and not holders(self.folder, self._limit_s):
            self.remove()

    def remove(self) -> None:
        """Ends the work for all that take part."""
        if is_remote(self.folder):
            self.folder.rmtree(missing_ok=True)
            return
        for _ in range(REMOVE_ATTEMPTS):  # others that leave delete their own files meanwhile
            shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # there is other work
            os.rmdir(self.folder.parent)

    def _part(self, number: int) -> epath.Path:
        return self.folder / f"{part_name(number)}.npy"

    def _processes(self) -> set[Process]:
        return {Process.of(found) for found in holders(self.folder, self._limit_s)}

    def _last(self, name: str) -> tuple[int, Process | None]:
        """Number and process of the claim that counts; -1 and None if there is none."""
        claims = sorted(self.folder.glob(f"{name}.*.json"))
        if not claims:
            return -1, None
        number = int(claims[-1].name.split(".")[1])
        try:
            return number, Process.of(read_json(claims[-1]))
        except FileNotFoundError:  # given up meanwhile
            return number - 1, None


def part_name(number: int) -> str:
    """The name by which a part is taken."""
    return f"part-{number:05d}"


def claims_and_parts(folder: epath.Path) -> tuple[set[int], set[int]]:
    """Numbers of the parts that were taken, and of those that were handed over."""
    names = [file.name for file in folder.glob("*")]  # none if it is gone; `iterdir` would be an error
    claimed = {int(found[2]) for name in names if (found := CLAIM.fullmatch(name)) and found[2]}
    over = {int(name[5:-4]) for name in names if name.startswith("part-") and name.endswith(".npy")}
    return claimed, over


def how_far(folder: epath.Path) -> dict | None:
    """How far the work of a folder is: `parts`, how many are `done`, and the `processes` that take part; None if over.

    Of each process: `host`, `pid`, the parts that it has `done`, and whether it `joins`.
    """
    work = SharedWork(folder)
    try:
        plan = read_json(folder / PLAN)
    except FileNotFoundError:
        return None
    joins = work.holder(JOIN)
    processes = [
        {"host": pin["host"], "pid": pin["pid"], "done": pin.get("done", 0), "joins": Process.of(pin) == joins}
        for pin in holders(folder, OWNER_LIMIT_S)
    ]
    # What the process that joins has done stays with it, and goes with it.
    done = len(claims_and_parts(folder)[1]) + sum(process["done"] for process in processes if process["joins"])
    return {"parts": plan["ranges"], "done": min(done, plan["ranges"]), "processes": processes}


def is_deserted(folder: epath.Path) -> bool:
    """Whether nobody takes part any more."""
    if (folder / "pins").exists() or is_remote(folder):
        return not holders(folder, OWNER_LIMIT_S)
    return folder.exists() and time.time() - os.stat(folder).st_mtime > OWNER_LIMIT_S
