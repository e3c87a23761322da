"""A vocabulary for builds, and the command as a user runs it."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from realm_jax.data.corpus import Corpus

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def vocabulary(tiny_run, tmp_path_factory):
    """A tokenizer.json."""
    file = tmp_path_factory.mktemp("vocabulary") / "tokenizer.json"
    file.write_text(tiny_run.tokenizer_file.read_text())
    return file


@pytest.fixture(scope="session")
def command(vocabulary):
    """Arguments of the command for a source and a folder."""

    def arguments(source, out, *flags):
        fixed = [f"--source={source}", f"--out={out}", f"--tokenizer={vocabulary}", "--block_len_tokens=48"]
        return [sys.executable, "-m", "realm_jax", "corpus", *fixed, "--workers=1", *flags]

    return arguments


@pytest.fixture(scope="session")
def build(command):
    """Runs the command to its end; returns what it was and printed."""

    def run(source, out, *flags, status=0):
        environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
        done = subprocess.run(
            command(source, out, *flags), cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == status, done.stdout[-2000:] + done.stderr[-3000:]
        return done

    return run


def contents(out) -> dict[str, bytes]:
    """Every file of a corpus but its manifest, which has times."""
    out = pathlib.Path(out)
    files = {str(f.relative_to(out)): f.read_bytes() for f in sorted(out.rglob("*")) if f.is_file()}
    files.pop("manifest.json")
    return files


def articles(out) -> list[tuple[str, str, str]]:
    """(id, title, text) of every block, in order."""
    corpus = Corpus.open(out)
    blocks = [corpus.block(i) for i in range(corpus.num_blocks)]
    return [(b.source_id, b.title, b.text) for b in blocks]


def build_entry(out) -> dict:
    """What the manifest says of the build."""
    return json.loads((pathlib.Path(out) / "manifest.json").read_text())["build"]
