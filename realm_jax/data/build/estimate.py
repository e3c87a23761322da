"""What a build will take, from a sample of the source: blocks, disk, memory, hours, and workers for one hour."""

import pathlib
import tempfile
import time
from collections import Counter

from etils import epath

from realm_jax.data.build.shards import Job, build_records
from realm_jax.data.segment import SegmentWriter
from realm_jax.data.show.census import NOT_LEFT_OUT
from realm_jax.data.sources.unpacked import is_compressed
from realm_jax.progress import clock

SAMPLE_PARTS = 4
SAMPLE_BYTES = 4 << 20  # plain text of each sampled part
EMBEDDING_BYTES = 128 * 2  # bfloat16
SPILL_SHARE = 0.7  # size of the unpacked, gzipped source, as a share of the corpus


def estimate(job: Job, part_bytes: int, workers: int) -> str:
    """Estimates a build, in lines of text. The sample is spread over the source, unless that must be unpacked."""
    total = sum(epath.Path(file).stat().length for file in job.source.files)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        form = job.source.open()
        started = time.perf_counter()
        most = SAMPLE_PARTS if any(map(is_compressed, form.files)) else None
        planned = form.plan(epath.Path(folder) / "unpacked", SAMPLE_BYTES, most=most)
        unpacked_s = time.perf_counter() - started
        step = max(1, len(planned) // SAMPLE_PARTS)
        sample = planned[step // 2 :: step][:SAMPLE_PARTS] if len(planned) > SAMPLE_PARTS else planned
        (folder / "segment").mkdir()
        writer, counts, stages = SegmentWriter(folder / "segment"), Counter(), Counter()
        for part in sample:
            stages.update(build_records(form.records(part, counts), writer, job))
        if not writer.sizes["blocks"]:
            return f"the sample holds no text: {dict(counts)}"
        disk = sum(file.stat().st_size for file in (folder / "segment").iterdir())
    read = sum(part.input_bytes for part in sample)
    total = total or sum(part.input_bytes for part in planned)
    times = total / max(read, 1)
    hours = sum(stages.values()) * times / 3600
    blocks = int(writer.sizes["blocks"] * times)
    is_spilled = most is not None and len(planned) <= SAMPLE_PARTS
    unpack_hours = unpacked_s * total / max(1, sum(part.input_bytes for part in planned)) / 3600 if is_spilled else 0.0
    dropped = ", ".join(
        f"{reason} {int(count * times):,}" for reason, count in counts.most_common(8) if reason not in NOT_LEFT_OUT
    )
    spill = disk * times * SPILL_SHARE if is_spilled else 0
    shares = ", ".join(f"{stage} {seconds / sum(stages.values()):.0%}" for stage, seconds in stages.items())
    first = f" after {clock(3600 * unpack_hours)} of unpacking by one process" if unpack_hours else ""
    return "\n".join(
        [
            f"{job.source.spec}: {_size(total)}, of which {_size(read)} were read as a sample",
            f"blocks: {blocks:,} of {int(writer.sizes['sources'] * times):,} articles ({dropped})",
            f"disk: {_size(disk * times)} for the corpus, {_size(blocks * EMBEDDING_BYTES)} for an index version of "
            f"128 bfloat16 numbers a block, and for the time of the build {_size(spill)}",
            f"memory: about {_size(6 * part_bytes)} a worker for shards of {_size(part_bytes)}",
            f"time: {hours:.2f} core-hours ({shares}), {clock(3600 * hours / workers)} on {workers} workers{first}",
            f"one hour needs {max(1, round(hours + 0.5))} workers like these cores",
        ]
    )


def _size(num_bytes: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"
