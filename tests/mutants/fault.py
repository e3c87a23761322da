"""One planted fault: where it is put, by the name of a function, and the tests that are said to notice it."""

import ast
from dataclasses import dataclass


class NoSuchPlace(Exception):
    """The code has changed and the fault no longer applies: write it anew."""


@dataclass(frozen=True)
class Fault:
    """A change of one function, of a class's method, or (no name) of a module's own statements."""

    what: str
    """What is wrong then, in a few words."""
    file: str
    """Below `realm_jax/`."""
    function: str
    """`name`, `Class.name`, or nothing."""
    old: str
    """Stands there once."""
    new: str
    tests: str
    """Files or node ids of the fast tier below `tests/`, with a space between."""

    @property
    def where(self) -> str:
        """The function as people name it."""
        return f"{self.file.removesuffix('.py').replace('/', '.')}{'.' * bool(self.function)}{self.function}"

    def plant(self, source: str) -> str:
        """The module's source with the fault. Raises NoSuchPlace if the function lacks `old`, or has it twice."""
        first, limit = self._lines(source)
        lines = source.splitlines(keepends=True)
        body = "".join(lines[first:limit])
        if body.count(self.old) != 1:
            raise NoSuchPlace(f"{self.where} has {self.old!r} {body.count(self.old)} times")
        changed = "".join(lines[:first]) + body.replace(self.old, self.new) + "".join(lines[limit:])
        compile(changed, self.file, "exec")  # a syntax error would be no fault of the mathematics
        return changed

    def _lines(self, source: str) -> tuple[int, int]:
        node: ast.AST = ast.parse(source)
        if not self.function:
            return 0, len(source.splitlines())
        for name in self.function.split("."):
            found = [n for n in ast.iter_child_nodes(node) if getattr(n, "name", None) == name]
            if len(found) != 1:
                raise NoSuchPlace(f"{self.file} has no {self.function}")
            (node,) = found
        return node.lineno - 1, node.end_lineno
