"""BERT-base on the embedded corpus, for one Cloud TPU v3-8: the default of `make pretrain TPU=v3-8` (docs/launch.md).

command   make pretrain TPU=v3-8 WORKDIR=gs://BUCKET/RUN
hardware  8 TPU cores of 16 GB each; the builder on the host's CPU
memory    GiB of a device, as compiled: gpu-x8 6.1 of 80 (estimate), v3-8 4.5 of 16, v4-8 6.5 of 32, v5e-8 4.7 of 16
time
estimate  ICT 0.7 hours, REALM 6.5, not measured: from their FLOPs (docs/scaling.md, and a third more for gradient
          checkpointing) at 40% of the peak of 4 chips, 492 TFLOP/s
result

The corpus is small enough that the CPU can embed all of it between two refreshes. For the paper's corpora use
`experiments/base_wikipedia.py` and a slice for the builder (BUILDER_TPU=v5litepod-8).
"""

from realm_jax.config import Config, CorpusConfig, FinetuneConfig, IctConfig, IndexConfig, ModelConfig, PretrainConfig


def get_config() -> Config:
    return Config(
        name="tpu_v3_8",
        init="google-bert/bert-base-uncased",
        model=ModelConfig(gelu="erf", dtype="bfloat16", gradient_checkpointing=True, scan_layers=True),
        corpus=CorpusConfig(knowledge="asset:wiki-leads", block_len_tokens=288, heldout_fraction=0.1),
        ict=IctConfig(steps=8_000, batch_size=256, query_len_tokens=64, learning_rate=1e-4, null_weight=0.2),
        pretrain=PretrainConfig(
            steps=40_000,
            batch_size=32,
            num_candidates=8,
            query_len_tokens=96,
            max_masks=10,
            learning_rate=3e-5,
            sampling="span",
            index_refresh_every=1000,
        ),
        finetune=FinetuneConfig(batch_size=16, learning_rate=1e-5, retriever_label="wordpieces"),
        index=IndexConfig(device="cpu"),
    )
