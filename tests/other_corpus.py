"""Another corpus under the name of one: its first segment has another letter, and the hash that belongs to it."""

import json
import os
import pathlib

from realm_jax.checksums import file_sha256
from realm_jax.data.segment import COLUMNS, segment_hash


def change(folder: os.PathLike) -> None:
    """Changes the corpus in a folder."""
    file = pathlib.Path(folder) / "manifest.json"
    manifest = json.loads(file.read_text())
    entry = manifest["segments"][0]
    segment = file.parent / entry["name"]
    content = (segment / "text.bin").read_bytes()
    (segment / "text.bin").unlink()  # it may be linked to the corpus that the run was made from
    (segment / "text.bin").write_bytes(bytes([ord("#")]) + content[1:])
    digests = {name: file_sha256(segment / f"{name}.bin") for name in COLUMNS}
    entry["hash"] = segment_hash(digests, entry["span_types"])
    file.write_text(json.dumps(manifest))
