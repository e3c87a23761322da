"""Checkpoints: what comes back, what does not fit, and what pruning leaves."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from realm_jax import checkpoints as checkpoints_lib
from realm_jax.checkpoints import KEEP, Checkpoints
from realm_jax.checksums import Damaged
from realm_jax.config import ConfigError
from tests.damage import flip_a_bit

PARAMS = {"embedder": {"kernel": np.arange(6.0).reshape(2, 3)}, "encoder": {"bias": np.ones(2)}}
OPTIMIZER = {"m": np.zeros(2)}


@pytest.fixture
def saved(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(4, PARAMS, OPTIMIZER, {"position": 4, "candidates": [[1, -1]]})
        checkpoints.wait()
        yield checkpoints


def test_everything_comes_back(saved):
    params, optimizer, data = saved.restore(4, PARAMS, OPTIMIZER)
    np.testing.assert_array_equal(params["embedder"]["kernel"], PARAMS["embedder"]["kernel"])
    np.testing.assert_array_equal(params["encoder"]["bias"], PARAMS["encoder"]["bias"])
    np.testing.assert_array_equal(optimizer["m"], OPTIMIZER["m"])
    assert data == {"position": 4, "candidates": [[1, -1]]}


def test_one_part_is_read_alone(saved):
    assert list(saved.restore_params(4, {"encoder": PARAMS["encoder"]})) == ["encoder"]


def large(seed: int) -> dict:
    return {"kernel": np.random.default_rng(seed).normal(size=(300, 1000)).astype(np.float32)}


@pytest.mark.parametrize("part", ["embedder", "encoder", "optimizer"])
def test_a_flipped_bit_is_found_in_the_part_that_has_it(tmp_path, part):
    params, optimizer = {"embedder": large(0), "encoder": large(1)}, {**large(2), "step": np.int64(3)}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(4, params, optimizer, {})
        checkpoints.wait()
        assert checkpoints.restore(4, params, optimizer)[1]["step"] == 3
        file = max((tmp_path / "checkpoints" / "4" / part).rglob("*"), key=lambda file: file.stat().st_size)
        flip_a_bit(file, file.stat().st_size // 2)
        with pytest.raises(ConfigError, match=f"4 is damaged .*{part}"):
            checkpoints.restore(4, params, optimizer)
        others = {name: tree for name, tree in params.items() if name != part}
        assert checkpoints.restore_params(4, others).keys() == others.keys()
        file.unlink()
        with pytest.raises(ConfigError, match="delete that step to go on from the one before"):
            checkpoints.restore(4, params, optimizer)


@pytest.mark.parametrize(
    ("item", "before", "after"),
    [("data", b'"position": 4', b'"position": 5'), (checkpoints_lib.CHECKSUMS, b"{", b"["), ("data", b"{", b"[")],
)
def test_values_that_changed_are_found_too(saved, tmp_path, item, before, after):
    """What is still JSON, and what is none any more, of the checksums too."""
    (file,) = (f for f in (tmp_path / "checkpoints" / "4" / item).iterdir() if before in f.read_bytes())
    file.write_bytes(file.read_bytes().replace(before, after, 1))
    with pytest.raises(Damaged, match="4 is damaged"):
        saved.restore(4, PARAMS, OPTIMIZER)


def test_what_a_killed_save_left_goes(saved, tmp_path):
    left = tmp_path / "checkpoints" / "5.orbax-checkpoint-tmp-1"
    left.mkdir()
    with Checkpoints(tmp_path, read_only=True):
        assert left.exists()  # the trainer may be writing it
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(6, PARAMS)
    assert not left.exists()


def test_checkpoints_without_checksums_are_read_with_a_warning(saved, tmp_path, capsys):
    shutil.rmtree(tmp_path / "checkpoints" / "4" / checkpoints_lib.CHECKSUMS)
    assert saved.restore(4, PARAMS, OPTIMIZER)[2]["position"] == 4
    assert capsys.readouterr().out.count("made no checksums") == 1


FULL = """
import resource, signal, sys
import numpy as np
from realm_jax.checkpoints import Checkpoints

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
params = {"encoder": {"kernel": np.random.default_rng(0).normal(size=(1000, 1000)).astype(np.float32)}}
checkpoints = Checkpoints(sys.argv[1])
checkpoints.save(0, params)
checkpoints.wait()
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
for end in (checkpoints.wait, checkpoints.close):
    checkpoints.save(1, params)
    try:
        end()
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
with Checkpoints(sys.argv[1], read_only=True) as checkpoints:
    print(checkpoints.latest_step())
