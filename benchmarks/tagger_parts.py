"""What the parts of the tagger are worth, beyond a plain BERT with a label for each word.

    python benchmarks/tagger_parts.py [--tagger=runs/tagger]

The tagger as it was trained; the same weights without the transitions between labels; and trained anew, with the same
settings and sentences, without casings. One seed. Writes benchmarks/results/tagger_parts.json. (The casings of the
neighbours, as two more tables, brought 0.002 and were left out.)
"""

import json
import tempfile
from dataclasses import dataclass, replace
from unittest import mock

import numpy as np
import tyro
from etils import epath
from report import write_result

from realm_jax import parallel
from realm_jax.batches import TaggerInput
from realm_jax.data import run_tokenizer
from realm_jax.tagging import conll, sentence_tagger, tag, tag_task, words
from realm_jax.tagging.sentence_tagger import WordLabeller, best_params
from realm_jax.tagging.tagger_folder import TaggerFolder
from realm_jax.workdir import read_json


@dataclass(frozen=True)
class _Flags:
    tagger: str = "runs/tagger"
    """Folder of a tagger on silver labels."""


def main() -> None:
    flags = tyro.cli(_Flags, description=__doc__)
    parallel.set_up_compilation_cache()
    whole = TaggerFolder.open(epath.Path(flags.tagger))
    values = {"whole": read_json(whole.scores_file)["test"], "without transitions": without_transitions(whole)}
    values["without casings"] = without_casings(whole)
    f1 = {name: {kind: of["f1"] for kind, of in scores.items()} for name, scores in values.items()}
    print(write_result("tagger_parts", {"test_f1": f1}, note="One seed."))
    print(json.dumps(f1, indent=1))


def without_transitions(folder: TaggerFolder) -> dict:
    """Scores on the test sentences when each word's best label is taken by itself."""
    sentences = conll.read_folder(folder.path / "silver", "test")
    tokenizer, none = run_tokenizer.load(folder.tokenizer_file), np.zeros_like(folder.transitions)
    labeller = WordLabeller(*folder.read_model(), best_params(folder), tokenizer, none)
    return tag_task.score(labeller, sentences).to_json()


def without_casings(whole: TaggerFolder) -> dict:
    """Scores of a tagger that is trained to see all words written alike."""

    def pad(*arguments: object) -> TaggerInput:
        padded = words.pad(*arguments)
        return replace(padded, casings=np.zeros_like(padded.casings))

    in_training, applied = (mock.patch.object(module, "pad", pad) for module in (tag_task, sentence_tagger))
    with tempfile.TemporaryDirectory() as out, in_training, applied:
        config = replace(whole.config, data=str(whole.path / "silver"))
        folder = TaggerFolder.create(epath.Path(out) / "tagger", config)
        tag.train(folder)
        return read_json(folder.scores_file)["test"]


if __name__ == "__main__":
    main()
