"""Follows a trainer: builds an index version from its newest checkpoint, again and again, and publishes it.

The index builder is a process of its own beside the trainer (§3.3: "asynchronous MIPS refreshes"). It takes the newest
embedder checkpoint, skips those it missed, and stops when training is done and its last weights are indexed. It may be
killed at any time and started again. Several builders of one run share the work of each version.
"""

import logging
import time
from collections.abc import Iterator
from typing import Any

import jax

from realm_jax.checkpoints import Checkpoints
from realm_jax.checksums import Damaged
from realm_jax.config import ConfigError
from realm_jax.data.prepare import open_prepared
from realm_jax.index.index_builder import IndexBuilder, with_search
from realm_jax.index.store import IndexStore
from realm_jax.models import embedder
from realm_jax.workdir import Workdir

log = logging.getLogger(__name__)

SKIP_S = 60.0  # for which a checkpoint that cannot be read is left out
POLL_S = (0.2, 2.0)  # first and longest pause between looks at the checkpoints


def follow(workdir: Workdir, *, finetuning: str = "") -> None:
    """Builds a version from each newest checkpoint until training is done; from converted weights at once.

    Args:
        finetuning: name of the fine-tuning to follow; empty for pre-training.

    Raises:
        ConfigError: no checkpoint came within `index.wait_timeout_s`.
    """
    config, data = workdir.config, open_prepared(workdir)
    template = jax.eval_shape(lambda: embedder.init(config.model, jax.random.key(0)))
    if finetuning:
        phase = f"finetune/{finetuning}"
        store = IndexStore(workdir.phase(phase) / "index")
        builder = IndexBuilder(with_search(config, "exact"), data, store, phase)
        template = {side: embedder.tower(template, side) for side in ("query", "block")}
    else:
        builder = IndexBuilder(config, data, IndexStore(workdir.index_folder))
        _build_converted(workdir, builder, template)
    builder.store.tidy()
    built_at = None
    with Checkpoints(workdir.phase(builder.phase), read_only=True) as checkpoints:
        for step, params in _new_checkpoints(workdir, builder, checkpoints, template):
            before = builder.store.latest()
            builder.build(step, params)
            if built_at is not None and before is not None:
                seconds = time.monotonic() - built_at
                log.info(f"index refresh interval: {seconds:.0f} s, {step - before.step} steps")
            built_at = time.monotonic()


def _build_converted(workdir: Workdir, builder: IndexBuilder, template: dict) -> None:
    """The first version of a run that starts from converted weights, without ICT."""
    if not workdir.is_done("init") or workdir.config.ict.steps or builder.store.latest() is not None:
        return
    with Checkpoints(workdir.phase("init"), read_only=True) as converted:
        params = jax.device_get(converted.restore_params(0, {"embedder": template})["embedder"])
    builder.build(0, params, embedded_by={"phase": "init", "step": 0})


def _new_checkpoints(
    workdir: Workdir, builder: IndexBuilder, checkpoints: Checkpoints, template: dict
) -> Iterator[tuple[int, dict]]:
    """(step, embedder parameters) of the checkpoint to index, until training is done.

    It is the one that other builders are at, else the newest, if the store lacks its version.
    """
    folder, timeout_s = workdir.phase(builder.phase), builder.config.index.wait_timeout_s
    last_news, pause = time.monotonic(), POLL_S[0]
    skipped: dict[int, float] = {}  # until when; a trainer may save a step anew
    while True:
        is_done = workdir.is_done(builder.phase)  # read before the checkpoints: if it is set, the last one is there
        newest, built = checkpoints.latest_step(), builder.store.latest()
        skipped = {step: until for step, until in skipped.items() if time.monotonic() < until}
        after = -1 if built is None else built.step
        # What other builders are at comes before the newest, which all of them then share.
        shared = [step for step in builder.steps_under_way() if step > after and step not in skipped]
        step = shared[-1] if shared else newest
        if step is not None and step > after and step not in skipped:
            params = _restore(checkpoints, step, template, is_last=is_done)
            if params is not None:
                yield step, jax.device_get(params)
                last_news, pause = time.monotonic(), POLL_S[0]
            else:
                skipped[step] = time.monotonic() + SKIP_S
        elif is_done:
            return
        elif time.monotonic() - last_news > timeout_s:
            raise ConfigError(
                f"no new checkpoint in {folder} for {timeout_s:.0f} s: "
                "start the trainer, or make a run with a longer --index.wait_timeout_s"
            )
        else:
            time.sleep(pause)
            pause = min(2 * pause, POLL_S[1])


def _restore(checkpoints: Checkpoints, step: int, template: dict, is_last: bool) -> Any:
    """The embedder's parameters; None if the trainer went on and pruned them while we read, or they are damaged."""
    try:
        return checkpoints.restore_params(step, {"embedder": template})["embedder"]
    except Damaged as damaged:
        if is_last:
            raise
        log.warning(f"{damaged}; the index builder waits for another one")
        return None
    except (ConfigError, FileNotFoundError):
        if checkpoints.latest_step() == step:
            raise
        return None
