"""Published ways to fine-tune, and for how long: what `--preset` sets, and what `finetune.epochs=0` stands for.

Sources, setting by setting: docs/openqa.md.
"""

import dataclasses

from realm_jax.config import FinetuneConfig
from realm_jax.data.questions import datasets

PRESETS = {
    "orqa": {
        "epochs": 0,
        "batch_size": 1,
        "learning_rate": 1e-5,
        "retriever_learning_rate": None,
        "train_retriever": "query",
        "retriever_label": "substring",
        "beam_blocks": 5000,
        "reader_blocks": 5,
        "inference_blocks": 5,
        "max_span_width": 10,
    }
}
PRESETS["realmpp"] = {**PRESETS["orqa"], "batch_size": 16, "reader_blocks": 10, "inference_blocks": 100}

_EPOCHS_OF_SMALL_SETS = {"wq": 20, "ct": 20}
_EPOCHS = 2


def with_epochs(settings: FinetuneConfig, dataset: str) -> FinetuneConfig:
    """The settings with a number of epochs: if they have none, as published for the dataset (Lee et al. 2019).

    Of several sets, the fewest.
    """
    published = min(_EPOCHS_OF_SMALL_SETS.get(one, _EPOCHS) for one in datasets.sets_of(dataset))
    return dataclasses.replace(settings, epochs=settings.epochs or published)
