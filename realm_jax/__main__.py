"""`realm COMMAND`, which is `python -m realm_jax COMMAND`: the list of all commands; imports the one that is called."""

import functools
import importlib
import sys
from collections.abc import Sequence

from realm_jax import huge_pages, signals, terminal

STAGES = {
    "corpus": {
        "corpus": "build a corpus from a Wikipedia dump or another large source; resumes",
        "tag": "train a tagger of salient spans; resumes",
        "retag": "give a corpus the salient spans of another tagger; resumes",
    },
    "train": {
        "plan": "what a run needs and costs on given hardware, before it begins: memory, hours, disk",
        "run": "a whole run: corpus, ICT, index, pre-training beside the index builder, summary; resumes",
        "ict": "only the embedder's warm start by the inverse cloze task",
        "pretrain": "only pre-training, on the index of this run",
        "replay": "repeat a run's pre-training by its record of index versions; compares all bits; resumes",
        "finetune": "fine-tune a run on questions; resumes",
        "ablate": "train the arms of an ablation, and print their table beside the paper's; resumes",
    },
    "index": {
        "builder": "keep a run's index fresh, beside its trainer",
        "tune": "choose how much of the index ScaNN looks at, by recall and speed",
        "update": "add records to what a run knows, and delete others, without training",
        "compact": "join a corpus's small segments, and drop deleted blocks",
    },
    "evaluate": {
        "eval": "score a run on questions, or its retrieval alone, or another system's answers",
        "convert": "published checkpoints in and out",
    },
    "serve": {
        "serve": "a page in the browser: fill blanks, ask questions, add documents, see curves and reports",
    },
    "look": {
        "inspect": "what a run's folder holds, and who is at work in it",
        "show": "blocks, numbers and a page of a corpus",
    },
}
COMMANDS = [name for commands in STAGES.values() for name in commands]


def overview() -> str:
    """All commands by stage, one line each."""
    lines = ["usage: realm COMMAND [FLAGS]      (realm COMMAND --help lists a command's flags)"]
    for stage, commands in STAGES.items():
        lines += ["", f"{stage}:", *(f"  {name:9} {what}" for name, what in commands.items())]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command that the first word names, with the other words as its flags."""
    name, *flags = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        try:
            print(overview(), flush=True)
        except BrokenPipeError:  # `| head`
            terminal.end_without_reader()
        return
    if name not in COMMANDS:
        print(f"error: realm has no command {name}: use {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    sys.argv = [f"realm {name}", *flags]  # what `--help` calls it
    command = importlib.import_module(f"realm_jax.commands.{name}")
    cli = importlib.import_module("realm_jax.commands.cli")
    cli.run(functools.partial(command.main, flags))


def begin() -> None:
    """The command line's entry."""
    huge_pages.ensure()
    with signals.ending():
        main()


if __name__ == "__main__":
    begin()
