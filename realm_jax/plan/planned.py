"""The plan of a run on given hardware: what each phase takes, how fresh the index stays, what host and disk must hold.

Everything is calculated: from the settings, the size of the corpus and the table of hardware. Two things are assumed:
the share of its peak that a device sustains (unless steps were measured) and, where no corpus is built, its size.
Compiling, reading and evaluation take time that is not counted.
"""

import math
from dataclasses import dataclass

from realm_jax.config import Config
from realm_jax.plan import advice, device_memory, parameters, work
from realm_jax.plan.corpus_size import CorpusSize
from realm_jax.plan.device_memory import DeviceMemory
from realm_jax.plan.hardware import Hardware
from realm_jax.plan.parameters import FLOAT32
from realm_jax.plan.work import StepWork

PHASES = ("ict", "pretrain", "finetune")
USABLE = 0.92  # of a device's memory: the runtime has some, and what is calculated is some percent off
SUSTAINED = {"tpu": 0.4, "gpu": 0.4, "cpu": 0.7}
"""Share of the peak; a CPU's is what NumPy reaches: 0.4 (a tiny model) to 0.9 were measured (benchmarks/plan.py)."""
USUAL_PREDICTIONS = 4
"""The MLM head's slots of a query in most batches (`training.room`)."""
CHECKPOINTS = 3  # kept of each phase
QUESTIONS, EPOCHS = 79_168, 2  # of Natural Questions, and over them where the config leaves that to the dataset
SCANN_BUILT, SCANN_OPEN, SCANN_DISK = 1672, 67, 73  # bytes a block (benchmarks/corpus_memory.py; index/scann.py)
SCANN_SOAR = 66  # more of both, with index.scann_soar
ORDINAL_BYTES = 4  # of a span that can be masked, and of the limits of a block's spans
FLAG_BYTES = 6  # of a block in memory: its length, and whether it is held out and live
SECONDS = 3600


@dataclass(frozen=True)
class PhasePlan:
    """One phase of training."""

    phase: str
    steps: int
    flops: StepWork
    """Of one step over all devices."""
    step_seconds: float
    index_seconds: float
    """What building index versions adds, where the trainer waits for them or shares its cores with the builder."""
    memory: DeviceMemory
    """Of one device."""
    advice: str
    """What to change so that it fits; empty where it does."""

    @property
    def hours(self) -> float:
        """Hours that the whole phase takes."""
        return (self.steps * self.step_seconds + self.index_seconds) / SECONDS


@dataclass(frozen=True)
class RefreshPlan:
    """An index version and the builder that makes it."""

    flops: int
    """To embed all blocks once."""
    seconds: float | None
    """On as many devices as the trainer has; None on a host's CPU beside accelerators, whose speed no table has."""
    every_seconds: float
    """Between the checkpoints that ask for a version; 0 where the index is built once."""
    versions: int
    """In the whole of pre-training, besides the first."""
    builder_devices: int
    """Devices like the trainer's that keep up with `every_seconds`; 0 where it has no devices of its own."""


@dataclass(frozen=True)
class Plan:
    """What a run takes."""

    config: Config
    hardware: Hardware
    corpus: CorpusSize
    utilization: float
    measured: dict[str, float]
    """Seconds of a step, by phase, where steps were measured."""
    parameters: dict[str, int]
    """By part, of pre-training."""
    phases: list[PhasePlan]
    first_index_seconds: float
    refresh: RefreshPlan
    host: dict[str, int]
    """Bytes of a host's memory, by part."""
    disk: dict[str, int]
    """Bytes in the workdir, by part."""

    @property
    def hours(self) -> float:
        """Hours that ICT, the first index and pre-training take."""
        return sum(p.hours for p in self.phases if p.phase != "finetune") + self.first_index_seconds / SECONDS