"""


def test_a_disk_that_fails_is_one_line_and_the_checkpoint_before_stays(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL, tmp_path], capture_output=True, text=True, timeout=120)
    line = f"ConfigError: cannot save a checkpoint in {tmp_path}/checkpoints: File too large: free some space, rerun"
    assert done.stdout.splitlines() == [line, line, "0"] and "Traceback" not in done.stderr


STOPPED = """
import os, signal, sys, time
import orbax.checkpoint as ocp
from realm_jax import signals
from realm_jax.checkpoints import Checkpoints

def restore(self, *arguments, **options):
    try:  # as Orbax reads arrays
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.5)
    except BaseException as error:
        raise Exception("Encountered error while reading array") from error

ocp.CheckpointManager.restore = restore
with signals.ending(), Checkpoints(sys.argv[1], read_only=True) as checkpoints:
    checkpoints.restore(4, {"embedder": {}, "encoder": {}}, {})
"""


def test_a_signal_in_a_read_is_not_taken_for_damage(saved, tmp_path):
    """Else a trainer that is stopped while it starts would set its last checkpoint aside."""
    done = subprocess.run([sys.executable, "-c", STOPPED, tmp_path], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (143, "stopped by SIGTERM: the same command goes on where it was\n")


@pytest.mark.parametrize("other", [{"kernel": np.zeros((2, 4))}, {"weights": np.zeros((2, 3))}])
def test_another_shape_or_name_is_an_error(saved, tmp_path, other):
    with pytest.raises(ConfigError, match="does not fit this config"):
        saved.restore_params(4, {"embedder": other})
    assert not list((tmp_path / "pins").glob("*"))


def test_another_optimizer_is_an_error(saved):
    for other in ({"m": np.zeros(3)}, {"v": np.zeros(2)}, {"m": np.zeros(2), "v": np.zeros(2)}):
        with pytest.raises(ConfigError, match="checkpoint .*/4 does not fit this config"):
            saved.restore(4, PARAMS, other)


def test_a_reader_sees_new_steps(saved, tmp_path):
    with Checkpoints(tmp_path, read_only=True) as reader:
        assert reader.latest_step() == 4
        saved.save(5, PARAMS, OPTIMIZER, {})
        saved.wait()
        assert reader.latest_step() == 5


def steps_after_pruning(saved, tmp_path):
    for step in range(5, 6 + KEEP):
        saved.save(step, PARAMS, OPTIMIZER, {})
    saved.wait()
    return sorted(int(folder.name) for folder in (tmp_path / "checkpoints").iterdir() if folder.name.isdigit())


def test_old_steps_go(saved, tmp_path):
    assert steps_after_pruning(saved, tmp_path) == [6, 7, 8]


def test_a_pinned_step_stays(saved, tmp_path):
    (tmp_path / "pins").mkdir(exist_ok=True)
    (tmp_path / "pins" / f"4.host.{os.getpid()}").write_text("")
    assert steps_after_pruning(saved, tmp_path) == [4, 6, 7, 8]


def test_the_pin_of_a_reader_that_died_expires(saved, tmp_path, monkeypatch):
    (tmp_path / "pins").mkdir(exist_ok=True)
    (tmp_path / "pins" / "4.host.1").write_text("")
    monkeypatch.setattr(checkpoints_lib, "PIN_EXPIRES_S", 0.0)
    assert steps_after_pruning(saved, tmp_path) == [6, 7, 8]
    assert not list((tmp_path / "pins").iterdir())
