"""The published data sets that we read, and where their raw files lie."""

from dataclasses import dataclass, field

TRIVIA_QA_ARCHIVE = "triviaqa-unfiltered.tar.gz"
CONLL_ARCHIVE = "conll2003.zip"


@dataclass(frozen=True)
class DataSet:
    """A data set of tensorflow-datasets, or one of our own builders."""

    builder: str
    """`name` or `name/config`."""
    files: dict[str, str]
    """Published name of each raw file -> URL."""
    copies: dict[str, str] = field(default_factory=dict)
    """Name of a raw file -> another name under which it is published, too."""


_SQUAD_SITE = "https://rajpurkar.github.io/SQuAD-explorer/dataset"
_NQ_SITE = (
    "https://raw.githubusercontent.com/google-research-datasets/natural-questions/"
    "a7a113c9fdc2d9986d624bd43b8a18d6d5779eaa/nq_open"
)
_CODALAB = "https://worksheets.codalab.org/rest/bundles"
_CURATED_SITE = (
    "https://raw.githubusercontent.com/brmson/dataset-factoid-curated/087375a260f713cd5991b6cd615e55f972d50989"
)

SQUAD = DataSet("squad/v1.1", {name: f"{_SQUAD_SITE}/{name}" for name in ("train-v1.1.json", "dev-v1.1.json")})
NQ_OPEN = DataSet(
    "natural_questions_open", {name: f"{_NQ_SITE}/{name}" for name in ("NQ-open.train.jsonl", "NQ-open.dev.jsonl")}
)
WEB_QUESTIONS = DataSet(
    "web_questions",
    {
        "webquestions.train": f"{_CODALAB}/0x4a763f8cde224c2da592b75f29e2f5c2/contents/blob/",
        "webquestions.test": f"{_CODALAB}/0xe7bac352fce7448c9ef238fb0a297ec2/contents/blob/",
    },
)
TRIVIA_QA = DataSet(
    "trivia_qa/unfiltered.nocontext",
    {TRIVIA_QA_ARCHIVE: f"http://nlp.cs.washington.edu/triviaqa/data/{TRIVIA_QA_ARCHIVE}"},
)
CURATED_TREC = DataSet(
    "curated_trec",
    {name: f"{_CURATED_SITE}/{name}" for name in ("large2180-train.tsv", "large2180-test.tsv")},
    copies={"large2180-train.tsv": "CuratedTrec-train.txt", "large2180-test.tsv": "CuratedTrec-test.txt"},
)
CONLL_2003 = DataSet("conll2003", {CONLL_ARCHIVE: f"https://data.deepai.org/{CONLL_ARCHIVE}"})
