"""The scripts against a cloud that lives on this machine: real ssh commands, real jobs, failures at every turn."""

import os
import signal
import subprocess
import time

import pytest
from conftest import REPOSITORY

ONE = {"TPU": "v3-8", "NAME": "one"}
BUCKET = {"WORKDIR": "gs://bucket/run"}


def python(cloud, code: str, **settings: str) -> subprocess.CompletedProcess:
    return cloud.run("launch/run.sh", "-c", code, **{**ONE, **settings})


def started(cloud) -> int:
    return sum(" start " in str(call) for call in cloud.calls())


def test_the_exit_status_is_the_jobs_and_the_log_is_followed(cloud):
    done = python(cloud, "import os, sys; print('in', os.getcwd()); sys.exit(7)")
    assert done.returncode == 7, done.stderr
    assert f"in {cloud.root}/one/0/realm_jax" in done.stdout and "one: ACTIVE" in done.stdout
    assert (cloud.root / "one/0/realm_jax/launch/run.sh").exists()
    assert "--editable=.[tpu] jax[tpu]" in (cloud.root / "one/0/installed").read_text()
    done = python(cloud, "print('well')")
    assert done.returncode == 0 and "well" in done.stdout
    assert "The TPU still costs money: make tpu-delete NAME=one" in done.stdout
    assert sum("create" in call for call in cloud.calls()) == 1


def test_jobs_of_one_second_are_two_jobs(cloud):
    cloud.program("date", "#!/bin/bash\necho 1700000000\n")
    assert python(cloud, "raise SystemExit(7)").returncode == 7
    assert python(cloud, "print('well')").returncode == 0


def test_make_fails_with_the_job(cloud):
    done = cloud.make("eval", "TPU=v3-8", "ARGS=--help")
    assert done.returncode == 0 and "--workdir" in done.stdout, done.stderr
    assert cloud.make("eval", "TPU=v3-8", "ARGS=--no-such-flag").returncode == 2


def test_all_hosts_run_the_job_and_know_that_they_are_many(cloud):
    code = "import os; open(os.path.expanduser('~/ran'), 'w').write(os.environ['REALM_JAX_DISTRIBUTED'])"
    done = python(cloud, code, TPU="v4-32", **BUCKET)
    assert done.returncode == 0, done.stderr
    for number in range(2):
        wait_for(cloud.root / f"one/{number}/ran")
        assert (cloud.root / f"one/{number}/ran").read_text() == "auto"


def test_setting_up_again_leaves_what_was_not_copied(cloud):
    """A run may lie anywhere on the host; a file that the tree has no longer goes."""
    assert python(cloud, "open('gone', 'w'); import os; os.makedirs('myrun/ict')").returncode == 0
    host = cloud.root / "one/0"
    (host / "realm_jax/myrun/ict/checkpoint").write_text("days of work")
    with (host / "realm_jax.files").open("a") as file:
        file.write("gone\n")
    assert python(cloud, "print('again')").returncode == 0
    assert (host / "realm_jax/myrun/ict/checkpoint").read_text() == "days of work"
    assert not (host / "realm_jax/gone").exists() and (host / "realm_jax/setup.cfg").exists()


def test_a_job_whose_machine_started_again_ends_the_command(cloud):
    make(cloud)
    slow = "import time; print('here', flush=True); time.sleep(60)"
    with subprocess.Popen(
        ["launch/run.sh", "-c", slow], cwd=REPOSITORY, env=cloud.environment(**ONE), stderr=subprocess.PIPE, text=True
    ) as run:
        wait_for(cloud.root / "one/0/realm_job/pid")
        for name in ("shell", "pid"):
            os.kill(int((cloud.root / "one/0/realm_job" / name).read_text()), signal.SIGKILL)
        assert run.wait(timeout=30) == 70 and "the job ended without a status" in run.stderr.read()


def test_a_lost_connection_ends_nothing(cloud):
    make(cloud, "lost")
    done = python(cloud, "print('still here')")
    assert done.returncode == 0 and "still here" in done.stdout, done.stderr
    assert started(cloud) == 1 and sum("follow" in str(call) for call in cloud.calls()) == 2


def test_a_job_that_runs_is_followed_and_not_started_again(cloud):
    make(cloud)
    slow = "import time; print('one job', flush=True); time.sleep(3); raise SystemExit(4)"
    with subprocess.Popen(
        ["launch/run.sh", "-c", slow], cwd=REPOSITORY, env=cloud.environment(**ONE), stdout=subprocess.DEVNULL
    ) as first:
        wait_for(cloud.root / "one/0/realm_job/pid")
        first.kill()
    done = python(cloud, "print('another')")
    assert done.returncode == 4 and "one job" in done.stdout and "another" not in done.stdout
    assert started(cloud) == 1


def test_preemption_has_a_status_of_its_own(cloud):
    make(cloud, "preempted")
    done = python(cloud, "import time; time.sleep(1)")
    assert done.returncode == 75 and "one is PREEMPTED: make tpu-watch makes it anew" in done.stderr
    assert python(cloud, "print()").returncode == 75


