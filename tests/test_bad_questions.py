"""What a user can get wrong with questions: one line and a non-zero status, or a report and a run that goes on."""

import contextlib
import io
import json

import pytest

from realm_jax.commands import cli, finetune
from realm_jax.commands import eval as evaluate
from realm_jax.workdir import Workdir

SMALL = (
    "--finetune.epochs=1",
    "--finetune.batch_size=8",
    "--finetune.beam_blocks=8",
    "--finetune.reader_blocks=2",
    "--finetune.inference_blocks=2",
    "--finetune.question_len_tokens=12",
)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def fails(capsys):
    """Runs a command that a user can correct; returns its one line on stderr, after checking it."""

    def run(main, *flags):
        with pytest.raises(SystemExit) as stop:
            cli.run(lambda: main(list(flags)))
        assert stop.value.code == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("error: "), lines
        return lines[0]

    return run


@pytest.fixture(scope="module")
def run(pretrained_run, copy_run, tmp_path_factory):
    """A run that no test fine-tunes."""
    return copy_run(pretrained_run, tmp_path_factory.mktemp("runs") / "run")


def file_of(name, *lines) -> str:
    with open(name, "w") as file:
        file.writelines((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    return name


def good(count, answer="Paris") -> list[dict]:
    return [{"question": f"which city is number {i}?", "answers": [answer]} for i in range(count)]


@pytest.mark.parametrize("command", [finetune, evaluate], ids=["finetune", "eval"])
def test_no_run(fails, command, tmp_path, tiny_config):
    assert "no run under runs/: make one with `make pretrain`, or pass --workdir=DIR" in fails(command.main)
    assert "nowhere is no workdir (no config.json)" in fails(command.main, "--workdir=nowhere")
    Workdir.create(tmp_path / "bare", tiny_config)
    line = fails(command.main, "--workdir=bare", "--dataset=cloze")
    assert "bare has no corpus yet: run realm run --workdir=bare" in line


@pytest.mark.parametrize("command", [finetune, evaluate], ids=["finetune", "eval"])
def test_no_questions(fails, command, run):
    workdir = f"--workdir={run.path}"
    line = fails(command.main, workdir, "--dataset=missing.jsonl")
    assert "--dataset=missing.jsonl: no such file, and none of nq, wq, ct, trivia, squad_open, cloze" in line
    empty = file_of("empty.jsonl", "", {"question": " "})
    assert "empty.jsonl: has no question" in fails(command.main, workdir, f"--dataset={empty}")
    torn = file_of("torn.jsonl", *good(2), '{"question": "who')
    assert "torn.jsonl:3: is not JSON" in fails(command.main, workdir, f"--dataset={torn}")
    assert not (run.path / "finetune").exists()


def test_no_development_questions(fails, run):
    one = file_of("one.jsonl", *good(1))
    line = fails(finetune.main, f"--workdir={run.path}", f"--dataset={one}")
    assert "one.jsonl: the hash rule leaves no dev question: use more, or pass --dev=FILE.jsonl" in line
    line = fails(finetune.main, f"--workdir={run.path}", f"--dataset={one}", "--dev=dev.jsonl")
    assert "no question file dev.jsonl" in line


def test_a_name_that_leads_elsewhere_or_is_taken(fails, run):
    train = file_of("train.jsonl", *good(30))
    for name in ("../x", ".", "converted"):
        line = fails(finetune.main, f"--workdir={run.path}", f"--dataset={train}", f"--name={name}")
        assert f"{name!r} cannot be the name of a fine-tuning" in line


def test_no_training_question_has_an_answer(fails, run):
    train, dev = file_of("train.jsonl", {"question": "who?"}, {"question": "why?"}), file_of("dev.jsonl", *good(1))
    line = fails(finetune.main, f"--workdir={run.path}", f"--dataset={train}", f"--dev={dev}", *SMALL)
    assert "no training question has an answer: pass --dataset=FILE.jsonl with answers" in line


def test_no_weights_to_start_from(fails, tiny_run, copy_run, tmp_path):
    workdir = copy_run(tiny_run, tmp_path / "raw")
    line = fails(finetune.main, f"--workdir={workdir.path}", *SMALL)
    assert f"no finished pretrain phase: run realm pretrain --workdir={workdir.path}" in line


def test_settings_that_do_not_fit(fails, run):
    workdir = f"--workdir={run.path}"
    line = fails(finetune.main, workdir, "--finetune.batch_size=0")
    assert "finetune.batch_size must be >= 1" in line
    line = fails(finetune.main, workdir, "--finetune.question_len_tokens=49")
    assert "finetune.question_len_tokens + corpus.block_len_tokens = 97 exceeds model.max_positions = 96" in line
    line = fails(finetune.main, workdir, "--finetune.beam_blocks=2", "--finetune.reader_blocks=3")
    assert "finetune.reader_blocks must lie in [1, finetune.beam_blocks]" in line


def test_unknown_baseline_and_finetuning(fails, run):
    workdir = f"--workdir={run.path}"
    line = fails(evaluate.main, workdir, "--baseline=bm25,nonsense")
    assert "--baseline=nonsense is unknown: use bm25, random, ict, pretrained, frequent, closed_book or all" in line
    line = fails(evaluate.main, workdir, "--finetuning=other")
    assert "was not fine-tuned as other: run realm finetune" in line


def test_a_run_that_is_not_finetuned_is_scored_by_its_retrieval(run, capsys):
    questions = file_of("asked.jsonl", *good(3), {"question": "who?"}, {"question": "and", "answers": ["the"]})
    evaluate.main([f"--workdir={run.path}", f"--dataset={questions}"])
    out = capsys.readouterr().out
    expected = f"not fine-tuned yet: run realm finetune --workdir={run.path} --dataset=asked.jsonl"
    assert expected in out.splitlines()
    recall = json.loads((run.path / "eval" / "asked" / "recall.json").read_text())["recall"]
    assert list(recall) == ["first weights", "after ICT", "after REALM", "BM25"]
    assert {row["recall@1"]["n"] for row in recall.values()} == {4}
    assert not (run.path / "eval" / "asked" / "results.json").exists()


def test_no_question_can_be_judged(fails, run):
    questions = file_of("unanswered.jsonl", {"question": "who?"})
    line = fails(evaluate.main, f"--workdir={run.path}", f"--dataset={questions}")
    assert "no question has an answer, nor a gold_passage of the corpus" in line


ODD = [
    *good(6, answer="Xyzzy Q"),
    {"question": "  ", "answers": ["dropped"]},
    {"question": "which city is number 0?", "answers": ["Plugh Q"]},
    {"question": "when was it?", "answer_regex": ["(", "Q{7}"]},
    {"question": "which is the longest of all the questions that anybody ever asked " * 9, "answers": ["Xyzzy Q"]},
    {"question": "is there none?", "answers": []},
]


@pytest.fixture(scope="module")
def odd(pretrained_run, copy_run, tmp_path_factory):
    """A run fine-tuned on odd questions, whose answers are nowhere in the corpus; the flags; what was printed."""
    folder = tmp_path_factory.mktemp("odd")
    workdir, train = copy_run(pretrained_run, folder / "run"), file_of(str(folder / "odd.jsonl"), *ODD)
    flags = [f"--workdir={workdir.path}", f"--dataset={train}", f"--dev={train}"]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        finetune.main([*flags, *SMALL])
    return workdir, flags, printed.getvalue()


def test_odd_questions_are_reported_and_survived(odd, capsys):
    workdir, flags, out = odd
    train = flags[1].removeprefix("--dataset=")
    for report in (
        "empty questions (dropped): 1 (first: line 7)",
        "repeated questions (joined with their first): 1 (first: line 8)",
        "invalid regular expressions (match nothing): 1 (first: line 9)",
        "questions without an answer (count as wrong): 1 (first: line 11)",
    ):
        assert f"{train}: {report}" in out.splitlines()
    assert "finetune: 8 questions, 1 steps of 8; 1 without answers left out, 1 fill or exceed 12 wordpieces" in out
    (line,) = (workdir.path / "finetune" / "odd" / "metrics.jsonl").read_text().splitlines()
    metrics = json.loads(line)
    assert metrics["loss"] == metrics["answer_in_beam"] == metrics["answer_in_read"] == metrics["dev_exact_match"] == 0
    assert metrics["retriever_loss"] is None  # of no question
    finetune.main(flags)
    assert "is done" in capsys.readouterr().out


def test_odd_questions_are_answered(odd, capsys, fails):
    workdir, (in_workdir, dataset, _), _ = odd
    evaluate.main([in_workdir, dataset, "--run_file=out.trec", "--kilt_file=kilt.jsonl"])
    assert len({line.split()[0] for line in open("out.trec")}) == 9
    predicted = [json.loads(line)["output"][0] for line in open("kilt.jsonl")]
    assert all(output["provenance"] for output in predicted) and any(output["answer"] for output in predicted)
    assert "1 expressions cannot be matched and count as wrong" in capsys.readouterr().out
    assert len((workdir.path / "eval" / "odd" / "predictions.jsonl").read_text().splitlines()) == 9
    line = fails(evaluate.main, in_workdir)
    assert f"was fine-tuned on the file {dataset.removeprefix('--dataset=')}: pass --dataset=TEST.jsonl" in line


@pytest.mark.slow
def test_sets_that_are_learned_together_are_evaluated_one_by_one(odd, copy_run, tmp_path, monkeypatch, capsys, fails):
    monkeypatch.chdir(tmp_path)
    path = str(copy_run(odd[0], tmp_path / "run").path)
    file_of("two.jsonl", *ODD)
    finetune.main([f"--workdir={path}", "--dataset=cloze,two.jsonl", *SMALL, "--finetune.epochs=1"])
    folder = f"{path}/finetune/cloze-two"
    assert json.load(open(f"{folder}/config.json"))["dataset"] == f"cloze,{tmp_path}/two.jsonl"
    assert f"next: realm eval --workdir={path} --dataset=cloze --finetuning=cloze-two" in capsys.readouterr().out
    for flags in ([], ["--dataset=cloze,two.jsonl"]):
        line = fails(evaluate.main, f"--workdir={path}", *flags)
        assert "two.jsonl: is several sets, and each has scores of its own: pass one of them" in line
    flags = ["--dataset=cloze", "--finetuning=cloze-two", "--questions=8", "--blocks=1,3"]
    evaluate.main([f"--workdir={path}", *flags])
    assert "cloze-two" in capsys.readouterr().out
    results = json.load(open(f"{path}/eval/cloze.cloze-two/results.json"))
    settled = results["facts"]["read_blocks"], results["systems"]["fine-tuned"]["reader_oracle"]
    assert list(results["by_blocks"]) == sorted({"1", "3", str(settled[0])})
    assert results["by_blocks"][str(settled[0])]["reader_oracle"] == settled[1]
    assert sum(group["n"] for group in results["systems"]["fine-tuned"]["by_overlap"].values()) == 8


def test_other_settings_under_the_same_name(odd, fails):
    line = fails(finetune.main, *odd[1], "--finetune.epochs=7")
    assert "finetune/odd was begun with other settings (epochs: 7 here, 1 there): pass --name=ANOTHER" in line


def test_other_questions_under_the_same_name(odd, fails, tmp_path, capsys):
    workdir, (in_workdir, dataset, dev), _ = odd
    other, moved = tmp_path / "odd.jsonl", tmp_path / "moved.jsonl"
    moved.write_text(open(dataset.removeprefix("--dataset=")).read())
    other.write_text(moved.read_text().replace("Xyzzy", "Plugh"))
    line = fails(finetune.main, in_workdir, f"--dataset={other}", dev)
    assert "finetune/odd was begun with other settings (other training questions): pass --name=ANOTHER" in line
    line = fails(finetune.main, in_workdir, dataset, f"--dev={other}")
    assert "(other development questions)" in line
    line = fails(finetune.main, in_workdir, dataset, dev, "--preset=orqa")
    assert "batch_size: 1 here, 8 there" in line
    finetune.main([in_workdir, f"--dataset={moved}", f"--dev={moved}", "--name=odd"])
    assert "is done" in capsys.readouterr().out
