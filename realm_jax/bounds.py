"""The least value that a number may have, beside its type."""

import typing
from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class Least:
    """A bound: the least value of a field."""

    value: int


Count = Annotated[int, Least(1)]
CountOrZero = Annotated[int, Least(0)]
Rate = Annotated[float, Least(0)]


def least_values(record: type) -> dict[str, int]:
    """The bounds of a class's fields, by name; `Rate | None` has that of `Rate`."""
    hints = typing.get_type_hints(record, include_extras=True)
    parts = [(name, part) for name, hint in hints.items() for part in (hint, *typing.get_args(hint))]
    return {name: bound.value for name, part in parts for bound in getattr(part, "__metadata__", ())}
