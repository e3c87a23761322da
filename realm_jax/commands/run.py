"""One command for a whole run: corpus, ICT, index, pre-training beside the index builder, summary.

    realm run --config=experiments/nano.py --workdir=W

Each part resumes where it stopped when the same command is run again.
"""

from rich.console import Console

from realm_jax import console
from realm_jax.commands import cli
from realm_jax.paths import quoted

COLUMNS = 100  # of what is printed elsewhere than on a terminal


def main(argv: list[str] | None = None) -> None:
    """Entry point."""
    workdir = cli.new_workdir("Pre-train REALM: corpus, ICT, index, pre-training, summary.", argv)
    from realm_jax import processes
    from realm_jax.eval.last_screen import last_screen
    from realm_jax.run import run

    cli.start_jax()
    run(workdir)
    if processes.is_first():
        Console(width=None if console.is_live() else COLUMNS).print(last_screen(workdir))
    print(f"summary: {workdir.summary_file}   report: {workdir.path / 'report.html'}")
    print(f"next: realm finetune --workdir={quoted(workdir.path)} --dataset=cloze", flush=True)
