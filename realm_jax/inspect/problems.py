"""Collects what cannot be read in a workdir, so that the rest can still be shown."""

from collections.abc import Callable
from typing import TypeVar

from etils import epath

from realm_jax.config import ConfigError

T = TypeVar("T")


class Problems:
    """Collects a line for every damaged file."""

    def __init__(self):
        self.found: list[str] = []

    def part(self, file: epath.Path, read: Callable[[], T], default: T) -> T:
        """What `read` makes of a file; `default` if it is not there, or cannot be read, which is then noted."""
        try:
            return read()
        except FileNotFoundError:  # not written yet, or pruned since it was listed
            return default
        except (ConfigError, OSError) as error:
            self.note(str(error))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.note(f"{file} does not hold what it should ({type(error).__name__}: {error})")
        return default

    def note(self, line: str) -> None:
        """Adds a line, once."""
        if line not in self.found:
            self.found.append(line)
