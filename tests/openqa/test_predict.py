"""Answers against an enumeration of all blocks and spans, one block at a time."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realm_jax import config as config_lib
from realm_jax.batches import Tokens
from realm_jax.data import corpus_writer
from realm_jax.data.assembly import SpecialIds
from realm_jax.data.prepare import RunData
from realm_jax.index.loaded_index import exact_index
from realm_jax.models import embedder, reader
from realm_jax.openqa import predict
from realm_jax.openqa.predict import Answerer
from realm_jax.records import Prediction, Question

QUESTION_LEN, WIDTH, POSITIONS = 14, 4, 61
QUESTIONS = [
    Question("0", "who is Zoë?", ("zoe", "the party")),
    Question("1", "when did the art of 日本 begin and what is it", (r"19\d4|日本",), is_regex=True),
    Question("2", "🙂", ("Art", "naïve of the über party")),
    Question("3", "what?", ()),
    Question("4", "the of the", ("nowhere at all",)),
    Question("5", "a party", ("(", "don.t"), is_regex=True),
    Question("6", "who is it?", ("party 1984",)),
]


def make_config(vocab_size: int) -> config_lib.Config:
    model = config_lib.ModelConfig(
        vocab_size=vocab_size,
        hidden_size=16,
        num_layers=1,
        num_heads=2,
        intermediate_size=24,
        max_positions=POSITIONS,
        projection_dim=8,
        span_hidden_size=12,
        dropout=0.0,
        pooling="mean",
        shared_tower=False,
    )
    finetune = config_lib.FinetuneConfig(question_len_tokens=QUESTION_LEN, max_span_width=WIDTH)
    return config_lib.Config(model=model, corpus=config_lib.CorpusConfig(block_len_tokens=40), finetune=finetune)


def first_params(model, key) -> dict:
    return {"embedder": embedder.init(model, key), "reader": reader.init(model, key)}


class Run:
    """A model of random weights far from their first values, over a corpus."""

    def __init__(self, tokenizer, corpus):
        self.tokenizer, self.corpus = tokenizer, corpus
        self.config = make_config(tokenizer.get_vocab_size())
        first = jax.jit(functools.partial(first_params, self.config.model))(jax.random.key(0))
        rng = np.random.default_rng(1)
        noise = {"embedder": 0.2, "reader": 0.6}  # so that either may decide
        self.params = {
            part: jax.tree.map(lambda x, part=part: (x + rng.normal(0, noise[part], x.shape)).astype(np.float32), tree)
            for part, tree in first.items()
        }
        self.index = exact_index(self.config, corpus, self.params["embedder"], "test")
        data = RunData(tokenizer, SpecialIds.from_tokenizer(tokenizer), corpus, corpus)
        self.answerer = Answerer(self.config, data, self.params, self.index)

    def wordpieces(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def question(self, question: Question) -> list[int]:
        return [2, *self.wordpieces(question.text)[: QUESTION_LEN - 2], 3]

    def retrieval(self, question: Question) -> np.ndarray:
        """float64 [blocks]"""
        query = one_row(self.question(question), 0)
        query_emb = embed(self.config.model)(self.params["embedder"], query)[0]
        return np.asarray(self.index.embeddings, np.float64) @ np.asarray(query_emb, np.float64)

    def ranking(self, question: Question) -> list[int]:
        scores = self.retrieval(question)
        live = set(range(self.corpus.num_blocks)) - set(self.corpus.manifest["tombstones"])
        return sorted(live, key=lambda block: -scores[block])

    def spans(self, question: Question, block: int) -> dict[tuple[int, int], float]:
        """The reader's score of every span of the block's body."""
        start, body = self.question(question), self.corpus.body(block).tolist()
        joint = one_row([*start, *body, 3], len(start))
        mask = np.zeros((1, 1, POSITIONS), bool)
        mask[..., len(start) : len(start) + len(body)] = True
        scores = read(self.config.model)(self.params["reader"], jax.tree.map(lambda x: x[:, None], joint), mask)
        pairs = [(i, i + width) for width in range(WIDTH) for i in range(POSITIONS - width)]
        inside = range(len(start), len(start) + len(body))
        return {
            (i - len(start), j - len(start)): float(score)
            for (i, j), score in zip(pairs, np.asarray(scores)[0, 0], strict=True)
            if i in inside and j in inside
        }

    def has_answer(self, question: Question, block: int) -> bool:
        """An expression matches the text; the wordpieces of a string are in the body."""
        if question.is_regex:
            return bool(self.matches(question, block))
        return any(self.stands_in(answer, block) for answer in question.answers)

    def has_answer_span(self, question: Question, block: int) -> bool:
        answers = self.matches(question, block) if question.is_regex else question.answers
        return any(len(self.wordpieces(a)) <= WIDTH and self.stands_in(a, block) for a in answers)

    def matches(self, question: Question, block: int) -> set[str]:
        valid = [answer for answer in question.answers if answer != "("]
        text = self.corpus.block(block).text
        return {match.group() for answer in valid for match in re.finditer(answer, text, re.IGNORECASE)}

    def stands_in(self, answer: str, block: int) -> bool:
        body, wanted = self.corpus.body(block).tolist(), self.wordpieces(answer)
        return any(body[i : i + len(wanted)] == wanted for i in range(len(body)))


def one_row(ids: list[int], body_start: int) -> Tokens:
    """A batch of one, padded to another length than the answerer's."""
    used = np.arange(POSITIONS) < len(ids)
    types = used & (np.arange(POSITIONS) >= body_start) & (body_start > 0)
    return Tokens(
        np.pad(ids, (0, POSITIONS - len(ids))).astype(np.int32)[None], used[None], types.astype(np.int32)[None]
    )


