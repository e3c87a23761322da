"""Answers to single questions against those of the evaluation, which is tested against an enumeration."""

import re

import pytest

from realm_jax.data.prepare import open_prepared
from realm_jax.inference.ask import ask
from realm_jax.inference.results import Refused
from realm_jax.openqa.predict import Answerer
from realm_jax.records import Question
from realm_jax.training.finetuning import Finetuning

QUESTIONS = ["Who crossed the river?", "when was [MASK] built", "日本の首都 🙂", "عاصمة", "why " * 3000, "[SEP] <b>?"]


@pytest.fixture(scope="module")
def both(tuned_run):
    finetuning, data = Finetuning.open(tuned_run, "cloze"), open_prepared(tuned_run)
    params = finetuning.best_params()
    index = finetuning.index_of(data, params, finetuning.index_store(data, params))
    arguments = finetuning.config, data, params, index
    num_blocks = finetuning.config.finetune.inference_blocks
    one = Answerer(*arguments, pairs=num_blocks)
    return lambda text: ask(one, text), Answerer(*arguments), num_blocks


@pytest.mark.parametrize("text", QUESTIONS, ids=["question", "cloze", "Chinese", "Arabic", "long", "markup"])
def test_the_answer_is_that_of_the_evaluation(both, text):
    one, many, num_blocks = both
    found, (expected,) = one(text), many.answer([Question("", text)], num_blocks=num_blocks)
    best = found.answers[0]
    assert (best.answer, best.span, best.block) == (
        expected.answer,
        expected.span,
        expected.blocks[expected.block_rank],
    )
    assert best.probability == pytest.approx(expected.probability, rel=1e-3)
    assert {answer.block for answer in found.answers} == set(expected.blocks)
    scores = dict(zip(expected.blocks, expected.retrieval_scores, strict=True))
    for answer in found.answers:
        assert answer.retrieval_score == pytest.approx(scores[answer.block], rel=1e-3)
        assert answer.text[slice(*answer.span)] == answer.answer != ""
    shares = [answer.probability for answer in found.answers]
    assert shares == sorted(shares, reverse=True) and sum(shares) <= 1 + 1e-5


def test_what_is_cut_or_unknown_is_said(both):
    assert re.fullmatch(r"Only 30 of \d+ wordpieces were read, the first ones\.", both[0]("why " * 3000).notes[0])
    assert any("vocabulary lacks" in note for note in both[0]("日本の首都").notes)


@pytest.mark.parametrize("text", ["", " \n"])
def test_no_question_is_refused(both, text):
    with pytest.raises(Refused, match="question"):
        both[0](text)
