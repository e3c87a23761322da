"""Files of records as a run reads them, whole and by one process; a bad record is an error that names its line.

A large source goes through `realm corpus`, which reads the same formats in parts and counts bad records.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator

from etils import epath

from realm_jax.config import ConfigError
from realm_jax.data.sources import formats, rows
from realm_jax.data.sources.recognise import Taken
from realm_jax.records import Record


def survey(taken: Taken) -> tuple[str, int]:
    """Finds (SHA-256 of what the files hold, unpacked, and of named columns; how many records, good and bad)."""
    surveys = [_survey(file, taken) for file in taken.files]
    number = sum(count for _, count in surveys)
    if len(surveys) == 1 and not taken.columns:
        return surveys[0][0], number
    digest = hashlib.sha256(taken.columns.encode())
    for file, (content, _) in zip(taken.files, surveys, strict=True):
        digest.update(f"{epath.Path(file).name} {content}\n".encode(errors="surrogateescape"))
    return digest.hexdigest(), number


def read(taken: Taken, counts: Counter | None = None) -> Iterator[Record]:
    """Yields the records, in order, also those without text.

    Args:
        counts: is told what is left out of texts, by reason.

    Raises:
        ConfigError: a record is malformed.
    """
    form, counts = taken.the_form(), Counter() if counts is None else counts
    for file in taken.files:
        for number, row, reason in rows.read_file(file, taken.container, taken.wanted):
            where, record = f"{file}:{number}", None
            if row is not None:
                record, reason = formats.record_of(form, row, counts, where)
            if record is None:
                raise ConfigError(
                    f"{where}: {reason}: correct or delete it; each record needs {form.names}. "
                    "(realm corpus counts bad records and goes on)"
                )
            yield record


def _survey(file: str, taken: Taken) -> tuple[str, int]:
    digest, number = hashlib.sha256(), 0
    for line in rows.plain_lines(file):
        digest.update(line)
        number += bool(line.strip())
    if taken.container.kind != "lines":
        number = sum(1 for _ in rows.read_file(file, taken.container, taken.wanted))
    return digest.hexdigest(), number