@functools.cache
def embed(model):
    return jax.jit(lambda params, tokens: embedder.embed(model, params, "query", jax.tree.map(jnp.asarray, tokens)))


@functools.cache
def read(model):
    return jax.jit(lambda params, joint, mask: reader.span_scores(model, params, joint, mask, WIDTH))


@pytest.fixture(scope="module")
def run(random_corpora, pieces_tokenizer):
    return Run(pieces_tokenizer, random_corpora[2])


def check(run, question, prediction, blocks: list[int]):
    """A prediction against all spans of the blocks, which were read in this order."""
    retrieval = run.retrieval(question)
    assert prediction.question is question and prediction.blocks == tuple(blocks)
    np.testing.assert_allclose(prediction.retrieval_scores, retrieval[blocks], rtol=1e-4, atol=1e-4)
    scores = {
        (rank, *span): score + retrieval[block]
        for rank, block in enumerate(blocks)
        for span, score in run.spans(question, block).items()
    }
    best = max(scores, key=scores.get)
    rank, first, last = best
    text = run.corpus.block(blocks[rank]).text
    offsets = run.tokenizer.encode(text, add_special_tokens=False).offsets
    assert prediction.block_rank == rank
    assert prediction.span == (offsets[first][0], offsets[last][1])
    assert prediction.answer == text[slice(*prediction.span)]
    everything = np.array(list(scores.values()))
    expected = np.exp(scores[best] - scores[best]) / np.exp(everything - scores[best]).sum()
    assert prediction.probability == pytest.approx(expected, rel=1e-3)
    assert prediction.oracle == any(run.has_answer_span(question, block) for block in blocks)


@pytest.mark.parametrize("num_blocks", [1, 3])
def test_answers_are_the_best_of_all_spans(run, num_blocks):
    predictions = run.answerer.answer(QUESTIONS, num_blocks=num_blocks, depth=20)
    for question, prediction in zip(QUESTIONS, predictions, strict=True):
        ranking = run.ranking(question)
        check(run, question, prediction, ranking[:num_blocks])
        right = [rank for rank, block in enumerate(ranking[:20]) if run.has_answer(question, block)]
        assert prediction.answer_rank == (right[0] if right else -1)
    assert num_blocks == 1 or len({p.block_rank for p in predictions}) > 1
    assert {p.oracle for p in predictions} == {True, False}
    assert len({p.answer_rank for p in predictions}) > 2


