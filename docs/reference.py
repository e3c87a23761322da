"""Reference pages that are made from the source: every setting, and every public function and class.

A MkDocs hook. `configuration.md` is read off the dataclasses of `realm_jax/config.py`, `api/PART.md` off the docstrings
of that part of the package (mkdocstrings renders these). The source is parsed, never imported. A field without a
docstring stops the build.
"""

import pathlib
from collections.abc import Iterator

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / "realm_jax"
CONFIGURATION = """# Configuration

Every setting of a run, made from `realm_jax/config.py`. An experiment file sets them by name
(`pretrain=PretrainConfig(steps=800)`), a command line by `--SECTION.FIELD=VALUE` (`--pretrain.steps=800`). A run keeps
what it was made with in `WORKDIR/config.json`, and refuses other values later. § is a section of Guu et al. 2020.
"""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Puts the pages of the API into the navigation."""
    reference = next(item for item in config.nav if "Reference" in item)["Reference"]
    api = next(item for item in reference if "API" in item)
    api["API"] = [{part: f"api/{part}.md"} for part in parts()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages."""
    pages = {"configuration.md": configuration()} | {f"api/{part}.md": api_page(part) for part in parts()}
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def parts() -> list[str]:
    """The package itself, then its folders."""
    folders = [init.parent for init in PACKAGE.glob("*/__init__.py") if not init.parent.is_symlink()]
    return ["realm_jax", *sorted(f"realm_jax.{folder.name}" for folder in folders)]


def api_page(part: str) -> str:
    """Markdown of one folder, its modules in order of their names; those of commands show what the command does."""
    folder = PACKAGE if part == "realm_jax" else PACKAGE / part.removeprefix("realm_jax.")
    files = sorted(folder.glob("*.py") if folder == PACKAGE else folder.rglob("*.py"))
    lines = [f"# {part}\n"]
    for file in files:
        if file.name != "__init__.py":
            name = ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
            lines.append(f"## `{name.removesuffix('.__main__')}` {{#module-{name}}}\n\n::: {name}\n")
            lines.append("    options: {show_root_heading: false, show_root_toc_entry: false}\n")
    return "\n".join(lines)


def configuration() -> str:
    """Markdown of every setting: a table for the run and for each of its sections."""
    module = griffe.load("realm_jax.config", search_paths=[str(PACKAGE.parent)])
    sections = {"": module["Config"]}
    for name, field in settings(module["Config"]):
        if "default_factory" in str(field.value):
            sections[name] = module[str(field.annotation)]
    lines = [CONFIGURATION]
    for name, section in sections.items():
        lines += [f"## {f'`{name}`' if name else 'The run'} {{#{name or 'run'}}}\n", f"{section.docstring.value}\n"]
        lines += ["| setting | type | default | meaning |", "|---|---|---|---|"]
        lines += [_row(name, field, value, sections) for field, value in settings(section)]
        lines.append("")
    return "\n".join(lines)


def settings(section: griffe.Class) -> Iterator[tuple[str, griffe.Attribute]]:
    """Fields of a dataclass, in order."""
    for name, member in section.members.items():
        if member.is_attribute and "property" not in member.labels:
            yield name, member


def _row(section: str, name: str, field: griffe.Attribute, sections: dict) -> str:
    flag = f"{section}.{name}" if section else name
    if not section and name in sections:
        return f"| [`{name}`](#{name}) | | | see below |"
    if field.docstring is None:
        raise PluginError(f"realm_jax/config.py: {flag} has no docstring: say its unit and meaning below it")
    kind = str(field.annotation).removeprefix("Literal").replace("|", "or")
    kind = ", ".join(f"`{choice}`" for choice in kind.strip("[]").replace("'", "").split(", "))
    default = str(field.value).strip("'\"").replace("_", "")
    default = f"`{default}`" if default else "empty"
    return f"| `{flag}` {{#{flag}}} | {kind} | {default} | {' '.join(field.docstring.value.split())} |"
