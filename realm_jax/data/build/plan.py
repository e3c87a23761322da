"""The plan of a build: its parts, made once and kept until the corpus is finished.

Cutting the source is the one thing that is done by one process: a compressed file that cannot be entered in the middle
is unpacked here.
"""

from dataclasses import dataclass

from etils import epath

from realm_jax import paths
from realm_jax.config import ConfigError
from realm_jax.data.build import parts
from realm_jax.data.build.parts import Part
from realm_jax.data.build.shards import Job
from realm_jax.data.manifest import MANIFEST, sha256
from realm_jax.progress import Progress
from realm_jax.workdir import read_json, write_json

PLAN = "plan.json"


@dataclass(frozen=True)
class Plan:
    """Parts in order, and what they are parts of."""

    identity: dict
    """What decides whether a build can go on: source, its files, and the settings."""
    fingerprint: str
    parts: list[Part]


def identity(job: Job, part_bytes: int) -> dict:
    """Of a build, cheap to make; a source's files are known by name, size and time."""
    stats = [(epath.Path(file), epath.Path(file).stat()) for file in job.source.files]
    return {
        "source": paths.absolute(job.source.spec),
        "format": job.source.format,
        "files": [[file.name, stat.length, int(stat.mtime)] for file, stat in stats],
        "tokenizer_sha256": sha256(job.tokenizer),
        "block_len_tokens": job.block_len_tokens,
        "tagger": job.tagger,
        "shard_bytes": part_bytes,
    }


def check_finished(job: Job, part_bytes: int) -> dict | None:
    """The manifest if the corpus is finished. Raises ConfigError if it was built from something else."""
    file = epath.Path(job.out) / MANIFEST
    if not file.exists():
        return None
    manifest = read_json(file)
    built = manifest.get("build", {}).get("plan", {})
    _check(built | {"tagger": manifest.get("tagger")}, identity(job, part_bytes), job.out)  # it may be retagged
    return manifest


def make_or_read(job: Job, part_bytes: int) -> Plan:
    """The plan in `work/`, made if there is none.

    Raises:
        ConfigError: the source is damaged, or the folder belongs to another build or to something else.
    """
    file, wanted = job.work / PLAN, identity(job, part_bytes)
    if file.exists():
        values = read_json(file)
        _check(values["identity"], wanted, job.out)
        return Plan(wanted, values["fingerprint"], [Part.from_json(part) for part in values["parts"]])
    check_unused(job)
    job.work.mkdir(parents=True, exist_ok=True)
    spilled = job.work / "unpacked"
    spilled.rmtree(missing_ok=True)
    fingerprint = job.source.fingerprint(Progress("fingerprint, bytes"))
    planned = job.source.open().plan(spilled, part_bytes, progress=Progress("unpacking, bytes"))
    if not planned:
        raise ConfigError(f"{job.source.spec}: is empty: pass another --source")
    write_json(file, {"identity": wanted, "fingerprint": fingerprint, "parts": parts.as_json(planned)})
    return Plan(wanted, fingerprint, planned)


def check_unused(job: Job) -> None:
    """Raises ConfigError if the folder holds something that no build has made."""
    out = epath.Path(job.out)
    is_begun = (job.work / PLAN).exists()
    if out.exists() and not is_begun and (not out.is_dir() or any(entry.name != "work" for entry in out.iterdir())):
        raise ConfigError(f"{job.out}: is in use by something else: delete it or pass another --out")


def _check(found: dict, wanted: dict, out: str) -> None:
    if isinstance(found.get("source"), str):  # it may have been named from another folder
        found = found | {"source": paths.absolute(found["source"])}
    for key, value in wanted.items():
        if found.get(key) != value:
            raise ConfigError(
                f"{out}: was built with {key} {found.get(key)!r}, now it is {value!r}: pass another --out or delete it"
            )
