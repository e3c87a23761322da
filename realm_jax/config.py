"""One frozen configuration for all phases, read by every process of a run.

An experiment file returns a `Config`; the command line overrides fields; the result is checked once and written to
`WORKDIR/config.json`. Lengths are wordpieces including special tokens. Paper sections refer to Guu et al. 2020.
"""

import importlib.util
from dataclasses import dataclass, field
from typing import Annotated, Literal

from realm_jax.bounds import Count, CountOrZero, Least, Rate, least_values

CONVERTED = "converted"
"""As `init` or `corpus.knowledge`: what `realm convert` put into the workdir."""


class ConfigError(ValueError):
    """A setting, file or flag that the user can correct; the message names the fix."""


class RunError(RuntimeError):
    """A run that had to stop; the message says where, and how to go on."""


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the BERT in the embedder and in the knowledge-augmented encoder (§3.1)."""

    vocab_size: int = 30522
    """Wordpieces in the vocabulary."""
    hidden_size: int = 768
    """Width of the residual stream."""
    num_layers: int = 12
    """Transformer blocks."""
    num_heads: Count = 12
    """Attention heads."""
    intermediate_size: int = 3072
    """Width of the feed-forward layer."""
    max_positions: int = 512
    """Rows of the position table."""
    dropout: float = 0.1
    """Dropout rate of hidden states, attention weights and the embedder's projection."""
    attention_dropout: bool = True
    """Whether dropout takes attention weights too, as BERT's does. Without it, GPUs use cuDNN's fused attention."""
    gelu: Literal["tanh", "erf"] = "tanh"
    """The GELU of Google's BERT (tanh) or the exact one that many published weights were trained with (erf)."""
    pooling: Literal["cls", "mean"] = "cls"
    """What the embedder projects: BERT's pooled [CLS] (paper), or the mean of the last hidden states."""
    projection_dim: int = 128
    """Dimensions of a retrieval embedding (§3.1)."""
    projection_gain: float = 1.0
    """Initial gain of the embedder's last LayerNorm: scores are at most gain^2 * projection_dim (released: 0.74)."""
    span_hidden_size: int = 256
    """Width of the reader's span representation (Lee et al. 2019)."""
    shared_tower: bool = True
    """One embedder for queries and blocks (released code), or two (paper's W_input and W_doc)."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Compute type; parameters stay float32."""
    gradient_checkpointing: bool = False
    """Keep each layer's input alone for the backward pass: less memory, the same gradient, a third more computation."""
    scan_layers: bool = False
    """Compile one layer and loop over all, for large models. Parameters are named as ever; dropout draws otherwise."""

    def check(self) -> None:
        """Raises ConfigError for a value that no other setting could make valid."""
        _require(self.hidden_size % self.num_heads == 0, "model.hidden_size must be a multiple of model.num_heads")
        _require(self.vocab_size <= 1 << 16, "model.vocab_size must be at most 65536: the corpus stores uint16 ids")
        _require(0 <= self.dropout < 1, "model.dropout must lie in [0, 1)")
        _require(self.projection_gain > 0, "model.projection_gain must be positive")


@dataclass(frozen=True)
class CorpusConfig:
    """The texts: the knowledge corpus Z that is retrieved from, and the pre-training text X that is masked."""

    knowledge: str = ""
    """Knowledge corpus Z (or --corpus): asset:wiki-leads, asset:mini, tfds:squad, file or folder (docs/formats.md)."""
    pretrain_text: str = ""
    """Pre-training text X in the same forms; empty means the knowledge corpus (§3.4 compares both)."""
    block_len_tokens: int = 288
    """Longest block: wordpieces of title and text with three special tokens (§4.2)."""
    columns: str = ""
    """Fields of the records of both, where they have other names: id=_id,text=passage,title=name."""
    blocks: Literal["auto", "cut", "as_given"] = "auto"
    """Cut records into blocks, or take each as a block as it came; auto does what is usual for the format."""
    tagger: str = "rules"
    """Salient spans by `rules` (no model), or by a spaCy pipeline: spacy:en_core_web_sm."""
    heldout_fraction: float = 0.01
    """Share of articles, chosen by a hash of their id, that give no training query; their blocks stay in the index."""

    def check(self) -> None:
        """Raises ConfigError for a value that no other setting could make valid."""
        _require(bool(self.knowledge), "corpus.knowledge is empty: pass --corpus=FILE_OR_FOLDER")
        _require(16 <= self.block_len_tokens <= 512, "corpus.block_len_tokens must lie in [16, 512]")
        _require(0 <= self.heldout_fraction < 1, "corpus.heldout_fraction must lie in [0, 1)")
        is_known = self.tagger == "rules" or self.tagger.startswith("spacy:")
        _require(is_known, f"corpus.tagger {self.tagger!r} is unknown: use rules or spacy:PIPELINE")


