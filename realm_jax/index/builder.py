"""The index builder: embeds the corpus from the trainer's newest checkpoint and publishes index versions.

A process of its own beside the trainer (§3.3: "asynchronous MIPS refreshes"). It takes the newest embedder checkpoint,
skips those it missed, and stops when pre-training is done and its last weights are indexed. It may be killed at any
time and started again.
"""

import dataclasses
import os
import time
from typing import Any

import jax

from realm_jax.checkpoints import Checkpoints
from realm_jax.config import ConfigError, RunError
from realm_jax.data.prepare import open_prepared
from realm_jax.index.build_version import build_version
from realm_jax.index.store import IndexStore
from realm_jax.models import embedder
from realm_jax.workdir import Workdir

POLL_S = (0.2, 2.0)  # first and longest pause between looks at the checkpoints
PARENT = "REALM_JAX_PARENT"  # process id of the trainer that started this builder


class TrainerGone(RunError):
    """The process that this builder serves has ended."""


def follow(workdir: Workdir, *, finetuning: str = "", parent: int | None = None) -> None:
    """Builds a version from each newest checkpoint until training is done; from converted weights at once.

    Args:
        finetuning: name of the fine-tuning to follow; empty for pre-training.
        parent: give up once this process is no longer our parent.

    Raises:
        ConfigError: no checkpoint came within `index.wait_timeout_s`.
        TrainerGone: the parent ended.
    """
    config = workdir.config
    data = open_prepared(workdir)
    phase, store = "pretrain", IndexStore(workdir.index_folder)
    template = jax.eval_shape(lambda: embedder.init(config.model, jax.random.key(0)))
    if finetuning:
        phase = f"finetune/{finetuning}"
        store = IndexStore(workdir.phase(phase) / "index")
        template = {side: embedder.tower(template, side) for side in ("query", "block")}
        config = dataclasses.replace(config, index=dataclasses.replace(config.index, search="exact"))

    def check_in() -> None:
        if parent is not None and os.getppid() != parent:
            raise TrainerGone("index builder: the trainer is gone; start both again to go on")

    last_news, pause = time.monotonic(), POLL_S[0]
    has_built = False
    with Checkpoints(workdir.phase(phase), read_only=True) as checkpoints:
        if workdir.is_done("init") and not config.ict.steps and store.latest() is None and not finetuning:
            with Checkpoints(workdir.phase("init"), read_only=True) as converted:
                params = jax.device_get(converted.restore_params(0, {"embedder": template})["embedder"])
            build_version(
                config,
                data.knowledge,
                data.special,
                store,
                0,
                params,
                embedded_by={"phase": "init", "step": 0},
                check_in=check_in,
            )
        while True:
            check_in()
            is_done = workdir.is_done(phase)  # read before the checkpoints: if it is set, the last one is there
            step, built = checkpoints.latest_step(), store.latest()
            if step is not None and (built is None or step > built.step):
                params = _restore(checkpoints, step, template)
                if params is None:
                    continue
                params = jax.device_get(params)
                source = {"phase": phase, "step": step}
                build_version(
                    config, data.knowledge, data.special, store, step, params, embedded_by=source, check_in=check_in
                )
                if has_built:
                    seconds = time.monotonic() - last_news
                    print(f"index refresh interval: {seconds:.0f} s, {step - built.step} steps", flush=True)
                has_built, last_news, pause = True, time.monotonic(), POLL_S[0]
            elif is_done:
                return
            elif time.monotonic() - last_news > config.index.wait_timeout_s:
                raise ConfigError(
                    f"no new checkpoint in {workdir.phase(phase)} for {config.index.wait_timeout_s:.0f} s: "
                    "start the trainer, or make a run with a longer --index.wait_timeout_s"
                )
            else:
                time.sleep(pause)
                pause = min(2 * pause, POLL_S[1])


def _restore(checkpoints: Checkpoints, step: int, template: Any) -> Any:
    """The embedder's parameters; None if the trainer went on and pruned them while we read."""
    try:
        return checkpoints.restore_params(step, {"embedder": template})["embedder"]
    except (ConfigError, FileNotFoundError):
        if checkpoints.latest_step() == step:
            raise
        return None
