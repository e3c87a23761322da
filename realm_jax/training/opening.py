"""What a run says before it begins: what it will do, how long that took or takes by calculation, where it writes."""

import ast
import dataclasses
import importlib.util
import pathlib
import re

import jax
from etils import epath

from realm_jax.config import Config
from realm_jax.data.manifest import MANIFEST
from realm_jax.data.prepare import RANDOM
from realm_jax.experiments_file import load_experiment
from realm_jax.plan import corpus_size, device_memory, hardware, plan_table, planned
from realm_jax.workdir import Workdir, with_absolute_paths

GIB = 2**30


def opening(workdir: Workdir) -> str:
    """One line each for the run, its parts, its time and its folder; the corpus has its own line once it is read."""
    config = workdir.config
    model, parts = config.model, ", ".join(_parts(workdir))
    start = "random weights" if config.init == RANDOM else config.init
    return "\n".join(
        [
            f"run: {config.name}, a BERT of {model.num_layers} layers, {model.hidden_size} wide, from {start}",
            f"parts: {parts}",
            f"time: {measured_time(config) or 'not measured for these settings; each part says how long it has left'}",
            f"plan: {calculated(workdir)}",
            f"writes: {workdir.path} (to go on after a stop, give the same command)",
        ]
    )


def calculated(workdir: Workdir) -> str:
    """What `realm plan` says of this run on these devices, in a line; of memory alone if they are not in its table."""
    config, device = workdir.config, jax.devices()[0]
    machine = hardware.of_devices(device.device_kind, jax.device_count(), jax.process_count())
    if machine is None:
        sizes = {"devices": jax.device_count(), "platform": device.platform}
        memory = max(device_memory.of_phase(config, phase, **sizes).total for phase in ("ict", "pretrain"))
        return f"{memory / GIB:.1f} GiB of a device's memory (calculated)"
    return plan_table.one_line(planned.plan(config, _corpus(workdir), machine))


def _corpus(workdir: Workdir) -> corpus_size.CorpusSize:
    """That of the run, or the one that it will take; of no blocks where it has yet to be built."""
    config = workdir.config.corpus
    for folder in (workdir.knowledge_folder, epath.Path(config.knowledge)):
        if (folder / MANIFEST).exists():
            return corpus_size.of_folder(folder)
    return corpus_size.assumed(0, config.block_len_tokens)


def _parts(workdir: Workdir) -> list[str]:
    config = workdir.config
    has_corpus = (workdir.knowledge_folder / "manifest.json").exists()
    parts = ["corpus (is there)" if has_corpus else "corpus"]
    if config.ict.steps:
        parts.append(f"ICT of {config.ict.steps:,} steps{' (done)' if workdir.is_done('ict') else ''}")
    every = config.pretrain.index_refresh_every
    refresh = f"a new index every {every:,}" if every else "one index"
    done = " (done)" if workdir.is_done("pretrain") else ""
    return [*parts, f"pre-training of {config.pretrain.steps:,} steps with {refresh}{done}", "evaluation"]


def measured_time(config: Config) -> str | None:
    """Time and hardware that the header of the config's experiment states; None where any setting is another one."""
    package = importlib.util.find_spec("realm_jax.experiments")
    file = pathlib.Path(package.origin).parent / f"{config.name}.py" if package else None
    if file is None or not file.is_file():
        return None
    measured = dataclasses.replace(with_absolute_paths(load_experiment(str(file))), tracker=config.tracker)
    header = dict(
        re.findall(r"^(\w+) +(.+)$", ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "", re.M)
    )
    if measured != with_absolute_paths(config) or not {"time", "hardware"} <= set(header):
        return None
    return f"{header['time']}, as measured on {header['hardware']}"
