"""Pickled arrays of texts are read as NumPy reads them, in little memory, and nothing in them is executed."""

import io
import os
import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from realm_jax.config import ConfigError
from realm_jax.convert.block_records import count_records, read_records


def write(file, records, protocol=4):
    array = np.empty(len(records), object)
    array[:] = records
    with open(file, "wb") as stream:
        np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(array))
        pickle.dump(array, stream, protocol)
    return file


REPEATED = b"again and again"
RECORDS = [b"short", "Ångström 東京 🦊".encode(), b"x" * 70_000, REPEATED, b"", REPEATED, b"y" * 300, REPEATED]


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("records", [RECORDS, [], [b"one"], [str(i).encode() for i in range(5000)]])
def test_records_in_order(tmp_path, records, protocol):
    file = write(tmp_path / "block_records.npy", records, protocol)
    assert count_records(file) == len(records)
    assert list(read_records(file)) == [record.decode() for record in records]
    assert [r.encode() for r in read_records(file)] == list(np.load(file, allow_pickle=True))


def test_takes_little_memory(tmp_path):
    file = write(tmp_path / "block_records.npy", [b"%09d" % i * 100 for i in range(100_000)])
    tracemalloc.start()
    for i, record in enumerate(read_records(file)):
        assert record.startswith(f"{i:09d}")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert i == 99_999 and peak < 20e6 < file.stat().st_size


class Call:
    """Pickled as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_a_call_is_refused_by_name_and_not_made(tmp_path, protocol):
    file = write(tmp_path / "block_records.npy", [b"text", Call(os.system, f"touch {tmp_path}/ran")], protocol)
    with pytest.raises(
        ConfigError, match=r"block_records.npy: its pickle asks for \w[\w.]*, .* a source that you trust"
    ):
        list(read_records(file))
    if protocol > 2:
        with pytest.raises(ConfigError, match=rf"asks for {os.system.__module__}.system,"):
            list(read_records(file))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros(3), r"is an array of float64 \(3,\), not a list of texts"),
        (np.empty((2, 2), object), r"is an array of object \(2, 2\), not a list of texts"),
    ],
)
def test_other_arrays(tmp_path, array, reason):
    np.save(tmp_path / "r.npy", array, allow_pickle=True)
    with pytest.raises(ConfigError, match=f"r.npy: {reason}: pass a block_records.npy"):
        count_records(tmp_path / "r.npy")


def test_what_is_no_list_of_bytes(tmp_path):
    file = write(tmp_path / "r.npy", ["text", "more"])
    with pytest.raises(ConfigError, match="r.npy: holds 0 of 2 records"):
        list(read_records(file))
    write(file, [b"good", b"bad \xff", b"good"])
    with pytest.raises(ConfigError, match="r.npy: record 1 is not UTF-8"):
        list(read_records(file))
    file.write_bytes(b"hello")
    with pytest.raises(ConfigError, match="r.npy: is no .npy file"):
        count_records(file)
    with pytest.raises(ConfigError, match="none.npy: cannot be read"):
        count_records(tmp_path / "none.npy")


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_damage_is_a_clear_error_or_harmless(tmp_path, data):
    content = bytearray(write(tmp_path / "r.npy", RECORDS[:2] + RECORDS[3:]).read_bytes())
    content = content[: data.draw(st.integers(0, len(content)))]
    for at in data.draw(st.lists(st.integers(0, max(0, len(content) - 1)), max_size=3)):
        if content:
            content[at] ^= data.draw(st.integers(1, 255))
    (tmp_path / "r.npy").write_bytes(content)
    try:
        records = list(read_records(tmp_path / "r.npy"))
    except ConfigError as error:
        assert str(tmp_path / "r.npy") in str(error)
    else:
        assert all(isinstance(record, str) for record in records)


def test_a_bare_pickle_is_no_array(tmp_path):
    stream = io.BytesIO()
    pickle.dump(Call(os.system, "true"), stream)
    (tmp_path / "r.npy").write_bytes(stream.getvalue())
    with pytest.raises(ConfigError, match="is no .npy file"):
        list(read_records(tmp_path / "r.npy"))
