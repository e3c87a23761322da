"""The refusal of a step that does not fit: at the very MiB, before anything is made, by all processes, with advice."""

import dataclasses
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realm_jax import parallel, processes
from realm_jax import run as run_lib
from realm_jax.config import ConfigError
from realm_jax.data.prepare import open_prepared
from realm_jax.index.store import IndexStore
from realm_jax.plan import longest_batch
from realm_jax.plan.advice import changed
from realm_jax.plan.compiled import CompiledStep
from realm_jax.records import Question
from realm_jax.training import finetune, fit, ict, phases, pretrain
from realm_jax.training.finetuning import Finetuning
from realm_jax.training.pretrain_task import PretrainTask

MIB = 2**20
DEVICES = 8
PHASES = ("ict", "pretrain", "finetune")


@pytest.fixture(scope="module")
def config(tiny_config):
    """Large enough for its activations to count."""
    model = dataclasses.replace(tiny_config.model, hidden_size=32, intermediate_size=128)
    sizes = {"ict": 512, "pretrain": 256, "finetune": 128}
    sections = {
        phase: dataclasses.replace(getattr(tiny_config, phase), batch_size=size) for phase, size in sizes.items()
    }
    sections["finetune"] = dataclasses.replace(sections["finetune"], beam_blocks=50)
    return dataclasses.replace(tiny_config, model=model, **sections)


@pytest.fixture
def devices_have(monkeypatch):
    """Gives every device so many free MiB."""
    return lambda mib: monkeypatch.setattr(fit, "_free_mib", lambda said: mib)


@pytest.fixture
def compiler_says(monkeypatch):
    """Makes the step of each phase so many MiB large, without compiling it."""

    def say(available_bytes=None, **mib):
        def step(config, phase, steps=1):
            return CompiledStep(mib[phase] * MIB, 0, 0, 0.0, available_bytes, 0.0)

        monkeypatch.setattr(fit, "compiled_here", step)

    return say


def waiting_mib(config, phase) -> float:
    """Two batches, as a device holds them."""
    batch = longest_batch.of_phase(config, phase, DEVICES)
    return 2 * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(batch)) / DEVICES / MIB


def test_devices_that_do_not_say_what_they_have_are_not_asked(config, monkeypatch):
    monkeypatch.setattr(fit, "compiled_here", lambda *arguments: pytest.fail("compiled in vain"))
    for phase in PHASES:
        fit.refuse_what_is_too_large(config, phase)


@pytest.mark.parametrize("phase", ["ict", *(pytest.param(phase, marks=pytest.mark.slow) for phase in PHASES[1:])])
def test_it_is_refused_where_a_mib_is_missing_and_what_is_advised_fits(config, phase, devices_have):
    """By the compiler's count and the two batches in waiting."""
    least = math.ceil(fit.compiled_here(config, phase).reserved_bytes / MIB + waiting_mib(config, phase))
    devices_have(least + 1)  # the planner's batch is some bytes larger or smaller
    fit.refuse_what_is_too_large(config, phase)
    devices_have(least - 1)
    with pytest.raises(ConfigError) as refused:
        fit.refuse_what_is_too_large(config, phase)
    said = str(refused.value)
    numbers = re.match(rf"a step of {phase} needs (\S+) GiB on each device, which has (\S+): pass --", said).groups()
    assert "\n" not in said
    np.testing.assert_allclose([float(n) for n in numbers], [least / 1024, (least - 1) / 1024], atol=0.051)
    flags = re.findall(r"--([\w.]+)=(\w+)", said)
    assert flags[0][0] == f"{phase}.micro_batch"
    fit.refuse_what_is_too_large(changed(config, {name: int(value) for name, value in flags}), phase)


def test_what_lies_on_a_device_already_is_not_free():
    assert fit._free_mib({"bytes_limit": 10 * MIB, "bytes_in_use": 3 * MIB}) == 7
    assert fit._free_mib(jax.devices("cpu")[0].memory_stats()) == fit.UNKNOWN_MIB


def test_blocks_that_are_searched_on_the_devices_count(config, devices_have, compiler_says):
    compiler_says(pretrain=100)
    devices_have(math.ceil(100 + waiting_mib(config, "pretrain")) + 1)
    fit.refuse_what_is_too_large(config, "pretrain", blocks=0)
    with pytest.raises(ConfigError, match="a step of pretrain needs"):
        fit.refuse_what_is_too_large(config, "pretrain", blocks=DEVICES * 100_000)


