"""What DRY_RUN=1 prints: commands that gcloud takes, with the image of each generation, and nothing is run."""

import json
import shlex
import sys

import pytest
from conftest import printed

IMAGES = {
    "v2-8": "tpu-ubuntu2204-base",
    "v3-8": "tpu-ubuntu2204-base",
    "v4-32": "tpu-ubuntu2204-base",
    "v5litepod-16": "v2-alpha-tpuv5-lite",
    "v5p-8": "v2-alpha-tpuv5",
    "v6e-8": "v2-alpha-tpuv6e",
}
HAS_SEVERAL_HOSTS = {"v4-32", "v5litepod-16"}
BUCKET = "WORKDIR=gs://bucket/run"


def commands(done) -> list[str]:
    return [f"{' '.join(command)} {positional[-1]}" for command, positional, _ in printed(done.stdout)]


@pytest.mark.parametrize("builder", ["", "v5litepod-8"])
@pytest.mark.parametrize("tpu", IMAGES)
def test_pretrain_makes_sets_up_runs_and_follows(cloud, tpu, builder):
    done = cloud.make("pretrain", f"TPU={tpu}", "ZONE=zone-a", BUCKET, f"BUILDER_TPU={builder}", "DRY_RUN=1")
    assert done.returncode == 0, done.stderr
    assert cloud.calls() == []
    name = f"realm-{tpu}"
    own = [command for command in commands(done) if "describe" not in command and "builder" not in command]
    ssh = f"tpu-vm ssh {name}"
    assert own == [f"queued-resources create {name}", f"tpu-vm scp {name}:realm_jax.tgz", ssh, ssh, ssh]
    rendered = {name: flags for _, (*_, name), flags in printed(done.stdout)[::-1] if "--node-id" in flags}
    assert rendered[name]["--accelerator-type"] == tpu and rendered[name]["--runtime-version"] == IMAGES[tpu]
    assert rendered[name]["--zone"] == "zone-a" and "--spot" not in rendered[name]
    jobs = {place[0]: flags for _, place, flags in printed(done.stdout) if "vm_job.sh" in flags.get("--command", "")}
    starts = [flags for _, (place, *_), flags in printed(done.stdout) if " start " in flags.get("--command", "")]
    assert [flags["--worker"] for flags in starts] == ["all"] and jobs[name]["--worker"] == "0"
    words = starts[0]["--command"].split()
    assert ("REALM_JAX_DISTRIBUTED=auto" in words) == (tpu in HAS_SEVERAL_HOSTS)
    assert {"--config=experiments/tpu_v3_8.py", "--workdir=gs://bucket/run"} <= set(words)
    assert "-m realm_jax run --config=" in starts[0]["--command"]
    assert ("--index.device=accelerator" in words) == bool(builder) == (f"{name}-builder" in jobs)
    if builder:
        assert rendered[f"{name}-builder"]["--runtime-version"] == "v2-alpha-tpuv5-lite"
        words = jobs[f"{name}-builder"]["--command"].split()
        assert {"keep", "--workdir=gs://bucket/run"} <= set(words)
        assert "-m realm_jax builder --workdir=" in jobs[f"{name}-builder"]["--command"]


@pytest.mark.parametrize(
    ("target", "flags", "words"),
    [
        (
            "ict",
            ["ARGS=--ict.steps=5"],
            {"realm_jax", "ict", "--config=experiments/tpu_v3_8.py", "--ict.steps=5"},
        ),
        ("finetune", ["DATASET=wq"], {"realm_jax", "finetune", "--dataset=wq", "--workdir=gs://bucket/run"}),
        ("eval", ["DATASET=wq"], {"realm_jax", "eval", "--dataset=wq", "--workdir=gs://bucket/run"}),
        ("pretrain", ["CONFIG=experiments/mini.py"], {"realm_jax", "run", "--config=experiments/mini.py"}),
    ],
)
def test_other_commands_run_there_too(cloud, target, flags, words):
    done = cloud.make(target, "TPU=v3-8", BUCKET, "DRY_RUN=1", *flags)
    assert done.returncode == 0, done.stderr
    started = [flags["--command"].split() for _, _, flags in printed(done.stdout) if " start " in str(flags)]
    assert len(started) == 1 and words <= set(started[0])


def test_without_tpu_commands_run_here(cloud):
    for target in ("pretrain", "ict", "finetune", "eval"):
        done = cloud.make("-n", target)
        assert ".venv/bin/python -m realm_jax" in done.stdout and "launch/" not in done.stdout
    assert "--config=experiments/nano.py" in cloud.make("-n", "pretrain").stdout


ODD = 'it\'s "my" a,b #1 %s: run\nof two lines'