def test_the_watcher_makes_a_preempted_slice_anew_and_runs_the_command_again(cloud):
    make(cloud, "preempted")
    command = ("launch/watch.sh", "launch/run.sh", "-c", "import os; print('home', os.getcwd())")
    done = cloud.run(*command, **ONE, **BUCKET, SPOT="1")
    assert done.returncode == 0, done.stderr
    assert "one is PREEMPTED: making it anew" in done.stdout and "home" in done.stdout
    kinds = [" ".join(call[2:5]) for call in cloud.calls() if call[3] in ("create", "delete")]
    assert kinds == ["queued-resources delete one", "queued-resources create one"]
    assert any("create" in call and "--spot" in call for call in cloud.calls())
    assert started(cloud) == 2


def test_the_watcher_ends_with_a_job_that_fails(cloud):
    done = cloud.run("launch/watch.sh", "launch/run.sh", "-c", "raise SystemExit(3)", **ONE, **BUCKET)
    assert done.returncode == 3 and started(cloud) == 1
    refused = cloud.run("launch/watch.sh", "true", **ONE)
    assert refused.returncode == 2 and "pass WORKDIR=gs://BUCKET/RUN" in refused.stderr


def test_the_builder_begins_again_until_it_succeeds(cloud):
    make(cloud, name="one-builder")
    job = str(REPOSITORY / "launch/vm_job.sh")
    home = cloud.root / "one-builder/0"
    code = "import pathlib, sys; f = pathlib.Path('{}'); n = len(f.read_text()) if f.exists() else 0; "
    code = code.format(home / "tries") + "f.write_text('x' * (n + 1)); sys.exit(n < 2)"
    environment = {**cloud.environment(), "HOME": str(home), "AGAIN_S": "0.1"}
    subprocess.run(["bash", job, "keep", "1", "python3", "-c", code], env=environment, check=True, timeout=60)
    subprocess.run(["bash", job, "follow"], env=environment, check=True, timeout=60)
    assert (home / "tries").read_text() == "xxx" and (home / "realm_job/status").read_text() == "0\n"


def test_a_builder_slice_is_started_first_and_not_waited_for(cloud):
    code = ["-c", "print('trained')", "--index.device=accelerator"]
    done = cloud.run("launch/run.sh", *code, **ONE, **BUCKET, BUILDER_TPU="v5litepod-8", BUILDER_ZONE="other")
    assert done.returncode == 0 and "trained" in done.stdout, done.stderr
    assert "make tpu-delete NAME=one; make tpu-delete NAME=one-builder" in done.stdout
    of_builder = [call for call in cloud.calls() if "one-builder" in call]
    assert all("--zone=other" in call for call in of_builder) and " keep " in str(of_builder[-1])
    assert cloud.run("launch/stop.sh", **ONE, BUILDER_TPU="v5litepod-8").returncode == 0
    wait_for(cloud.root / "one-builder/0/realm_job/status")


def test_stop_lets_the_job_save_its_state(cloud):
    make(cloud)
    saves = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: (print('saved', flush=True), sys.exit(1)))"
        "; print('trains', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        ["launch/run.sh", "-c", saves], cwd=REPOSITORY, env=cloud.environment(**ONE), stdout=subprocess.PIPE, text=True
    ) as job:
        for line in job.stdout:
            if line == "trains\n":
                break
        assert "saved" in cloud.run("launch/stop.sh", NAME="one").stdout
        assert "saved" in job.stdout.read()
    assert job.returncode == 1
    assert "no job runs there" in cloud.run("launch/status.sh", NAME="one").stdout


def test_status(cloud):
    assert cloud.run("launch/status.sh", NAME="none").stdout == "none: ABSENT\n"


def test_chips_that_jax_does_not_drive_stop_the_setup_with_a_pair_to_try(cloud):
    cloud.host = {"CHIPS_ANSWER": "1"}
    for tpu, pair in (
        ("v3-8", "No page says which pair still drives v3; to try: make tpu-setup JAX="),
        ("v6e-8", "JAX="),
    ):
        done = cloud.run("launch/run.sh", "-c", "print('trained')", TPU=tpu, NAME=f"a{tpu}")
        assert done.returncode == 3 and pair in done.stderr and "trained" not in done.stdout
    assert started(cloud) == 0


def test_another_jax_is_installed_without_the_pinned_one(cloud):
    make(cloud)
    assert cloud.run("launch/setup.sh", **ONE, JAX="0.11.0").returncode == 0
    installed = (cloud.root / "one/0/installed").read_text()
    assert "jax[tpu]==0.11.0" in installed and "--constraint=constraints.txt" not in installed


def test_gcloud_that_cannot_answer_is_not_taken_for_a_missing_slice(cloud):
    cloud.run("launch/create.sh", **ONE)
    (cloud.root / "bin/gcloud").write_text("#!/bin/bash\necho 'ERROR: no network' >&2\nexit 1\n")
    done = cloud.run("launch/status.sh", NAME="one")
    assert done.stdout == "one: UNKNOWN\n" and "no network" in done.stderr


def make(cloud, befalls: str = "", name: str = "one") -> None:
    """A slice that is there, and what will befall it."""
    assert cloud.run("launch/create.sh", TPU="v3-8", NAME=name).returncode == 0
    if befalls:
        (cloud.root / name / "next").write_text(befalls)
    (cloud.root / "calls").write_text("")


def wait_for(file, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not (file.exists() and file.read_text()):
        if time.monotonic() > deadline:
            pytest.fail(f"{file} did not come")
        time.sleep(0.05)
