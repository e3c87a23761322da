"""Torch files are read as torch reads them, and nothing in them is executed."""

import collections
import io
import json
import mmap
import os
import pathlib
import pickle
import pickletools
import re
import struct
import sys
import tracemalloc
import types
import zipfile

import bert_folder
import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from realm_jax.config import ConfigError, ModelConfig
from realm_jax.model_folder.torch_files import read_torch
from realm_jax.models.pretrained import read_parts

GOLDEN = pathlib.Path(__file__).parent / "golden_models"
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
        self.view = None


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
        return ("storage", kind, key, "cpu", value.values.size, *([value.view] if value.view else []))


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
    write_members(file, *pickled(value), compression)


def write_members(file, data: bytes, storages: list[np.ndarray], compression=zipfile.ZIP_STORED):
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


def write_bare(file, value):
    file.write_bytes(pickle.dumps(value))


def mapping_of(array: np.ndarray) -> int:
    """Which mapping of a file holds an array."""
    while not isinstance(array, mmap.mmap):
        array = array.base
        assert array is not None, "the array is a copy"
    return id(array)


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
    # One mapping for all: a large model has more tensors than a process may open files.
    assert len({mapping_of(array) for name, array in read.items() if name != "empty"}) == 1
    with pytest.raises(ValueError, match="read-only"):
        read["float32"][0] = 0


class Parameter:
    """What a whole module's tensors are."""

    def __init__(self, data):
        self.data = data

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_parameter, (self.data, True, collections.OrderedDict())


class StateDict(collections.OrderedDict):
    """Pickled as an OrderedDict with attributes, as a module's state dict is."""

    def __reduce__(self):
        return collections.OrderedDict, (), {"_metadata": {"version": 1}}, None, iter(self.items())


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_parameters_attributes_and_what_is_no_tensor(tmp_path, write):
    value = StateDict(p=Parameter(tensor(ARRAYS["float32"])), epoch=3)
    value[4] = tensor(ARRAYS["int64"])
    write(tmp_path / "m.bin", value)
    read = read_torch(tmp_path / "m.bin")
    assert list(read) == ["p"]
    np.testing.assert_array_equal(read["p"], ARRAYS["float32"])


