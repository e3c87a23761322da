"""Numbers of the report against plain loops over predictions, and its pages read by parsers that know nothing of it."""

import html.parser
import json
import re

import markdown_it
import numpy as np
import pytest

from realm_jax.data.prepare import open_prepared
from realm_jax.eval import qa_report
from realm_jax.records import Prediction, Question
from realm_jax.scores import bootstrap, recall

FACTS = {"dataset": "wq", "split": "test", "corpus": "tiny_texts", "blocks": 120, "workdir": "runs/a_b", "seconds": 3.5}
OPENERS = ["Who is", "What", "in which year did", "name the man who", "tell me", "How, when"]


def predictions(seed: int, count: int = 200) -> list[Prediction]:
    """Random ones with everything that a reader knows; the questions are the same for every seed."""
    rng = np.random.default_rng(seed)
    return [
        Prediction(
            Question(str(i), f"{OPENERS[i % len(OPENERS)]} {i}?", () if i % 50 == 0 else ("x",)),
            "" if rng.random() < 0.1 else "x",
            bool(i % 50 and rng.random() < 0.4),
            probability=float("nan") if rng.random() < 0.2 else float(rng.choice([rng.random(), 1.0, 0.0, 0.3])),
            oracle=bool(rng.random() < 0.6),
            block_rank=int(rng.integers(0, 3)),
            span=(2, 9),
            blocks=(5, 3, 8),
            retrieval_scores=(3.0, 2.0, 1.0),
            answer_rank=int(rng.choice([-1, 0, 1, 4, 5, 19, 20, 99, 100, 3000])),
        )
        for i in range(count)
    ]


def share(chosen) -> float:
    chosen = list(chosen)
    return sum(p.is_correct for p in chosen) / len(chosen)


@pytest.fixture(scope="module")
def systems():
    bare = [Prediction(p.question, p.answer, p.is_correct) for p in predictions(1)]
    return {"REALM": predictions(0), "BM25": predictions(2), "theirs": bare}


OVERLAP = {"met": np.arange(200) % 3 == 0, "new": np.arange(200) % 3 > 0, "never": np.zeros(200, bool)}


@pytest.fixture(scope="module")
def results(systems):
    table = {"after <ICT>": {f"recall@{k}": recall.mean(np.arange(50) < 5 * k) for k in (1, 5, 10)}}
    return qa_report.results(
        systems,
        table | {"none": {f"recall@{k}": recall.Mean(float("nan"), float("nan"), 0) for k in (1, 5, 10)}},
        FACTS,
        overlap=OVERLAP,
        by_blocks={20: predictions(3), 5: systems["REALM"]},
    )


def test_by_overlap_and_by_blocks_read(results, systems):
    for name, system in systems.items():
        found = results["systems"][name]["by_overlap"]
        assert {group: (of["n"], of["mean"]) for group, of in found.items()} == {
            "met": (67, pytest.approx(share(system[::3]))),
            "new": (133, pytest.approx(share(p for i, p in enumerate(system) if i % 3))),
        }
    by_blocks = results["by_blocks"]
    assert list(by_blocks) == ["5", "20"]
    for count, read in (("5", systems["REALM"]), ("20", predictions(3))):
        assert by_blocks[count]["exact_match"]["mean"] == pytest.approx(share(read))
        assert by_blocks[count]["reader_oracle"]["mean"] == sum(p.oracle for p in read) / 200


def test_every_question_counts(results, systems):
    assert (results["questions"], results["without_answers"], results["main"]) == (200, 4, "REALM")
    for name, system in systems.items():
        scored = results["systems"][name]
        assert scored["exact_match"]["mean"] == pytest.approx(share(system)) and scored["exact_match"]["n"] == 200
        assert scored["exact_match"]["low"] < scored["exact_match"]["mean"] < scored["exact_match"]["high"]
        assert scored["unanswered"] == len([p for p in system if p.answer == ""]) > 0
        assert sum(group["n"] for group in scored["by_word"].values()) == 200
    assert results["systems"]["REALM"]["reader_oracle"]["mean"] == sum(p.oracle for p in systems["REALM"]) / 200


