"""Files of questions that are anything at all: one line or questions, nothing lost without a count, in linear time."""

import contextlib
import io
import json
import pathlib
import re
import tempfile
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realm_jax.config import ConfigError
from realm_jax.data.questions import question_files, questions
from realm_jax.data.questions.question_fields import list_in_text
from realm_jax.data.questions.question_formats import FORMATS

texts = st.text(st.sampled_from("aé\"'\\[]{}(),:| \t\n\r\x00\ud800茶1"), max_size=9)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "answer", "a"]), inner),
    max_leaves=5,
)


def read(data: bytes) -> tuple[list, str]:
    """(questions, what was printed) of a file; a refusal of one line is no question."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as printed:
        file = pathlib.Path(folder) / "set"
        file.write_bytes(data)
        try:
            found = questions.read(str(file))
        except ConfigError as error:
            assert str(error).isprintable() and len(str(error)) < 900, error
            found = []
    return found, printed.getvalue()


@st.composite
def changed_examples(draw) -> bytes:
    """A few rows of a known form, of which one has another value in a random place."""
    example = draw(st.sampled_from(FORMATS)).example.replace("⇥", "\t")
    if example[0] not in "[{":
        cells = example.split("\t")
        cells[draw(st.integers(0, len(cells) - 1))] = draw(texts)
        return f"{example}\n{chr(9).join(cells)}\n".encode("utf-8", "surrogatepass")
    value = json.loads(example)
    places = list(holders(value))
    holder, key = draw(st.sampled_from(places))
    holder[key] = draw(values)
    rows = [json.loads(example), value] if draw(st.booleans()) else [value, json.loads(example)]
    return "\n".join(map(json.dumps, rows)).encode()


def holders(value):
    """(list or object, index or key) of every place in a value."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from holders(value[key])


@settings(max_examples=300, deadline=None)
@given(changed_examples())
def test_another_value_anywhere_is_a_question_or_one_line(data):
    read(data)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(FORMATS), st.data())
def test_bytes_lost_or_added_anywhere_are_a_question_or_one_line(known, data):
    example = known.example.replace("⇥", "\t").encode() * 2
    at = data.draw(st.integers(0, len(example)))
    read(example[:at] + data.draw(st.binary(max_size=4)) + example[at + data.draw(st.integers(0, 4)) :])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(["who", "who ", "", "what", "when"]), min_size=1, max_size=12), st.data())
def test_questions_kept_and_counted_are_the_rows_that_came(asked, data):
    left_out = [data.draw(st.booleans()) for _ in asked]
    rows = [
        {"id": str(i), "question": text, "answers": [] if is_left_out else [{"text": "x"}]}
        for i, (text, is_left_out) in enumerate(zip(asked, left_out, strict=True))
    ]
    squad = {"data": [{"paragraphs": [{"context": "c", "qas": rows}]}]}
    plain = "\n".join(json.dumps({"question": text, "answer": ["x"]}) for text in asked)
    for content, is_squad in ((plain, False), (json.dumps(squad), True)):
        found, printed = read(content.encode())
        counts = {kind: int(n) for kind, n in re.findall(r"^\S+: ([^:]+): (\d+) \(first", printed, re.MULTILINE)}
        if found:
            assert len(found) + sum(counts.values()) == len(asked), printed
            assert counts.get("questions that their paragraph does not answer (left out)", 0) == is_squad * sum(
                left_out
            )


@given(st.lists(texts, max_size=4))
def test_a_list_that_was_written_as_text_is_that_list_or_none(answers):
    assert list_in_text(json.dumps(answers)) == answers
    assert list_in_text(f" {answers!r}") in (answers, None)
    if not any("\ud800" in answer for answer in answers):
        assert list_in_text(repr(answers)) == answers


@pytest.mark.parametrize(
    "text", ["['a' 'b']", "[a]", "[1]", "['a', 1]", "['a'", "[U-V]", "['a'] b", "[['a']]", "['\\x']"]
)
def test_what_only_looks_like_a_list_stays_an_answer_and_is_counted(text):
    found, printed = read(json.dumps({"question": "q", "answers": text}).encode())
    assert found[0].answers == (text,)
    assert "answers that begin with [ and are no list of texts (taken as they are): 1" in printed


