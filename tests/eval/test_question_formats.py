"""Question sets in the forms that others publish: read, asked of one small corpus, and written out again.

The fixtures follow the published descriptions: the sites of SQuAD, TriviaQA and HotpotQA, the READMEs of DPR, BEIR,
KILT, tevatron, FiD, PopQA, NQ-open and dataset-factoid-curated.
"""

import bz2
import contextlib
import csv
import gzip
import io
import json
import lzma

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from etils import epath

from realm_jax.commands import cli
from realm_jax.commands import eval as evaluate
from realm_jax.config import ConfigError
from realm_jax.data.prepare import open_prepared
from realm_jax.data.questions import questions
from realm_jax.data.questions.beir import read_qrels
from realm_jax.data.questions.question_formats import FORMATS
from realm_jax.eval import zero_shot
from realm_jax.eval.baselines import bm25
from realm_jax.eval.report_folder import report_folder

ASKED = range(3, 6)  # articles that are asked for


@pytest.fixture(scope="module")
def data(tiny_run):
    return open_prepared(tiny_run)


@pytest.fixture(scope="module")
def records(corpus_file):
    """{id, title, text} with a question and its answer: the first sentence without its last word."""
    found = [json.loads(line) for line in corpus_file.read_text().splitlines()]
    for record in found:
        *words, last = record["text"].split(". ")[0].split()
        record["question"], record["answer"] = f"{' '.join(words)}?", last
    return [found[i] for i in ASKED]


def table(rows, header=(), delimiter="\t") -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows([header, *rows] if header else rows)
    return out.getvalue()


def squad(records) -> str:
    impossible = {"question": "Who knows?", "id": "no", "answers": [], "is_impossible": True}
    paragraphs = [
        {"context": r["text"], "qas": [{"question": r["question"], "id": r["id"], "answers": [{"text": r["answer"]}]}]}
        for r in records
    ]
    paragraphs[0]["qas"].append(impossible)
    return json.dumps({"version": "v2.0", "data": [{"title": "T", "paragraphs": paragraphs}]})


def trivia(records) -> str:
    def one(r):
        answer = {"Value": r["answer"], "Aliases": ["Xyzzy"], "NormalizedAliases": ["no answer"]}
        return {"Question": r["question"], "QuestionId": f"tc_{r['id']}", "Answer": answer}

    return json.dumps({"Data": [one(r) for r in records], "Domain": "Web"}, indent=1)


def lines(row):
    return lambda records: "".join(json.dumps(row(r)) + "\n" for r in records)


def a_list(row):
    return lambda records: json.dumps([row(r) for r in records], indent=2)


def pop(records) -> str:
    rows = [(i, r["question"], json.dumps([r["answer"], "Xyzzy"])) for i, r in enumerate(records)]
    return table(rows, ("id", "question", "possible_answers"))


def webq(r):
    value = f'(list (description "{r["answer"]}") (description Xyzzy))'
    return {"url": "u", "utterance": r["question"], "targetValue": value}


def passage(r, key):
    return {key: r["id"], "title": r["title"], "text": r["text"]}


SETS = {
    "SQuAD v1.1 or v2": squad,
    "SQuAD, rows": lines(
        lambda r: {"context": r["text"], "question": r["question"], "answers": {"text": [r["answer"]]}}
    ),
    "TriviaQA": trivia,
    "TriviaQA, rows": lines(
        lambda r: {"question": r["question"], "answer": {"value": r["answer"], "aliases": ["Xyzzy"]}}
    ),
    "DPR, training of the retriever": a_list(
        lambda r: {"question": r["question"], "answers": [r["answer"]], "positive_ctxs": [passage(r, "passage_id")]}
    ),
    "tevatron": lines(
        lambda r: {"query_id": r["id"], "query": r["question"], "positive_passages": [passage(r, "docid")]}
    ),
    "HotpotQA": a_list(
        lambda r: {"_id": r["id"], "question": r["question"], "answer": r["answer"], "supporting_facts": []}
    ),
    "PopQA": pop,
    "KILT": lines(
        lambda r: {
            "id": r["id"],
            "input": r["question"],
            "output": [{"answer": r["answer"]}, {"provenance": [{"wikipedia_id": r["id"], "title": r["title"]}]}],
        }
    ),
    "WebQuestions": a_list(webq),
    "CuratedTREC": lambda records: "".join(
        f"{i}\tfactoid\t{r['question']}\t{r['answer'][:-1]}.\n" for i, r in enumerate(records)
    ),
    "DPR questions": lambda records: table([(r["question"], str([r["answer"], 'X"y'])) for r in records]),
    "FiD and Atlas": lines(lambda r: {"question": r["question"], "target": r["answer"], "ctxs": [{"text": "t"}]}),
    "Natural Questions open, EfficientQA": lines(lambda r: {"question": r["question"], "answer": [r["answer"]]}),
    "questions": lambda records: table(
        [(r["question"], r["answer"]) for r in records], ("question", "answers"), delimiter=","
    ),
}
WITH_GOLD = {"SQuAD v1.1 or v2", "SQuAD, rows", "DPR, training of the retriever", "tevatron", "KILT"}


