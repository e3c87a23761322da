"""Published exact match on the test sets, to be shown beside ours together with how the two differ.

Each row names the publication in which its numbers were read.
"""

import pathlib
from dataclasses import dataclass

WIKIPEDIA_BLOCKS = 13_000_000  # "just over 13 million" (Guu et al. 2020, §4.3)
SAME_SIZE = 0.8  # share of them from which a corpus may be the whole of English Wikipedia

_NAMES = {
    "nq": ("nqopen", "naturalquestions"),
    "wq": ("webquestions",),
    "ct": ("curatedtrec",),
    "tqa": ("trivia",),
}
_TEST_QUESTIONS = {"nq": 3610, "wq": 2032, "ct": 694}  # README of the released code

_REALM = "Guu et al. 2020, Table 1"
_EMDR2 = "EMDR2 (Sachan et al. 2021b), Table 2"
_RETRO = "RETRO (Borgeaud et al. 2022), Table 5"
_QUOTED = "quoted in later papers"
_FID = "EMDR2's Table 2, RETRO's Table 5 and issue 3 of FiD"
_FID_KD = "EMDR2's Table 2 and RETRO's Table 5"
_ROWS = (
    ("BERT-Baseline, BM25", {"nq": 26.5, "wq": 17.7, "ct": 21.3}, _REALM),
    ("T5-base, no corpus", {"nq": 27.0, "wq": 29.1}, _REALM),
    ("T5-large, no corpus", {"nq": 29.8, "wq": 32.2}, _REALM),
    ("T5-11b, no corpus", {"nq": 34.5, "wq": 37.4}, _REALM),
    ("DrQA", {"wq": 20.7, "ct": 25.7}, _REALM),
    ("HardEM", {"nq": 28.1}, _REALM),
    ("GraphRetriever", {"nq": 31.8, "wq": 31.6}, _REALM),
    ("PathRetriever", {"nq": 32.6}, _REALM),
    ("ORQA", {"nq": 33.3, "wq": 36.4, "ct": 30.1}, _REALM),
    ("ORQA", {"tqa": 45.0}, _EMDR2),
    ("REALM, pre-trained on Wikipedia", {"nq": 39.2, "wq": 40.2, "ct": 46.8}, _REALM),
    ("REALM, pre-trained on CC-News", {"nq": 40.4, "wq": 40.7, "ct": 42.9}, _REALM),
    ("DPR", {"nq": 41.5, "wq": 34.6, "tqa": 56.8}, _EMDR2),
    ("RAG-Sequence", {"nq": 44.5, "wq": 45.2, "tqa": 56.8}, _EMDR2),
    ("Individual top-k (Sachan et al. 2021a)", {"nq": 45.9, "tqa": 56.3}, _QUOTED),
    ("Joint top-k (Sachan et al. 2021a)", {"nq": 49.2, "tqa": 64.8}, _QUOTED),
    ("FiD base", {"nq": 48.2, "tqa": 65.0}, _FID),
    ("FiD large", {"nq": 51.4, "tqa": 67.6}, _FID),
    ("FiD base, released", {"nq": 50.1, "tqa": 69.3}, "README of FiD"),
    ("FiD large, released", {"nq": 54.4, "tqa": 72.5}, "README of FiD"),
    ("FiD-KD base", {"nq": 49.6, "tqa": 68.8}, _FID_KD),
    ("FiD-KD large", {"nq": 54.7}, _FID_KD),
    ("EMDR2", {"nq": 52.49, "wq": 48.67, "tqa": 71.43}, "README of EMDR2"),
    ("RETRO 7.5B", {"nq": 45.5}, _RETRO),
    ("Atlas-large, 64 training questions", {"nq": 38.8}, "README of Atlas"),
    ("Atlas, all training questions", {"nq": 64.0}, "README of Atlas"),
)


@dataclass(frozen=True)
class Published:
    """One system's exact match on a test set."""

    system: str
    exact_match: float
    """Percent of the questions."""
    source: str


def published(dataset: str) -> tuple[Published, ...]:
    """The rows for a set, from the oldest system to the newest; none for an unknown set.

    Args:
        dataset: nq, wq, ct, tqa, or a name or file that begins like theirs (`nq_open`, `web_questions`, `trivia`).
    """
    key = _key(dataset)
    return tuple(Published(system, values[key], source) for system, values, source in _ROWS if key in values)


def caveat(dataset: str, split: str, corpus: str, num_blocks: int | None, num_questions: int) -> str:
    """How our number differs from the published ones, in sentences for the reader of the table.

    Args:
        split: part of a named dataset; empty for a file of questions.
        num_blocks: size of the corpus that was searched; None if it is not known.
    """
    size = f" of {num_blocks:,} blocks" if num_blocks is not None else ""
    questions = f"{num_questions:,} questions" + (f" ({split})" if split else "")
    measured = (
        f"Ours was measured on {questions} with the corpus {corpus}{size}; "
        f"the published ones on the test set with full Wikipedia ({WIKIPEDIA_BLOCKS // 10**6}M blocks)."
    )
    differences = []
    if num_blocks is not None and num_blocks < SAME_SIZE * WIKIPEDIA_BLOCKS:
        differences.append("another corpus")
    if split not in ("test", "") or num_questions != _TEST_QUESTIONS.get(_key(dataset), num_questions):
        differences.append("other questions")
    if differences:
        return f"{measured} They are not comparable: {' and '.join(differences)}."
    return f"{measured} They are comparable only if {corpus} is the full Wikipedia too."


def _key(dataset: str) -> str:
    plain = pathlib.PurePath(dataset).name.lower().replace("_", "").replace("-", "")
    for key, names in _NAMES.items():
        if plain.split(".")[0] == key or plain.startswith(names):
            return key
    return ""
