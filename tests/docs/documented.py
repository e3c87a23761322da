"""The commands that README and docs show: lines of code blocks, and code within sentences."""

import pathlib
import re
from collections.abc import Iterator

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
COMMAND = re.compile(
    r"(make( [a-z-]+)?( .*)?|python3? (-m realm_jax|benchmarks/|-m http|notebooks/|launch/).*"
    r"|realm( [a-z]+( .*)?| --help)"
    r"|pip install .*"
    r"|git clone .*|source .*|(DRY_RUN=1 |bash )?(\./)?launch/\S+\.sh.*|sbatch .*|sky .*|xpk .*|gcloud .*|curl .*"
    r"|tensorboard .*|wandb .*|jupyter .*|jupytext .*|export \w+=.*|\w+=\S+ (make|python|gcloud) .*)$"
)


def pages() -> list[pathlib.Path]:
    return [REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


def commands() -> dict[str, list[str]]:
    """Each command, with the names of the pages that show it."""
    found: dict[str, list[str]] = {}
    for page in pages():
        for command in of_page(page.read_text()):
            found.setdefault(command, []).append(page.name)
    return found


def of_page(text: str) -> Iterator[str]:
    """Commands of a page, in order. A backslash joins lines; what follows two spaces and # is a comment."""
    is_fenced = False
    for line in re.sub(r" *\\\n *", " ", text).splitlines():
        if line.lstrip().startswith("```"):
            is_fenced = not is_fenced
        elif is_fenced or line.startswith("    "):
            code = re.sub(r"\s+# .*$", "", line.strip().removeprefix("$ "))
            if COMMAND.match(code):
                yield code
        else:
            yield from (code for code in re.findall(r"`([^`]+)`", line) if COMMAND.match(code))