def test_a_tpus_compiler_knows_its_own_limit(config, devices_have, compiler_says):
    compiler_says(ict=18 * 1024, available_bytes=15 * 1024 * MIB)
    devices_have(100 * 1024)
    with pytest.raises(ConfigError, match=r"a step of ict needs 18\.0 GiB on each device, which has 15\.0: "):
        fit.refuse_what_is_too_large(config, "ict")


def test_all_processes_go_by_the_least_memory(config, devices_have, compiler_says, monkeypatch):
    compiler_says(ict=100)
    devices_have(math.ceil(100 + waiting_mib(config, "ict")) + 1)
    fit.refuse_what_is_too_large(config, "ict")
    monkeypatch.setattr(processes, "least", lambda mib: mib - 2)  # of another process
    with pytest.raises(ConfigError, match="a step of ict needs"):
        fit.refuse_what_is_too_large(config, "ict")


def test_nothing_is_made_before_the_refusal(new_run, devices_have, compiler_says):
    compiler_says(ict=100, pretrain=100)
    devices_have(90)
    workdir = new_run(ict={"steps": 2})
    data = open_prepared(workdir)
    for phase, train in (("ict", ict.train), ("pretrain", pretrain.train)):
        with pytest.raises(ConfigError, match=f"a step of {phase} needs"):
            train(workdir, data)
        assert not workdir.phase(phase).exists()
    assert not workdir.index_folder.exists()


def test_a_run_asks_for_pretraining_before_it_trains_ict(new_run, devices_have, compiler_says, monkeypatch):
    compiler_says(ict=10, pretrain=100)
    devices_have(90)
    monkeypatch.setattr(ict, "train", lambda *arguments: pytest.fail("ICT is trained in vain"))
    with pytest.raises(ConfigError, match="a step of pretrain needs"):
        run_lib.run(new_run(ict={"steps": 2}))


def test_so_does_a_fine_tuning_before_its_index_is_built(
    pretrained_run, copy_run, tmp_path, devices_have, compiler_says
):
    compiler_says(finetune=100)
    devices_have(90)
    run = copy_run(pretrained_run, tmp_path / "run")
    finetuning = Finetuning.create(
        run, "own", "cloze", dataclasses.replace(run.config.finetune, train_retriever="both")
    )
    with pytest.raises(ConfigError, match="a step of finetune needs"):
        finetune.train(finetuning, [Question("1", "who?", ("he",))], [Question("2", "who?", ("he",))])
    assert not (finetuning.folder / "index").exists() and not (finetuning.folder / "checkpoints").exists()


@pytest.mark.slow
def test_training_takes_the_program_from_the_cache(pretrained_run, monkeypatch):
    """That of a longest batch, which is made to use all slots of the masks, in rows as on an accelerator."""
    monkeypatch.setattr("realm_jax.training.room._is_flat", lambda: False)
    pretrain_config = dataclasses.replace(pretrained_run.config.pretrain, batch_size=8)
    config = dataclasses.replace(pretrained_run.config, pretrain=pretrain_config, seed=11)
    events = []
    jax.monitoring.register_event_listener(lambda event, **names: events.append(event))
    fit.compiled_here(config, "pretrain")
    store, first = IndexStore(pretrained_run.index_folder), phases.first_params(pretrained_run)
    task = PretrainTask(config, open_prepared(pretrained_run), store, first)
    optimizer = task.optimizer()
    state = parallel.replicate(parallel.TrainState(jnp.int32(0), first, optimizer.init(first)))
    stream = task.stream({})
    batch = stream.take(state.params)
    stream.close()
    slots = longest_batch.of_phase(config, "pretrain", DEVICES).mask_slots
    batch = dataclasses.replace(batch, mask_slots=np.zeros(slots.shape, slots.dtype))
    events.clear()
    parallel.compiled_train_step(task.loss, optimizer, task.seed, task.micro_batches)(state, batch)
    assert "/jax/compilation_cache/cache_hits" in events
    assert "/jax/compilation_cache/cache_misses" not in events
