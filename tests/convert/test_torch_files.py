"""Torch files are read as torch reads them, and nothing in them is executed."""

import collections
import io
import os
import pathlib
import pickle
import struct
import sys
import types
import zipfile

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from realm_jax.config import ConfigError
from realm_jax.convert.torch_files import read_torch

GOLDEN = pathlib.Path(__file__).parents[2].parent / "shared" / "parity"
STORAGES = {
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "bool": "BoolStorage",
}


class Storage:
    """Values that a torch file keeps once for all tensors that view them."""

    def __init__(self, values: np.ndarray):
        self.values = np.ravel(values)


class View:
    """A tensor: pickled as torch does it, by a call of `_rebuild_tensor_v2`."""

    def __init__(self, storage, shape, stride, offset=0):
        self.arguments = (storage, offset, shape, stride, False, collections.OrderedDict())

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.arguments


def tensor(values: np.ndarray) -> View:
    values = np.asarray(values)
    strides = tuple(s // values.itemsize for s in values.strides)
    return View(Storage(values), values.shape, strides)


class Pickler(pickle.Pickler):
    def __init__(self, stream):
        super().__init__(stream, protocol=2)
        self.storages: dict[int, tuple[str, Storage]] = {}

    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        key, _ = self.storages.setdefault(id(value), (str(len(self.storages)), value))
        kind = getattr(sys.modules["torch"], STORAGES[value.values.dtype.name])
        return ("storage", kind, key, "cpu", value.values.size)


@pytest.fixture(scope="module", autouse=True)
def stub_torch():
    """Just enough of torch for its names to be pickled."""
    if "torch" in sys.modules:
        yield
        return
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in STORAGES.values():
        setattr(torch, name, type(name, (), {"__module__": "torch", "__qualname__": name}))
    for name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
        exec(f"def {name}(*_): pass", utils.__dict__)  # noqa: S102
        getattr(utils, name).__module__ = "torch._utils"
    torch._utils = utils
    sys.modules |= {"torch": torch, "torch._utils": utils}
    yield
    del sys.modules["torch"], sys.modules["torch._utils"]


def pickled(value) -> tuple[bytes, list[np.ndarray]]:
    stream = io.BytesIO()
    pickler = Pickler(stream)
    pickler.dump(value)
    return stream.getvalue(), [storage.values for _, storage in pickler.storages.values()]


def write_zip(file, value, compression=zipfile.ZIP_STORED):
    data, storages = pickled(value)
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("archive/data.pkl", data)
        for key, values in enumerate(storages):
            archive.writestr(f"archive/data/{key}", values.tobytes())
        archive.writestr("archive/version", "3\n")


def write_plain(file, value):
    data, storages = pickled(value)
    parts = [pickle.dumps(x, 2) for x in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    parts += [data, pickle.dumps([str(key) for key in range(len(storages))], 2)]
    parts += [struct.pack("<q", values.size) + values.tobytes() for values in storages]
    file.write_bytes(b"".join(parts))


WRITERS = {"zip": write_zip, "plain": write_plain}
rng = np.random.default_rng(0)
ARRAYS = {
    "float32": rng.normal(size=(3, 4)).astype(np.float32),
    "float16": rng.normal(size=(5,)).astype(np.float16),
    "bfloat16": rng.normal(size=(2, 2)).astype(ml_dtypes.bfloat16),
    "int64": np.arange(6).reshape(1, 6),
    "bool": np.array([True, False]),
    "scalar": np.float32(2.5),
    "transposed": rng.normal(size=(3, 4)).astype(np.float32).T,
    "empty": np.empty((0, 3), np.float32),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_values_types_and_views(tmp_path, write):
    shared = Storage(np.arange(10, dtype=np.float32))
    value = collections.OrderedDict({name: tensor(array) for name, array in ARRAYS.items()})
    value["transposed"] = View(Storage(ARRAYS["transposed"].T), (4, 3), (1, 4))
    value["row"], value["rows"] = View(shared, (5,), (1,), 2), View(shared, (2, 5), (5, 1))
    write(tmp_path / "m.bin", value)
    read = read_torch(tmp_path / "m.bin")
    expected = {**ARRAYS, "row": np.arange(2.0, 7), "rows": np.arange(10.0).reshape(2, 5)}
    assert read.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(read[name], array, err_msg=name)
        assert read[name].dtype == np.asarray(array).astype(read[name].dtype).dtype
    assert read["bfloat16"].dtype == ml_dtypes.bfloat16 and read["int64"].dtype == np.int64
    base = read["float32"]
    while not isinstance(base, np.memmap):
        base = base.base
        assert base is not None, "the array is a copy"
    with pytest.raises(ValueError, match="read-only"):
        read["float32"][0] = 0


class Call:
    """Pickled as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("write", [*WRITERS.values(), lambda file, value: file.write_bytes(pickle.dumps(value))])
def test_a_call_is_refused_by_name_and_not_made(tmp_path, write):
    write(tmp_path / "m.bin", {"weight": Call(os.system, f"touch {tmp_path}/ran")})
    with pytest.raises(ConfigError, match=rf"m.bin: its pickle asks for {os.system.__module__}.system, .*safetensors"):
        read_torch(tmp_path / "m.bin")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("function", [eval, getattr, os.remove, io.open, collections.Counter, np.load])
def test_other_globals_are_refused_by_name(tmp_path, function):
    write_zip(tmp_path / "m.bin", {"weight": Call(function, "1")})
    with pytest.raises(ConfigError, match=rf"asks for [\w.]+\.{function.__name__},"):
        read_torch(tmp_path / "m.bin")


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize(
    ("shape", "stride", "offset"),
    [((11,), (1,), 0), ((2, 6), (5, 1), 0), ((5,), (1,), 6), ((3,), (-1,), 5), ((3,), (1,), -1)],
)
def test_views_stay_inside_their_storage(tmp_path, write, shape, stride, offset):
    write(tmp_path / "m.bin", {"w": View(Storage(np.zeros(10, np.float32)), shape, stride, offset)})
    with pytest.raises(ConfigError, match=r"m.bin: is damaged or no torch checkpoint .*: download it again"):
        read_torch(tmp_path / "m.bin")


def test_what_is_no_state_dict(tmp_path):
    file = tmp_path / "m.bin"
    for content in (b"", b"hello", pickle.dumps([1, 2])):
        file.write_bytes(content)
        with pytest.raises(ConfigError, match="m.bin: "):
            read_torch(file)
    write_zip(file, [tensor(ARRAYS["float32"])])
    with pytest.raises(ConfigError, match="holds no tensors by name: pass a state dict"):
        read_torch(file)
    write_zip(file, {"w": tensor(np.zeros(1000, np.float32))}, zipfile.ZIP_DEFLATED)
    with pytest.raises(ConfigError, match="does not hold 1000 values"):
        read_torch(file)


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_damage_is_a_clear_error_or_harmless(tmp_path, write, data):
    file = tmp_path / "m.bin"
    write(file, {name: tensor(array) for name, array in ARRAYS.items()})
    content = bytearray(file.read_bytes())
    content = content[: data.draw(st.integers(0, len(content)))]
    for at in data.draw(st.lists(st.integers(0, max(0, len(content) - 1)), max_size=3)):
        if content:
            content[at] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    try:
        for array in read_torch(file).values():
            np.array(array)
    except ConfigError as error:
        assert str(error).startswith(f"{file}: ")


@pytest.mark.skipif(not GOLDEN.exists(), reason="no golden models at ../shared/parity")
def test_golden_models_open():
    tensors = read_torch(GOLDEN / "openqa" / "pytorch_model.bin")
    assert tensors["block_emb"].shape == (7, 16)
    assert {name.split(".")[0] for name in tensors} == {"block_emb", "embedder", "reader"}


@pytest.mark.slow
@pytest.mark.parametrize("new_format", [True, False])
def test_files_of_torch_itself(tmp_path, oracle, new_format):
    code = """
import os, sys, numpy as np, torch
class Evil:
    def __reduce__(self):
        return os.system, (f"touch {sys.argv[1]}/ran",)
torch.save({"w": torch.ones(2), "e": Evil()}, sys.argv[1] + "/evil.bin")
torch.manual_seed(0)
layer = torch.nn.TransformerEncoderLayer(8, 2, 16)
state = dict(layer.state_dict(), half=torch.randn(3).bfloat16(), t=torch.randn(3, 4).T, n=torch.tensor(7))
state["parameter"] = torch.nn.Parameter(torch.ones(2))
torch.save(state, sys.argv[1] + "/m.bin", _use_new_zipfile_serialization=sys.argv[2] == "True")
np.savez(sys.argv[1] + "/m.npz", **{k: v.detach().float().numpy() for k, v in state.items()})
"""
    oracle(code, tmp_path, new_format)
    with pytest.raises(ConfigError, match="evil.bin: its pickle asks for posix.system"):
        read_torch(tmp_path / "evil.bin")
    assert not (tmp_path / "ran").exists()
    read, expected = read_torch(tmp_path / "m.bin"), np.load(tmp_path / "m.npz")
    assert read.keys() == set(expected.files)
    for name in expected.files:
        np.testing.assert_array_equal(read[name].astype(np.float32), expected[name], err_msg=name)
