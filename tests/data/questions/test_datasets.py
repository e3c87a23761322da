"""Question sets: ORQA's splits, published files through tensorflow-datasets without TensorFlow, and local files.

The published files are imitated in their own formats; only the comparison of checksums is switched off.
"""

import gzip
import json
import pathlib
import struct
import tarfile
import urllib.error

import pytest

from realm_jax.config import ConfigError
from realm_jax.data import assets, published, published_sets
from realm_jax.data.questions import datasets
from realm_jax.data.sources import sources
from realm_jax.records import Question

SHARED = pathlib.Path(__file__).resolve().parents[4] / "shared" / "data" / "qa"


def fingerprint64(text: str) -> int:
    """FarmHash's Fingerprint64 of 8 to 16 bytes, from its published description."""
    data, word, k2 = text.encode(), (1 << 64) - 1, 0x9AE16A3B2F90404F
    assert 8 <= len(data) <= 16
    rotate = lambda x, by: (x >> by | x << (64 - by)) & word  # noqa: E731
    mul = k2 + 2 * len(data)
    a = (struct.unpack("<Q", data[:8])[0] + k2) & word
    b = struct.unpack("<Q", data[-8:])[0]
    c = (rotate(b, 37) * mul + a) & word
    d = ((rotate(a, 25) + b) * mul) & word
    x = ((c ^ d) * mul) & word
    x ^= x >> 47
    y = ((d ^ x) * mul) & word
    return ((y ^ y >> 47) * mul) & word


ASKED = [f"who is n. {i}?" for i in range(40)]
DEV = [text for text in ASKED if fingerprint64(text) % 100_000 % 10 == 0]
TRAIN = [text for text in ASKED if text not in DEV]


def test_the_hash_rule_is_farmhash():
    assert 0 < len(DEV) < len(TRAIN)
    assert [text for text in ASKED if datasets.is_dev(text)] == DEV


@pytest.mark.skipif(not SHARED.is_dir(), reason="no development data beside the repository")
def test_the_hash_rule_gives_the_published_counts_of_web_questions():
    path = str(SHARED / "webquestions_train.jsonl")
    train, dev = datasets.load(path, "train"), datasets.load(path, "dev")
    assert (len(train), len(dev)) == (3417, 361)
    assert not {q.text for q in train} & {q.text for q in dev}


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def write_nq(folder, texts=ASKED):
    (folder / "NQ-open.train.jsonl").write_text(lines({"question": t, "answer": ["x", f"{t} é"]} for t in texts))
    (folder / "NQ-open.dev.jsonl").write_text(lines([{"question": "tested", "answer": ["y"]}]))
    return [("x", f"{t} é") for t in texts], ("y",)


def write_wq(folder):
    def row(text, value):
        return {"url": "http://x", "utterance": text, "targetValue": value}

    target = '(list (description "Two words") (description One))'
    (folder / "webquestions.train").write_text(json.dumps([row(t, target) for t in ASKED]))
    (folder / "webquestions.test").write_text(json.dumps([row("tested", "(list (description y))")]))
    return [("Two words", "One")] * len(ASKED), ("y",)


def write_trec_tsv(folder):
    text = "".join(f"{i}\tfactoid\t{t}\t\\b1,?9\\d\\d|n\\.\n" for i, t in enumerate(ASKED))
    (folder / "large2180-train.tsv").write_text(text)
    (folder / "large2180-test.tsv").write_text("7\tfactoid\ttested\tN[oó]\n")
    return [("\\b1,?9\\d\\d|n\\.",)] * len(ASKED), ("N[oó]",)


def write_trec_json(folder):
    (folder / "CuratedTrec-train.txt").write_text(lines({"question": t, "answer": ["a|b"]} for t in ASKED))
    (folder / "CuratedTrec-test.txt").write_text(lines([{"question": "tested", "answer": ["N[oó]"]}]))
    return [("a|b",)] * len(ASKED), ("N[oó]",)


