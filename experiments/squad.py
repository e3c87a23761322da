"""SQuAD paragraphs as the corpus, for zero-shot passage recall on SQuAD-open questions.

command   realm run --config=experiments/squad.py --corpus=squad_paragraphs.jsonl.gz
          realm eval --workdir=runs/squad --only=recall --dataset=squad_open_dev.jsonl
          (without --corpus the paragraphs come from TensorFlow Datasets: tfds:squad)
hardware  1 CPU core for both processes
time      21 to 23 minutes
result    passage recall@5 of 2,115 questions, mean of 3 seeds: first weights 0.245, after ICT 0.643, after REALM 0.621,
          the same minutes spent on more ICT 0.619, BM25 0.888. REALM did not beat ICT here; on held-out sentences, the
          kind of text it learns from, it did (seed 0: plain recall@1 0.636 -> 0.746, +0.069 to +0.150).
"""

from dataclasses import replace

from realm_jax.config import Config, CorpusConfig
from realm_jax.experiments import nano


def get_config() -> Config:
    base = nano.get_config()
    return replace(
        base,
        name="squad",
        corpus=CorpusConfig(knowledge="tfds:squad", block_len_tokens=128, heldout_fraction=0.05),
        pretrain=replace(base.pretrain, steps=600, answer_elsewhere=False, index_refresh_every=50, eval_examples=256),
        finetune=replace(base.finetune, epochs=2, question_len_tokens=32, dev_questions=200),
    )
