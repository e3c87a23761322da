"""TensorFlow checkpoints are read as TensorFlow writes them; the writer here follows the format's description."""

import itertools
import struct

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from realm_jax.config import ConfigError
from realm_jax.model_folder.tensor_bundle import is_bundle, read_bundle

NUMBERS = {"float32": 1, "int32": 3, "int64": 9, "bool": 10, "bfloat16": 14, "float16": 19}
STRING = 7
rng = np.random.default_rng(0)
VARIABLES = {
    "module/module/module/bert/embeddings/word_embeddings": rng.normal(size=(7, 4)).astype(np.float32),
    "module/module/module/bert/encoder/layer_0/attention/self/query/kernel": rng.normal(size=(4, 4)).astype(np.float32),
    "module/module/module/bert/encoder/layer_0/attention/self/query/bias": np.zeros(4, np.float32),
    "half": rng.normal(size=(3,)).astype(ml_dtypes.bfloat16),
    "global_step": np.int64(300_000),
    "flags": np.array([True, False]),
    "empty": np.empty((0, 3), np.float32),
}


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def block(entries: list[tuple[bytes, bytes]], restart_every: int, compression: int = 0) -> bytes:
    """A table's block with its trailer; keys share prefixes between restarts."""
    data, restarts, before = bytearray(), [], b""
    for i, (key, value) in enumerate(entries):
        shared = 0
        if i % restart_every == 0:
            restarts.append(len(data))
        else:
            shared = next(
                (n for n, (a, b) in enumerate(zip(key, before, strict=False)) if a != b), min(len(key), len(before))
            )
        data += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    data += b"".join(struct.pack("<I", restart) for restart in restarts or [0])
    return bytes(data) + struct.pack("<I", len(restarts or [0])) + bytes([compression]) + b"\0\0\0\0"


def write_bundle(prefix, variables, *, shards=1, block_entries=3, header=b"", compression=0, extra=b"", entries=()):
    """Variables go to the shards in turn; index blocks hold `block_entries` keys."""
    contents = [bytearray() for _ in range(shards)]
    added, entries = [(name.encode(), value) for name, value in dict(entries).items()], []
    for (name, array), shard in zip(sorted(variables.items()), itertools.cycle(range(shards)), strict=False):
        array = np.asarray(array)
        shape = b"".join(field(2, field(1, size)) for size in array.shape)
        value = field(1, NUMBERS[array.dtype.name]) + field(2, shape) + field(3, shard)
        value += field(4, len(contents[shard])) + field(5, array.nbytes) + b"\x35\0\0\0\0" + extra
        entries.append((name.encode(), value))
        contents[shard] += array.tobytes()
    entries.append((b"texts", field(1, STRING) + field(5, 3)))
    entries = [(b"", field(1, shards) + header), *sorted(entries + added)]
    table, index = bytearray(), []
    for i in range(0, len(entries), block_entries):
        part = entries[i : i + block_entries]
        data = block(part, 2, compression)
        index.append((part[-1][0] + b"\xff", varint(len(table)) + varint(len(data) - 5)))
        table += data
    handles = b""
    for data in (block([], 1), block(index, 1)):
        handles += varint(len(table)) + varint(len(data) - 5)
        table += data
    table += handles.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
    prefix.with_name(prefix.name + ".index").write_bytes(table)
    for shard, content in enumerate(contents):
        prefix.with_name(f"{prefix.name}.data-{shard:05}-of-{shards:05}").write_bytes(content)
    return prefix


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("block_entries", [1, 3, 100])
def test_values_types_and_shards(tmp_path, shards, block_entries):
    prefix = write_bundle(tmp_path / "model.ckpt-7", VARIABLES, shards=shards, block_entries=block_entries)
    assert is_bundle(prefix) and not is_bundle(tmp_path / "model.ckpt")
    read = read_bundle(prefix)
    assert read.keys() == VARIABLES.keys()  # strings are left out
    for name, array in VARIABLES.items():
        np.testing.assert_array_equal(read[name], array, err_msg=name)
        assert read[name].dtype == array.dtype and read[name].shape == array.shape
    assert isinstance(read["flags"], np.memmap)
    # One mapping a shard: with an optimizer's state there are more variables than a process may open files.
    assert len({id(array._mmap) for name, array in read.items() if name != "empty"}) == shards
    with pytest.raises(ValueError, match="read-only"):
        read["flags"][0] = False


