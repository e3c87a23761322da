"""Cloze questions: the answer put back gives the block's own sentence, and splits share no article."""

import dataclasses
import json

import pytest

from realm_jax.config import ConfigError
from realm_jax.data import corpus_writer
from realm_jax.data.prepare import open_prepared
from realm_jax.data.questions import cloze, datasets


@pytest.fixture(scope="module")
def run(tiny_run):
    return open_prepared(tiny_run)


@pytest.fixture(scope="module")
def splits(run, tiny_run):
    return {split: datasets.load("cloze", split, run=run, config=tiny_run.config) for split in datasets.SPLITS}


@pytest.fixture(scope="module")
def articles(corpus_file):
    """id -> article, from the file that the corpus was built from."""
    return {record["id"]: record for record in map(json.loads, corpus_file.read_text().splitlines())}


def test_there_are_questions_of_each_split(splits):
    assert len(splits["train"]) > len(splits["test"]) > len(splits["dev"]) > 5
    ids = [question.id for found in splits.values() for question in found]
    assert len(set(ids)) == len(ids)


def test_the_answer_put_back_gives_a_sentence_of_the_article(splits, articles):
    for question in (q for found in splits.values() for q in found):
        (answer,) = question.answers
        article = articles[question.gold_passages[0]]
        assert question.text.count("[MASK]") == 1 and not question.is_regex
        sentence = question.text.replace("[MASK]", answer)
        assert sentence in article["text"]
        assert len(answer) >= 3 and len(sentence.split()) >= 6
        assert answer.lower() not in article["title"].lower()
        assert answer.lower() not in question.text.lower()


def test_splits_share_no_article(run, tiny_run, splits):
    heldout = run.knowledge.heldout(tiny_run.config.corpus.heldout_fraction)
    held_articles = {run.knowledge.block(i).source_id for i, is_held in enumerate(heldout) if is_held}
    of = {split: {question.gold_passages[0] for question in found} for split, found in splits.items()}
    assert not of["train"] & held_articles
    assert of["dev"] | of["test"] <= held_articles
    assert not of["dev"] & of["test"]


def test_one_question_a_sentence(splits):
    sentences = [
        (question.gold_passages, question.text.replace("[MASK]", question.answers[0]))
        for found in splits.values()
        for question in found
    ]
    assert len(set(sentences)) == len(sentences)


def test_the_tokenizer_sees_the_mask_within_the_question(run, tiny_run, splits):
    visible = tiny_run.config.finetune.question_len_tokens - 2
    for question in (q for found in splits.values() for q in found):
        ids = run.tokenizer.encode(question.text, add_special_tokens=False).ids
        assert ids.count(run.special.mask) == 1 and ids.index(run.special.mask) < visible


def test_the_choice_is_seeded_and_limited(run, tiny_run, splits):
    config = tiny_run.config
    assert cloze.questions(run, config, "train") == splits["train"]
    assert cloze.questions(run, config, "train", most=7) == splits["train"][:7]
    asked = dataclasses.replace(config, finetune=dataclasses.replace(config.finetune, train_questions=7))
    assert cloze.questions(run, asked, "train") == splits["train"][:7]
    assert cloze.questions(run, asked, "dev") == splits["dev"]
    other = cloze.questions(run, dataclasses.replace(config, seed=config.seed + 1), "train", most=7)
    assert {question.id for question in other} != {question.id for question in splits["train"][:7]}


def test_another_masking_does_not_matter(run, tiny_run, splits):
    changed = dataclasses.replace(tiny_run.config.pretrain, masking="uniform", query_len_tokens=8)
    config = dataclasses.replace(tiny_run.config, pretrain=changed)
    assert cloze.questions(run, config, "test") == splits["test"]


def test_deleted_blocks_give_no_question(new_run):
    workdir = new_run()
    run = open_prepared(workdir)
    before = cloze.questions(run, workdir.config, "train")
    gone = {int(question.id.split(":")[1]) for question in before[:5]}
    corpus_writer.delete(gone, workdir.knowledge_folder)
    after = cloze.questions(open_prepared(workdir), workdir.config, "train")
    assert after and not {int(question.id.split(":")[1]) for question in after} & gone


@pytest.mark.parametrize(("fraction", "split"), [(0.0, "test"), (0.0, "dev")])
def test_a_corpus_without_heldout_articles(run, tiny_run, fraction, split):
    corpus = dataclasses.replace(tiny_run.config.corpus, heldout_fraction=fraction)
    with pytest.raises(ConfigError, match="corpus.heldout_fraction"):
        cloze.questions(run, dataclasses.replace(tiny_run.config, corpus=corpus), split)


def test_heldout_articles_all_of_one_split(run, tiny_run):
    """The smallest fraction with any held-out article: one of dev and test then has none."""
    hashes = sorted(int(h) for segment in run.knowledge.segments for h in segment.sources["hash"])
    fraction = (hashes[0] + hashes[1]) / 2 / 2.0**64
    corpus = dataclasses.replace(tiny_run.config.corpus, heldout_fraction=fraction)
    config = dataclasses.replace(tiny_run.config, corpus=corpus)
    with pytest.raises(ConfigError, match="corpus.heldout_fraction"):
        for split in ("dev", "test"):
            cloze.questions(run, config, split)