@dataclass(frozen=True)
class IctConfig:
    """Inverse cloze task (Lee et al. 2019): the embedder's warm start (§3.4)."""

    steps: CountOrZero = 100_000
    """Training steps; 0 skips the phase."""
    batch_size: Count = 4096
    """Sentences in a step, over all devices; every other block of the batch is a negative."""
    micro_batch: CountOrZero = 0
    """Sentences, then blocks, that a device embeds at once, each twice (GradCache, Gao et al. 2021); 0 means all."""
    query_len_tokens: Annotated[int, Least(8)] = 64
    """Longest query."""
    learning_rate: Rate = 1e-4
    """Peak rate of BERT's AdamW, reached after the warm-up."""
    sentence_removal_rate: float = 0.9
    """Share of examples whose sentence is removed from its block."""
    null_weight: float = 0.0
    """Weight of a second loss: without the own block, the null block is right. 0, as published, leaves it to chance."""
    checkpoint_every: Count = 1000
    """Steps between checkpoints."""
    log_every: Count = 20
    """Steps between lines of metrics."""

    def check(self) -> None:
        """Raises ConfigError for a value that no other setting could make valid."""
        _require(self.batch_size > 1, "ict.batch_size must be > 1: the other blocks of the batch are the negatives")
        _require(0 <= self.sentence_removal_rate <= 1, "ict.sentence_removal_rate must lie in [0, 1]")


@dataclass(frozen=True)
class PretrainConfig:
    """REALM pre-training on masked spans (§3.3, §4.3)."""

    steps: Count = 200_000
    """Training steps."""
    batch_size: Count = 512
    """Masked sentences in a step, over all devices."""
    micro_batch: CountOrZero = 0
    """Masked sentences that a device holds at once; 0 means all of its own. Loss and gradient stay the same."""
    num_candidates: int = 8
    """Blocks that the loss sums over, the null block among them (k)."""
    micro_candidates: CountOrZero = 0
    """Candidates of a query that are read at once, and once more in the backward pass; 0 means all, without that."""
    query_len_tokens: Annotated[int, Least(8)] = 96
    """Longest query; the joint sequence is this plus corpus.block_len_tokens."""
    max_masks: Count = 10
    """Most predicted wordpieces of a query; a longer span is masked whole and predicted in part."""
    learning_rate: Rate = 3e-5
    """Peak rate of BERT's AdamW for the encoder, reached after the warm-up."""
    retriever_learning_rate: Rate | None = None
    """Peak rate for the embedder; by default the encoder's."""
    marginal: Literal["token", "sequence"] = "token"
    """Marginal likelihood of each masked token (released code) or of the whole span (equation 1)."""
    masking: Literal["salient", "uniform", "span"] = "salient"
    """What is masked: a salient span, uniformly drawn wordpieces, or a random span (Table 2)."""
    sampling: Literal["block", "sentence", "span"] = "block"
    """What an epoch visits once: each block, for one of its spans (released code), each sentence, or each span."""
    null_block: bool = True
    """False leaves the null block out of the loss (it is still measured); a query without any block has weight 0."""
    ban_source_block: bool = True
    """Keep a query's own block out of its candidates (§3.4: trivial retrieval)."""
    answer_elsewhere: bool = False
    """Train only on salient spans that another article's text has too, so that some block can answer the query."""
    answer_depth: CountOrZero = 0
    """Where no candidate has the span, the first of so many best blocks that has it becomes the last one; 0: none."""
    index_refresh_every: CountOrZero = 500
    """Steps between embedder checkpoints, each of which asks the builder for an index version; 0 freezes the index."""
    train_retriever: bool = True
    """False keeps the embedder as ICT left it: the control run."""
    retriever_update_every: Count = 1
    """1 updates the retriever in each step; n applies the mean of n steps' gradients every n steps."""
    retriever_warmup_steps: CountOrZero = 0
    """Steps at the start in which the retriever does not learn; a multiple of retriever_update_every."""
    checkpoint_every: Count = 500
    """Steps between full checkpoints."""
    log_every: Count = 20
    """Steps between lines of metrics."""
    eval_examples: Count = 1024
    """Held-out masked sentences for the loss with retrieved, random and null blocks."""
    recall_examples: Count = 4096
    """Held-out sentences for recall and for the share with the answer among the candidates."""
    eval_blocks: CountOrZero = 1_000_000
    """Blocks that an evaluation draws from a corpus of more and embeds with each state that it judges; 0 embeds all."""

    def check(self) -> None:
        """Raises ConfigError for a value that no other setting could make valid."""
        _require(self.num_candidates >= 2, "pretrain.num_candidates counts the null block: at least 2")
        wants = [name for name in ("answer_elsewhere", "answer_depth") if getattr(self, name)]
        _require(self.masking == "salient" or not wants, f"pretrain.{', '.join(wants)} needs pretrain.masking=salient")


