"""What the parts of the tagger are worth, beyond a plain BERT with a label for each word.

    python benchmarks/tagger_parts.py [--tagger=runs/tagger]

The tagger as it was trained; the same weights without the transitions between labels; and trained anew, with the same
settings and sentences, without the casings of neighbours and without any casing. One seed. Writes
benchmarks/results/tagger_parts.json.
"""

import contextlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from unittest import mock

import numpy as np
import tyro
from etils import epath
from report import write_result

from realm_jax import parallel
from realm_jax.data import conll, wordpiece, words
from realm_jax.training import sentence_tagger, tag, tag_task
from realm_jax.training.sentence_tagger import WordLabeller, best_params
from realm_jax.training.tagger_folder import TaggerFolder
from realm_jax.types import TaggerInput
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
    for name, kept in {"without the neighbours' casings": [1], "without casings": []}.items():
        values[name] = trained_with(whole, kept)
    f1 = {name: {kind: of["f1"] for kind, of in scores.items()} for name, scores in values.items()}
    print(write_result("tagger_parts", {"test_f1": f1}, note="One seed."))
    print(json.dumps(f1, indent=1))


def without_transitions(folder: TaggerFolder) -> dict:
    """Scores on the test sentences when each word's best label is taken by itself."""
    sentences = conll.read_folder(folder.path / "silver", "test")
    tokenizer, none = wordpiece.load(folder.tokenizer_file), np.zeros_like(folder.transitions)
    labeller = WordLabeller(*folder.read_model(), best_params(folder), tokenizer, none)
    return tag_task.score(labeller, sentences).to_json()


def trained_with(whole: TaggerFolder, kept: list[int]) -> dict:
    """Scores of a tagger that sees these of the three casings (before, own, after)."""
    with tempfile.TemporaryDirectory() as out, _pad_with(kept):
        config = replace(whole.config, data=str(whole.path / "silver"))
        folder = TaggerFolder.create(epath.Path(out) / "tagger", config)
        tag.train(folder)
        return read_json(folder.scores_file)["test"]


@contextlib.contextmanager
def _pad_with(kept: list[int]) -> Iterator[None]:
    """Training and applying read these of the casings; the others look as at the ends of a sentence."""

    def pad(*arguments: object) -> TaggerInput:
        whole = words.pad(*arguments)
        casings = np.zeros_like(whole.casings)
        casings[..., kept] = whole.casings[..., kept]
        return replace(whole, casings=casings)

    with mock.patch.object(tag_task, "pad", pad), mock.patch.object(sentence_tagger, "pad", pad):
        yield


if __name__ == "__main__":
    main()