def test_every_variable_is_one_argument(cloud):
    wanted = {
        "pretrain": ["--workdir", "--corpus", "--init", "--config"],
        "corpus": ["--source", "--out", "--tagger"],
        "tagger": ["--out"],
        "retag": ["", "--tagger", "--out"],
        "finetune": ["--dataset", "--workdir"],
        "inspect": [""],
    }
    names = ("WORKDIR", "CORPUS", "CONFIG", "INIT", "DATASET", "SOURCE", "OUT", "TAGGER")
    cloud.program("words", f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    for target, flags in wanted.items():
        done = cloud.make("-s", target, "PY=words", "HERE=", *(f"{name}={ODD}" for name in names))
        given = json.loads(done.stdout)[3:]
        assert sorted(given) == sorted(f"{flag}={ODD}" if flag else ODD for flag in flags), target


def test_spaces_reach_the_tpu(cloud):
    done = cloud.make("finetune", "TPU=v3-8", "WORKDIR=gs://bucket/my run", "DATASET=it's.jsonl", "DRY_RUN=1")
    (start,) = [flags["--command"] for _, _, flags in printed(done.stdout) if " start " in str(flags)]
    assert {"--workdir=gs://bucket/my run", "--dataset=it's.jsonl"} <= set(shlex.split(start))


def test_life_of_a_tpu(cloud):
    where = ("TPU=v6e-8", "NAME=mine", "ZONE=z", "PROJECT=p", "DRY_RUN=1")
    create = printed(cloud.make("tpu-create", *where, "SPOT=1").stdout)[-1]
    assert create[1] == ["mine"] and create[2]["--project"] == "p" and "--spot" in create[2]
    assert commands(cloud.make("tpu-setup", *where, "JAX=0.11.0"))[0] == "tpu-vm scp mine:realm_jax.tgz"
    assert "vm_setup.sh v6e-8 0.11.0" in cloud.make("tpu-setup", *where, "JAX=0.11.0").stdout
    for odd in ("0.11.0; touch F", "'0.11.0'", "0.11.0 0.10.0", "$(touch F)"):
        refused = cloud.run("launch/setup.sh", TPU="v6e-8", NAME="mine", DRY_RUN="1", JAX=odd)
        assert refused.returncode == 2 and f"error: JAX={odd} is no version" in refused.stderr and not refused.stdout
    assert commands(cloud.make("tpu-status", *where))[-1] == "tpu-vm ssh mine"
    assert "vm_job.sh stop" in printed(cloud.make("tpu-stop", *where).stdout)[0][2]["--command"]
    assert commands(cloud.make("tpu-stop", *where, "BUILDER_TPU=v5litepod-8"))[1] == "tpu-vm ssh mine-builder"
    (delete,) = printed(cloud.make("tpu-delete", *where).stdout)
    assert delete == (
        ("queued-resources", "delete"),
        ["mine"],
        {"--force": "", "--quiet": "", "--zone": "z", "--project": "p"},
    )
    assert commands(cloud.make("tpu-watch", *where, BUCKET, "JOB=ict"))[-1] == "tpu-vm ssh mine"
    assert cloud.calls() == []


def test_nothing_is_deleted_without_its_full_name(cloud):
    done = cloud.make("tpu-delete", "TPU=v3-8")
    assert done.returncode == 2 and "say which, in full: make tpu-delete NAME=realm-v3-8" in done.stderr
    assert cloud.calls() == []


@pytest.mark.parametrize(
    "tpu", ["3-8", "v3", "v3-9", "v5e-8", "v5litepod-2", "v3-08", "v3-8 ", "V3-8", "v7-8", "v3-8;ls"]
)
def test_a_malformed_type_is_refused_with_an_example(cloud, tpu):
    for script in ("create.sh", "run.sh", "setup.sh", "watch.sh"):
        done = cloud.run(f"launch/{script}", TPU=tpu, NAME="n")
        assert done.returncode == 2 and done.stderr.startswith(f"error: TPU={tpu}") and "v3-8" in done.stderr
    assert cloud.calls() == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"TPU": "tpu7x-8"}, "reached through GKE alone: see launch/xpk.md"),
        ({"TPU": "v3-8", "NAME": "My_TPU"}, "small letters, digits and hyphens"),
        ({"TPU": "v4-32"}, "not shared by several machines: pass WORKDIR=gs://BUCKET/RUN"),
        ({"TPU": "v4-32", "WORKDIR": "runs/here"}, "not shared by several machines"),
        ({"TPU": "v3-8", "BUILDER_TPU": "v5litepod-8"}, "not shared by several machines"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_costs(cloud, settings, message):
    done = cloud.run(
        "launch/run.sh", "-m", "realm_jax", "run", "--index.device=accelerator", **{"NAME": "n", **settings}
    )
    assert done.returncode == 2 and message in done.stderr
    assert cloud.calls() == []


def test_a_builders_slice_of_several_hosts_has_a_builder_on_each_by_itself(cloud):
    done = cloud.make("pretrain", "TPU=v3-8", BUCKET, "BUILDER_TPU=v5litepod-16", "DRY_RUN=1")
    assert done.returncode == 0, done.stderr
    jobs = [flags for _, (place, *_), flags in printed(done.stdout) if " keep " in flags.get("--command", "")]
    assert [job["--worker"] for job in jobs] == ["all"]
    words = jobs[0]["--command"].split()
    assert not any(word.startswith("REALM_JAX_DISTRIBUTED") for word in words)
    assert {"TPU_PROCESS_BOUNDS=1,1,1", "TPU_CHIPS_PER_PROCESS_BOUNDS=2,2,1"} <= {w.replace("\\", "") for w in words}
    assert jobs[0]["--command"].endswith("-m realm_jax builder --workdir=gs://bucket/run")


def test_help_lists_every_target(cloud):
    done = cloud.make("help")
    for target in ("pretrain", "eval", "tpu-create", "tpu-setup", "tpu-status", "tpu-stop", "tpu-delete", "tpu-watch"):
        assert f"\n{target} " in f"\n{done.stdout}"
    assert "WORKDIR=gs://BUCKET/RUN" in done.stdout
