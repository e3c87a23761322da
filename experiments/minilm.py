"""MiniLM (6 layers, 384 wide) on passages of about 100 words, for one GPU.

command   realm run --config=experiments/minilm.py --corpus=PASSAGES
          (the measured runs: python benchmarks/gpu_experiment.py, the same settings against a clock)
hardware  one GPU of 80 GB
time      0.10 s a step of ICT, 0.15 s of REALM on an H100; besides, about a minute of compilation for each phase
result    none yet: in seven minutes REALM came to step 200, up to which its retriever is not trained. ICT took from
          this sentence encoder: zero-shot recall@5 on NQ's questions 0.498 -> 0.452 (-0.065 to -0.027, n 1238)
"""

from realm_jax.config import Config, CorpusConfig, FinetuneConfig, IctConfig, IndexConfig, ModelConfig, PretrainConfig


def get_config() -> Config:
    return Config(
        name="minilm",
        init="asset:minilm",
        model=ModelConfig(
            hidden_size=384,
            num_layers=6,
            num_heads=12,
            intermediate_size=1536,
            dropout=0.0,  # less than an epoch of masked spans
            gelu="erf",
            pooling="mean",  # as MiniLM was trained to
            projection_gain=0.45,
            dtype="bfloat16",
        ),
        # A passage of 100 words has about 137 wordpieces: at 288, half of each joint sequence would be padding.
        corpus=CorpusConfig(knowledge="asset:wiki-leads", block_len_tokens=160, heldout_fraction=0.03),
        ict=IctConfig(
            steps=500, batch_size=512, query_len_tokens=64, learning_rate=2e-4, null_weight=0.2, checkpoint_every=500
        ),
        pretrain=PretrainConfig(
            steps=1000,
            batch_size=96,
            num_candidates=8,
            query_len_tokens=64,
            learning_rate=3e-4,  # these weights come without a masked language model head, which has to be learned
            retriever_learning_rate=3e-5,
            answer_elsewhere=True,
            sampling="span",
            index_refresh_every=200,
            retriever_warmup_steps=200,  # until the encoder reads: before that, its gradient says little of blocks
            checkpoint_every=400,
        ),
        finetune=FinetuneConfig(
            epochs=3,
            batch_size=64,
            learning_rate=1e-4,
            retriever_learning_rate=2e-5,
            retriever_label="wordpieces",
            beam_blocks=500,
            question_len_tokens=32,
            dev_questions=400,
        ),
        index=IndexConfig(search="exact", device="inline", dtype="bfloat16", embed_batch_tokens=65536),
    )
