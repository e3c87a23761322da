"""A mini-corpus of our own writing and random weights, without any network: for tests and for trying the commands.

command   make pretrain CONFIG=experiments/mini.py
hardware  2 CPU cores, 2 GB of memory
time      51 seconds
result    a smoke test: every part runs; the corpus is too small to show that REALM helps
"""

from realm_jax.config import Config, CorpusConfig, FinetuneConfig, IctConfig, IndexConfig, ModelConfig, PretrainConfig


def get_config() -> Config:
    return Config(
        name="mini",
        init="random",
        model=ModelConfig(
            vocab_size=3000,
            hidden_size=64,
            num_layers=2,
            num_heads=2,
            intermediate_size=256,
            max_positions=128,
            dropout=0.0,
            pooling="mean",
            projection_gain=0.45,
        ),
        corpus=CorpusConfig(knowledge="asset:mini", block_len_tokens=48, heldout_fraction=0.1),
        ict=IctConfig(steps=150, batch_size=32, query_len_tokens=32, learning_rate=1e-3, checkpoint_every=150),
        pretrain=PretrainConfig(
            steps=120,
            batch_size=16,
            num_candidates=4,
            query_len_tokens=32,
            max_masks=4,
            learning_rate=1e-3,
            retriever_learning_rate=1e-5,
            answer_elsewhere=True,
            sampling="span",
            index_refresh_every=30,
            checkpoint_every=60,
            eval_examples=64,
            recall_examples=256,
        ),
        finetune=FinetuneConfig(
            epochs=2,
            learning_rate=1e-3,
            retriever_learning_rate=1e-4,
            retriever_label="wordpieces",
            question_len_tokens=32,
            log_every=10,
        ),
        index=IndexConfig(builder_threads=1, builder_nice=5),
    )