def test_question_words(results, systems):
    words = {"Who is": "who", "What": "what", "in which year did": "which", "name the man who": "who"}
    words |= {"tell me": "other", "How, when": "how"}
    expected = {}
    for p in systems["REALM"]:
        expected.setdefault(words[p.question.text.rsplit(" ", 1)[0]], []).append(p)
    found = results["systems"]["REALM"]["by_word"]
    assert {w: (g["n"], g["mean"]) for w, g in found.items()} == {
        w: (len(ps), pytest.approx(share(ps))) for w, ps in expected.items()
    }
    assert qa_report.question_word("the town that we wonder about, where is it") == "other"
    assert qa_report.question_word("") == "other"


def test_ranks_of_the_first_block_with_an_answer(results, systems):
    places = {-1: "none", 0: "0", 1: "1-4", 4: "1-4", 5: "5-19", 19: "5-19", 20: "20-99", 99: "20-99"}
    expected = {}
    for p in systems["REALM"]:
        expected.setdefault(places.get(p.answer_rank, "100-"), []).append(p)
    found = results["systems"]["REALM"]["by_answer_rank"]
    assert list(found) == ["0", "1-4", "5-19", "20-99", "100-", "none"]
    for name, group in found.items():
        assert (group["n"], group["mean"]) == (len(expected[name]), pytest.approx(share(expected[name])))


def test_calibration_against_a_loop(results, systems):
    bins = [[] for _ in range(10)]
    for p in systems["REALM"]:
        if p.probability == p.probability:
            bins[next(i for i in range(10) if p.probability < (i + 1) / 10 or i == 9)].append(p)
    found = results["systems"]["REALM"]["calibration"]
    assert [part["n"] for part in found["bins"]] == [len(part) for part in bins if part]
    distance = sum(abs(sum(p.probability for p in part) - sum(p.is_correct for p in part)) for part in bins)
    assert found["expected_error"] == pytest.approx(distance / sum(map(len, bins)))
    assert found["n"] == sum(map(len, bins)) < 200


def test_differences_are_paired(results, systems):
    for name in ("BM25", "theirs"):
        pairs = zip(systems["REALM"], systems[name], strict=True)
        expected = bootstrap.interval(np.array([a.is_correct - b.is_correct for a, b in pairs]))
        assert results["main_minus"][name]["mean"] == pytest.approx(expected.mean)
        assert (results["main_minus"][name]["low"], results["main_minus"][name]["high"]) == (
            expected.low,
            expected.high,
        )
    with pytest.raises(ValueError, match="different questions"):
        qa_report.results({"a": systems["REALM"], "b": systems["BM25"][::-1]}, {}, FACTS)


def test_systems_without_probabilities_and_blocks(results):
    bare = results["systems"]["theirs"]
    assert bare["calibration"] is None and bare["by_answer_rank"] is None and bare["reader_oracle"] is None


def test_numbers_are_json(results):
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    assert results["recall"]["none"]["recall@1"]["mean"] is None


