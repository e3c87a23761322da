"""A page in the browser that fills blanks and answers questions with a run, and shows how it was trained.

    realm serve                              (the newest run; `make demo` does the same)
    realm serve --workdir=W --port=7861

It listens on loopback only, takes no calls from pages of other sites, follows the newest checkpoint, index version and
fine-tuning of the run while it is open, and leaves the accelerator to training. Its REST calls are in docs/demo.md.
"""

import dataclasses
import os
from typing import Literal

import tyro

from realm_jax.commands import cli
from realm_jax.config import ConfigError

MOST_PORT = 65535


@dataclasses.dataclass(frozen=True)
class _Flags:
    workdir: cli.PathFlag = ""
    """Folder of the run (default: the newest under runs/)."""
    port: int = 0
    """Port on 127.0.0.1; 0 takes the first free one from 7860."""
    finetuning: str = ""
    """Name of the fine-tuning that answers questions (default: the newest)."""
    device: Literal["cpu", "accelerator"] = "cpu"
    """Where the models run; `cpu` disturbs no training on this machine."""


def main(argv: list[str] | None = None) -> None:
    """Entry point."""
    flags = tyro.cli(_Flags, description="Show a run in the browser.", args=argv)
    if not 0 <= flags.port <= MOST_PORT:
        raise ConfigError(f"--port={flags.port}: ports are 1 to {MOST_PORT}: pass one of these, or none")
    workdir = cli.existing(flags.workdir)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        from realm_jax.serve import page
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "gradio":
            raise
        raise ConfigError("the demo needs Gradio: run pip install 'realm_jax[serve]'") from error
    from realm_jax.serve import curves_and_reports
    from realm_jax.serve.guard import Token
    from realm_jax.serve.live import LiveRun

    cli.start_jax(cpu_only=flags.device == "cpu")
    print(f"demo: loading and compiling {workdir.path}, a minute at most for a small run", flush=True)
    run, token = LiveRun(workdir, flags.finetuning), Token()
    try:
        served = page.build(run, token)
        try:
            url = page.launch(served, flags.port, token)
        except OSError as error:
            raise ConfigError(
                f"cannot listen on 127.0.0.1:{flags.port or '7860-7959'} ({error}): pass --port"
            ) from error
        print(f"demo: {url.rstrip('/')}/?token={token.value} (Ctrl-C ends it; who has the token may add documents)")
        evaluate = "" if curves_and_reports.reports(workdir) else f"realm eval --workdir={workdir.path}"
        print(f"next: {run.how_to_ask or evaluate or 'open it; docs/demo.md has its REST calls'}", flush=True)
        served.block_thread()
    finally:
        run.close()
