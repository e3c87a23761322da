"""One command for a whole run: corpus, ICT, index, pre-training beside the index builder, summary.

    realm run --config=experiments/nano.py --workdir=W

Each part resumes where it stopped when the same command is run again.
"""

from realm_jax.commands import cli
from realm_jax.paths import quoted


def main(argv: list[str] | None = None) -> None:
    """Entry point."""
    workdir = cli.new_workdir("Pre-train REALM: corpus, ICT, index, pre-training, summary.", argv)
    from realm_jax.run import run

    cli.start_jax()
    run(workdir)
    print(f"summary: {workdir.summary_file}   report: {workdir.path / 'report.md'}")
    print(f"next: realm finetune --workdir={quoted(workdir.path)} --dataset=cloze", flush=True)