def test_what_is_damaged_or_unlike_realms_checkpoints(tmp_path):
    prefix = tmp_path / "variables"
    for keywords, reason in (
        ({"header": field(2, 1)}, "big-endian"),
        ({"extra": field(7, b"")}, "stored in slices"),
        ({"compression": 1}, "the index is compressed"),
    ):
        write_bundle(prefix, VARIABLES, **keywords)
        with pytest.raises(ConfigError, match=rf"variables: is damaged or no .*{reason}.*: download it again"):
            read_bundle(prefix)
    write_bundle(prefix, VARIABLES, shards=2)
    data = tmp_path / "variables.data-00001-of-00002"
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(ConfigError, match="data-00001-of-00002 is too short"):
        read_bundle(prefix)
    data.unlink()
    with pytest.raises(ConfigError, match="data-00001-of-00002: no such file, though .*index names it"):
        read_bundle(prefix)
    index = tmp_path / "variables.index"
    for content in (b"", b"x" * 100, index.read_bytes()[9:]):
        index.write_bytes(content)
        with pytest.raises(ConfigError, match="variables(: is damaged or no .*|.index: is empty): download it again"):
            read_bundle(prefix)


@pytest.mark.parametrize("suffix", [".index", ".data-00000-of-00001"])
@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_a_truncated_file(tmp_path, suffix, part):
    prefix = write_bundle(tmp_path / "variables", VARIABLES)
    file = tmp_path / f"variables{suffix}"
    content = file.read_bytes()
    file.write_bytes(content[: int(part * (len(content) - 1))])
    with pytest.raises(ConfigError, match="variables(: is damaged or no .*|.index: is empty): download it again"):
        read_bundle(prefix)


@pytest.mark.parametrize(
    "entry",
    [
        field(1, 1) + field(2, 3),  # a shape that is a number
        field(1, 1) + field(3, b"0") + field(5, 4),  # a shard that is none
        field(1, 1) + field(2, field(2, field(1, 2**63)) * 2) + field(5, 0),  # 2**126 values, 0 in 64 bits
        field(1, 1) + field(4, 2**70) + field(5, 4),
        field(1, 1) + b"\x2a\x7f",  # a field that is longer than its message
        b"",
    ],
)
def test_entries_that_make_no_sense(tmp_path, entry):
    prefix = write_bundle(tmp_path / "variables", VARIABLES, entries={"strange": entry})
    with pytest.raises(ConfigError, match="(?s)variables: is damaged or no .*: download it again"):
        read_bundle(prefix)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_damage_is_a_clear_error_or_harmless(tmp_path, data):
    prefix = write_bundle(tmp_path / "variables", VARIABLES)
    index = tmp_path / "variables.index"
    content = bytearray(index.read_bytes())
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
        content[at] ^= data.draw(st.integers(1, 255))
    index.write_bytes(content[data.draw(st.sampled_from([0, 0, 1])) :])
    try:
        for array in read_bundle(prefix).values():
            np.array(array)
    except ConfigError as error:
        assert str(prefix) in str(error)


@pytest.mark.slow
def test_a_checkpoint_of_tensorflow_itself(tmp_path, oracle):
    code = """
import sys, numpy as np, tensorflow as tf
rng = np.random.default_rng(0)
names = [f"module/module/module/bert/encoder/layer_{i}/output/dense/{leaf}" for i in range(25)
         for leaf in ("kernel", "kernel/adam_m")] + ["block_emb"]
values = {n: rng.normal(size=(200_000, 8) if n == "block_emb" else (5, 3)).astype(np.float32) for n in names}
values["global_step"] = np.int64(300_000)
tf.raw_ops.SaveV2(prefix=sys.argv[1] + "/model.ckpt-1", tensor_names=list(values),
                  shape_and_slices=[""] * len(values), tensors=[tf.constant(v) for v in values.values()])
np.savez(sys.argv[1] + "/expected.npz", **{n.replace("/", "."): v for n, v in values.items()})
"""
    oracle(code, tmp_path)
    read, expected = read_bundle(tmp_path / "model.ckpt-1"), np.load(tmp_path / "expected.npz")
    assert {name.replace("/", ".") for name in read} == set(expected.files)
    for name, array in read.items():
        np.testing.assert_array_equal(array, expected[name.replace("/", ".")], err_msg=name)
