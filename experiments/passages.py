"""The default's small BERT on passages of about 100 words, for a training of hours on two CPU cores.

command   realm run --config=experiments/passages.py --corpus=PASSAGES
          (as curves beside controls: make curve QUESTIONS=FOLDER CORPUS=PASSAGES)
hardware  2 CPU cores
time      7 hours for REALM's 10,000 steps, by its first 3,000 (2.3 s a step)
result    not trained to its end yet: step 3,000 of 10,000 is in docs/results.md
"""

from realm_jax.config import Config, CorpusConfig, FinetuneConfig, IctConfig, IndexConfig, ModelConfig, PretrainConfig


def get_config() -> Config:
    return Config(
        name="passages",
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
        # A passage of 100 words has about 137 wordpieces.
        corpus=CorpusConfig(knowledge="asset:wiki-leads", block_len_tokens=160, heldout_fraction=0.05),
        ict=IctConfig(
            steps=2000, batch_size=64, query_len_tokens=64, learning_rate=3e-4, null_weight=0.2, checkpoint_every=500
        ),
        pretrain=PretrainConfig(
            steps=10_000,
            batch_size=16,
            num_candidates=8,
            query_len_tokens=64,
            learning_rate=1e-4,
            retriever_learning_rate=3e-5,
            answer_elsewhere=True,
            sampling="span",
            index_refresh_every=500,
            retriever_warmup_steps=500,
            checkpoint_every=500,
        ),
        finetune=FinetuneConfig(
            epochs=3,
            learning_rate=3e-4,
            retriever_learning_rate=3e-5,
            retriever_label="wordpieces",
            question_len_tokens=32,
        ),
        index=IndexConfig(search="exact", device="inline"),
    )
