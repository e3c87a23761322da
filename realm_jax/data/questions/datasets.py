"""All question sets behind one function: the published ones in ORQA's splits, local files, and the run's own sentences.

ORQA (Lee et al. 2019, §5; its released code) takes the published development or test set as its test set, and every
question of the published training set whose hash ends in 0 for development.
"""

import itertools
import logging
import pathlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import farmhash

from realm_jax import paths
from realm_jax.config import Config, ConfigError
from realm_jax.data import published, published_sets
from realm_jax.data.prepare import RunData
from realm_jax.data.questions import beir, cloze, question_files, questions
from realm_jax.data.sources.squad_json import squad_paragraphs
from realm_jax.records import Question

log = logging.getLogger(__name__)

SPLITS = ("train", "dev", "test")
OR_ELSE = "or pass --data_dir=FOLDER with them (or with files that tensorflow-datasets prepared as array_record)"


@dataclass(frozen=True)
class _Set:
    data_set: published_sets.DataSet
    test: str
    """The published split that ORQA tests on."""
    counts: dict[str, int]
    """How many questions ORQA's splits have, before equal ones are joined (its Table 2 and README)."""
    answers: Callable[[dict], Sequence[bytes | str]]
    is_regex: bool = False


_SETS = {
    "nq": _Set(
        published_sets.NQ_OPEN,  # published with short answers of at most 5 tokens only, as ORQA has it
        "validation",
        {"train": 79_168, "dev": 8_757, "test": 3_610},
        lambda row: row["answer"],
    ),
    "wq": _Set(
        published_sets.WEB_QUESTIONS,
        "test",
        {"train": 3_417, "dev": 361, "test": 2_032},
        lambda row: row["answers"],
    ),
    "ct": _Set(
        published_sets.CURATED_TREC,
        "test",
        {"train": 1_353, "dev": 133, "test": 694},
        lambda row: row["answers"],
        is_regex=True,
    ),
    "trivia": _Set(
        published_sets.TRIVIA_QA,  # unfiltered: its evidence is not used
        "validation",
        {"train": 78_785, "dev": 8_837, "test": 11_313},
        lambda row: [row["answer"]["value"], *row["answer"]["aliases"]],
    ),
    "squad_open": _Set(
        published_sets.SQUAD,
        "validation",
        {"train": 78_713, "dev": 8_886, "test": 10_570},
        lambda row: row["answers"]["text"],
    ),
}
NAMES = (*_SETS, "cloze")


def load(
    name: str,
    split: str,
    *,
    data_dir: str = "",
    dev: str = "",
    columns: str = "",
    run: RunData | None = None,
    config: Config | None = None,
) -> list[Question]:
    """Loads the distinct questions of a split, in a fixed order; logs what was dropped, joined or missing.

    A local file's own test split is the whole file; its training and development splits follow ORQA's hash rule.
    Several sets take turns, so that the first questions are as many of each; what two of them ask comes twice.

    Args:
        name: one of NAMES, a file or folder as `questions.read` takes it, or several of these with commas.
        split: train, dev or test.
        data_dir: for published sets, a folder with their raw files, or with files that tensorflow-datasets prepared.
        dev: a file of development questions; then the hash rule takes none out of the training questions.
        columns: names of a file's columns, as `questions.read` takes them.
        run: the opened corpora of a run, for cloze alone.
        config: the configuration of that run.

    Raises:
        ConfigError: the set is unknown, malformed, empty, or neither found nor downloaded.
    """
    if split not in SPLITS:
        raise ConfigError(f"{split!r} is no split: use one of {', '.join(SPLITS)}")
    if split == "dev" and dev:
        return questions.read(dev, columns=columns)
    if len(several := sets_of(name)) > 1:
        flags = {"data_dir": data_dir, "dev": dev, "columns": columns, "run": run, "config": config}
        turns = itertools.zip_longest(*(load(one, split, **flags) for one in several))
        return [question for turn in turns for question in turn if question is not None]
    if name in NAMES and pathlib.Path(name).exists():
        log.info(f"{name}: reads the data set of that name; pass {pathlib.Path(name).absolute()} for that file")
    if name == "cloze":
        if run is None or config is None:
            raise ConfigError("cloze makes its questions from a run's corpus: pass --workdir=DIR of a run")
        return cloze.questions(run, config, split)
    if name in _SETS:
        return _published(name, split, data_dir, with_dev=bool(dev))
    path = pathlib.Path(paths.expand(name))
    if not path.exists():
        raise ConfigError(f"--dataset={name}: no such file, and none of {', '.join(NAMES)}: pass one of these")
    found = questions.read(name, columns=columns, split=split)
    if beir.folder_of(path) is None:  # else its qrels say what belongs to the split
        found = [q for q in found if _belongs(q.text, split, with_dev=bool(dev))]
    if not found:
        raise ConfigError(f"{name}: the hash rule leaves no {split} question: use more, or pass --dev=FILE.jsonl")
    return found


