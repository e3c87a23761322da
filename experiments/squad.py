"""SQuAD paragraphs as the corpus, for zero-shot passage recall on SQuAD-open questions.

command   realm run --config=experiments/squad.py --corpus=squad_paragraphs.jsonl.gz
          realm eval --workdir=runs/squad --only=recall --dataset=squad_open_dev.jsonl
          (without --corpus the paragraphs come from TensorFlow Datasets: tfds:squad)
hardware  1 CPU core for both processes
time      21 to 23 minutes
result    passage recall@5 of 2,115 questions, mean of 3 seeds: first weights 0.245, after ICT 0.643, after REALM 0.621,
          the same minutes spent on more ICT 0.619, BM25 0.888. REALM did not beat ICT here; on held-out sentences, of
          which it learns, it did (seed 0: plain recall@1 0.636 -> 0.746, +0.069 to +0.150).
"""

from realm_jax.config import Config, CorpusConfig, FinetuneConfig, IctConfig, IndexConfig, ModelConfig, PretrainConfig


def get_config() -> Config:
    return Config(
        name="squad",
        init="asset:bert-tiny",
        model=ModelConfig(
            hidden_size=128,
            num_layers=2,
            num_heads=2,
            intermediate_size=512,
            dropout=0.0,
            gelu="erf",
            pooling="mean",
            projection_gain=0.45,
        ),
        corpus=CorpusConfig(knowledge="tfds:squad", block_len_tokens=128, heldout_fraction=0.05),
        ict=IctConfig(
            steps=400, batch_size=64, query_len_tokens=48, learning_rate=3e-4, null_weight=0.2, checkpoint_every=200
        ),
        pretrain=PretrainConfig(
            steps=600,
            batch_size=16,
            num_candidates=5,
            query_len_tokens=48,
            learning_rate=1e-4,
            retriever_learning_rate=3e-5,
            sampling="span",
            index_refresh_every=50,
            retriever_warmup_steps=200,
            eval_examples=256,
            checkpoint_every=100,
        ),
        finetune=FinetuneConfig(
            epochs=2,
            learning_rate=3e-4,
            retriever_learning_rate=3e-5,
            retriever_label="wordpieces",
            reader_blocks=2,
            question_len_tokens=32,
            dev_questions=200,
        ),
        index=IndexConfig(builder_threads=1, builder_nice=5),
    )
