"""Any process of a run is ended anywhere; the same command again ends as an unbroken run, and nothing is left over."""

import ast
import collections
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest

from realm_jax import faults, signals
from realm_jax.index.index_builder import fingerprint
from realm_jax.index.store import IndexStore
from realm_jax.training import phases
from realm_jax.training.finetuning import Finetuning
from realm_jax.workdir import Workdir
from tests.reliability.cases import CASES, SHORT, SLOW, Case

REPOSITORY = pathlib.Path(__file__).parents[2]
DEADLINE_S = 300
STEPS, ICT_STEPS, EVERY = 12, 4, 4
PHASES = {"ict": ICT_STEPS, "pretrain": STEPS}
FINETUNE = {"epochs": 1, "batch_size": 8, "eval_every": 2, "log_every": 1, "train_questions": 48, "dev_questions": 8}
SEED = 3
"""With it the first batch is the largest: later ones need no program of another size, which would take seconds."""
ENVIRONMENT = {"JAX_NUM_CPU_DEVICES": "1", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
KILLS = [pytest.mark.slow, pytest.mark.kill]


def realm(workdir: pathlib.Path, command: str, cache: pathlib.Path, **fault: str) -> subprocess.CompletedProcess:
    """The command that a case gives, with the faults that it plants."""
    flags = {
        "finetune": ["--dataset=cloze", *(f"--finetune.{name}={value}" for name, value in FINETUNE.items())],
        "eval": ["--dataset=cloze", "--questions=4"],
    }
    given = [sys.executable, "-m", "realm_jax", command, f"--workdir={workdir}", *flags.get(command, [])]
    environment = {**os.environ, **ENVIRONMENT, "REALM_JAX_CACHE": str(cache), **fault}
    with subprocess.Popen(
        given, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            said, _ = process.communicate(timeout=DEADLINE_S)
        finally:
            _, running = psutil.wait_procs(
                [left for left in psutil.process_iter() if _is_of(left, process.pid)], timeout=signals.GRACE_S + 2
            )
            for left in running:
                left.kill()
    return subprocess.CompletedProcess(given, process.returncode, said + "".join(f"left: {left}\n" for left in running))


def _is_of(process: psutil.Process, session: int) -> bool:
    try:
        return os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, psutil.Error):
        return False


def finished(workdir: pathlib.Path, command: str, cache: pathlib.Path) -> str:
    done = realm(workdir, command, cache)
    assert done.returncode == 0 and "left: " not in done.stdout, done.stdout[-3000:]
    return done.stdout


@pytest.fixture(scope="session")
def unbroken(tiny_run, tmp_path_factory):
    """Makes an unbroken run, once a process: `inline`, or that one with a `finetune`."""
    folder = tmp_path_factory.mktemp("unbroken")
    made: dict[str, pathlib.Path] = {}

    def of_kind(kind: str) -> pathlib.Path:
        if kind not in made:
            made[kind] = folder / kind
            if kind == "finetune":
                shutil.copytree(of_kind("inline"), made[kind])
                finished(made[kind], "finetune", folder / "cache")
                finished(made[kind], "eval", folder / "cache")
            else:
                begin(made[kind], kind, tiny_run.config)
                finished(made[kind], "run", folder / "cache")
        return made[kind]

    of_kind.cache = folder / "cache"
    return of_kind


def begin(folder: pathlib.Path, kind: str, tiny) -> None:
    """A run that has made nothing yet."""
    every = {"checkpoint_every": EVERY, "index_refresh_every": EVERY, "log_every": 1}
    config = dataclasses.replace(
        tiny,
        seed=SEED,
        ict=dataclasses.replace(tiny.ict, steps=ICT_STEPS, checkpoint_every=2, log_every=1),
        pretrain=dataclasses.replace(tiny.pretrain, steps=STEPS, **every),
        index=dataclasses.replace(
            tiny.index,
            **{"device": "cpu" if kind == "builder" else "inline", "keep_versions": 1},
            **{"max_age_steps": EVERY, "max_age_policy": "pause"},
        ),
    )
    Workdir.create(folder, config)


@pytest.mark.parametrize(
    "case",
    [
        SHORT,
        pytest.param(SLOW, marks=pytest.mark.slow),
        *(pytest.param(case, marks=KILLS) for case in CASES if case not in (SHORT, SLOW)),
    ],
    ids=str,
)
def test_the_same_command_again_ends_as_an_unbroken_run(case: Case, unbroken, tiny_run, tmp_path, record_property):
    record_property("command", case.command)
    record_property("point", case.point.split(":")[0])
    whole = unbroken("finetune" if case.kind == "finetune" else "inline")
    broken, reached = tmp_path / "run", tmp_path / "reached"
    if case.kind == "finetune":
        shutil.copytree(whole if case.command == "eval" else unbroken("inline"), broken)
        shutil.rmtree(broken / "eval", ignore_errors=True)
    else:
        begin(broken, case.kind, tiny_run.config)
    if case.kind == "builder":
        for made in ("tokenizer.json", "corpus", "ict"):
            (shutil.copytree if (whole / made).is_dir() else shutil.copy)(whole / made, broken / made)
    command = "run" if case.command == "builder" else case.command
    whom = "" if case.whom == "itself" else f":{case.whom}"
    first = realm(
        broken,
        command,
        unbroken.cache,
        REALM_JAX_FAULT=f"{case.command}:{case.point}",
        REALM_JAX_FAULT_SENDS=f"{case.signal}{whom}",
        REALM_JAX_FAULT_SAYS=str(reached),
    )
    ended = time.time()
    assert reached.exists(), f"{case.point} was never reached:\n{first.stdout[-3000:]}"
    assert first.returncode == expected_status(case) and "Traceback" not in first.stdout, first.stdout[-3000:]
    assert "left: " not in first.stdout
    if case.signal != "SIGKILL" and first.returncode:
        record_property("seconds", round(ended - reached.stat().st_mtime, 2))
    finished(broken, command, unbroken.cache)
    assert_same(broken, whole, case, unbroken.cache)
    assert leftovers(broken) == []


def expected_status(case: Case) -> int:
    """That of the command: 0 where only its builder was ended, and is started again."""
    trainer_goes_on = case.whom == ("itself" if case.command == "builder" else "other")
    number = signal.Signals[case.signal]
    return 0 if trainer_goes_on else -number if case.signal == "SIGKILL" else 128 + number


def assert_same(broken: pathlib.Path, whole: pathlib.Path, case: Case, cache: pathlib.Path) -> None:
    if case.kind == "finetune":
        assert fine_tuned(broken) == fine_tuned(whole)
        if case.command == "eval":
            ours, theirs = (list((folder / "eval").rglob("predictions.jsonl")) for folder in (broken, whole))
            assert [file.read_text() for file in ours] == [file.read_text() for file in theirs] and len(theirs) == 1
        return
    for phase, steps in PHASES.items():
        records = [json.loads(line) for line in (broken / phase / "metrics.jsonl").read_text().splitlines()]
        assert [record["step"] for record in records] == list(range(1, steps + 1)), phase
    assert trained(broken, "ict") == trained(whole, "ict")
    if case.kind == "inline":
        assert trained(broken, "pretrain") == trained(whole, "pretrain")
    else:
        assert_replayed(broken, cache)
    last = IndexStore(broken / "index").latest()
    assert last.step == STEPS and last.manifest["weights"] == trained(broken, "pretrain", parts=("embedder",))
    assert (broken / "summary.json").exists()


def trained(folder: pathlib.Path, phase: str, parts: tuple[str, ...] = ()) -> str:
    """A fingerprint of the parameters, or of one part, in a phase's last checkpoint."""
    workdir = Workdir.open(folder)
    found = phases.last_params(workdir, phase, parts or (("embedder",) if phase == "ict" else phases.PARTS))
    return fingerprint(found["embedder"] if parts else found)


def fine_tuned(folder: pathlib.Path) -> str:
    finetuning = Finetuning.open(Workdir.open(folder), "cloze")
    assert finetuning.is_done
    return fingerprint(finetuning.best_params())


def assert_replayed(folder: pathlib.Path, cache: pathlib.Path) -> None:
    """The same training with the index versions that were in use has the same bits."""
    environment = {**os.environ, **ENVIRONMENT, "REALM_JAX_CACHE": str(cache)}
    command = [sys.executable, "-m", "realm_jax", "replay", f"--workdir={folder}", f"--into={folder.parent / 'replay'}"]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0 and "the same bits in all arrays" in done.stdout, done.stderr[-3000:]


def leftovers(folder: pathlib.Path) -> list[str]:
    """Drafts, temporary files, pins and shared work: what only a process that is at work may have."""
    files = [str(file.relative_to(folder)) for file in folder.rglob("*") if not file.is_dir()]
    temporary = [file for file in files if "/pins/" in file or "tmp" in file or "/." in file or file.startswith(".")]
    drafts = [str(draft) for draft in (folder / "index").glob("step-*") if not (draft / "manifest.json").exists()]
    return [*temporary, *drafts, *map(str, (folder / "index" / "work").glob("*"))]


def test_every_point_and_every_command_that_has_one_is_in_the_matrix():
    points = {case.point.split(":")[0] for case in CASES}
    assert points == set(faults.POINTS) - {"tag step"}, "a place without a case, or a case without a place"
    called = {
        call.args[0]
        for file in (REPOSITORY / "realm_jax").rglob("*.py")
        for call in ast.walk(ast.parse(file.read_text()))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "faults.point"
    }
    named = set(faults.POINTS) - {point for point in faults.POINTS if point.endswith(" step")}
    assert {ast.unparse(name) for name in called} == {repr(point) for point in named} | {"f'{task.name} step'"}
    assert len(CASES) >= 80 and len(set(CASES)) == len(CASES)


def test_the_committed_result_has_every_case_and_all_passed():
    values = json.loads((REPOSITORY / "benchmarks" / "results" / "kill_matrix.json").read_text())["values"]
    measured = {(row["command"], row["point"]): (row["cases"], row["passed"]) for row in values["rows"]}
    wanted = collections.Counter((case.command, case.point.split(":")[0]) for case in CASES)
    assert measured == {place: (cases, cases) for place, cases in wanted.items()}
    assert values["passed"] == values["cases"] == len(CASES)
