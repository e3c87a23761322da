"""No wait lacks a deadline: calls that can wait for ever are found in the source; each that is left has a reason."""

import ast
import pathlib
from collections.abc import Iterator

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "realm_jax"

# Methods and functions that wait without an end unless they are told one: after so many arguments, or by name.
DEADLINE_AT = {
    **dict.fromkeys(("join", "wait", "acquire", "shutdown", "get"), 0),
    **dict.fromkeys(("result", "communicate", "wait_until_finished", "wait_until_finish"), 0),
    **dict.fromkeys(("recv", "accept", "run", "call", "check_call", "check_output", "as_completed"), None),
    **dict.fromkeys(("sync_global_devices", "broadcast_one_to_all", "process_allgather"), None),
    "blocking_key_value_get": 1,
    "flock": None,
}
OF_A_MODULE = {"run": "subprocess", "call": "subprocess"}
"""Names that mean something else elsewhere."""
POOLS = ("ThreadPoolExecutor", "ProcessPoolExecutor")

COLLECTIVE = "a process that dies ends the others within the distributed service's heartbeat (100 s)"
ALLOWED = {
    "background.py: self._calls.get": "a daemon thread without work; a closing wakes it",
    "ablations/ablate.py: subprocess.run": "a whole run of realm, whose own waits have deadlines",
    "buckets.py: with ThreadPoolExecutor": "copies: a bucket's requests have deadlines of their own",
    "checkpoints.py: self.wait": "has a deadline itself",
    "data/build/beam_pipeline.py: pipeline(job, missing, beam_options).run().wait_until_finish": "building",
    **dict.fromkeys(("local_cache.py: fcntl.flock", "lock.py: fcntl.flock"), "LOCK_NB does not wait"),
    "processes.py: multihost_utils.broadcast_one_to_all": COLLECTIVE,
    "processes.py: multihost_utils.process_allgather": COLLECTIVE,
    "processes.py: multihost_utils.sync_global_devices": COLLECTIVE,
    "signals.py: reader.recv": "a daemon thread that waits for signals as long as the process lives",
    "training/builder_process.py: self._process.wait": "a daemon thread that lives as long as the builder",
    "training/loop.py: keeper.wait": "has a deadline itself",
    "training/loop.py: self._checkpoints.wait": "has a deadline itself",
    **dict.fromkeys(
        (
            f"{file}: processes.join"
            for file in ("commands/eval.py", "training/finetune.py", "training/only_trainer.py", "training/phases.py")
        ),
        "JAX gives up after five minutes",
    ),
}


def waits(source: str) -> Iterator[str]:
    """Calls that can wait without an end."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.With):
            items = [item.context_expr for item in node.items]
            yield from (f"with {pool}" for item in items for pool in POOLS if pool in ast.unparse(item))
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute | ast.Name):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
        if name not in DEADLINE_AT or any("timeout" in (keyword.arg or "") for keyword in node.keywords):
            continue
        called, at = ast.unparse(node.func), DEADLINE_AT[name]
        if name in OF_A_MODULE and called != f"{OF_A_MODULE[name]}.{name}":
            continue
        if (at is None or len(node.args) <= at) and not called.endswith("].get"):  # a JAX array's
            yield called


def test_every_wait_has_a_deadline():
    found = {
        f"{file.relative_to(PACKAGE)}: {wait}" for file in PACKAGE.rglob("*.py") for wait in waits(file.read_text())
    }
    assert found - set(ALLOWED) == set(), "give it a timeout, or a reason here"
    assert set(ALLOWED) - found == set(), "no longer there"


@pytest.mark.parametrize(
    ("line", "is_found"),
    [
        ("thread.join()", True),
        ("thread.join(timeout=3)", False),
        ("', '.join(names)", False),
        ("event.wait()", True),
        ("event.wait(POLL_S)", False),
        ("future.result()", True),
        ("subprocess.run(command, check=True)", True),
        ("subprocess.run(command, timeout=5)", False),
        ("loop.run(task, folder)", False),
        ("multihost_utils.process_allgather(x)", True),
        ("client.blocking_key_value_get(key)", True),
        ("client.blocking_key_value_get(key, 1000)", False),
        ("values.get()", True),
        ("values.get(key)", False),
        ("with ThreadPoolExecutor(2) as threads: pass", True),
    ],
)
def test_they_are_found(line, is_found):
    assert bool(list(waits(line))) == is_found