def plan(
    config: Config,
    corpus: CorpusSize,
    hardware: Hardware,
    *,
    utilization: float | None = None,
    measured: dict[str, float] | None = None,
    questions: int = QUESTIONS,
) -> Plan:
    """Plans a run.

    Args:
        utilization: share of their peak that devices sustain, if no pre-training step was measured (`SUSTAINED`).
        measured: seconds of a step, by phase, that were measured on this hardware.
        questions: how many fine-tuning trains on.
    """
    measured = measured or {}
    flops = {phase: _step_work(config, phase, corpus, hardware) for phase in PHASES}
    peak = hardware.devices * hardware.peak_flops
    utilization = utilization or SUSTAINED[hardware.platform]
    if "pretrain" in measured:
        utilization = flops["pretrain"].all / measured["pretrain"] / peak
    rate = peak * utilization
    embedding = work.of_embedding(
        config.model, corpus.padded(config.index.embed_batch_tokens, config.corpus.block_len_tokens)
    )
    seconds = {phase: measured.get(phase) or _step_work(config, phase, corpus, hardware).all / rate for phase in PHASES}
    refresh = _refresh(config, hardware, embedding, rate, seconds["pretrain"])
    shares_cores = config.index.device == "inline" or (config.index.device == "cpu" and hardware.is_cpu)
    steps = {
        "ict": config.ict.steps,
        "pretrain": config.pretrain.steps,
        "finetune": (config.finetune.epochs or EPOCHS) * -(-questions // config.finetune.batch_size),
    }
    phases = [
        PhasePlan(
            phase=phase,
            steps=steps[phase],
            flops=flops[phase],
            step_seconds=seconds[phase],
            index_seconds=refresh.versions * embedding / rate if shares_cores and phase == "pretrain" else 0.0,
            memory=memory(config, phase, corpus, hardware),
            advice=_advice(config, phase, corpus, hardware),
        )
        for phase in PHASES
        if steps[phase]
    ]
    return Plan(
        config=config,
        hardware=hardware,
        corpus=corpus,
        utilization=utilization,
        measured=measured,
        parameters=parameters.of_phase(config, "pretrain"),
        phases=phases,
        first_index_seconds=embedding / rate,
        refresh=refresh,
        host=_host(config, corpus),
        disk=_disk(config, corpus),
    )


def memory(config: Config, phase: str, corpus: CorpusSize, hardware: Hardware) -> DeviceMemory:
    """What a device of this hardware holds in a phase."""
    share = -(-corpus.blocks * hardware.hosts // hardware.devices)  # each host's devices search all blocks
    searched = {"ict": 0, "pretrain": share if config.index.search == "exact" else 0}
    searched["finetune"] = 0 if config.finetune.search == "scann" else share
    return device_memory.of_phase(
        config,
        phase,
        hardware.devices,
        platform=hardware.platform,
        blocks=searched[phase],
    )


def _advice(config: Config, phase: str, corpus: CorpusSize, hardware: Hardware) -> str:
    needed, available = memory(config, phase, corpus, hardware).total, round(USABLE * hardware.memory_bytes)
    if needed <= available:
        return ""
    return advice.advice(
        config, phase, hardware.devices, needed=needed, available=available, platform=hardware.platform
    )


def predictions(config: Config) -> int:
    """Slots of a query at which the MLM head runs in most batches."""
    return min(USUAL_PREDICTIONS, config.pretrain.max_masks)


def _step_work(config: Config, phase: str, corpus: CorpusSize, hardware: Hardware) -> StepWork:
    found = work.of_step(config, phase, devices=hardware.devices, predictions=predictions(config), lengths=corpus.means)
    is_exact = {"ict": False, "pretrain": config.index.search == "exact", "finetune": config.finetune.search != "scann"}
    search = work.of_search(config, device_memory.batch_size(config, phase), corpus.blocks) if is_exact[phase] else 0
    return StepWork(found.model, found.again, found.retrieval + search)


def _refresh(config: Config, hardware: Hardware, embedding: int, rate: float, step_seconds: float) -> RefreshPlan:
    every = config.pretrain.index_refresh_every
    is_hosts_cpu = config.index.device == "cpu" and not hardware.is_cpu
    seconds, every_seconds = embedding / rate, every * step_seconds
    has_own = config.index.device == "accelerator" and every
    return RefreshPlan(
        flops=embedding,
        seconds=None if is_hosts_cpu else seconds,
        every_seconds=every_seconds,
        versions=config.pretrain.steps // every if every else 0,
        builder_devices=math.ceil(hardware.devices * seconds / every_seconds) if has_own else 0,
    )


def _host(config: Config, corpus: CorpusSize) -> dict[str, int]:
    """Memory of the trainer's host by part, and of the builder's; files that are mapped need none of their own."""
    everything = FLOAT32 * sum(parameters.of_phase(config, "pretrain").values())
    is_scann, hashed = config.index.search == "scann", SCANN_OPEN + SCANN_SOAR * config.index.scann_soar
    return {
        "trainer and builder: lengths and flags of blocks": FLAG_BYTES * corpus.blocks,
        "trainer: searcher, twice while a version is adopted": 2 * hashed * corpus.blocks if is_scann else 0,
        "trainer: a checkpoint on its way to the disk": (1 + device_memory.MOMENTS) * everything,
        "builder: ScaNN over a version": SCANN_BUILT * corpus.blocks if is_scann else 0,
        "builder: parameters": FLOAT32 * parameters.of_phase(config, "pretrain")["embedder"],
        "mapped files: corpus": corpus.disk_bytes,
        "mapped files: spans that can be masked": ORDINAL_BYTES * (corpus.spans + corpus.blocks),
        "mapped files: embeddings of a version": _embedding_bytes(config, corpus),
    }


def _disk(config: Config, corpus: CorpusSize) -> dict[str, int]:
    """What lies in the workdir, by part."""
    kept = CHECKPOINTS * (1 + device_memory.MOMENTS) * FLOAT32
    of_phase = {phase: sum(parameters.of_phase(config, phase).values()) for phase in PHASES}
    hashed = SCANN_DISK + SCANN_SOAR * config.index.scann_soar
    searched = hashed * corpus.blocks if config.index.search == "scann" else 0
    return {
        "the corpus": corpus.disk_bytes,
        "spans that can be masked": ORDINAL_BYTES * (corpus.spans + corpus.blocks),
        f"{CHECKPOINTS} checkpoints of ICT": kept * of_phase["ict"] if config.ict.steps else 0,
        f"{CHECKPOINTS} checkpoints of pre-training": kept * of_phase["pretrain"],
        f"{config.index.keep_versions} index versions": config.index.keep_versions
        * (_embedding_bytes(config, corpus) + searched),
        f"{CHECKPOINTS} checkpoints of a fine-tuning": kept * of_phase["finetune"],
    }


def _embedding_bytes(config: Config, corpus: CorpusSize) -> int:
    return corpus.blocks * config.model.projection_dim * (2 if config.index.dtype == "bfloat16" else FLOAT32)
