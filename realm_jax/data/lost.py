"""What a corpus lacks of its source's texts: on reading in bytes or records, on cutting in wordpieces, as shares.

Lost is text that was to be in the corpus and is not. What is no article (redirects, lists) or no prose (templates,
code) is left out by rule, and is counted by reason alone; sentences without wordpieces have no text.
"""

from collections import Counter
from dataclasses import dataclass

from realm_jax.data.blocks import LOST

BYTES_READ, BYTES_LOST = "bytes read", "bytes lost"
"""Counts of a source that is read page by page."""
RECORDS_READ, RECORDS_LOST = "records", "records lost"
"""Counts of one that is read record by record."""
TOKEN_BYTES = 2  # of a wordpiece in the store
SHARE_TO_WARN = 0.01


@dataclass(frozen=True)
class Loss:
    """How much of the text was lost at one stage."""

    stage: str
    """reading or cutting"""
    unit: str
    lost: int
    came: int
    """Lost or not."""

    @property
    def share(self) -> float:
        """0 to 1."""
        return self.lost / max(1, self.came)


def losses(manifest: dict) -> list[Loss]:
    """What was lost at each stage of which a corpus's manifest (or its part, such as one segment's entry) says it."""
    found = []
    reading = manifest.get("build", {}).get("counts", {})
    if BYTES_READ in reading:
        found.append(Loss("reading", "bytes", reading.get(BYTES_LOST, 0), reading[BYTES_READ]))
    elif RECORDS_READ in reading:
        found.append(Loss("reading", "records", reading.get(RECORDS_LOST, 0), reading[RECORDS_READ]))
    entries = [entry for entry in manifest["segments"] if LOST in entry["counts"]]  # older ones do not say it
    if entries:
        lost = sum(entry["counts"][LOST] for entry in entries)
        kept = sum(entry["bytes"]["tokens"] for entry in entries) // TOKEN_BYTES
        found.append(Loss("cutting", "wordpieces", lost, lost + kept))
    return found


def lines(manifest: dict) -> list[str]:
    """The same for people, with a warning where it is more than 1%."""
    told = []
    for loss in losses(manifest):
        warning = "warning: " if loss.share > SHARE_TO_WARN else ""
        told.append(
            f"{warning}lost on {loss.stage}: {loss.lost:,} of {loss.came:,} {loss.unit} ({100 * loss.share:.2g}%)"
        )
    return told


def lose(counts: Counter, reason: str, num_bytes: int) -> None:
    """Counts a page that is lost."""
    counts[reason] += 1
    counts[BYTES_LOST] += num_bytes
