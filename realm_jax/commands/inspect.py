"""Shows what is in a run's folder, and which processes work there.

    realm inspect                    (the newest run)
    realm inspect W --watch          (follows trainer and builder until Ctrl-C)
    realm inspect W --json           (for scripts)

It only reads, needs no JAX, and shows what it can of a run that is unfinished, being written or damaged.
"""

import contextlib
import dataclasses
import json
import time
from typing import Annotated

import tyro
from etils import epath
from rich.console import Console
from rich.live import Live

from realm_jax import workdir
from realm_jax.commands import cli
from realm_jax.config import ConfigError
from realm_jax.signals import Ended


@dataclasses.dataclass(frozen=True)
class _Flags:
    workdir: Annotated[cli.PathFlag, tyro.conf.Positional, tyro.conf.arg(metavar="[WORKDIR]")] = ""
    """Folder of the run, also gs://… (default: the newest under runs/)."""
    watch: bool = False
    """Follow the run, trainer and builder side by side, until Ctrl-C."""
    json: bool = False
    """Print everything as JSON."""
    every_s: float = 2.0
    """Seconds between looks with --watch."""


def main(argv: list[str] | None = None) -> None:
    """Entry point."""
    flags = tyro.cli(
        _Flags, description="Show what a run's folder holds.", args=argv, config=(tyro.conf.FlagCreatePairsOff,)
    )
    if flags.watch and flags.json:
        raise ConfigError("--watch and --json exclude each other: call --json as often as you like")
    if flags.every_s <= 0:
        raise ConfigError("--every_s must be positive")
    path = epath.Path(flags.workdir) if flags.workdir else workdir.newest()
    from realm_jax.inspect.following import following
    from realm_jax.inspect.look import look
    from realm_jax.inspect.overview import overview

    if flags.json:
        print(json.dumps(look(path), indent=1, ensure_ascii=False))
        return
    console = Console()
    if not flags.watch:
        console.print(overview(look(path)))
        return
    with contextlib.suppress(KeyboardInterrupt, Ended), Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(following(look(path), console.width), refresh=True)
            time.sleep(flags.every_s)