@dataclass(frozen=True)
class IndexConfig:
    """Maximum inner product search over block embeddings, and the process that keeps it fresh (§3.3)."""

    search: Literal["scann", "exact", "lsh"] = "scann"
    """ScaNN on the host, exact search on the devices, or sign random projections (for study)."""
    device: Literal["cpu", "accelerator", "inline"] = "cpu"
    """Where the builder embeds: host CPU, its own accelerator, or inside the trainer, which pauses for it."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Stored type of block embeddings."""
    embed_batch_tokens: Annotated[int, Least(512)] = 16384
    """Wordpieces in a batch of blocks that are embedded; blocks are sorted by length."""
    keep_versions: Count = 3
    """How many of the newest versions stay on disk, besides any in use."""
    max_age_steps: CountOrZero = 0
    """Trainer steps after which an index version counts as too old; 0 sets no limit."""
    max_age_policy: Literal["warn", "pause", "stop"] = "warn"
    """What the trainer does with a version past the limit."""
    builder_threads: CountOrZero = 0
    """CPU cores of a builder on the host CPU; 0 means all."""
    builder_nice: int = 0
    """Scheduling niceness of the builder (19 is the lowest priority)."""
    wait_timeout_s: float = 3600.0
    """Deadline of every wait of the trainer for the builder and of the builder for the trainer."""
    scann_leaves_to_search: float = 0.1
    """Share of tree leaves that ScaNN searches when the corpus is large enough for a tree (`realm tune` chooses it)."""
    scann_reorder: Count = 100
    """Blocks that ScaNN proposes for a query, at least, and that are scored again exactly (`realm tune` chooses it)."""
    scann_soar: bool = False
    """Keep each block in a second leaf of the tree (Sun et al. 2023): twice the hashes, fewer leaves to search."""
    lsh_tables: int = 16
    """Hash tables of the `lsh` search."""
    lsh_bits: int = 8
    """Bits of each hash of the `lsh` search; 0 scores every block."""

    def check(self) -> None:
        """Raises ConfigError for a value that no other setting could make valid."""
        _require(0 <= self.builder_nice <= 19, "index.builder_nice must lie in [0, 19]")
        _require(0 < self.scann_leaves_to_search <= 1, "index.scann_leaves_to_search must lie in (0, 1]")
        _require(0 <= self.lsh_bits <= 24 and self.lsh_tables >= 1, "index.lsh_bits must lie in [0, 24]")
        has_limit = self.max_age_policy == "warn" or self.max_age_steps > 0
        _require(has_limit, f"index.max_age_policy={self.max_age_policy} needs index.max_age_steps > 0")


@dataclass(frozen=True)
class FinetuneConfig:
    """Fine-tuning on questions with answers (Lee et al. 2019, §4; Guu et al. 2020, §4.3)."""

    epochs: CountOrZero = 0
    """Passes over the training questions; 0 is the published number for the dataset: 20 for wq and ct, 2 for others."""
    batch_size: Count = 16
    """Questions in a step, over all devices, padded where they do not divide over them (released code: 1)."""
    micro_batch: CountOrZero = 0
    """Questions that a device holds at once; 0 means all of its own."""
    learning_rate: Rate = 1e-5
    """Peak rate of BERT's AdamW for the reader."""
    retriever_learning_rate: Rate | None = None
    """Peak rate for the retriever; by default the reader's."""
    train_retriever: Literal["none", "query", "both"] = "query"
    """Which towers learn: none, that of queries (paper: the index is frozen), or both, with the index kept fresh."""
    retriever_from: Literal["pretrain", "ict", "init"] = "pretrain"
    """Phase that the embedder's first weights come from (Table 2 exchanges retrievers)."""
    encoder_from: Literal["pretrain", "init"] = "pretrain"
    """Phase that the reader's BERT comes from (Table 2 exchanges encoders)."""
    retriever_label: Literal["substring", "wordpieces"] = "substring"
    """A block is right if its text has an answer byte by byte (released code), or its wordpieces have the answer's."""
    beam_blocks: int = 5000
    """Best blocks that the retriever's loss sums over; the corpus may have fewer."""
    reader_blocks: int = 5
    """Best blocks that the reader sees in training."""
    inference_blocks: Count = 5
    """Best blocks that the reader sees when it answers."""
    question_len_tokens: Annotated[int, Least(8)] = 64
    """Longest question, cut there (released code: never). The reader's input is corpus.block_len_tokens longer."""
    search: Literal["auto", "exact", "scann"] = "auto"
    """How the beam is found; `auto` takes ScaNN, which misses some, for over a million blocks where memory is short."""
    max_span_width: Count = 10
    """Longest answer in wordpieces."""
    train_questions: CountOrZero = 0
    """How many training questions are used, from the first; 0 means all, and 4,000 of `cloze`, which can make more."""
    dev_questions: CountOrZero = 0
    """How many development questions choose the best checkpoint, from the first; 0 means all."""
    eval_every: CountOrZero = 0
    """Steps between exact matches on the development questions; 0 means ten times in all."""
    patience: CountOrZero = 0
    """Evaluations without a better exact match after which training ends early; 0 never ends early."""
    index_refresh_every: Count = 500
    """Steps between index versions when train_retriever is `both`."""
    log_every: Count = 20
    """Steps between lines of metrics."""

    def check(self) -> None:
        """Raises ConfigError for a value that no other setting could make valid."""
        is_within = 0 < self.reader_blocks <= self.beam_blocks
        _require(is_within, "finetune.reader_blocks must lie in [1, finetune.beam_blocks]")


