"""The embedded default: Wikipedia leads and a 2-layer BERT, for two CPU cores.

command   make pretrain
hardware  2 CPU cores; 3.7 GB at the peak for both processes
time      6 minutes (ICT 0.7, first index 0.2, REALM 4.0, last index 0.2, evaluation 1.1)
result    held-out sentences, after ICT -> after REALM, with 95% intervals of the paired difference: answer among the
          candidates 0.250 -> 0.283 (+0.025 to +0.041, n 4096), plain recall@1 0.523 -> 0.711 (+0.172 to +0.206,
          n 2544); retrieval utility 0.256, with the retriever frozen 0.210 (+0.028 to +0.064, n 1024)
"""

from realm_jax.config import Config, CorpusConfig, FinetuneConfig, IctConfig, IndexConfig, ModelConfig, PretrainConfig


def get_config() -> Config:
    return Config(
        name="nano",
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
        corpus=CorpusConfig(knowledge="asset:wiki-leads", block_len_tokens=64, heldout_fraction=0.2),
        ict=IctConfig(
            steps=400, batch_size=64, query_len_tokens=48, learning_rate=3e-4, null_weight=0.2, checkpoint_every=200
        ),
        pretrain=PretrainConfig(
            steps=800,
            batch_size=16,
            num_candidates=5,
            query_len_tokens=48,
            learning_rate=1e-4,
            retriever_learning_rate=3e-5,
            answer_elsewhere=True,
            sampling="span",
            index_refresh_every=100,
            retriever_warmup_steps=200,
            checkpoint_every=100,
        ),
        finetune=FinetuneConfig(
            epochs=3,
            learning_rate=3e-4,
            retriever_learning_rate=3e-5,
            retriever_label="wordpieces",
            reader_blocks=2,
            question_len_tokens=48,
        ),
        index=IndexConfig(builder_threads=1, builder_nice=5),
    )
