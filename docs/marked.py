"""Pages of which scripts write a part, between the marks `<!-- NAME -->` and `<!-- /NAME -->`."""

import pathlib
import sys


def filled(page: pathlib.Path, text: str, fresh: dict[str, str]) -> str:
    """The page's text with fresh content, by name, between the marks; ends the script where a mark is missing."""
    for name, content in fresh.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            sys.exit(f"{page.name} needs one {begin.strip()} and one {end}")
        before, rest = text.split(begin)
        text = before + begin + content + end + rest.split(end)[1]
    return text


def write_or_check(file: pathlib.Path, made: str) -> None:
    """Writes the file; with --check, ends the script with an error where it has another content."""
    if "--check" not in sys.argv:
        file.write_text(made)
    elif not file.exists() or made != file.read_text():
        sys.exit(f"{file.name} is out of date: run python docs/{pathlib.Path(sys.argv[0]).name}")
