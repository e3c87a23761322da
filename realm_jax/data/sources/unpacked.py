"""The plain bytes of files that may be compressed: gzip, bzip2 or xz, known by how they begin."""

import bz2
import contextlib
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterator

from etils import epath

UNPACK = {rb"\x1f\x8b": gzip.open, rb"BZh\d(1AY&SY|\x17rE8P\x90)": bz2.open, rb"\xfd7zXZ\x00": lzma.open}
"""How files begin that are unpacked. Their names mislead: some are unpacked when downloaded, some lose their ending."""
ENDINGS = r"(\.gz|\.bz2|\.xz)?$"
"""How the names of files may end that are compressed, or not."""
HEAD_BYTES = 10  # as many as tell
DAMAGED = (EOFError, OSError, zlib.error, lzma.LZMAError)
"""What reading a damaged file raises."""


@contextlib.contextmanager
def open_plain(file: epath.PathLike) -> Iterator[io.BufferedIOBase]:
    """Opens a file, unpacked, for a `with` block."""
    with epath.Path(file).open("rb") as raw, unpacker(raw)(raw) as plain:
        yield plain


def is_compressed(file: epath.PathLike) -> bool:
    """Whether `open_plain` unpacks a file."""
    with epath.Path(file).open("rb") as raw:
        return unpacker(raw) is not contextlib.nullcontext


def unpacker(raw: io.BufferedIOBase) -> Callable:
    """Finds what opens a file that stands at its start, by its first bytes; it stands there again."""
    head = raw.read(HEAD_BYTES)
    raw.seek(0)
    return next((unpack for begins, unpack in UNPACK.items() if re.match(begins, head)), contextlib.nullcontext)
