"""The plan of a build: its parts, made once and kept until the corpus is finished.

One process cuts the source, and unpacks here any compressed file that cannot be entered in the middle.
"""

import pathlib
from dataclasses import dataclass

from etils import epath

from realm_jax.buckets import is_remote
from realm_jax.config import ConfigError
from realm_jax.data.build import source_parts
from realm_jax.data.build.shards import Job
from realm_jax.data.build.source_parts import Part
from realm_jax.data.manifest import AS_GIVEN, CUT, MANIFEST, sha256
from realm_jax.progress import Progress
from realm_jax.workdir import read_json, write_json

PLAN = "plan.json"
ALWAYS_HASHED = 256 << 20
"""Bytes of a source up to which its content is hashed every time; a larger source is hashed again only if the name,
size or time of a file has changed."""


@dataclass(frozen=True)
class Plan:
    """The parts of a source, in order, and what they were made from."""

    identity: dict
    """What decides, besides the content, whether a build can go on: settings, and name, size and time of files."""
    fingerprint: str
    """The hash of the source's content."""
    parts: list[Part]


def identity(job: Job, part_bytes: int) -> dict:
    """Makes `Plan.identity`, which is cheap; where `files` differs, the content must be hashed again."""
    return {
        "format": job.source.format,
        "columns": job.source.columns,
        "blocks": AS_GIVEN if job.as_given else CUT,
        "tokenizer_sha256": sha256(job.tokenizer),
        "block_len_tokens": job.block_len_tokens,
        "tagger": job.tagger,
        "shard_bytes": part_bytes,
        "files": [_known_by(epath.Path(file)) for file in job.source.files],
    }


def check_finished(job: Job, part_bytes: int) -> dict | None:
    """Reads the manifest of a finished corpus, else None. Raises ConfigError if it was built from something else."""
    file = epath.Path(job.out) / MANIFEST
    if not file.exists():
        return None
    manifest = read_json(file)
    built = manifest.get("build", {}).get("plan", {}) | {"tagger": manifest.get("tagger")}  # it may be retagged
    _check(built, manifest.get("fingerprint"), job, part_bytes)
    job.work.rmtree(missing_ok=True)  # of a call that was killed once the manifest was there
    return manifest


def make_or_read(job: Job, part_bytes: int) -> Plan:
    """Reads the plan in `work/`, or makes it; the source may lie elsewhere than when it was made.

    Raises:
        ConfigError: the source is damaged, or the folder belongs to another build or to something else.
    """
    file, wanted = job.work / PLAN, identity(job, part_bytes)
    if file.exists():
        values = read_json(file)
        _check(values["identity"], values["fingerprint"], job, part_bytes)
        moved = dict(zip(values["paths"], job.source.files, strict=True))
        found = [_moved(Part.from_json(part), moved, values["work"], str(job.work)) for part in values["parts"]]
        return Plan(wanted, values["fingerprint"], found)
    check_unused(job)
    job.work.mkdir(parents=True, exist_ok=True)
    spilled = job.work / "unpacked"
    spilled.rmtree(missing_ok=True)
    fingerprint = job.source.fingerprint(Progress("fingerprint, bytes"))
    planned = job.source.open().plan(spilled, part_bytes, progress=Progress("unpacking, bytes"))
    if not planned:
        raise ConfigError(f"{job.source.spec}: is empty: pass another --source")
    made = {"identity": wanted, "fingerprint": fingerprint, "paths": job.source.files, "work": str(job.work)}
    write_json(file, made | {"parts": source_parts.as_json(planned)})
    return Plan(wanted, fingerprint, planned)


def check_unused(job: Job) -> None:
    """Raises ConfigError if the folder holds something that no build has made."""
    out = epath.Path(job.out)
    is_begun = (job.work / PLAN).exists()
    if out.exists() and not is_begun and (not out.is_dir() or any(entry.name != "work" for entry in out.iterdir())):
        raise ConfigError(f"{job.out}: is in use by something else: delete it or pass another --out")


def _check(found: dict, fingerprint: str | None, job: Job, part_bytes: int) -> None:
    wanted = identity(job, part_bytes)
    known = {"columns": "", "blocks": CUT} | found  # of corpora that are older than these settings
    for key, value in wanted.items():
        if key != "files" and known.get(key) != value:
            raise ConfigError(
                f"{job.out}: was built with {key} {known.get(key)!r}, now it is {value!r}: pass another --out or "
                "delete it"
            )
    is_small = job.source.num_bytes() <= ALWAYS_HASHED
    if is_small or known.get("files") != wanted["files"]:
        if job.source.fingerprint(Progress("fingerprint, bytes")) != fingerprint:
            raise ConfigError(
                f"{job.out}: was built from {job.source.spec} when it held something else: pass another --out or "
                "delete it"
            )


def _known_by(file: epath.Path) -> list:
    """Lists name, size and time of a file; on a disk, the time is in nanoseconds."""
    if is_remote(file):
        stat = file.stat()
        return [file.name, stat.length, int(stat.mtime)]
    local = pathlib.Path(file).stat()
    return [file.name, local.st_size, local.st_mtime_ns]


def _moved(part: Part, files: dict[str, str], old_work: str, new_work: str) -> Part:
    """Gives a part the paths that its files have now."""

    def path(file: str) -> str:
        return new_work + file.removeprefix(old_work) if file.startswith(old_work) else files.get(file, file)

    return Part([(path(file), start, limit) for file, start, limit in part.pieces], part.input_bytes)