def check_recall(data, found, over):
    """All that is asked for is found by BM25."""
    judge = zero_shot.judge_of(data, found)
    ranks = judge(bm25(data.knowledge, [question.text for question in found], judge.depth))
    assert ranks["recall@20"].mean == 1.0 and ranks["recall@20"].n == len(ASKED)
    assert judge.over.startswith(f"recall of {over}, over {len(ASKED)} of {len(ASKED)} questions")


@pytest.mark.parametrize("name", SETS)
def test_a_set_is_known_by_its_content_and_can_be_asked(data, records, tmp_path, capsys, name):
    file = tmp_path / "set.txt"  # the name says nothing
    file.write_bytes(b"\xef\xbb\xbf" + SETS[name](records).replace("\r\n", "\n").replace("\n", "\r\n").encode())
    found = questions.read(str(file))
    assert capsys.readouterr().out.splitlines()[0].startswith(f"{file}: taken for {name} (")
    assert [question.text for question in found] == [r["question"] for r in records]
    for question, r in zip(found, records, strict=True):
        assert question.answers[:1] == {"tevatron": (), "CuratedTREC": (f"{r['answer'][:-1]}.",)}.get(
            name, (r["answer"],)
        )
        assert "no answer" not in question.answers
        assert question.gold_passages in ((), (r["id"],)) and question.gold_texts in ((), (r["text"],))
        assert bool(question.gold_passages or question.gold_texts) == (name in WITH_GOLD)
    check_recall(data, found, "gold passages" if name in WITH_GOLD else "answers")


def test_every_known_form_has_a_set_here_and_an_example_that_it_fits(tmp_path):
    assert {known.name for known in FORMATS} == {*SETS, "BEIR queries"}
    for known in FORMATS:
        file = tmp_path / "example"
        file.write_text(known.example.replace("⇥", "\t") + "\n")
        (found,) = questions.read(str(file))
        assert found.text.lower().removesuffix("?") in ("who digs", "dig foxes")


def test_a_beir_folder(data, records, tmp_path, capsys):
    rows = [{"_id": f"q{i}", "text": r["question"], "metadata": {}} for i, r in enumerate(records)]
    rows.append({"_id": "train1", "text": "Who is of another split?"})
    (tmp_path / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "corpus.jsonl").write_text("")
    (tmp_path / "qrels").mkdir()
    judged = [(f"q{i}", r["id"], 1) for i, r in enumerate(records)]
    judged += [("q0", "of another corpus", 2), ("q1", records[0]["id"], 0), ("gone", "x", 1)]
    (tmp_path / "qrels" / "test.tsv").write_text(table(judged, ("query-id", "corpus-id", "score")))
    found = questions.read(str(tmp_path))
    assert found == questions.read(str(tmp_path / "queries.jsonl"))
    assert [question.gold_passages for question in found] == [
        (records[0]["id"], "of another corpus"),
        (records[1]["id"],),
        (records[2]["id"],),
    ]
    out = capsys.readouterr().out
    assert "queries without a relevant passage in test.tsv (left out): 1 (first" in out
    assert "queries of test.tsv that queries.jsonl lacks (left out): 1 (first: gone)" in out
    check_recall(data, found, "gold passages")
    assert "1 of the set's 4 gold passages are not in the corpus" in zero_shot.judge_of(data, found).over
    (tmp_path / "nan.tsv").write_text("q\tp\tNaN\n")
    with pytest.raises(ConfigError, match="nan.tsv:1: is no row of query-id"):
        read_qrels(tmp_path / "nan.tsv")
    with pytest.raises(ConfigError, match=r"has no qrels/dev.tsv, only test: pass --split"):
        questions.read(str(tmp_path), split="dev")


