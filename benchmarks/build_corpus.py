"""From a dump to a corpus: rate of each stage, and whether time grows with the input and memory does not.

    python benchmarks/build_corpus.py [--times=1,4,16] [--workers=2]

The dump is a piece of the English Wikipedia of 206 pages, repeated with new page ids, as one plain .bz2. One process on
one core does the stages one after the other; then the command runs whole on all sizes. Writes
benchmarks/results/build_corpus.json.
"""

import argparse
import bz2
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter

from etils import epath
from real_dump import fetch
from report import write_result

from realm_jax.data import assets, run_tokenizer
from realm_jax.data.build import shards, source
from realm_jax.data.segment import SegmentWriter

ENWIKI_BYTES = 22e9  # of a pages-articles .bz2
SHARD_MB = 2


os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core, as in the command's workers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", default="1,4,16", help="sizes, in copies of the piece")
    parser.add_argument("--workers", type=int, default=2)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        stages = one_process(folder)
        print(stages, flush=True)
        runs = {n: whole(folder, int(n), flags.workers) for n in flags.times.split(",")}
    packed = stages["packed_mb"] / stages["core_seconds"]
    core_hours = ENWIKI_BYTES / 1e6 / packed / 3600
    values = {
        "one process": stages,
        "whole command": runs,
        "workers": flags.workers,
        "22 GB of bz2": {"core_hours": round(core_hours, 1), "workers_for_one_hour": round(core_hours + 0.5)},
    }
    print(json.dumps(values, indent=1))
    print(write_result("build_corpus", values, "22 GB: extrapolated from the stages of one process, unpacking apart."))


def one_process(folder: pathlib.Path) -> dict:
    """Seconds and rates of each stage, after one warm round."""
    tokenizer = run_tokenizer.from_checkpoint(assets.fetch("asset:bert-tiny", weights=()))
    found = source.find(str(fetch()))
    job = shards.Job(found, str(folder / "one"), tokenizer.to_str(), 288, "rules")
    form = found.open()
    started = time.perf_counter()
    plan = form.plan(epath.Path(folder / "unpacked"), SHARD_MB << 20)
    unpacking = time.perf_counter() - started
    plain = sum(limit for part in plan for _, _, limit in part.pieces) / 1e6
    for attempt in ("warm", "timed"):
        (folder / attempt).mkdir()
        writer, stages = SegmentWriter(folder / attempt), Counter()
        for part in plan:
            stages.update(shards.build_records(form.records(part, Counter()), writer, job))
    seconds = sum(stages.values())
    return {
        "packed_mb": round(fetch().stat().st_size / 1e6, 2),
        "xml_mb": round(plain, 2),
        "blocks": writer.sizes["blocks"],
        "core_seconds": round(seconds, 2),
        "blocks_per_second": round(writer.sizes["blocks"] / seconds),
        "xml_mb_per_second": {
            "unpack and spill": round(plain / unpacking, 1),
            **{stage: round(plain / s, 1) for stage, s in stages.items()},
            "all but unpacking": round(plain / seconds, 2),
        },
    }


def whole(folder: pathlib.Path, times: int, workers: int) -> dict:
    """Seconds and the largest process of the whole command on the piece, `times` times over."""
    file = folder / f"times{times}-pages-articles.xml.bz2"
    xml = bz2.decompress(fetch().read_bytes()).decode()
    head, rest = xml.split("<page>", 1)
    body = "<page>" + rest.rsplit("</page>", 1)[0] + "</page>\n"
    with bz2.open(file, "wt", encoding="utf-8") as packed:
        packed.write(head)
        for i in range(times):
            packed.write(
                re.sub(r"(<page>.*?<id>)(\d+)", lambda m, i=i: f"{m[1]}{i}{int(m[2]):09}", body, flags=re.DOTALL)
            )
        packed.write("</mediawiki>\n")
    out = folder / f"times{times}"
    command = [sys.executable, "-m", "realm_jax", "corpus", f"--source={file}", f"--out={out}"]
    command += [f"--shard_mb={SHARD_MB}", f"--workers={workers}"]
    code = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=2); "
    code += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *command], check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    manifest = json.loads((out / "manifest.json").read_text())
    blocks = sum(segment["num_blocks"] for segment in manifest["segments"])
    size = len(head) + times * len(body.encode())
    return {
        "xml_mb": round(size / 1e6, 1),
        "seconds": round(seconds, 1),
        "xml_mb_per_second": round(size / 1e6 / seconds, 2),
        "blocks": blocks,
        "blocks_per_second": round(blocks / seconds),
        "largest_process_mb": round(int(done.stdout.split()[-1]) / 1000),
    }


if __name__ == "__main__":
    main()
