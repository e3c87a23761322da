"""The refusal of a step that does not fit: at the very MiB, before anything is made, by all processes, with advice."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import pytest

from realm_jax import parallel, processes
from realm_jax import run as run_lib
from realm_jax.config import ConfigError
from realm_jax.data.prepare import open_prepared
from realm_jax.index.store import IndexStore
from realm_jax.plan import device_memory, longest_batch
from realm_jax.plan.advice import changed
from realm_jax.training import fit, ict, phases, pretrain
from realm_jax.training.pretrain_task import PretrainTask

pytestmark = pytest.mark.usefixtures("quick_compilation")

MIB, GIB = 2**20, 2**30
DEVICES = 8
PHASES = ("ict", "pretrain", "finetune")


@pytest.fixture(scope="module")
def config(tiny_config):
    """Large enough for its activations to count."""
    model = dataclasses.replace(tiny_config.model, hidden_size=32, num_layers=2, intermediate_size=128)
    sizes = {"ict": 512, "pretrain": 256, "finetune": 128}
    sections = {
        phase: dataclasses.replace(getattr(tiny_config, phase), batch_size=size) for phase, size in sizes.items()
    }
    sections["finetune"] = dataclasses.replace(sections["finetune"], beam_blocks=50)
    return dataclasses.replace(tiny_config, model=model, **sections)


@pytest.fixture
def devices_have(monkeypatch):
    """Gives every device so many free MiB."""
    return lambda mib: monkeypatch.setattr(fit, "_free_mib", lambda device: mib)


def needed_mib(config, phase) -> int:
    """The compiler's count and the two batches in waiting, in whole MiB."""
    batch = longest_batch.of_phase(config, phase, DEVICES)
    waiting = 2 * sum(leaf.size * leaf.dtype.itemsize // DEVICES for leaf in jax.tree.leaves(batch))
    return -(-(fit.compiled_here(config, phase).reserved_bytes + waiting) // MIB)


def test_devices_that_do_not_say_what_they_have_are_not_asked(config, monkeypatch):
    monkeypatch.setattr(fit, "compiled_here", lambda *arguments: pytest.fail("compiled in vain"))
    for phase in PHASES:
        fit.refuse_what_is_too_large(config, phase)


@pytest.mark.parametrize("phase", PHASES)
def test_it_is_refused_where_a_mib_is_missing_and_what_is_advised_fits(config, phase, devices_have):
    least = needed_mib(config, phase)
    devices_have(least + 1)  # the planner's batch is some bytes larger or smaller
    fit.refuse_what_is_too_large(config, phase)
    devices_have(least - 1)
    with pytest.raises(ConfigError) as refused:
        fit.refuse_what_is_too_large(config, phase)
    said = str(refused.value)
    numbers = re.match(rf"a step of {phase} needs (\S+) GiB on each device, which has (\S+): pass --", said).groups()
    assert "\n" not in said and [float(n) for n in numbers] == [round(least / 1024, 1), round((least - 1) / 1024, 1)]
    flags = re.findall(r"--([\w.]+)=(\w+)", said)
    assert flags[0][0] == f"{phase}.micro_batch"
    fit.refuse_what_is_too_large(changed(config, {name: int(value) for name, value in flags}), phase)


def test_what_lies_on_a_device_already_is_not_free():
    class Device:
        def memory_stats(self):
            return {"bytes_limit": 10 * MIB, "bytes_in_use": 3 * MIB}

    assert fit._free_mib(Device()) == 7
    assert fit._free_mib(jax.devices("cpu")[0]) == fit.UNKNOWN_MIB


def test_blocks_that_are_searched_on_the_devices_count(config, devices_have):
    devices_have(needed_mib(config, "pretrain") + 1)
    fit.refuse_what_is_too_large(config, "pretrain", blocks=0)
    with pytest.raises(ConfigError, match="a step of pretrain needs"):
        fit.refuse_what_is_too_large(config, "pretrain", blocks=DEVICES * 100_000)


def test_a_tpus_compiler_knows_its_own_limit(config, devices_have, monkeypatch):
    refused = dataclasses.replace(fit.compiled_here(config, "ict"), reserved_bytes=18 * GIB, available_bytes=15 * GIB)
    monkeypatch.setattr(fit, "compiled_here", lambda *arguments: refused)
    devices_have(100 * 1024)
    with pytest.raises(ConfigError, match=r"a step of ict needs 18\.0 GiB on each device, which has 15\.0: "):
        fit.refuse_what_is_too_large(config, "ict")


def test_all_processes_go_by_the_least_memory(config, devices_have, monkeypatch):
    devices_have(needed_mib(config, "ict") + 1)
    fit.refuse_what_is_too_large(config, "ict")
    monkeypatch.setattr(processes, "least", lambda mib: mib - 2)  # of another process
    with pytest.raises(ConfigError, match="a step of ict needs"):
        fit.refuse_what_is_too_large(config, "ict")


def test_nothing_is_made_before_the_refusal(new_run, devices_have, monkeypatch):
    monkeypatch.setattr(IndexStore, "new", lambda *arguments, **names: pytest.fail("an index version is built"), False)
    devices_have(1)
    workdir = new_run(ict={"steps": 2})
    data = open_prepared(workdir)
    for phase, train in (("ict", ict.train), ("pretrain", pretrain.train)):
        with pytest.raises(ConfigError, match=f"a step of {phase} needs"):
            train(workdir, data)
        assert not workdir.phase(phase).exists()
    assert not workdir.index_folder.exists()


def test_a_run_asks_for_pretraining_before_it_trains_ict(new_run, devices_have, monkeypatch):
    workdir = new_run(ict={"steps": 2}, pretrain={"batch_size": 512})
    wide = needed_mib(workdir.config, "pretrain")
    assert wide > needed_mib(workdir.config, "ict") + 2
    devices_have(wide - 2)
    monkeypatch.setattr(ict, "train", lambda *arguments: pytest.fail("ICT is trained in vain"))
    with pytest.raises(ConfigError, match="a step of pretrain needs"):
        run_lib.run(workdir)


def test_training_takes_the_program_from_the_cache(pretrained_run):
    """It differs in nothing but the slots of the masks, of which this batch uses all."""
    pretrain_config = dataclasses.replace(pretrained_run.config.pretrain, batch_size=8)
    config = dataclasses.replace(pretrained_run.config, pretrain=pretrain_config, seed=11)
    events = []
    jax.monitoring.register_event_listener(lambda event, **names: events.append(event))
    before = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    try:
        fit.compiled_here(config, "pretrain")
        store, first = IndexStore(pretrained_run.index_folder), phases.first_params(pretrained_run)
        task = PretrainTask(config, open_prepared(pretrained_run), store, first)
        optimizer = task.optimizer()
        state = parallel.replicate(parallel.TrainState(jnp.int32(0), first, optimizer.init(first)))
        stream = task.stream({})
        batch = stream.take(state.params)
        stream.close()
        slots = longest_batch.of_phase(config, "pretrain", DEVICES).mask_slots
        batch = dataclasses.replace(batch, mask_slots=jnp.zeros(slots.shape, slots.dtype))
        events.clear()
        parallel.compiled_train_step(task.loss, optimizer, task.seed, task.micro_batches)(state, batch)
    finally:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", before)
    assert "/jax/compilation_cache/cache_hits" in events
    assert "/jax/compilation_cache/cache_misses" not in events


@pytest.mark.parametrize("phase", PHASES)
def test_the_planner_and_the_compiler_agree_on_what_is_exact(config, phase):
    """Parameters and optimizer, and the batch."""
    ours = device_memory.of_phase(config, phase, DEVICES).step
    arguments = fit.compiled_here(config, phase).arguments_bytes
    assert ours["parameters"] + ours["optimizer"] + ours["batch"] == pytest.approx(arguments, rel=0.02)
