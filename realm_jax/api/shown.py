"""Markdown that is shown as such in a notebook."""

import re
from dataclasses import dataclass

from realm_jax.config import ConfigError


@dataclass(frozen=True, repr=False)
class Page:
    """A text in Markdown."""

    markdown: str

    def __repr__(self) -> str:
        return self.markdown

    def _repr_markdown_(self) -> str:
        return self.markdown

    def section(self, title: str) -> "Page":
        """The section whose title begins so. Raises ConfigError if there is none."""
        parts = re.split(r"^(?=## )", self.markdown, flags=re.MULTILINE)
        for part in parts:
            if part.startswith(f"## {title}"):
                return Page(part)
        known = ", ".join(part.splitlines()[0].removeprefix("## ") for part in parts if part.startswith("## "))
        raise ConfigError(f"the page has no section {title}: its sections are {known}")