def write_trivia(folder):
    def file(texts):
        answer = {"NormalizedAliases": ["v"], "NormalizedValue": "v", "Type": "FreeForm"}
        answer |= {"Value": "V", "Aliases": ["W", "V"]}
        page = [{"DocSource": "TagMe", "Filename": "V.txt", "Title": "V"}]
        rows = [{"Answer": answer, "EntityPages": page, "Question": t, "QuestionSource": "s"} for t in texts]
        rows = [row | {"QuestionId": f"tc_{i}", "SearchResults": []} for i, row in enumerate(rows)]
        return json.dumps({"Data": rows, "Domain": "unfiltered-web", "Version": 1.0}, indent=4)

    raw = folder / "triviaqa-unfiltered"
    raw.mkdir()
    (raw / "unfiltered-web-train.json").write_text(file(ASKED))
    (raw / "unfiltered-web-dev.json").write_text(file(["tested"]))
    with tarfile.open(folder / "triviaqa-unfiltered.tar.gz", "w:gz") as tar:
        tar.add(raw, raw.name)
    return [("V", "W")] * len(ASKED), ("V", "W")


def write_squad(folder):
    def file(texts):
        answers = [{"text": "red", "answer_start": 4}, {"text": "red ", "answer_start": 4}]
        qas = [{"id": f"id{i}", "question": t, "answers": answers} for i, t in enumerate(texts)]
        first = {"context": "No question here.", "qas": []}
        paragraphs = [first, {"context": "The red é fox.", "qas": qas}]
        return json.dumps({"data": [{"title": "Red_Fox", "paragraphs": paragraphs}], "version": "1.1"})

    (folder / "train-v1.1.json").write_text(file(ASKED))
    (folder / "dev-v1.1.json").write_text(file([" tested"]))
    return [("red",)] * len(ASKED), ("red",)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No network, no checksums, an empty cache; gives the list of URLs that were tried."""
    from tensorflow_datasets.core.download.download_manager import DownloadManager

    tried = []

    def refuse(request, timeout):
        tried.append(request.full_url)
        raise urllib.error.URLError("no route")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr(DownloadManager, "_register_or_validate_checksums", lambda self, **kwargs: None)
    monkeypatch.setenv("REALM_JAX_CACHE", str(tmp_path / "cache"))
    return tried


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("nq", write_nq),
        ("wq", write_wq),
        ("ct", write_trec_tsv),
        ("ct", write_trec_json),
        ("trivia", write_trivia),
        ("squad_open", write_squad),
    ],
)
def test_published_files(name, write, tmp_path, offline, capsys):
    folder = tmp_path / "raw"
    folder.mkdir()
    answers, tested = write(folder)
    folder.chmod(0o555)  # data folders are often read-only
    whole = dict(zip(ASKED, answers, strict=True))
    found = {split: datasets.load(name, split, data_dir=str(folder)) for split in datasets.SPLITS}
    assert {q.text: q.answers for q in found["train"]} == {text: whole[text] for text in TRAIN}
    assert {q.text: q.answers for q in found["dev"]} == {text: whole[text] for text in DEV}
    (test,) = found["test"]
    assert (test.text, test.answers) == ("tested", tested)
    assert all(q.is_regex == (name == "ct") for split in found.values() for q in split)
    assert len({q.id for split in found.values() for q in split}) == len(ASKED) + 1
    assert not offline
    if name == "squad_open":
        assert test.gold_passages == (
            "squad/Red Fox/0",
        )  # the paragraph that no question asks for is not in the corpus
    printed = capsys.readouterr().out
    assert f"notice: {name} train has {len(TRAIN)} questions, ORQA's " in printed
    assert f"notice: {name} dev has {len(DEV)} questions, ORQA's " in printed


def test_gold_passages_of_squad_are_records_of_its_corpus(tmp_path, offline):
    (tmp_path / "cache" / "squad").mkdir(parents=True)
    write_squad(tmp_path / "cache" / "squad")
    (question,) = datasets.load("squad_open", "test")
    records = {record.id: record.text for record in sources.read("tfds:squad").records()}
    assert records[question.gold_passages[0]] == "The red é fox."


def test_prepared_files_are_enough(tmp_path, offline):
    raw = tmp_path / "raw"
    raw.mkdir()
    write_nq(raw)
    expected = datasets.load("nq", "train", data_dir=str(raw))
    (prepared,) = assets.cache_dir().glob("tfds-*")
    moved = prepared.rename(tmp_path / "moved")
    assert datasets.load("nq", "train", data_dir=str(moved)) == expected


def test_changed_raw_files_are_read_anew(tmp_path, offline):
    write_nq(tmp_path)
    assert {q.text for q in datasets.load("nq", "dev", data_dir=str(tmp_path))} == set(DEV)
    write_nq(tmp_path, DEV[:1])
    assert [q.text for q in datasets.load("nq", "dev", data_dir=str(tmp_path))] == DEV[:1]


def test_the_expected_counts_are_silent(tmp_path, offline, capsys, monkeypatch):
    write_nq(tmp_path)
    monkeypatch.setitem(datasets._SETS["nq"].counts, "train", len(TRAIN))
    monkeypatch.setitem(datasets._SETS["nq"].counts, "dev", len(DEV))
    datasets.load("nq", "train", data_dir=str(tmp_path))
    whole = datasets.load("nq", "train", data_dir=str(tmp_path), dev="unread.jsonl")
    assert {q.text for q in whole} == set(ASKED)  # tensorflow-datasets has an order of its own
    assert "notice: nq" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["nq", "wq", "ct", "trivia", "squad_open"])
def test_without_network_and_files_the_error_says_what_to_get(name, offline):
    with pytest.raises(ConfigError, match="no route") as error:
        datasets.load(name, "train")
    data_set = datasets._SETS[name].data_set
    for file, url in data_set.files.items():
        assert file in str(error.value) and url in str(error.value)
    assert "--data_dir=FOLDER" in str(error.value) and "\n" not in str(error.value)
    assert offline == [next(iter(data_set.files.values()))]


def test_a_host_that_answers_is_left_to_the_download(tmp_path, offline, monkeypatch):
    from tensorflow_datasets.core.download.download_manager import DownloadManager

    def answers(request, timeout):
        raise urllib.error.HTTPError(request.full_url, 405, "method not allowed", None, None)

    def download(self, resource):
        raise RuntimeError(f"asked for {getattr(resource, 'url', resource)}")

    monkeypatch.setattr("urllib.request.urlopen", answers)
    monkeypatch.setattr(DownloadManager, "_download", download)
    with pytest.raises(ConfigError, match=r"asked for https://.*NQ-open.train.jsonl"):
        datasets.load("nq", "train")


def test_curated_trec_is_downloaded(tmp_path, offline, monkeypatch):
    from tensorflow_datasets.core.download.download_manager import DownloadManager

    write_trec_tsv(tmp_path)
    monkeypatch.setattr(published, "_check_reach", lambda *_: None)
    monkeypatch.setattr(DownloadManager, "download", lambda self, url: tmp_path / url.rsplit("/")[-1])
    assert {q.text for q in datasets.load("ct", "dev")} == set(DEV)


def test_files_that_are_not_the_published_ones(tmp_path, monkeypatch):
    monkeypatch.setenv("REALM_JAX_CACHE", str(tmp_path / "cache"))
    write_nq(tmp_path)
    with pytest.raises(ConfigError, match="NonMatchingChecksumError: .*NQ-open"):
        datasets.load("nq", "train", data_dir=str(tmp_path))
    with pytest.raises(ConfigError, match=r"--data_dir=.*nowhere: no such folder"):
        datasets.load("nq", "train", data_dir=str(tmp_path / "nowhere"))


def test_a_bad_line_of_curated_trec_is_named(tmp_path, offline):
    write_trec_tsv(tmp_path)
    with open(tmp_path / "large2180-train.tsv", "a") as file:
        file.write("41\tfactoid\tno pattern\n")
    with pytest.raises(ConfigError, match=r"large2180-train.tsv:41 is no line of CuratedTREC"):
        datasets.load("ct", "train", data_dir=str(tmp_path))


@pytest.mark.parametrize(
    "data_set", [published_sets.SQUAD, published_sets.NQ_OPEN, published_sets.WEB_QUESTIONS, published_sets.TRIVIA_QA]
)
def test_files_and_urls_are_those_of_tensorflow_datasets(data_set, tmp_path):
    builder = published._builder(data_set, tmp_path)
    theirs = {info.filename: url for url, info in builder.url_infos.items()}
    assert {name: theirs[name] for name in data_set.files} == data_set.files


def test_local_files(tmp_path):
    path = tmp_path / "mine.jsonl.gz"
    path.write_bytes(gzip.compress(lines({"question": f"{t} ", "answers": ["a"]} for t in ASKED).encode()))
    other = tmp_path / "dev.jsonl"
    other.write_text(lines([{"question": "other", "answers": ["b"]}]))
    assert [q.text for q in datasets.load(str(path), "train")] == TRAIN
    assert [q.text for q in datasets.load(str(path), "dev")] == DEV
    assert [q.text for q in datasets.load(str(path), "test")] == ASKED
    assert [q.text for q in datasets.load(str(path), "train", dev=str(other))] == ASKED
    assert datasets.load(str(path), "dev", dev=str(other)) == [Question("dev:1", "other", ("b",))]
    with pytest.raises(ConfigError, match="the hash rule leaves no dev question: .*--dev=FILE.jsonl"):
        datasets.load(str(other), "dev")


def test_several_sets_take_turns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, asked in {"one": ASKED, "two": ASKED[:3] + ["and this?"], "a,b": ASKED}.items():
        pathlib.Path(f"{name}.jsonl").write_text(lines({"question": t, "answers": [name]} for t in asked))
    one, two = (datasets.load(f"{name}.jsonl", "train") for name in ("one", "two"))
    assert 0 < len(two) < len(one)
    found = datasets.load("two.jsonl,one.jsonl", "train")
    turns = [question for both in zip(two, one, strict=False) for question in both]
    assert found == [*turns, *one[len(two) :]]  # what both ask comes twice
    assert datasets.load("one.jsonl,two.jsonl", "dev", dev="two.jsonl") == datasets.load("two.jsonl", "test")
    assert datasets.load("a,b.jsonl", "train") == datasets.load("./a,b.jsonl", "train")  # one file
    assert datasets.folder_name("nq,data/mine.jsonl") == "nq-mine"
    assert datasets.from_anywhere("nq,one.jsonl") == f"nq,{tmp_path / 'one.jsonl'}"
    for name in ("nq,nq", "nq,", ",", "nq,,wq"):
        with pytest.raises(ConfigError, match="write each once, as in nq,wq,ct"):
            datasets.load(name, "train")


def test_unknown_names(tmp_path):
    with pytest.raises(ConfigError, match="none of nq, wq, ct, trivia, squad_open, cloze"):
        datasets.load("webq", "train")
    with pytest.raises(ConfigError, match="'validation' is no split: use one of train, dev, test"):
        datasets.load("nq", "validation")
    with pytest.raises(ConfigError, match="cloze .* pass --workdir=DIR"):
        datasets.load("cloze", "train")


def test_folder_names():
    assert [datasets.folder_name(name) for name in datasets.NAMES] == list(datasets.NAMES)
    assert datasets.folder_name("data/my set.v2.jsonl.gz") == "my-set.v2"
    assert datasets.folder_name("../..") == "questions"


def test_a_folder_with_the_name_of_a_data_set_is_not_passed_over_in_silence(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nq").mkdir()
    with pytest.raises(ConfigError):
        datasets.load("nq", "test", data_dir=str(tmp_path / "nowhere"))
    assert f"nq: reads the data set of that name; pass {tmp_path}/nq for that file" in capsys.readouterr().out
