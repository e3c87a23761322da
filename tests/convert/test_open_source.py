"""Every kind of SOURCE opens as what it holds; what holds nothing or is damaged is a clear error."""

import json

import ml_dtypes
import numpy as np
import published
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from test_tensor_bundle import write_bundle
from test_torch_files import mapping_of, stub_torch, tensor, write_zip  # noqa: F401, the fixture applies here too

from realm_jax.config import ConfigError
from realm_jax.convert.model_sources import open_source
from realm_jax.model_folder.checkpoint import BLOCK_RECORDS

rng = np.random.default_rng(0)
A, B = {"a": rng.normal(size=(3, 2)).astype(np.float32)}, {"b": np.arange(4)}
CONFIG = published.CONFIG
GOOGLES = {key: value for key, value in CONFIG.items() if key not in ("model_type", "retriever_proj_size")}


@pytest.fixture
def folder(tmp_path):
    """Of a model, so far without weights."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def check(source, spec, tensors, *, folder, is_tf=False, config=CONFIG, block_records=None):
    assert (source.spec, source.folder, source.is_tf) == (str(spec), folder, is_tf)
    assert (source.config, source.block_records) == (config, block_records)
    assert source.tensors.keys() == tensors.keys()
    for name, array in tensors.items():
        np.testing.assert_array_equal(source.tensors[name], array, err_msg=name)
        assert source.tensors[name].dtype == array.dtype


def test_a_folder_of_safetensors_shards(folder):
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    save_file(A, folder / names[0], {"format": "pt"})
    save_file(B, folder / names[1])
    index = {"weight_map": {name: file for file, of in zip(names, (A, B), strict=True) for name in of}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    write_zip(folder / "pytorch_model.bin", {"other": tensor(A["a"])})  # the same weights once more, as published
    check(open_source(str(folder)), folder, A | B, folder=folder)


@pytest.mark.parametrize("suffix", [".bin", ".pt"])
def test_a_folder_of_torch_shards(folder, suffix):
    write_zip(folder / f"pytorch_model-00001-of-00002{suffix}", {"a": tensor(A["a"])})
    write_zip(folder / f"pytorch_model-00002-of-00002{suffix}", {"b": tensor(B["b"])})
    check(open_source(str(folder)), folder, A | B, folder=folder)


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.bin", "weights.pt"])
def test_one_file_with_its_config_beside_it(folder, name):
    save_file(B, folder / "other.safetensors")
    file = folder / name
    if file.suffix == ".safetensors":
        save_file(A, file)
    else:
        write_zip(file, {"a": tensor(A["a"])})
    check(open_source(str(file)), file, A, folder=folder)
    (folder / "config.json").unlink()
    check(open_source(str(file)), file, A, folder=folder, config=None)


def test_a_tensorflow_checkpoint(folder):
    prefix = write_bundle(folder / "model.ckpt-200000", A | B)
    for spec in (prefix, f"{prefix}.index", folder):
        check(open_source(str(spec)), spec, A | B, folder=folder, is_tf=True)
    (folder / "bert_config.json").write_text(json.dumps(GOOGLES))
    check(open_source(str(prefix)), prefix, A | B, folder=folder, is_tf=True)
    (folder / "config.json").unlink()
    check(open_source(str(prefix)), prefix, A | B, folder=folder, is_tf=True, config=GOOGLES)
    write_bundle(folder / "model.ckpt-3", A)
    with pytest.raises(ConfigError, match=r"several checkpoints \(model.ckpt-200000, model.ckpt-3\): pass .*PREFIX"):
        open_source(str(folder))
    check(
        open_source(str(folder / "model.ckpt-3")),
        folder / "model.ckpt-3",
        A,
        folder=folder,
        is_tf=True,
        config=GOOGLES,
    )


def test_block_records_alone_and_beside_weights(folder):
    records = folder / BLOCK_RECORDS
    records.write_bytes(b"is not opened here")
    check(open_source(str(records)), records, {}, folder=folder, config=None, block_records=records)
    check(open_source(str(folder)), folder, {}, folder=folder, block_records=records)
    save_file(A, folder / "model.safetensors")
    for spec in (folder, folder / "model.safetensors"):
        check(open_source(str(spec)), spec, A, folder=folder, block_records=records)


def test_what_holds_nothing(folder, monkeypatch):
    with pytest.raises(ConfigError, match="model: holds no weights: pass a folder with .safetensors"):
        open_source(str(folder))
    monkeypatch.chdir(folder)
    for spec in (".", "..", "./"):
        with pytest.raises(ConfigError, match="holds no weights: pass"):
            open_source(spec)
    with pytest.raises(ConfigError, match="nothing.bin: no such file or folder: pass"):
        open_source(str(folder / "nothing.bin"))


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"[1, 2]", b"null", b"\xff\xfe"])
def test_a_damaged_config(folder, content):
    save_file(A, folder / "model.safetensors")
    (folder / "config.json").write_bytes(content)
    with pytest.raises(ConfigError, match="config.json: is (not JSON|no JSON|empty|no UTF-8).*: download it again"):
        open_source(str(folder))


DTYPES = [np.float64, np.float32, np.float16, ml_dtypes.bfloat16, np.int64, np.int32, np.uint8, np.bool_]


def test_types_of_safetensors(folder):
    tensors = {np.dtype(dtype).name: rng.integers(0, 2, (3, 5)).astype(dtype) for dtype in DTYPES}
    tensors |= {"scalar": np.array(2.5, np.float32), "empty": np.empty((0, 3), np.float16)}
    save_file(tensors, folder / "model.safetensors")
    source = open_source(str(folder))
    check(source, folder, tensors, folder=folder)
    # One mapping for all: a large model has more tensors than a process may open files.
    assert len({mapping_of(array) for array in source.tensors.values()}) == 1
    with pytest.raises(ValueError, match="read-only"):
        source.tensors["float32"][0] = 0


def test_safetensors_of_nothing_but_an_empty_tensor(folder):
    save_file({"empty": np.empty((0, 3), np.float32)}, folder / "model.safetensors")
    check(open_source(str(folder)), folder, {"empty": np.empty((0, 3), np.float32)}, folder=folder)


@pytest.mark.parametrize("part", [0.0, 0.02, 0.3, 0.8, 1.0])
def test_truncated_safetensors(folder, part):
    file = folder / "model.safetensors"
    save_file(A | B, file)
    content = file.read_bytes()
    file.write_bytes(content[: int(part * (len(content) - 1))])
    with pytest.raises(ConfigError, match=r"model.safetensors: is (empty|damaged or no safetensors.*): download"):
        open_source(str(folder))


def test_safetensors_of_an_unknown_type(folder):
    save_file({"a": np.zeros(3, ml_dtypes.float8_e4m3fn)}, folder / "model.safetensors")
    with pytest.raises(ConfigError, match="model.safetensors: .*F8_E4M3"):
        open_source(str(folder))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_damage_is_a_clear_error_or_harmless(folder, data):
    file = folder / "model.safetensors"
    save_file(A | B, file)
    content = bytearray(file.read_bytes())
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
        content[at] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    try:
        for array in open_source(str(file)).tensors.values():
            np.array(array)
    except ConfigError as error:
        assert str(file) in str(error)
