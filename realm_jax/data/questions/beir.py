"""BEIR's relevance judgements (Thakur et al. 2021): `qrels/SPLIT.tsv` of query-id, corpus-id, score beside queries.

The four columns of TREC's own qrels are taken too. A passage with a score above 0 is gold.
"""

import dataclasses
import math
import pathlib
from collections.abc import Callable

from realm_jax.config import ConfigError
from realm_jax.records import Question

QUERIES = "queries.jsonl"
QRELS = "qrels"
HEADER = "query-id"


def folder_of(path: pathlib.Path) -> pathlib.Path | None:
    """Finds the folder of BEIR's layout that a path names, itself or by its queries; None for anything else."""
    folder = path if path.is_dir() else path.parent
    is_part = path.is_dir() or path.name.startswith(QUERIES)
    return folder if is_part and any((folder / QRELS).glob("*.tsv")) else None


def with_gold(
    located: list[tuple[str, Question]], folder: pathlib.Path, split: str, report: Callable[[str, str], None]
) -> list[tuple[str, Question]]:
    """Gives the queries of a split their gold passages, and leaves the others out. Raises ConfigError at a bad file."""
    file = folder / QRELS / f"{split}.tsv"
    if not file.is_file():
        there = ", ".join(sorted(found.stem for found in (folder / QRELS).glob("*.tsv")))
        raise ConfigError(f"{folder}: has no {QRELS}/{split}.tsv, only {there}: pass --split, or copy one to that name")
    gold = read_qrels(file)
    known = {question.id for _, question in located}
    for query in gold:
        if query not in known:
            report(f"queries of {file.name} that {QUERIES} lacks (left out)", query)
    found = []
    for where, question in located:
        if gold.get(question.id):
            found.append((where, dataclasses.replace(question, gold_passages=tuple(gold[question.id]))))
        else:
            report(f"queries without a relevant passage in {file.name} (left out)", where)
    return found


def read_qrels(file: pathlib.Path) -> dict[str, list[str]]:
    """Reads the relevant passages of each query, in order. Raises ConfigError, which names a malformed line."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read ({error}): pass other qrels") from error
    gold: dict[str, dict[str, None]] = {}
    for number, line in enumerate(lines, 1):
        cells = [cell.strip() for cell in line.split("\t")] if "\t" in line else line.split()
        if not line.strip() or (number == 1 and cells[0] == HEADER):
            continue
        try:
            query, passage, score = cells if len(cells) == 3 else (cells[0], cells[2], cells[3])
            relevant = gold.setdefault(query, {})
            if not math.isfinite(float(score)):
                raise ValueError(score)
            if float(score) > 0:
                relevant[passage] = None
        except (ValueError, IndexError) as error:
            raise ConfigError(
                f"{file}:{number}: is no row of query-id, corpus-id and score: mend or drop it"
            ) from error
    return {query: list(relevant) for query, relevant in gold.items()}
