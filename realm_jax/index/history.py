"""What happened in an index folder: which versions were published, adopted by a trainer, and pruned.

This file imports no JAX, so that `realm inspect` starts at once.
"""

import json
import secrets
import time

from etils import epath

from realm_jax.buckets import is_remote
from realm_jax.workdir import read_json, read_json_lines, write_text

HISTORY = "history"


class History:
    """The events of one index folder, oldest first; nothing is ever taken out."""

    def __init__(self, folder: epath.PathLike):
        self.folder = epath.Path(folder)

    def record(self, event: str, **fields) -> None:
        """Appends an event: published, adopted (with version and trainer_step) or pruned."""
        now = time.time()
        line = json.dumps({"event": event, "time": now, **fields}) + "\n"
        if is_remote(self.folder):
            write_text(self.folder / HISTORY / f"{now:.6f}-{secrets.token_hex(3)}.json", line)
            return
        file = self.folder / f"{HISTORY}.jsonl"
        is_torn = file.exists() and not file.read_bytes().endswith(b"\n")  # by a full disk: the new line stays whole
        with file.open("a", encoding="utf-8") as stream:
            stream.write("\n" * is_torn + line)

    def history(self) -> list[dict]:
        """All events, oldest first, without lines that are torn or still being written."""
        events, _ = read_json_lines(self.folder / f"{HISTORY}.jsonl")
        # Both, since a workdir may be copied to a bucket and back.
        objects = [read_json(file) for file in (self.folder / HISTORY).glob("*.json")]
        # A file has them in their order, whatever the clock said.
        return sorted(events + objects, key=lambda event: event["time"]) if objects else events