def test_any_of_several_gold_passages_will_do(data):
    ids = data.knowledge.record_ids()
    judge = zero_shot.judge_of(
        data, [questions.Question("q", "?", gold_passages=(ids[7], ids[2])), questions.Question("r", "?")]
    )
    blocks = [int(np.flatnonzero(data.knowledge.record_of_block == record)[0]) for record in (1, 0, 2)]
    found = np.array([blocks + [-1] * (judge.depth - 3)])
    assert judge.rows == [0]
    assert [judge(found)[f"recall@{k}"].mean for k in (1, 5)] == [0, 1]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_files_and_parquet_and_other_columns(records, tmp_path, pack):
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    plain.write_text(SETS["PopQA"](records))
    packed.write_bytes(pack(plain.read_bytes()))
    expected = [(question.text, question.answers) for question in questions.read(str(plain))]
    assert [(question.text, question.answers) for question in questions.read(str(packed))] == expected
    rows = [{"Q": question, "A": list(answers), "n": 3} for question, answers in expected]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows")
    found = questions.read(str(tmp_path / "rows"), columns="question=Q,answers=A")
    assert [(question.text, question.answers) for question in found] == expected
    with pytest.raises(ConfigError, match="has the keys Q, A, n, which is no known form of questions .*--columns="):
        questions.read(str(tmp_path / "rows"))


@pytest.fixture(scope="module")
def written(tiny_run, copy_run, records, tmp_path_factory):
    """(workdir, questions, folder of what was written, what was printed) of one evaluation."""
    folder = tmp_path_factory.mktemp("written")
    workdir = copy_run(tiny_run, folder / "run")
    rows = [
        {"id": f"q {i}", "question": r["question"], "answers": [r["answer"]], "gold_passage": [r["id"], "elsewhere"]}
        for i, r in enumerate(records)
    ]
    rows += [{"question": "Who is it?", "answer_regex": "X.*"}]
    file = folder / "asked.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    names = ("run_file=out.trec", "ctxs_file=ctxs.json", "kilt_file=kilt.jsonl")
    flags = [f"--{flag.replace('=', f'={folder}/')}" for flag in names]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        evaluate.main([f"--workdir={workdir.path}", f"--dataset={file}", "--only=recall", *flags])
    return workdir, file, folder, printed.getvalue()


def test_a_run_file_and_qrels_give_the_recall_that_was_printed(written, records):
    workdir, file, folder, printed = written
    assert "recall of gold passages, over 3 of 4 questions; 1 of the set's 4 gold passages are not" in printed
    ranked, last = {}, {}
    for line in (folder / "out.trec").read_text().splitlines():
        query, q0, document, rank, score, tag = line.split(" ")
        assert q0 == "Q0" and int(rank) == len(ranked.setdefault(query, [])) + 1
        assert np.float32(score) < last.get(query, np.inf)
        last[query] = np.float32(score)
        ranked[query].append(document)
    assert all(len(set(documents)) == len(documents) == 80 for documents in ranked.values()) and len(ranked) == 4
    (folder / "qrels.tsv").write_text("".join(f"q%20{i}\t0\t{r['id']}\t1\n" for i, r in enumerate(records)))
    gold = read_qrels(folder / "qrels.tsv")
    kept = json.loads((workdir.path / "eval" / "asked" / "recall.json").read_text())["recall"]["first weights"]
    for k in (1, 5, 20):
        hits = [bool(set(ranked[query][:k]) & set(wanted)) for query, wanted in gold.items()]
        assert kept[f"recall@{k}"]["mean"] == pytest.approx(np.mean(hits)) and kept[f"recall@{k}"]["n"] == 3


def test_contexts_read_as_questions_are_the_same_questions(written, data):
    _, file, folder, _ = written
    asked, again = (questions.read(str(path)) for path in (file, folder / "ctxs.json"))
    assert again == asked
    contexts = json.loads((folder / "ctxs.json").read_text())
    texts = {block.text for block in map(data.knowledge.block, range(data.knowledge.num_blocks))}
    for row, question in zip(contexts, asked, strict=True):
        assert {"question", "answers", "ctxs"} <= set(row) and len(row["ctxs"]) == min(100, data.knowledge.num_blocks)
        scores = [float(context["score"]) for context in row["ctxs"]]
        assert scores == sorted(scores, reverse=True) and {c["text"] for c in row["ctxs"]} <= texts
        assert len({context["id"] for context in row["ctxs"]}) == len(row["ctxs"])
        for context in row["ctxs"]:  # the answers are single words
            assert context["has_answer"] <= any(
                answer[:1].lower() in context["text"].lower() for answer in question.answers
            )
    assert any(context["has_answer"] for row in contexts for context in row["ctxs"])