def sets_of(name: str) -> list[str]:
    """Lists the sets that a name joins with commas; where a file has that very name it is one.

    Raises:
        ConfigError: a set comes twice, or nothing stands between two commas.
    """
    if "," not in name or pathlib.Path(paths.expand(name)).exists():
        return [name]
    several = name.split(",")
    if "" in several or len(set(several)) < len(several):
        raise ConfigError(f"--dataset={name}: no such file, and not several sets: write each once, as in nq,wq,ct")
    return several


def folder_name(name: str) -> str:
    """Makes a short name for folders: that of the set, or that of the file without folder and endings."""
    if len(several := sets_of(name)) > 1:
        return "-".join(map(folder_name, several))
    return name if name in NAMES else re.sub(r"[^\w.-]+", "-", question_files.stem(name)).strip("-.") or "questions"


def from_anywhere(name: str) -> str:
    """Names the same sets for a process in another folder: by an absolute path for a file."""
    return ",".join(one if one in (*NAMES, "") else paths.absolute(one) for one in sets_of(name))


def is_dev(question: str) -> bool:
    """Whether ORQA puts a training question aside: TensorFlow's `to_hash_bucket_fast(question, 100000) % 10 == 0`."""
    return farmhash.fingerprint64(question) % 100_000 % 10 == 0


def _belongs(text: str, split: str, *, with_dev: bool) -> bool:
    """Whether a question of the training set (of the test set: any) belongs to the split."""
    return split == "test" or (split == "train" and with_dev) or is_dev(text) == (split == "dev")


def _published(name: str, split: str, data_dir: str, *, with_dev: bool) -> list[Question]:
    of = _SETS[name]
    part = of.test if split == "test" else "train"
    rows = list(published.read(of.data_set, part, data_dir=data_dir, or_else=OR_ELSE))
    passages = _passages(rows) if of.data_set == published_sets.SQUAD and split == "test" else {}
    located = []
    for number, row in enumerate(rows, 1):
        # The rule sees questions as they were published, as in ORQA's code: some of SQuAD's have outer white space.
        text = _text(row["question"])
        if _belongs(text, split, with_dev=with_dev):
            where = f"{name}-{part}:{number}"
            gold = (passages[row["title"], row["context"]],) if passages else ()
            answers = [_text(answer) for answer in of.answers(row)]
            answers = questions.patterns(answers) if of.is_regex else questions.strings(answers)
            located.append((where, Question(where, text.strip(), answers, of.is_regex, gold)))
    expected = of.counts[split] + (of.counts["dev"] if split == "train" and with_dev else 0)
    if len(located) != expected:
        log.info(f"notice: {name} {split} has {len(located):,} questions, ORQA's {expected:,}")
    return questions.distinct(located, f"{name} {split}")


def _passages(rows: list[dict]) -> dict:
    """Maps (title, context), as SQuAD's examples have them, to the id of that record in the corpus tfds:squad."""
    ids = {(record.title, record.text): record.id for record in squad_paragraphs(rows)}
    keys = {(row["title"], row["context"]) for row in rows}
    return {(title, text): ids[_text(title).replace("_", " "), _text(text)] for title, text in keys}


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
