"""Sources on Hugging Face: their files of records are chosen by name before anything is downloaded."""

import logging
import pathlib
import re

import huggingface_hub
import huggingface_hub.constants
from etils import epath

from realm_jax.config import ConfigError
from realm_jax.data.sources.recognise import RECORDS, one_split

log = logging.getLogger(__name__)

SPEC = re.compile(r"hf:(?P<repo>[^/@]+/[^/@]+)(@(?P<revision>[^/]+))?(/(?P<within>.+))?")


def files(spec: str) -> list[epath.Path]:
    """Downloads the files of `hf:OWNER/NAME[@REVISION][/CONFIG][/SPLIT]` once; logs the revision.

    Raises:
        ConfigError: there is no such data set, it cannot be downloaded, or its files are of several splits.
    """
    match = SPEC.fullmatch(spec)
    if match is None:
        raise ConfigError(f"{spec}: pass --source=hf:OWNER/NAME/CONFIG, such as hf:wikimedia/wikipedia/20231101.en")
    try:
        folder, chosen = _download(spec, match["repo"], match["revision"], (match["within"] or "").strip("/"))
    except ConfigError:
        raise
    except Exception as error:  # its errors and those of its transport have no common base
        raise ConfigError(
            f"{spec}: could not be downloaded ({str(error).splitlines()[0]}): download the files of "
            f"https://huggingface.co/datasets/{match['repo']} and pass --source=FOLDER"
        ) from error
    log.info(f"{spec}: revision {folder.name} (pass hf:{match['repo']}@REVISION for another)")
    return [epath.Path(folder / name) for name in chosen]


def choose(spec: str, names: list[str], within: str) -> list[str]:
    """Chooses the files of a folder, or of one split in it. Raises ConfigError if there are none or several splits."""
    begins = re.compile(rf"{re.escape(within)}([-./]|$)" if within else "")
    records = sorted(name for name in names if RECORDS.search(name))
    chosen = [name for name in records if begins.match(name)]
    if not chosen:
        folders = sorted({name.rpartition("/")[0] or "the first folder" for name in records})
        raise ConfigError(f"{spec}: has no file of records there, but in {', '.join(folders) or 'no folder'}: name one")
    one_split(spec, chosen)
    return chosen


def _download(spec: str, repo: str, revision: str | None, within: str) -> tuple[pathlib.Path, list[str]]:
    """Finds (folder of the revision, names of the files chosen in it); offline, among what was downloaded before."""
    fetch = {"repo_id": repo, "repo_type": "dataset", "revision": revision}
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        folder = pathlib.Path(huggingface_hub.snapshot_download(**fetch))
        names = [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]
        return folder, choose(spec, names, within)
    listed = huggingface_hub.HfApi().dataset_info(repo, revision=revision)
    chosen = choose(spec, [file.rfilename for file in listed.siblings or []], within)
    fetch["revision"] = listed.sha
    return pathlib.Path(huggingface_hub.snapshot_download(**fetch, allow_patterns=chosen)), chosen
