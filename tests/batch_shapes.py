"""Compares a batch with the shapes and types that its class gives its arrays."""

import dataclasses

from jaxtyping import jaxtyped


def misshapen(batch) -> list[str]:
    """`Class.field` of each array that is not what the class says; sizes of one name agree within a class."""
    found = []
    with jaxtyped("context"):
        for name, hint in type(batch).__annotations__.items():
            value = getattr(batch, name)
            if dataclasses.is_dataclass(value):
                continue
            if not isinstance(value, hint):
                found.append(f"{type(batch).__name__}.{name}")
    parts = (getattr(batch, field.name) for field in dataclasses.fields(batch))
    return found + [name for part in parts if dataclasses.is_dataclass(part) for name in misshapen(part)]