def test_a_list_as_text_is_read_and_counted():
    for answers in ('["a", "b"]', "['a', 'b']", ["['a', 'b']"]):
        found, printed = read(json.dumps({"question": "q", "answers": answers}).encode())
        assert found[0].answers == ("a", "b") and "answers in one text (read as the list that it is): 1" in printed
    found, printed = read(json.dumps({"question": "q", "answer_regex": "['\"]a"}).encode())
    assert found[0].answers == ("['\"]a",) and "[" not in printed.split("\n")[1]


@pytest.mark.parametrize(
    ("answers", "expected", "kind"),
    [
        (1901, ("1901",), "answers that are whole numbers (taken as their digits): 1"),
        ([5, "five"], ("5", "five"), "answers that are whole numbers"),
        ({"text": ["a", "b"], "answer_start": [0, 3]}, ("a", "b"), ""),
        ([{"text": "a", "answer_start": 0}], ("a",), ""),
        ("array(['a', 'b'], dtype=object)", ("a", "b"), "answers in one text"),
        ("('a', \"b's\")", ("a", "b's"), "answers in one text"),
        ("{'a'}", ("a",), "answers in one text"),
        ("(a, b)", ("(a, b)",), ""),
        ("array([1, 2])", ("array([1, 2])",), "answers that begin with [ and are no list"),
        ("fox|wolf", ("fox|wolf",), "answers that look like regular expressions"),
        ("fox(es)?", ("fox(es)?",), "answers that look like regular expressions"),
    ],
)
def test_answers_as_others_write_them(answers, expected, kind):
    found, printed = read(json.dumps({"question": "q", "answers": answers}).encode())
    assert found[0].answers == expected and kind in printed
    assert bool(kind) == (printed.count("\n") > 1)


def test_other_answers_beside_the_first_are_kept():
    found, _ = read(b'{"question": "q", "answer": "a", "answer_aliases": ["b", "a"]}')
    assert found[0].answers == ("a", "b")


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ("Q,A\nwho?,fox\n", "question=Q,answers=A"),
        ("prompt\tlabel\nwho?\tfox\n", "question=prompt,answers=label"),
        ("who?,fox\n", "question=1,answers=2"),
        ("who?\tfox\n", "question=1,answers=2"),
        ("question, answers\nwho?, fox\n", ""),
    ],
)
def test_a_table_with_other_names_or_without_a_header(tmp_path, content, columns):
    (tmp_path / "q.csv").write_text(content)
    (found,) = questions.read(str(tmp_path / "q.csv"), columns=columns)
    assert (found.text, found.answers) == ("who?", ("fox",))
    if "Q" in columns:
        with pytest.raises(ConfigError, match="has no 'q' of --columns, but the keys Q, A"):
            questions.read(str(tmp_path / "q.csv"), columns="question=q,answers=A")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000, "is neither JSON lines nor one JSON text (maximum recursion depth"),
        (b'{"question": ' * 100_000, "is neither JSON lines nor one JSON text (maximum recursion depth"),
        (b'{"question": "q", "answers": "' + b"[" * 100_000 + b'"}', ""),
        (b"PK\x03\x04...", "is a zip archive: unpack it"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of git-lfs"),
        (b"\x28\xb5\x2f\xfd\x00", "is zstandard: unpack it"),
        (b"Question,Answer\nq,a\n", "name a table's columns by --columns"),
        (b"<html>\n<body>", "is a web page: download the file itself"),
        (
            b"who digs? foxes\n",
            "is neither JSON, nor a table with tabs or a header, nor parquet (begins 'who digs? foxes')",
        ),
        (b"x" * 257 + b"ustar", "is a tar archive: unpack it"),
        (b'{"question": "q", "answer": "a"}\n[1]\n', ":2: is not a JSON object"),
        (b"PAR1" + b"x" * 99, "is no parquet file, or damaged"),
        (b"who digs\tfoxes\n", "has the keys 1, 2, which is no known form of questions"),
        (b"question\tanswers\nq\ta\tb\n", ":2: has another number of columns: mend or drop it"),
        (b"q\t['a']\n\"q\t['b']\nr\"\t['c']\n", ":2: a quotation mark that opens a cell is not closed"),
        (b"q\t['a']\nr\tb\n", ":2: is not of the form of the first row, DPR questions (the keys 1, 2)"),
        (b'{"question": "q", "answer": "a", "answers": ["b"]}', "name its fields by --columns"),
        (b"who digs\tfoxes\tx\ty\n", "has the keys 1, 2, 3, 4, which is no known form"),
        (b'{"question": "q", "label": "a"}', "has the keys question, label, which is no known form"),
        (b"", "is empty: pass another file"),
        (b"[]", "holds no JSON object"),
        (b"\xff\xfeq\x00", "is UTF-16: convert it to UTF-8"),
    ],
)
def test_what_is_no_set_of_questions_is_one_line(tmp_path, content, message):
    file = tmp_path / "set"
    file.write_bytes(content)
    if not message:
        assert len(questions.read(str(file))) == 1
        return
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        questions.read(str(file))
    assert str(error.value).startswith(f"{file}") and str(error.value).isprintable()


