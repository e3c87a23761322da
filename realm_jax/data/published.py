"""Published data sets through tensorflow-datasets, prepared and read without TensorFlow (as array_record files).

A folder of the user's may hold the prepared files, or the raw ones under their published names; else they are
downloaded. The callers know what a data set means.
"""

import hashlib
import pathlib
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Sequence
from typing import Any

from realm_jax.config import ConfigError
from realm_jax.data.published_sets import (
    CONLL_2003,
    CONLL_ARCHIVE,
    CURATED_TREC,
    TRIVIA_QA,
    TRIVIA_QA_ARCHIVE,
    WEB_QUESTIONS,
    DataSet,
)
from realm_jax.local_cache import cache_dir
from realm_jax.paths import expand

FORMAT = "array_record"
REACH_TIMEOUT_S = 10


def read(data_set: DataSet, split: str, *, data_dir: str = "", or_else: str) -> Sequence[dict]:
    """Reads the examples of a split, in a fixed order; texts are UTF-8 bytes.

    Args:
        data_dir: folder with the prepared files, or with the raw ones; empty for downloads, or for raw files that were
            put into the cache.
        or_else: how else the user can go on; ends the error message.

    Raises:
        ConfigError: there is no such folder, a download failed, or the files are not the published ones; the message
            names the raw files and where they come from.
    """
    import tensorflow_datasets as tfds

    name = data_set.builder.split("/")[0]
    folder = pathlib.Path(expand(data_dir)) if data_dir else cache_dir() / name
    if data_dir and not folder.is_dir():
        raise ConfigError(f"--data_dir={data_dir}: no such folder: pass one with files of {name}, or leave it out")
    try:
        builder = _builder(data_set, folder)
        if not _is_prepared(builder):
            builder = _builder(data_set, _home(data_set, folder))
        if not _is_prepared(builder):
            _check_reach(data_set, folder)
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(manual_dir=folder, try_download_gcs=False)
            )
        return builder.as_data_source(split=split)
    except Exception as error:  # its errors and those of its transport have no common base
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ConfigError(
            f"{name}: could not be read or downloaded ({reason}): put {_listing(data_set)} into {folder}, {or_else}"
        ) from error


def parse_example(data: bytes) -> dict[str, list]:
    """Parses a serialised `tf.train.Example` into its values by name: bytes, integers or floats."""
    from tensorflow_datasets.proto import tf_example_pb2

    features = tf_example_pb2.Example.FromString(data).features.feature
    return {
        name: list(getattr(value, value.WhichOneof("kind")).value)
        for name, value in features.items()
        if value.WhichOneof("kind")
    }


def _builder(data_set: DataSet, data_dir: pathlib.Path) -> Any:
    import tensorflow_datasets as tfds

    arguments = {"data_dir": data_dir, "file_format": FORMAT}
    if data_set == CURATED_TREC:
        from realm_jax.data.questions.curated_trec import CuratedTrec

        return CuratedTrec(**arguments)
    if data_set == TRIVIA_QA:
        return _trivia_qa()(config=data_set.builder.split("/")[1], **arguments)
    if data_set == CONLL_2003:
        return _conll_2003()(**arguments)
    if data_set == WEB_QUESTIONS:  # registers itself when it is imported
        import tensorflow_datasets.question_answering.web_questions  # noqa: F401
    return tfds.builder(data_set.builder, **arguments)


def _trivia_qa() -> type:
    """Makes a builder of TriviaQA that unpacks its archive and lists its files without TensorFlow."""
    import tensorflow_datasets as tfds

    base = tfds.builder_cls("trivia_qa")

    class TriviaQA(base, skip_registration=True):
        name = base.name
        pkg_dir_path = base.pkg_dir_path
        url_infos = base.url_infos

        def _split_generators(self, dl_manager):
            archive = dl_manager.download(TRIVIA_QA.files[TRIVIA_QA_ARCHIVE])
            endings = {"train": "-train.json", "validation": "-dev.json"}
            return {split: self._unpacked(archive, ending) for split, ending in endings.items()}

        def _unpacked(self, archive, ending):
            with tempfile.TemporaryDirectory() as folder, tarfile.open(archive) as tar:
                member = next(member for member in tar if member.name.endswith(ending))
                tar.extract(member, folder, filter="data")
                yield from self._generate_examples([pathlib.Path(folder) / member.name], None, None)

    return TriviaQA


def _conll_2003() -> type:
    """Makes a builder of CoNLL-2003 that finds its archive in the user's folder, which the original does not."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.text import conll2003

    base = conll2003.Conll2003

    class Conll2003(base, skip_registration=True):
        name = base.name
        pkg_dir_path = base.pkg_dir_path
        MANUAL_DOWNLOAD_INSTRUCTIONS = CONLL_ARCHIVE

        def _split_generators(self, dl_manager):
            try:
                local = dl_manager.manual_dir / CONLL_ARCHIVE
            except AssertionError:  # no such folder, or an empty one
                local = None
            has_local = local is not None and local.exists()
            archive = local if has_local else dl_manager.download(CONLL_2003.files[CONLL_ARCHIVE])
            names = {"train": "train.txt", "dev": "valid.txt", "test": "test.txt"}
            return {split: self._unpacked(archive, name) for split, name in names.items()}

        def _unpacked(self, archive, name):
            with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(archive) as files:
                yield from self._generate_examples(tfds.core.Path(files.extract(name, folder)))

    return Conll2003


def _is_prepared(builder: Any) -> bool:
    return (builder.data_path / "dataset_info.json").exists()


def _home(data_set: DataSet, folder: pathlib.Path) -> pathlib.Path:
    """Chooses where to prepare, by the raw files: in the cache, since a user's folder may be read-only."""
    raw = [folder / name for name in (*data_set.files, *data_set.copies.values()) if (folder / name).is_file()]
    stamp = "".join(f"{file.resolve()} {file.stat().st_size} {file.stat().st_mtime_ns}\n" for file in raw)
    place = f"tfds-{hashlib.sha256(stamp.encode()).hexdigest()[:12]}" if raw else "tfds"
    return cache_dir() / place


def _check_reach(data_set: DataSet, folder: pathlib.Path) -> None:
    """Raises OSError if a file is neither in the folder nor to be had: tensorflow-datasets tries for minutes."""
    for name, url in data_set.files.items():
        if (folder / name).is_file() or (folder / data_set.copies.get(name, name)).is_file():
            continue
        try:
            request = urllib.request.Request(url, method="HEAD")
            urllib.request.urlopen(request, timeout=REACH_TIMEOUT_S).close()
        except urllib.error.HTTPError:  # the server answers: the download itself will say what is wrong
            pass


def _listing(data_set: DataSet) -> str:
    """`FILE (from URL) and FILE (from URL)`, for people."""
    copies = {name: f"{name} or {copy}" for name, copy in data_set.copies.items()}
    return " and ".join(f"{copies.get(name, name)} (from {url})" for name, url in data_set.files.items())
