"""CoNLL files as published, in both labellings, and the lines that are refused."""

import zipfile

import pytest

from realm_jax.config import ConfigError
from realm_jax.data import published, published_sets
from realm_jax.tagging import conll
from realm_jax.tagging.bio import label_set
from realm_jax.tagging.conll import LabelledSentence

IOB2 = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O
German JJ B-NP B-MISC
call NN I-NP O

Peter NNP B-NP B-PER
Blackburn NNP I-NP I-PER
"""
IOB1 = IOB2.replace("B-ORG", "I-ORG").replace("B-MISC", "I-MISC").replace("B-PER", "I-PER")
EXPECTED = [
    LabelledSentence(("EU", "rejects", "German", "call"), ("B-ORG", "O", "B-MISC", "O")),
    LabelledSentence(("Peter", "Blackburn"), ("B-PER", "I-PER")),
]


@pytest.mark.parametrize(("text", "name"), [(IOB2, "train.txt"), (IOB1, "eng.train")])
def test_both_labellings_and_both_names(tmp_path, text, name):
    (tmp_path / name).write_text(text)
    assert conll.read_folder(tmp_path, "train") == EXPECTED
    assert EXPECTED[0].text == "EU rejects German call"
    assert [EXPECTED[0].text[a:b] for a, b in EXPECTED[0].places] == list(EXPECTED[0].words)


def test_tabs_and_a_last_line_without_an_end(tmp_path):
    (tmp_path / "test.txt").write_text("\n\nPeter\tB-PER\r\n\n\nEU\tx\tB-ORG")
    assert [s.words for s in conll.read_folder(tmp_path, "test")] == [("Peter",), ("EU",)]


def test_what_is_written_is_read(tmp_path):
    conll.write_file(tmp_path / "valid.txt", [EXPECTED[:1], EXPECTED[1:]])
    assert conll.read_folder(tmp_path, "dev") == EXPECTED
    assert (tmp_path / "valid.txt").read_text().count("-DOCSTART-") == 2


BAD = {
    "word alone": ("EU B-ORG\nrejects\n", r"train.txt:2: has the word 'rejects' without a label"),
    "bad label": ("EU B-ORG\n\nrejects VBZ E-ORG\n", r"train.txt:3: label 'E-ORG' is none of O, B-TYPE .*: correct"),
    "empty": ("\n\n-DOCSTART- O\n", r"train.txt: has no sentence"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_lines_are_named(tmp_path, case):
    text, message = BAD[case]
    (tmp_path / "train.txt").write_text(text)
    with pytest.raises(ConfigError, match=message):
        conll.read_folder(tmp_path, "train")


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="has no train.txt or eng.train: pass --data=FOLDER"):
        conll.read_folder(tmp_path, "train")
    (tmp_path / "train.txt").write_bytes("Müller B-PER".encode("latin1"))
    with pytest.raises(ConfigError, match="cannot be read as UTF-8"):
        conll.read_folder(tmp_path, "train")


@pytest.fixture
def archive(tmp_path):
    """A folder with an archive as published."""
    with zipfile.ZipFile(tmp_path / published_sets.CONLL_ARCHIVE, "w") as file:
        for name in ("train.txt", "valid.txt", "test.txt"):
            file.writestr(name, IOB2 if name == "train.txt" else IOB2.replace("Peter", name[:-4]))
    return tmp_path


def test_published_archive_in_a_folder(archive):
    found = {split: conll.read_conll2003(split, data_dir=str(archive)) for split in ("train", "dev", "test")}
    assert sorted(found["train"], key=str) == EXPECTED  # tensorflow-datasets shuffles, the same way each time
    assert LabelledSentence(("valid", "Blackburn"), ("B-PER", "I-PER")) in found["dev"]
    assert LabelledSentence(("test", "Blackburn"), ("B-PER", "I-PER")) in found["test"]


def test_label_numbers_are_those_of_tensorflow_datasets(tmp_path):
    builder = published._builder(published_sets.CONLL_2003, tmp_path)
    assert builder.info.features["ner"].feature.names == label_set(conll.TYPES)


def test_without_network_the_error_says_what_to_do(tmp_path, monkeypatch):
    def unreachable(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(published.urllib.request, "urlopen", unreachable)
    with pytest.raises(ConfigError) as error:
        conll.read_conll2003("train", data_dir=str(tmp_path))
    line = str(error.value)
    assert "put conll2003.zip (from https://data.deepai.org/conll2003.zip) into" in line and "\n" not in line
    assert "pass --data=FOLDER with its train.txt, valid.txt and test.txt" in line


def test_types_in_a_fixed_order():
    labelled = [LabelledSentence(("a", "b", "c"), ("B-ZOO", "B-MISC", "B-PER"))]
    assert conll.types_of(labelled) == ("PER", "MISC", "ZOO")
