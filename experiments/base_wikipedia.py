"""The paper's configuration with Wikipedia as both corpora (Guu et al. 2020, §4.3; Table 1: NQ 39.2, WQ 40.2, CT 46.8).

command   realm tag --data=conll2003 --init=google-bert/bert-base-uncased --learning_rate=5e-5
              --epochs=4 --word_dropout=0 --out=runs/conll
          realm corpus --tagger=runs/conll --out=corpora/enwiki
              --source=enwiki-latest-pages-articles-multistream.xml.bz2
          realm run --config=experiments/base_wikipedia.py --corpus=corpora/enwiki --workdir=W
          realm finetune --workdir=W --dataset=nq (or wq, ct), then realm eval
hardware
memory    GiB of a device, as compiled: gpu-x8 8.0 of 80 (estimate), v3-8 8.0 of 16, v4-8 8.2 of 32, v5e-8 8.1 of 16
time
result
"""

from realm_jax.config import Config, CorpusConfig, FinetuneConfig, IctConfig, IndexConfig, ModelConfig, PretrainConfig


def get_config() -> Config:
    return Config(
        name="base_wikipedia",
        init="google-bert/bert-base-uncased",
        model=ModelConfig(gelu="erf", dtype="bfloat16", gradient_checkpointing=True, scan_layers=True),
        corpus=CorpusConfig(knowledge="corpora/enwiki", block_len_tokens=288, heldout_fraction=0.001),
        ict=IctConfig(steps=100_000, batch_size=4096, micro_batch=64, query_len_tokens=64, learning_rate=1e-4),
        pretrain=PretrainConfig(
            steps=200_000,
            batch_size=512,
            micro_batch=8,
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
