"""Converts checkpoints of the published sizes: seconds and peak memory of `realm convert`.

    python benchmarks/convert_published.py [--blocks=200000] [--folder=FOLDER]

Writes a random embedder and encoder of BERT-base's shape as safetensors, and block records with their embeddings, then
converts both. Memory is anonymous: the files themselves are mapped, and the system takes their pages back when it needs
them. Writes benchmarks/results/convert_published.json.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np
from report import write_result
from safetensors.numpy import save_file

from realm_jax.config import FinetuneConfig, ModelConfig
from realm_jax.convert.model_config import hugging_face_config
from realm_jax.data import assets
from realm_jax.models.names import flatten, names
from realm_jax.models.parts import template

SAMPLE_S = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=200_000)
    parser.add_argument("--folder", default="", help="where the files go (default: a temporary folder)")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=flags.folder or None) as temporary:
        folder, model = pathlib.Path(temporary), ModelConfig()
        classes = {"embedder": "RealmEmbedder", "encoder": "RealmKnowledgeAugEncoder"}
        for part, name in classes.items():
            write_checkpoint(folder / part, part, name, model)
        weights = convert(folder, [folder / part for part in classes])
        write_knowledge(folder, flags.blocks, model.projection_dim)
        knowledge = convert(folder, [folder / "embedder", folder / "knowledge"])
    values = {
        "parameters": sum(int(np.prod(x.shape)) for part in classes for x in flatten(template(part, model)).values()),
        "weights": weights,
        "blocks": flags.blocks,
        "knowledge": {**knowledge, "blocks_per_second": round(flags.blocks / knowledge["seconds"])},
    }
    print(write_result("convert_published", values))
    print(json.dumps(values, indent=1))


def write_checkpoint(folder: pathlib.Path, part: str, architecture: str, model: ModelConfig) -> None:
    rng = np.random.default_rng(0)
    shapes = {path: leaf.shape for path, leaf in flatten(template(part, model)).items()}
    tensors = {}
    for name in names(part, model.num_layers, pooler=True):
        shape = shapes[name.ours]
        tensors[name.torch] = rng.standard_normal(shape[::-1] if name.is_kernel else shape, np.float32)
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(
        json.dumps(hugging_face_config(model, architecture, FinetuneConfig().max_span_width))
    )


def write_knowledge(folder: pathlib.Path, blocks: int, dim: int) -> None:
    """Bodies of the wiki leads, over and over, as the published file has them."""
    articles = json.loads(assets.fetch("asset:wiki-leads").read_text())
    texts = [article["extract"][:1000] for article in articles.values() if len(article["extract"]) > 200]
    records = np.empty(blocks, object)
    records[:] = [f"{i}. {texts[i % len(texts)]}".encode() for i in range(blocks)]
    (folder / "knowledge").mkdir()
    np.save(folder / "knowledge" / "block_records.npy", records, allow_pickle=True)
    emb = np.random.default_rng(0).standard_normal((blocks, dim), np.float32)
    save_file({"block_emb": emb}, folder / "knowledge" / "model.safetensors")
    shutil.copy(assets.fetch("asset:bert-tiny") / "tokenizer.json", folder / "knowledge")


def convert(folder: pathlib.Path, sources: list[pathlib.Path], *options: str) -> dict:
    """Seconds, and the process's largest anonymous memory."""
    out = folder / "out"
    command = [sys.executable, "-m", "realm_jax", "convert", *map(str, sources), str(out), *options]
    start, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, anonymous_kib(process.pid))
            time.sleep(SAMPLE_S)
    seconds = time.perf_counter() - start
    if process.returncode:
        sys.exit(process.returncode)
    shutil.rmtree(out)
    return {"seconds": round(seconds, 1), "peak_anonymous_gib": round(peak / 2**20, 2)}


def anonymous_kib(pid: int) -> int:
    try:
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # it has just ended
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon:")), 0)


if __name__ == "__main__":
    main()
