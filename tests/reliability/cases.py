"""The kill matrix: who is ended, where, and by which signal."""

from typing import NamedTuple

SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT")


class Case(NamedTuple):
    """A process of a run is ended at a point (`realm_jax.faults`), then the same command is given again."""

    kind: str
    """Of run: with an `inline` builder, beside a `builder` after ICT, or a `finetune` of one."""
    command: str
    """Which comes to the point: run, builder, finetune or eval."""
    point: str
    """With `:N` for the N-th time."""
    whom: str
    """The process that is there (`itself`), the `other` of trainer and builder, or `both`."""
    signal: str

    def __str__(self) -> str:
        return " ".join(self).replace(":", " ")


def _of(kind: str, command: str, points: list[str], whom: str = "itself") -> list[Case]:
    return [Case(kind, command, point, whom, signal) for point in points for signal in SIGNALS]


CASES = [
    *_of("inline", "run", ["start", "corpus", "compile", "ict step:3", "checkpoint:2", "committed"]),
    *_of("inline", "run", ["embedding", "published"]),  # of the first index
    *_of("inline", "run", ["pretrain step:6", "committed:5", "embedding:2", "published:2", "adopting", "evaluation:2"]),
    *_of("builder", "run", ["compile", "pretrain step:6", "adopting", "last index"]),
    *_of("builder", "run", ["pretrain step:7"], "both"),
    *_of("builder", "run", ["pretrain step:7"], "other"),
    *_of("builder", "builder", ["start", "embedding", "search files", "manifest", "published", "prune"]),
    *_of("builder", "builder", ["manifest"], "both"),
    *_of("builder", "builder", ["embedding", "published"], "other"),
    *_of("finetune", "finetune", ["finetune step:3", "dev questions", "committed"]),
    *_of("finetune", "eval", ["start", "answers"]),
]
SHORT = Case("inline", "run", "published:2", "itself", "SIGTERM")
"""That of `make test`."""
SLOW = Case("builder", "run", "pretrain step:7", "both", "SIGKILL")
"""That of `make test-all`."""
