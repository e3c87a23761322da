"""The standard file of a folder's weights is taken, every file that is spoken of is there, and doubt is an error."""

import json
import shutil

import bert_folder
import numpy as np
import pytest
from safetensors.numpy import save_file

from realm_jax.config import ConfigError
from realm_jax.model_folder.checkpoint import open_checkpoint, weights_sha256
from realm_jax.model_folder.weights import find_weights

ROWS = len(bert_folder.vocabulary())
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
A, B = {"a": np.arange(3.0)}, {"b": np.arange(2)}


@pytest.fixture
def folder(tmp_path):
    """A BERT's, without weights."""
    return bert_folder.write(tmp_path / "bert", weights=False)


def refused(path) -> str:
    with pytest.raises(ConfigError) as error:
        open_checkpoint(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_shards_are_the_whole(folder):
    tensors = bert_folder.tensors(ROWS)
    bert_folder.shard(folder, tensors)
    read = open_checkpoint(folder).tensors
    assert read.keys() == tensors.keys() and all(np.array_equal(read[name], x) for name, x in tensors.items())
    assert open_checkpoint(folder / bert_folder.INDEX).tensors.keys() == tensors.keys()


def test_a_shard_that_is_missing_is_named(folder):
    first, second = bert_folder.shard(folder, bert_folder.tensors(ROWS))
    assert "is one of 2 files of a model: pass" in refused(first)
    second.unlink()
    assert refused(folder).startswith(f"{second}: is missing, though {bert_folder.INDEX} names it")
    (folder / bert_folder.INDEX).unlink()
    assert refused(folder).startswith(f"{second}: is missing, though its name says that there are 2")


def test_a_tensor_that_is_not_where_the_index_says(folder):
    tensors = bert_folder.tensors(ROWS)
    first, second = bert_folder.shard(folder, tensors)
    save_file({"cls.predictions.bias": tensors["cls.predictions.bias"]}, second)
    assert f"is in {second.name}, which lacks it" in refused(folder)


@pytest.mark.parametrize(
    "content", ["{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}', '{"weight_map": {"a": "../x"}}']
)
def test_an_index_of_another_shape(folder, content):
    (folder / bert_folder.INDEX).write_text(content)
    assert "has no weight_map from tensors to files of its folder" in refused(folder)


def test_the_standard_file_is_taken(folder):
    save_file(B, folder / "other.safetensors")
    save_file(B, folder / "pytorch_model.bin")  # no torch file: it would be an error to open it
    save_file(A, folder / "model.safetensors")
    assert open_checkpoint(folder).tensors.keys() == A.keys()


def test_one_file_of_another_name_beside_what_a_trainer_left(folder):
    for name in ("training_args.bin", "optimizer.pt", "rng_state_0.pt"):
        (folder / name).write_bytes(b"no weights")
    save_file(A, folder / "weights.safetensors")
    assert open_checkpoint(folder).tensors.keys() == A.keys()


def test_several_sets_are_named(folder):
    for name in ("first", "second"):
        save_file(A, folder / f"{name}.safetensors")
    assert "several sets of weights (first.safetensors, second.safetensors)" in refused(folder)


def test_a_whole_file_beside_the_shards_of_an_index(folder):
    bert_folder.shard(folder, bert_folder.tensors(ROWS))
    save_file(A, folder / "model.safetensors")
    assert "holds both model.safetensors and the files of" in refused(folder)


def test_two_files_that_call_different_numbers_the_same(folder):
    files = bert_folder.shard(folder, A)
    for file, values in zip(files, (A, A), strict=True):
        save_file(values, file)
    (folder / bert_folder.INDEX).unlink()
    assert open_checkpoint(folder).tensors.keys() == A.keys()
    save_file({"a": np.arange(1.0, 4.0)}, files[1])
    assert "both hold 'a', and differ" in refused(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (POINTER.encode(), "is a git-lfs pointer, not the file: run git lfs pull"),
        (b"", "is empty"),
        (b"<!DOCTYPE html>", "is damaged or no"),
    ],
)
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "model.ckpt-3.index"])
def test_what_is_no_file_of_weights(folder, name, content, message):
    (folder / name).write_bytes(content)
    assert message in refused(folder)


def test_links_that_lead_nowhere_and_folders(folder):
    (folder / "model.safetensors").symlink_to(folder / "blob")
    assert "model.safetensors: cannot be read (No such file or directory)" in refused(folder)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()
    assert "model.safetensors: cannot be read (Is a directory)" in refused(folder)


def test_weights_of_another_library_are_named(folder):
    (folder / "tf_model.h5").write_bytes(b"x")
    assert "holds no weights that are read here (tf_model.h5): pass" in refused(folder)


def test_a_folder_or_file_beside_the_weights_is_named(folder):
    bert_folder.write(folder / "snapshots" / "abc")
    assert f"holds no weights, but {folder}/snapshots/abc does: pass that folder" in refused(folder)
    assert f"is no file of weights: pass its folder, {folder}" in refused(folder / "config.json")


def test_the_hash_follows_the_content_alone(folder, tmp_path):
    bert_folder.shard(folder, bert_folder.tensors(ROWS))
    before = weights_sha256(folder)
    (folder / "config.json").write_text(json.dumps({"another": 1}))
    assert weights_sha256(shutil.copytree(folder, tmp_path / "copy")) == before
    bert_folder.shard(folder, bert_folder.tensors(ROWS, seed=1))
    assert weights_sha256(folder) != before and len(find_weights(folder).files) == 2