class Balanced(html.parser.HTMLParser):
    """Collects tags, texts and marked texts; fails on a tag that is not closed in its turn."""

    VOID = {"meta", "br"}

    def __init__(self, page: str):
        super().__init__()
        self.open, self.tags, self.texts, self.ids, self.marked, self.references = [], [], [], [], [], set()
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self._note(tag, attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self._note(tag, attrs)

    def _note(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            self.ids += [value] if name == "id" else []
            self.references |= set(re.findall(r"(?<=#)[mp][0-9a-f]{10}", value or ""))
            assert name not in ("src", "onclick") and not (value or "").startswith("javascript")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if self.open and self.open[-1] == "mark":
            self.marked.append(data)


def test_html_shows_every_part(results, systems, tiny_run):
    corpus = open_prepared(tiny_run).knowledge
    made = qa_report.html(results, systems["REALM"], corpus)
    page = Balanced(made)
    assert page.tags.count("svg") == 4 and page.tags.count("article") == 10 and page.tags.count("table") == 8
    assert len(set(page.ids)) == len(page.ids) and page.references <= set(page.ids) and page.references
    text = " ".join(page.texts)
    assert "tiny_texts, 120 blocks" in text and "not comparable: another corpus and other questions" in text
    verdicts = [part[:5] for part in page.texts if part.startswith(("right: ", "wrong: "))]
    assert verdicts == ["right"] * 5 + ["wrong"] * 5
    assert len(page.marked) == 10 and set(page.marked) <= {corpus.block(i).text[2:9] for i in (5, 3, 8)}
    assert "after <ICT>" in text and "http" not in re.sub(r'xmlns\S*="\S+"', "", made)
    assert made == qa_report.html(results, systems["REALM"], corpus)


def test_nothing_of_a_question_is_taken_for_markup():
    evil = "Who <script>alert(1)</script> & $x | *y* `z`\n# [a](b)"
    one = [Prediction(Question("1", evil, (evil,)), evil, False, probability=0.5)]
    results = qa_report.results({"<b>us</b>": one, "a|b": one}, {}, FACTS | {"corpus": "<i>$$|c"})
    made = qa_report.html(results, one, None)
    page = Balanced(made)
    assert "script" not in page.tags and evil in page.texts and "<b>us</b>" in page.texts
    cells = markdown_it.MarkdownIt("commonmark").enable("table").parse(qa_report.markdown(results))
    inline = [token for token in cells if token.type == "inline"]
    assert {child.type for token in inline for child in token.children} <= {"text", "softbreak"}
    assert any("<i>$$|c" in child.content for token in inline for child in token.children)


def test_markdown_tables_have_the_numbers(results):
    tokens = markdown_it.MarkdownIt("commonmark").enable("table").parse(qa_report.markdown(results))
    titles = [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"]
    assert titles[1:] == [
        "Exact match",
        "Retrieval",
        "By blocks read",
        "By rank",
        "Calibration",
        "By question word",
        "By overlap with training",
        "Published beside ours",
    ]
    rows, row = [], None
    for i, token in enumerate(tokens):
        if token.type == "tr_open":
            rows.append(row := [])
        elif token.type in ("td_open", "th_open"):
            row.append("".join(child.content for child in tokens[i + 1].children))
    ours = f"{100 * results['systems']['REALM']['exact_match']['mean']:.1f}"
    assert [row[:2] for row in rows if row[0].startswith(("REALM", "ours"))][:2] == [
        ["REALM", ours],
        ["ours: REALM", ours],
    ]
    theirs = next(row for row in rows if row[0] == "theirs")
    assert theirs[3] == "–" and theirs[5].startswith(f"{100 * results['main_minus']['theirs']['mean']:+.1f} (")
    assert next(row for row in rows if row[0] == "after <ICT>")[1:4] == ["10.0 ± 8.4", "50.0 ± 14.0", "100.0 ± 0.0"]
    assert next(row for row in rows if row[0] == "none" and len(row) == 5)[1] == "– ± –"


@pytest.mark.parametrize("is_correct", [False, True])
def test_one_question_and_none_of_another_kind(is_correct):
    one = [Prediction(Question("1", "What?", ("x",)), "x" * is_correct, is_correct)]
    facts = {"dataset": "mine.jsonl", "split": "", "questions": 1, "corpus": "unknown"}
    results = qa_report.results({"theirs": one}, {}, facts)
    assert results["systems"]["theirs"]["exact_match"] == dict.fromkeys(("mean", "low", "high"), float(is_correct)) | {
        "n": 1
    }
    page = Balanced(qa_report.html(results, one, None))
    assert page.tags.count("table") == 2 and page.tags.count("article") == 1
    assert f"| theirs | {100 * is_correct:.1f} |" in qa_report.markdown(results)