class Call:
    """Pickled as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("write", [*WRITERS.values(), write_bare])
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


@pytest.mark.parametrize(
    "name",
    ["builtins.eval", "torch.load", "torch.nn.Module", "torch._utils._rebuild_tensor", "functools.partial",
     "numpy.core.multiarray._reconstruct", "collections.OrderedDict.fromkeys", "torch.FloatStorage.from_file"],
)  # fmt: skip
def test_a_name_alone_is_refused(tmp_path, name):
    module, _, attribute = name.rpartition(".")
    if attribute in ("fromkeys", "from_file"):  # of a class that is known
        module, _, last = module.rpartition(".")
        attribute = f"{last}.{attribute}"
    strings = b"".join(b"\x8c" + bytes([len(s)]) + s.encode() for s in (module, attribute))
    (tmp_path / "m.bin").write_bytes(b"\x80\x04" + strings + b"\x93.")  # STACK_GLOBAL, STOP
    with pytest.raises(ConfigError, match=rf"m.bin: its pickle asks for {re.escape(name)}, .*: use a safetensors"):
        read_torch(tmp_path / "m.bin")


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize(
    ("shape", "stride", "offset"),
    [((11,), (1,), 0), ((2, 6), (5, 1), 0), ((5,), (1,), 6), ((3,), (-1,), 5), ((3,), (1,), -1), ((-3,), (1,), 0)],
)
def test_views_stay_inside_their_storage(tmp_path, write, shape, stride, offset):
    write(tmp_path / "m.bin", {"w": View(Storage(np.zeros(10, np.float32)), shape, stride, offset)})
    with pytest.raises(ConfigError, match=r"m.bin: is damaged or no torch checkpoint .*: download it again"):
        read_torch(tmp_path / "m.bin")


def test_a_pickle_changes_no_storage(tmp_path):
    data, storages = pickled({"w": View(Storage(np.zeros(10, np.float32)), (1000,), (1,))})
    after = data.index(pickle.BINPERSID) + 1
    attributes = pickletools.optimize(pickle.dumps({"count": 10**9}, 2))[2:-1]  # without PROTO and STOP
    write_members(tmp_path / "m.bin", data[:after] + attributes + pickle.BUILD + data[after:], storages)
    with pytest.raises(ConfigError, match=r"a tensor of shape \(1000,\) reaches beyond its 10 values"):
        read_torch(tmp_path / "m.bin")


@pytest.mark.parametrize(
    ("shape", "stride", "offset"),
    [((2**32, 2), (2**32, 1), 0), ((2,), (1,), 2**63 - 1)],  # both end before 10 in 64 bits
)
def test_sizes_do_not_overflow(tmp_path, shape, stride, offset):
    as_tensors = [tuple(tensor(np.array(n)) for n in numbers) for numbers in (shape, stride, (offset,))]
    view = View(Storage(np.zeros(10, np.float32)), *as_tensors[:2], *as_tensors[2])
    write_zip(tmp_path / "m.bin", {"w": view})
    with pytest.raises(ConfigError, match="reaches beyond its 10 values"):
        read_torch(tmp_path / "m.bin")


def test_a_storage_that_is_a_part_of_another(tmp_path):
    part = Storage(np.arange(4, dtype=np.float32))
    part.view = ("whole", 2, 4)
    write_plain(tmp_path / "m.bin", {"w": View(part, (4,), (1,))})
    with pytest.raises(ConfigError, match="storage 0 is a part of another"):
        read_torch(tmp_path / "m.bin")


def test_a_damaged_number_takes_no_memory(tmp_path):
    (tmp_path / "m.bin").write_bytes(b"\x80\x02K\x01" + pickle.LONG_BINPUT + struct.pack("<I", 20_000_000) + b".")
    tracemalloc.start()
    with pytest.raises(ConfigError, match="not torch's magic number"):
        read_torch(tmp_path / "m.bin")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6


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
@pytest.mark.parametrize("part", [0.0, 0.1, 0.4, 0.6, 0.8, 0.95, 1.0])
def test_a_truncated_file(tmp_path, write, part):
    file = tmp_path / "m.bin"
    write(file, {name: tensor(array) for name, array in ARRAYS.items()})
    content = file.read_bytes()
    file.write_bytes(content[: int(part * (len(content) - 1))])
    with pytest.raises(ConfigError, match="m.bin: (is damaged or no torch checkpoint|its pickle asks for torch.L,)"):
        read_torch(file)


@given(st.binary(max_size=60))
def test_anything_else_is_a_clear_error(tmp_path_factory, content):
    file = tmp_path_factory.mktemp("files") / "m.bin"
    for start in (b"", b"\x80\x02", b"PK\x03\x04"):
        file.write_bytes(start + content)
        with pytest.raises(ConfigError, match="m.bin: "):
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


def test_a_bert_in_torch_files_is_that_in_safetensors(tmp_path):
    rows = len(bert_folder.vocabulary())
    tensors, shape = bert_folder.tensors(rows), {"hidden_size": bert_folder.HIDDEN, "gelu": "erf", "vocab_size": rows}
    shape |= {"num_layers": 1, "num_heads": 2, "intermediate_size": bert_folder.INNER}
    config = ModelConfig(**shape, max_positions=bert_folder.POSITIONS)
    safe = read_parts(config, bert_folder.write(tmp_path / "safe"))
    folder = bert_folder.write(tmp_path / "torch", weights=False)
    names = {"bert.": "pytorch_model-00001-of-00002.bin", "cls.": "pytorch_model-00002-of-00002.bin"}
    for prefix, file in names.items():
        write_zip(folder / file, {name: tensor(x) for name, x in tensors.items() if name.startswith(prefix)})
    index = {"weight_map": {name: names[name[:5] if name[:5] in names else name[:4]] for name in tensors}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    found = read_parts(config, folder)
    for part, leaves in safe.items():
        assert leaves.keys() == found[part].keys()
        for name, leaf in leaves.items():
            np.testing.assert_array_equal(found[part][name], leaf, err_msg=name)
    (folder / names["cls."]).unlink()
    with pytest.raises(
        ConfigError, match="pytorch_model-00002-of-00002.bin: is missing, though pytorch_model.bin.index"
    ):
        read_parts(config, folder)


def test_golden_models_open():
    tensors = read_torch(GOLDEN / "openqa" / "pytorch_model.bin")
    assert tensors["block_emb"].shape == (9, 8)
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
