"""What a corpus lacks of its source's texts: on reading in bytes or records, on cutting in wordpieces, as shares.

Text is lost if it should be in the corpus and is not. What is no article (redirects, lists) or no prose (templates,
code) is left out by rule, and is only counted by reason; sentences without wordpieces have no text.
"""

from collections import Counter
from dataclasses import dataclass

from realm_jax.data.blocks import LOST

BYTES_READ, BYTES_LOST = "bytes read", "bytes lost"
"""Names of the counts of a source that is read page by page."""
RECORDS_READ, RECORDS_LOST = "records", "records lost"
"""Names of the counts of a source that is read record by record."""
TOKEN_BYTES = 2  # that a wordpiece takes in the store
SHARE_TO_WARN = 0.01


@dataclass(frozen=True)
class Loss:
    """How much of the text was lost at one stage."""

    stage: str
    """`reading` or `cutting`."""
    unit: str
    lost: int
    came: int
    """How much there was, lost or not."""

    @property
    def share(self) -> float:
        """The lost share, 0 to 1."""
        return self.lost / max(1, self.came)


def losses(manifest: dict) -> list[Loss]:
    """Lists what was lost at each stage, as far as a corpus's manifest (or a part of it, such as one entry) says it."""
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
    """Says what was lost at each stage, with a warning where it is more than 1%."""
    return [
        f"{'warning: ' * (loss.share > SHARE_TO_WARN)}lost on {loss.stage}: {loss.lost:,} of {loss.came:,} {loss.unit} "
        f"({100 * loss.share:.2g}%)"
        for loss in losses(manifest)
    ]


def lose(counts: Counter, reason: str, num_bytes: int) -> None:
    """Counts a page that is lost, by reason, and its bytes."""
    counts[reason] += 1
    counts[BYTES_LOST] += num_bytes
