"""Pickled arrays of texts are read as NumPy reads them, in little memory, and nothing in them is executed."""

import io
import os
import pickle
import struct
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


REPEATED, LONG = b"again and again", b"x" * 70_000  # the long one lies outside of protocol 4's frames
RECORDS = [b"short", "Ångström 東京 🦊".encode(), LONG, REPEATED, b"", REPEATED, b"y" * 300, REPEATED, LONG, b"b"]


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


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("other", ["text", None, 7, b"text", (b"a", b"b"), [b"a"], np.ndarray, "dtype"])
@pytest.mark.parametrize("before", [0, 1, 1500])
def test_records_that_are_no_bytes(tmp_path, protocol, other, before):
    array = np.empty(before + 1, object)
    array[:before] = [b"%d" % i for i in range(before)]
    array[before] = other
    with open(tmp_path / "r.npy", "wb") as stream:
        np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(array))
        pickle.dump(array, stream, protocol)
    if isinstance(other, bytes):
        assert list(read_records(tmp_path / "r.npy"))[before] == other.decode()
        return
    with pytest.raises(ConfigError, match="r.npy: holds other things than bytes: pass a block_records.npy"):
        list(read_records(tmp_path / "r.npy"))


def test_what_is_no_list_of_bytes(tmp_path):
    file = tmp_path / "r.npy"
    write(file, [b"good", b"bad \xff", b"good"])
    with pytest.raises(ConfigError, match="r.npy: record 1 is not UTF-8"):
        list(read_records(file))
    file.write_bytes(b"hello")
    with pytest.raises(ConfigError, match="r.npy: is no .npy file"):
        count_records(file)
    with pytest.raises(ConfigError, match="none.npy: cannot be read"):
        count_records(tmp_path / "none.npy")


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("part", [0.0, 0.001, 0.1, 0.5, 0.9, 1.0])
def test_a_truncated_file(tmp_path, protocol, part):
    file = write(tmp_path / "r.npy", RECORDS, protocol)
    content = file.read_bytes()
    file.write_bytes(content[: int(part * (len(content) - 1))])
    with pytest.raises(ConfigError, match="r.npy: (is no .npy file|is damaged) .*: (pass|download)"):
        list(read_records(file))


@pytest.mark.parametrize("count", ["2", "4", "-3"])
def test_another_number_of_records_than_the_header_says(tmp_path, count):
    file = write(tmp_path / "r.npy", [b"a", b"b", b"c"])
    file.write_bytes(file.read_bytes().replace(b"(3,), ", f"({count},),".ljust(6).encode()))
    with pytest.raises(ConfigError, match="r.npy: (holds 3 of . records: download|is an array of object .*: pass)"):
        list(read_records(file))


def test_a_damaged_number_takes_no_memory(tmp_path):
    content = write(tmp_path / "r.npy", [b"a", b"b"], protocol=3).read_bytes()
    at = content.index(b"C\x01a") + 3
    assert content[at : at + 1] == pickle.BINPUT
    (tmp_path / "r.npy").write_bytes(
        content[:at] + pickle.LONG_BINPUT + struct.pack("<I", 5_000_000) + content[at + 2 :]
    )
    tracemalloc.start()
    with pytest.raises(ConfigError, match="r.npy: is damaged"):
        list(read_records(tmp_path / "r.npy"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
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
