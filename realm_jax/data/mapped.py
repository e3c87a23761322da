"""A file as an array that is read from disk as it is used, without holding the file open.

`numpy.memmap` and Python's `mmap` (before 3.13's `trackfd`) keep a file descriptor for each file, of which a process
usually has 1,024: a corpus of some hundred segments of nine files would need more. The system itself needs none once a
file is mapped (mmap(2)), and a file that is deleted stays as long as it is mapped.
"""

import ctypes
import mmap
import os
import weakref

import numpy as np
from jaxtyping import Shaped

FAILED = ctypes.c_void_p(-1).value  # MAP_FAILED

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def map_file(file: str | os.PathLike, dtype: np.dtype, size: int) -> Shaped[np.ndarray, " rows"]:
    """Maps a file as a read-only array of `dtype`; it is unmapped with the last array that looks into it.

    Args:
        size: how many bytes the file must have.

    Raises:
        OSError: it cannot be opened or mapped.
        ValueError: it has another size.
    """
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor).st_size
        if found != size:
            raise ValueError(f"{found} bytes instead of {size}")
        if not size:
            return np.empty(0, dtype)
        address = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
    finally:
        os.close(descriptor)
    if address == FAILED:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fspath(file))
    pages = (ctypes.c_char * size).from_address(address)
    weakref.finalize(pages, _libc.munmap, address, size).atexit = False  # the process's end does it
    rows = np.frombuffer(pages, dtype)
    rows.flags.writeable = False
    return rows
