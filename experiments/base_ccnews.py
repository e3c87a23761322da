"""The paper's best configuration: CC-News as pre-training text X, Wikipedia as knowledge corpus Z.

The paper's exact match with it (Guu et al. 2020, Table 1): NQ 40.4, WQ 40.7, CT 42.9.

command   python -m realm_jax.tagging.tag --data=conll2003 --init=google-bert/bert-base-uncased --learning_rate=5e-5
              --epochs=4 --word_dropout=0 --out=runs/conll
          python -m realm_jax.data.build --source=enwiki-latest-pages-articles-multistream.xml.bz2 --out=corpora/enwiki
          python -m realm_jax.data.build --tagger=runs/conll --out=corpora/ccnews --format=ccnews
              --source=CCNEWS.jsonl.gz
          python -m realm_jax.run --config=experiments/base_ccnews.py --corpus=corpora/enwiki
              --corpus.pretrain_text=corpora/ccnews --workdir=W
          python -m realm_jax.training.finetune --workdir=W --dataset=nq (or wq, ct), then python -m realm_jax.eval
hardware
time
result
"""

from realm_jax.config import Config, CorpusConfig, FinetuneConfig, IctConfig, IndexConfig, ModelConfig, PretrainConfig


def get_config() -> Config:
    return Config(
        name="base_ccnews",
        init="google-bert/bert-base-uncased",
        model=ModelConfig(gelu="erf", dtype="bfloat16"),
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
        finetune=FinetuneConfig(
            epochs=0,  # as published for the dataset
            batch_size=1,
            learning_rate=1e-5,
            beam_blocks=5000,
            reader_blocks=5,
            inference_blocks=5,
            max_span_width=10,
        ),
    )
