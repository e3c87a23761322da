"""Question files: what is read, survived and reported, and one-line errors that name file and line."""

import gzip
import json
import pathlib

import pytest

from realm_jax.config import ConfigError
from realm_jax.data.questions import questions
from realm_jax.records import Question

SHARED = pathlib.Path(__file__).resolve().parents[4] / "shared" / "data" / "qa"


def write_lines(path, *lines):
    data = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


@pytest.mark.parametrize("name", ["set.jsonl", "set.jsonl.gz"])
def test_fields_are_read_and_trimmed(tmp_path, name, capsys):
    path = write_lines(
        tmp_path / name,
        {"question": " Wer? ", "answers": [" é ", "", "b", "é"], "gold_passage": "p", "id": 7, "title": "ignored"},
        "",
        {"question": "when", "answer_regex": "19\\d\\d "},
        {"question": "why", "answer_regex": ["a|b", " ", "c"]},
        {"question": "what", "answers": "one", "gold_passage": ["p", "", 8]},
    )
    assert questions.read(path) == [
        Question("7", "Wer?", ("é", "b"), False, ("p",)),
        Question("set:3", "when", ("19\\d\\d ",), True),
        Question("set:4", "why", ("a|b", "c"), True),
        Question("set:5", "what", ("one",), False, ("p", "8")),
    ]
    assert capsys.readouterr().out == f"{path}: taken for questions (JSON lines)\n"


def test_what_is_survived_is_reported_in_one_line_a_kind(tmp_path, capsys):
    path = write_lines(
        tmp_path / "q.jsonl",
        {"question": "a", "answers": ["1"]},
        {"question": "  ", "answers": ["1"]},
        {"question": "b", "answers": []},
        {"question": "", "answers": ["2"]},
        {"question": "a ", "answers": ["2", "1"], "gold_passage": "p"},
        {"question": "c"},
        {"question": "d", "answer_regex": ["x|y", "bad\\"]},
        {"question": "c", "answer_regex": "z"},
    )
    assert questions.read(path) == [
        Question("q:1", "a", ("1", "2"), False, ("p",)),
        Question("q:3", "b"),
        Question("q:6", "c", ("z",), True),
        Question("q:7", "d", ("x|y", "bad\\"), True),
    ]
    assert sorted(capsys.readouterr().out.splitlines()[1:]) == [
        f"{path}: empty questions (dropped): 2 (first: line 2)",
        f"{path}: invalid regular expressions (match nothing): 1 (first: line 7)",
        f"{path}: questions without an answer (count as wrong): 1 (first: line 3)",
        f"{path}: repeated questions (joined with their first): 2 (first: line 5)",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{not json", "q.jsonl:2: is not JSON"),
        ("[1]", r"q.jsonl:2: is not a JSON object: mend or drop it"),
        ({"answers": ["a"]}, r"q.jsonl:2: is not of the form of the first row, questions \(the keys answers\)"),
        ({"question": None, "answers": ["a"]}, "q.jsonl:2: has no text 'question'"),
        (
            {"question": "q", "answers": ["a", 1.5]},
            "q.jsonl:2: the answers are no list of texts .*float",
        ),
        (
            {"question": "q", "answers": {"a": 1}},
            "q.jsonl:2: the answers are no list of texts .*dict",
        ),
        ({"question": "q", "answer": ["a"]}, "q.jsonl:2: is not of the form of the first row"),
        ({"question": "q", "answers": ["a"], "answer_regex": "a"}, "q.jsonl:2: is not of the form of the first row"),
        (
            {"question": "q", "answers": ["a"], "gold_passage": {"p": 1}},
            "q.jsonl:2: field 'gold_passage' is not a string",
        ),
        ({"question": "q", "answers": ["\ud800"]}, "q.jsonl:2: holds half of a surrogate pair"),
        ({"question": "q", "answers": ["a"], "id": "x"}, "q.jsonl:2: id 'x' belongs to another question before"),
        ({"question": "first", "answer_regex": "a"}, "q.jsonl:2: the same question has answers of the other kind"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, line, message):
    path = write_lines(tmp_path / "q.jsonl", {"question": "first", "answers": ["a"], "id": "x"}, line)
    with pytest.raises(ConfigError, match=message) as error:
        questions.read(path)
    assert "\n" not in str(error.value) and ": " in str(error.value)


def test_a_file_that_cannot_be_used(tmp_path):
    with pytest.raises(ConfigError, match="no question file .*: pass one that is there"):
        questions.read(str(tmp_path / "missing.jsonl"))
    with pytest.raises(ConfigError, match="q.jsonl: has no question"):
        questions.read(write_lines(tmp_path / "q.jsonl", "", {"question": " ", "answers": ["a"]}))
    (tmp_path / "z.jsonl.gz").write_bytes(gzip.compress(b"{}" * 99)[:-9])
    with pytest.raises(ConfigError, match="z.jsonl.gz: cannot be read"):
        questions.read(str(tmp_path / "z.jsonl.gz"))
    (tmp_path / "l.jsonl").write_bytes(b'{"question": "q", "answer": "a"}\n{"question": "\xff"}\n')
    with pytest.raises(ConfigError, match="l.jsonl:2: is not UTF-8"):
        questions.read(str(tmp_path / "l.jsonl"))


@pytest.mark.skipif(not SHARED.is_dir(), reason="no development data beside the repository")
@pytest.mark.parametrize(
    ("name", "distinct", "reports"),
    [
        ("nq_open_dev", 8757, []),
        ("webquestions_train", 3778, []),
        ("curatedtrec_train", 1468, ["invalid regular expressions (match nothing): 1", "repeated questions"]),
        ("squad_open_dev", 2098, ["answers that begin with [ and are no list", "repeated questions"]),
    ],
)
def test_real_files(name, distinct, reports, capsys):
    found = questions.read(str(SHARED / f"{name}.jsonl"))
    assert len(found) == distinct == len({question.id for question in found})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(reports)
    for report in reports:
        assert any(report in line for line in lines)