@dataclass(frozen=True)
class Config:
    """A whole run: ICT, pre-training, the index and fine-tuning, on one corpus with one model."""

    name: str = "realm"
    """Name of the experiment; the default workdir is runs/NAME."""
    seed: int = 0
    """Seed of parameters, dropout, masking and example order."""
    init: str = "random"
    """First weights and vocabulary: asset:bert-tiny, asset:minilm, a Hugging Face id, folder, random (or converted)."""
    tracker: Literal["tensorboard", "wandb"] = "tensorboard"
    """Where curves are drawn: TensorBoard's files in the workdir, or Weights & Biases (the extra `wandb`)."""
    model: ModelConfig = field(default_factory=ModelConfig)
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    ict: IctConfig = field(default_factory=IctConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    index: IndexConfig = field(default_factory=IndexConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)

    @property
    def joint_len_tokens(self) -> int:
        """Length of `[CLS] query [SEP] block [SEP]`."""
        return self.pretrain.query_len_tokens + self.corpus.block_len_tokens

    @property
    def reader_len_tokens(self) -> int:
        """Length of `[CLS] question [SEP] body [SEP]`."""
        return self.finetune.question_len_tokens + self.corpus.block_len_tokens

    def check(self) -> "Config":
        """Returns self if every field is valid alone and with the others; raises ConfigError otherwise."""
        for name in ("model", "corpus", "ict", "pretrain", "index", "finetune"):
            section = getattr(self, name)
            for setting, least in least_values(type(section)).items():
                value = getattr(section, setting)
                _require(value is None or value >= least, f"{name}.{setting} must be >= {least}")
            section.check()
        _require(bool(self.name) and "/" not in self.name, "name must be a plain word: it names the workdir")
        # A mere folder, as the package makes for its runs, has no origin.
        has_tracker = self.tracker != "wandb" or bool(getattr(importlib.util.find_spec("wandb"), "origin", None))
        _require(has_tracker, "tracker=wandb needs `pip install 'realm_jax[wandb]'`: or pass --tracker=tensorboard")
        _require(bool(self.init), "init is empty: pass --init=random, a folder, a Hugging Face id or asset:NAME")
        for name, length in (
            ("pretrain.query_len_tokens + corpus.block_len_tokens", self.joint_len_tokens),
            ("ict.query_len_tokens", self.ict.query_len_tokens),
            ("finetune.question_len_tokens + corpus.block_len_tokens", self.reader_len_tokens),
        ):
            fits = length <= self.model.max_positions
            _require(fits, f"{name} = {length} exceeds model.max_positions = {self.model.max_positions}")
        pauses, every = self.index.max_age_policy == "pause", self.pretrain.index_refresh_every
        rule = "index.max_age_policy=pause needs 0 < pretrain.index_refresh_every <= index.max_age_steps"
        _require(not pauses or 0 < every <= self.index.max_age_steps, f"{rule}: else it waits for what nobody builds")
        period = self.pretrain.retriever_update_every
        for name in ("index_refresh_every", "retriever_warmup_steps"):  # so that a new index has the newest weights
            value, rule = getattr(self.pretrain, name), f"a multiple of {period}, pretrain.retriever_update_every"
            aligned = -(-value // period) * period
            _require(value == aligned, f"pretrain.{name} must be {rule}: pass --pretrain.{name}={aligned}")
        return self


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)