@pytest.mark.parametrize("end", ["\n]", "]"])
def test_a_list_with_a_record_a_line_is_one_list(end):
    """Its last line alone would be a record, the only one."""
    lines = ",\n".join(json.dumps({"question": f"q{i}", "answer": ["a"]}) for i in range(3))
    found, printed = read(f"[\n{lines}{end}\n".encode())
    assert [question.text for question in found] == ["q0", "q1", "q2"] and "(one JSON text)" in printed


def test_columns_and_folders_that_do_not_fit(tmp_path):
    (tmp_path / "test.tsv").write_text("who digs\tfox(es)?\n")
    (found,) = questions.read(str(tmp_path), columns="question=1,answer_regex=2")
    assert (found.text, found.answers, found.is_regex) == ("who digs", ("fox(es)?",), True)
    for columns, message in {
        "question=1,answers=9": "test.tsv:1: has no '9' of --columns, but the keys 1, 2",
        "question=1,reply=2": "'reply' is none of id, question, answers",
        "answers=2": "name `question`, and one of",
        "question": "'question' is none of",
    }.items():
        with pytest.raises(ConfigError, match=message):
            questions.read(str(tmp_path), columns=columns)
    (tmp_path / "qa").mkdir()
    (tmp_path / "qa" / "dev.json.gz").write_text("")
    with pytest.raises(ConfigError, match=r"could be any of .*qa/dev.json.gz, .*test.tsv: pass one"):
        questions.read(str(tmp_path))


SIZE = 600
SHAPES = {
    "lines": lambda n: "".join(json.dumps({"question": f"q{i}", "answer": ["a"]}) + "\n" for i in range(n)),
    "one text": lambda n: json.dumps({"question": "q" * 99 * n, "answers": ["[" * 99 * n, "['a'," * 99 * n]}),
    "spaces in a list": lambda n: json.dumps({"question": "q", "answers": f"['a'{' ' * 9 * n}x]"}),
    "table": lambda n: "".join(f"q{i}\t['a', 'b']\n" for i in range(n)),
    "one object": lambda n: json.dumps(
        {"Data": [{"Question": f"q{i}", "Answer": {"Value": "a", "Aliases": ["b"]}} for i in range(n)]}, indent=1
    ),
    "descriptions": lambda n: json.dumps([{"utterance": "q", "targetValue": '(description "(' * 9 * n + '\\"' * n}]),
    "one question": lambda n: "".join(f"who\t['a{i}']\n" for i in range(4 * n)),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_four_times_as_much_takes_about_four_times_as_long(shape):
    def seconds(n: int) -> float:
        content, best = SHAPES[shape](n).encode(), float("inf")
        for _ in range(3):
            start = time.process_time()
            read(content)
            best = min(best, time.process_time() - start)
        return best

    assert seconds(4 * SIZE) < 8 * max(seconds(SIZE), 0.005)


def test_names_of_files_without_their_endings():
    names = {"a/x.jsonl.gz": "x", "x.v2.csv": "x.v2", "x.parquet": "x", "x": "x", "x.json.xz": "x"}
    assert {name: question_files.stem(name) for name in names} == names
