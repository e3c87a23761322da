"""docs/taggers.md has the tables of the measurement, and the sentences annotated by hand are what they claim to be."""

import json
import pathlib
import subprocess
import sys

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]


def test_tables_come_from_the_result():
    command = [sys.executable, "benchmarks/taggers.py", "--check"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_annotations_are_whole_words_within_sentences():
    kinds, with_accents = set(), 0
    for line in (REPOSITORY / "tests" / "data" / "annotated.jsonl").read_text().splitlines():
        record = json.loads(line)
        text, data = record["text"], record["text"].encode()
        with_accents += len(data) != len(text)
        sentences = list(zip(record["sentences"]["start"], record["sentences"]["limit"], strict=True))
        assert b" ".join(data[start:limit] for start, limit in sentences) == data
        before = 0
        for start, limit, kind in zip(*(record["spans"][name] for name in ("start", "limit", "type")), strict=True):
            assert any(first <= start < limit <= last for first, last in sentences) and start >= before
            around = data[:start].decode()[-1:] + data[limit:].decode()[:1]
            assert not any(c.isalnum() for c in around) and data[start:limit].strip() == data[start:limit]
            before = limit
            kinds.add(kind)
    assert kinds == {"PER", "ORG", "LOC", "MISC", "DATE"} and with_accents