def test_kilt_lines_read_as_questions_name_what_was_found(written, capsys):
    _, file, folder, _ = written
    again = questions.read(str(folder / "kilt.jsonl"))
    asked = questions.read(str(file))
    assert [(q.id, q.text) for q in again] == [(q.id, q.text) for q in asked]
    runs = [line.split(" ") for line in (folder / "out.trec").read_text().splitlines()]
    for question in again:
        name = question.id.replace(" ", "%20")
        assert list(question.gold_passages) == [document for query, _, document, *_ in runs if query == name]


def test_outputs_without_questions_are_refused(capsys):
    for flags in (["--only=recall"], ["--dataset=nq", "--predictions=x"]):
        with pytest.raises(SystemExit) as stop:
            cli.run(lambda flags=flags: evaluate.main([*flags, "--run_file=x"]))
        assert stop.value.code == 2 and "x needs a run that looks for the passages" in capsys.readouterr().err


def test_where_nothing_can_be_written_is_said_before_anything_is_computed(written, tmp_path, capsys):
    workdir, file, _, _ = written
    before = file.read_text()
    for target, message in (
        (tmp_path, "is a folder: pass a file in it"),
        (file / "x", f"{file} is a file and no folder"),
        (file, "holds the questions: pass another file"),
    ):
        with pytest.raises(ConfigError, match=message):
            evaluate.main([f"--workdir={workdir.path}", f"--dataset={file}", f"--run_file={target}"])
    refused = {"--questions=-1": "is below 0", "--blocks=0": "sees at least 1", "--blocks=5,-1": "sees at least 1"}
    refused |= dict.fromkeys(("--blocks=5,", "--blocks=all"), "is no number, nor several with commas")
    for flag, message in refused.items():
        with pytest.raises(ConfigError, match=f"{flag}:? .*{message}"):
            evaluate.main([f"--workdir={workdir.path}", f"--dataset={file}", flag])
    assert file.read_text() == before and "taken for" not in capsys.readouterr().out


def test_a_test_set_without_answers_is_ranked_if_that_is_asked_for(written, tmp_path, capsys):
    workdir, _, _, _ = written
    (tmp_path / "test.jsonl").write_text('{"id": "k1", "input": "Who is it?"}\n')
    flags = [f"--workdir={workdir.path}", f"--dataset={tmp_path}/test.jsonl", "--only=recall"]
    evaluate.main([*flags, f"--kilt_file={tmp_path}/out.jsonl"])
    assert "no recall: no question has an answer" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "out.jsonl").read_text())["output"][0]["provenance"]) > 40
    with pytest.raises(ConfigError, match="no question has an answer"):
        evaluate.main(flags)


def test_reports_of_different_files_never_share_a_folder(tmp_path, capsys):
    def ask(path, answer):
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"question": "Who?", "answers": [answer]}) + "\n")
        return report_folder(epath.Path(tmp_path) / "eval", str(path), "test", questions.read(str(path))).name

    first, second = tmp_path / "nq" / "test.jsonl", tmp_path / "trivia" / "test.jsonl"
    assert ask(first, "Ada") == "test" and ask(first, "Ada") == "test"
    other = ask(second, "Bob")
    assert other.startswith("test-") and ask(second, "Bob") == other
    assert f"{tmp_path}/eval/test is about other questions of that name: these get {other}" in capsys.readouterr().out
    assert ask(tmp_path / "moved" / "test.jsonl", "Ada") == "test"
    assert ask(first, "Eve") not in ("test", other)
    assert ask(tmp_path / "heldout.jsonl", "Ada").startswith("heldout-")  # of the held-out sentences
    asked, root = questions.read(str(first)), epath.Path(tmp_path) / "eval"
    assert ask(tmp_path / "cloze.jsonl", "Ada") == "cloze"
    own = report_folder(root, "cloze", "test", asked).name
    assert own.startswith("cloze-") and report_folder(root, "cloze", "test", asked[:0]).name != "cloze"
    old = tmp_path / "eval" / "old"
    old.mkdir()
    (old / "recall.json").write_text(json.dumps({"dataset": "elsewhere/old.jsonl"}))
    assert ask(tmp_path / "old.jsonl", "Ada").startswith("old-")
    (old / "recall.json").write_text(json.dumps({"dataset": str(tmp_path / "old.jsonl")}))
    assert ask(tmp_path / "old.jsonl", "Ada") == "old"
