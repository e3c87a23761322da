"""One arm of an ablation: how a run is pre-trained and fine-tuned."""

from dataclasses import dataclass

from realm_jax.config import Config, FinetuneConfig


@dataclass(frozen=True)
class Arm:
    """A row of an ablation's table. Arms of equal `config` share their pre-training."""

    label: str
    config: Config
    """The run's config without the fine-tuning. Arms of a seed that agree on corpus, model and ICT share these, too."""
    finetune: FinetuneConfig
    paper: tuple[float, float] | None = None
    """Exact match and zero-shot recall@5 in percent, on the development set of Natural Questions (Table 2)."""
    reader_of: str = ""
    """Another arm whose fine-tuned model is only evaluated with other settings."""