def test_all_blocks_and_more_than_there_are(run):
    """Everything at once: the oracle's probability of all spans of the corpus, whatever is asked for."""
    everything = run.corpus.num_blocks
    some = QUESTIONS[:1]
    asked = run.answerer.answer(some, num_blocks=everything, depth=1)
    more = run.answerer.answer(some, num_blocks=everything + 7, depth=1)
    assert asked == more
    for question, prediction in zip(some, asked, strict=True):
        check(run, question, prediction, run.ranking(question))


def test_how_many_are_read_together_does_not_matter(run, monkeypatch):
    together = run.answerer.answer(QUESTIONS, num_blocks=3)
    monkeypatch.setattr(predict, "BATCH_TOKENS", 1)
    apart = run.answerer.answer(QUESTIONS, num_blocks=3)
    for a, b in zip(together, apart, strict=True):
        assert b.probability == pytest.approx(a.probability, rel=1e-4)
        assert dataclasses.replace(b, probability=a.probability, retrieval_scores=a.retrieval_scores) == a


def test_given_candidates_are_read_in_their_order(run):
    rng = np.random.default_rng(0)
    candidates = np.stack([rng.permutation(run.corpus.num_blocks)[:6] for _ in QUESTIONS]).astype(np.int32)
    candidates[2, 1:] = candidates[5, 3:] = -1
    candidates[3] = -1
    predictions = run.answerer.answer(QUESTIONS, num_blocks=2, candidates=candidates)
    for question, prediction, row in zip(QUESTIONS, predictions, candidates.tolist(), strict=True):
        blocks = [block for block in row if block >= 0]
        right = [rank for rank, block in enumerate(blocks) if run.has_answer(question, block)]
        assert prediction.answer_rank == (right[0] if right else -1)
        if blocks:
            check(run, question, prediction, blocks[:2])
    nothing = predictions[3]
    assert nothing == Prediction(QUESTIONS[3], "", False, probability=nothing.probability)
    assert np.isnan(nothing.probability)


def test_whether_an_answer_is_right(run):
    """Questions whose answer is what was said, by other letters' case, and what was not."""
    (before,) = run.answerer.answer(QUESTIONS[:1], num_blocks=3)
    text = QUESTIONS[0].text
    judged = [
        Question("0", text, (before.answer.upper(),)),
        Question("1", text, ("x" + before.answer,)),
        Question("2", text, (".",), is_regex=True),
        Question("3", text, ("(",), is_regex=True),
        Question("4", text),
    ]
    assert before.answer
    after = run.answerer.answer(judged, num_blocks=3)
    assert {p.answer for p in after} == {before.answer}
    assert [p.is_correct for p in after] == [True, False, True, False, False]


def test_deleted_blocks_are_never_read(new_corpus, pieces_tokenizer):
    corpus = new_corpus(5, 2)
    before = Run(pieces_tokenizer, corpus)
    read_before = {block for p in before.answerer.answer(QUESTIONS, num_blocks=4) for block in p.blocks}
    run = Run(pieces_tokenizer, corpus_writer.delete(sorted(read_before)[::2], corpus.folder))
    predictions = run.answerer.answer(QUESTIONS, num_blocks=4, depth=corpus.num_blocks)
    for question, prediction in zip(QUESTIONS, predictions, strict=True):
        assert prediction.blocks == tuple(run.ranking(question)[:4])
        assert not set(prediction.blocks) & set(sorted(read_before)[::2])
        right = [rank for rank, block in enumerate(run.ranking(question)) if run.has_answer(question, block)]
        assert prediction.answer_rank == (right[0] if right else -1)
    everything = run.answerer.answer(QUESTIONS[:1], num_blocks=corpus.num_blocks)[0]
    assert list(everything.blocks) == run.ranking(QUESTIONS[0])


def test_an_expression_that_cannot_be_matched_is_reported_once(run, capsys):
    run.answerer.answer(QUESTIONS, num_blocks=1, name="test")
    lines = [line for line in capsys.readouterr().out.splitlines() if "expressions cannot be matched" in line]
    assert len(lines) == 1 and lines[0].startswith("test: 1 expressions") and "'('" in lines[0]
