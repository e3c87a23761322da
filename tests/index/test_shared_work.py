"""Parts of a work are taken once, come back when their process is gone, and are handed over whole."""

import os
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from etils import epath

from realm_jax.heartbeat import this_process
from realm_jax.index.shared_work import JOIN, SharedWork, claims_and_parts, how_far, is_deserted
from realm_jax.workdir import create_json, read_json, write_json

PLAN = {"segments": 1, "blocks": 30, "ranges": 3}


@pytest.fixture
def folder(tmp_path):
    return epath.Path(tmp_path / "work" / "00000005-abc")


@pytest.fixture
def work(folder):
    with SharedWork(folder) as work:
        work.agree(PLAN)
        yield work


def dead_process() -> dict:
    """A process of this host that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", "pass"])
    started = {**this_process(), "pid": ended.pid}
    ended.wait()
    return started


def elsewhere(**changes) -> dict:
    return {"host": "elsewhere", "pid": 7, "started": 1.0, **changes}


def take_for(folder, process, name, age_s=0.0):
    """Writes what a process would that takes part and has taken something."""
    write_json(folder / "pins" / f"{process['host']}-{process['pid']}.json", {**process, "time": time.time() - age_s})
    assert create_json(folder / f"{name}.000.json", process)


def test_one_of_many_makes_a_file(tmp_path):
    made, together = [], threading.Barrier(16)

    def make(number):
        together.wait()
        if create_json(epath.Path(tmp_path / "file.json"), {"number": number}):
            made.append(number)

    threads = [threading.Thread(target=make, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and read_json(epath.Path(tmp_path / "file.json")) == {"number": made[0]}
    assert len(os.listdir(tmp_path)) == 1
    with pytest.raises(FileNotFoundError):
        create_json(epath.Path(tmp_path / "gone" / "file.json"), {})


def test_each_part_is_taken_once_in_order(work, folder):
    take_for(folder, elsewhere(), "part-00001")
    assert [work.take_part(3, set()) for _ in range(3)] == [0, 2, None]
    assert work.take(JOIN) and work.is_mine(JOIN) and not work.take(JOIN)
    assert work.holder("part-00001").host == "elsewhere" and not work.is_mine("part-00001")


def test_the_first_plan_is_that_of_all(work):
    assert work.agree({"segments": 9}) == PLAN


@pytest.mark.parametrize(
    ("process", "age_s", "is_gone"),
    [
        (elsewhere(), 500, False),
        (elsewhere(), 700, True),
        (this_process(), 700, False),
        ({**this_process(), "started": -1e6}, 0, True),
        (dead_process(), 0, True),
    ],
    ids=["elsewhere", "silent elsewhere", "here", "another under its id", "dead"],
)
def test_what_a_process_took_comes_back_when_it_is_gone(folder, process, age_s, is_gone, capfd):
    take_for(folder, process, "part-00000", age_s)
    write_json(folder / "plan.json", PLAN)
    work = SharedWork(folder)  # not entered: it does not renew the pin
    assert (work.take_part(1, set()) == 0) == is_gone
    assert ("part-00000 is taken over from process" in capfd.readouterr().out) == is_gone
    if is_gone:
        assert read_json(folder / "part-00000.001.json")["pid"] == os.getpid()


def test_a_process_that_stood_still_sees_that_another_took_over(work, folder):
    assert work.take(JOIN) and work.is_mine(JOIN)
    take_for(folder, elsewhere(), "part-00000")
    write_json(folder / "join.001.json", elsewhere())
    assert not work.is_mine(JOIN)


def test_parts_that_were_handed_over_are_not_taken(work):
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    work.hand_over(0, rows)
    np.testing.assert_array_equal(work.read_part(0), rows)
    assert claims_and_parts(work.folder) == (set(), {0})
    assert work.take_part(3, {1}) == 2


def test_who_leaves_gives_up_what_it_took_and_the_last_one_removes_the_folder(folder):
    with SharedWork(folder) as work:
        work.agree(PLAN)
        take_for(folder, elsewhere(), "part-00001")
        assert work.take(JOIN) and work.take_part(3, set()) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["part-00001.000.json", "pins", "plan.json"]
    (folder / "part-00001.000.json").unlink()
    (folder / "pins" / "elsewhere-7.json").unlink()
    with SharedWork(folder) as work:
        assert work.take(JOIN)
    assert not folder.parent.exists()


def test_nothing_comes_back_once_the_work_is_over(work, folder):
    work.remove()
    assert not work.is_open() and not work.take(JOIN) and work.agree(PLAN) is None
    work.count_done()
    assert not folder.exists()


def test_a_folder_that_goes_while_it_is_looked_at_has_nothing(work, folder, monkeypatch):
    work.remove()
    monkeypatch.setattr(type(folder), "exists", lambda path: True)  # as it was a moment ago
    assert claims_and_parts(folder) == (set(), set()) and work.holder(JOIN) is None


def test_how_far_it_is(work, folder):
    take_for(folder, elsewhere(), "part-00002")
    assert work.take(JOIN) and work.take_part(3, set()) == 0
    work.count_done()
    work.hand_over(2, np.zeros(1))
    mine = {"host": socket.gethostname(), "pid": os.getpid(), "done": 1, "joins": True}
    others = {"host": "elsewhere", "pid": 7, "done": 0, "joins": False}
    far = how_far(folder)
    assert (far["parts"], far["done"]) == (3, 2)
    assert sorted(far["processes"], key=str) == sorted([mine, others], key=str)
    assert how_far(folder.parent) is None


def test_what_dead_processes_left_is_deserted(folder):
    take_for(folder, dead_process(), "part-00000")
    assert is_deserted(folder)
    with SharedWork(folder):
        assert not is_deserted(folder)
    (folder / "pins").rmtree()
    assert not is_deserted(folder)  # made a moment ago


def test_a_part_that_comes_as_the_work_ends_is_dropped(folder, work):
    work.remove()
    work.hand_over(0, np.zeros(1))
    assert not folder.exists()


def test_a_part_that_cannot_be_written_while_the_work_goes_on_is_an_error(work, monkeypatch):
    monkeypatch.setattr(work, "is_open", lambda: True)
    work.remove()
    with pytest.raises(FileNotFoundError):
        work.hand_over(0, np.zeros(1))
