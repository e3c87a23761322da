"""The paper's best configuration: CC-News as pre-training text X, Wikipedia as knowledge corpus Z.

The paper's exact match with it (Guu et al. 2020, Table 1): NQ 40.4, WQ 40.7, CT 42.9.

command   python -m realm_jax.run --config=experiments/base_ccnews.py --corpus=corpora/enwiki
          --corpus.pretrain_text=corpora/ccnews --workdir=W
hardware
time
result
"""

from realm_jax.config import Config, CorpusConfig, IctConfig, IndexConfig, ModelConfig, PretrainConfig


def get_config() -> Config:
    return Config(
        name="base_ccnews",
        init="google-bert/bert-base-uncased",
        model=ModelConfig(dtype="bfloat16"),
        corpus=CorpusConfig(
            knowledge="corpora/enwiki",
            pretrain_text="corpora/ccnews",
            block_len_tokens=288,
            heldout_fraction=0.001,
        ),
        ict=IctConfig(steps=100_000, batch_size=4096, query_len_tokens=64, learning_rate=1e-4),
        pretrain=PretrainConfig(
            steps=200_000,
            batch_size=512,
            num_candidates=8,
            query_len_tokens=96,
            max_masks=10,
            learning_rate=3e-5,
            sampling="block",
            index_refresh_every=500,
        ),
        index=IndexConfig(device="accelerator", dtype="bfloat16", embed_batch_tokens=131_072),
    )
