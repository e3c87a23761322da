"""A whole run: corpus, ICT, index, pre-training beside the index builder, summary.

This process is the trainer; the builder is a process of its own that ends with it. Each part resumes where it stopped
when the run is started again.
"""

import functools
import logging
import os
import time

from realm_jax import faults, processes
from realm_jax.data.prepare import check_unchanged
from realm_jax.eval.summary import help_to_summarize, summarize
from realm_jax.heartbeat import Heartbeat
from realm_jax.memory import PeakMemory
from realm_jax.paths import quoted
from realm_jax.training import fit, ict, phases, pretrain
from realm_jax.training.builder_process import BuilderProcess
from realm_jax.training.only_trainer import only_trainer
from realm_jax.training.opening import opening
from realm_jax.workdir import Workdir, read_json, write_json

log = logging.getLogger(__name__)


def run(workdir: Workdir) -> None:
    """Runs or resumes every part, then writes the summary; does nothing where there is one."""
    if workdir.summary_file.exists():
        check_unchanged(workdir)
        log.info(f"{workdir.path} is finished (without its {workdir.summary_file.name} it is measured again)")
        return
    with only_trainer(workdir.trainer_lock):
        workdir.refuse_overwritten()
        _train(workdir)


def _train(workdir: Workdir) -> None:
    log.info(opening(workdir))
    fit.refuse_run_that_is_too_large(workdir)
    refreshes, device = workdir.config.pretrain.index_refresh_every, workdir.config.index.device
    memory = PeakMemory()
    memory.watch("trainer", os.getpid())
    clock = _Clock(workdir, writes=processes.is_first())
    with clock.phase("corpus"):
        data = phases.prepare_run(workdir)
    with clock.phase("ict"):
        ict.train(workdir, data)
    with clock.phase("first index"):
        pretrain.build_first_index(workdir, data)
    builder = None
    if refreshes and device == "cpu" and processes.is_first():
        builder = BuilderProcess(workdir, started=functools.partial(memory.watch, "builder"))
    elif refreshes and device == "accelerator" and processes.is_first():
        log.info(f"on the builder's machine: realm builder --workdir={quoted(workdir.path)}")
    try:
        with clock.phase("pretrain"):
            pretrain.train(workdir, data)
        if builder:
            with clock.phase("last index"):
                faults.point("last index")
                builder.finish()
    finally:
        if builder:
            builder.stop()
    with clock.phase("evaluation"):
        measured = {"peak_memory_mib": memory.close(), "phase_seconds": clock.seconds}
        if processes.is_first():
            summarize(workdir, measured)
        else:
            help_to_summarize(workdir)
        processes.wait_for_all("the run is summed up")


class _Clock:
    """Seconds of each part, over all starts of this run; kept in the workdir, as is a sign of life."""

    def __init__(self, workdir: Workdir, *, writes: bool):
        self._workdir, self._writes = workdir, writes
        self._file = workdir.path / "seconds.json"
        self.seconds: dict[str, float] = read_json(self._file) if self._file.exists() else {}

    def phase(self, name: str) -> "_Clock":
        self._name = name
        return self

    def __enter__(self) -> None:
        self._started = time.monotonic()
        if self._writes:
            self._heartbeat = Heartbeat(self._workdir.path, role="run", doing=self._name)

    def __exit__(self, *exception) -> None:
        spent = self.seconds.get(self._name, 0.0) + time.monotonic() - self._started
        self.seconds[self._name] = round(spent, 1)
        if self._writes:
            self._heartbeat.close()
            write_json(self._file, self.seconds)
