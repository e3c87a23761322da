"""Fits the lengths of a config to a checkpoint's position table, which may be shorter than they need."""

import dataclasses
from collections.abc import Collection

from realm_jax.config import Config

BLOCK, ICT_QUERY = "corpus.block_len_tokens", "ict.query_len_tokens"
WITH_BLOCK = ("pretrain.query_len_tokens", "finetune.question_len_tokens")
"""Lengths of what a BERT reads in one sequence with a block."""
LENGTHS = (BLOCK, *WITH_BLOCK, ICT_QUERY)
LEAST = {BLOCK: 16} | dict.fromkeys((*WITH_BLOCK, ICT_QUERY), 8)  # what `Config.check` asks for


def fitting(config: Config, given: Collection[str] = ()) -> tuple[Config, list[str]]:
    """The config with lengths that fit the position table, and a notice that names those that were made shorter.

    A block takes at most two thirds of the table; queries and questions get the rest. What cannot be made to fit is
    left for `Config.check` to refuse.

    Args:
        given: names, as in `LENGTHS`, of the lengths that the user chose and that stay.
    """
    rows, old = config.model.max_positions, {name: _get(config, name) for name in LENGTHS}
    if max(config.joint_len_tokens, config.reader_len_tokens, old[ICT_QUERY]) <= rows:
        return config, []

    def at_most(name: str, limit: int) -> int:
        return old[name] if name in given else min(old[name], max(LEAST[name], limit))

    left_by_given = rows - max((old[name] for name in WITH_BLOCK if name in given), default=0)
    new = {BLOCK: at_most(BLOCK, min(rows * 2 // 3, left_by_given)), ICT_QUERY: at_most(ICT_QUERY, rows)}
    new |= {name: at_most(name, rows - new[BLOCK]) for name in WITH_BLOCK}
    changed = [name for name in LENGTHS if new[name] != old[name]]
    for name in changed:
        section, field = name.split(".")
        values = dataclasses.replace(getattr(config, section), **{field: new[name]})
        config = dataclasses.replace(config, **{section: values})
    if not changed:
        return config, []
    named = ", ".join(f"{name}={new[name]} (not {old[name]})" for name in changed)
    return config, [f"the checkpoint's position table has {rows} rows, so the run's lengths are shorter: {named}"]


def named_in(argv: list[str]) -> frozenset[str]:
    """The lengths that flags set: `--corpus.block_len_tokens=64`, with dashes or underscores."""
    flags = {word.split("=")[0].removeprefix("--").replace("-", "_") for word in argv if word.startswith("--")}
    return frozenset(LENGTHS) & flags


def _get(config: Config, name: str) -> int:
    section, field = name.split(".")
    return getattr(getattr(config, section), field)
