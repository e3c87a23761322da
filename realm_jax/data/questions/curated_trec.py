"""CuratedTREC (Baudiš and Šedivý 2015): a tensorflow-datasets builder for its published files; runs without TensorFlow.

The files are `large2180-{train,test}.tsv` of github.com/brmson/dataset-factoid-curated, which are downloaded, or their
copies in DrQA's data, `CuratedTrec-{train,test}.txt` of {question, answer: [pattern]}, which ORQA used; a folder of
either serves as `manual_dir`. Answers are regular expressions. (`trec` of tensorflow-datasets is another data set.)
"""

import json
import pathlib

import tensorflow_datasets as tfds

from realm_jax.data.published_sets import CURATED_TREC

SPLITS = ("train", "test")


class CuratedTrec(tfds.core.GeneratorBasedBuilder):
    """Questions of the TREC QA tracks 1999-2003 and of an IRC channel, as `{id, question, answers}`."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "CuratedTrec-{train,test}.txt of DrQA, or large2180-{train,test}.tsv"

    def _info(self) -> tfds.core.DatasetInfo:
        text = tfds.features.Text()
        return tfds.core.DatasetInfo(
            builder=self,
            description="CuratedTREC: factoid questions whose answers are regular expressions.",
            homepage="https://github.com/brmson/dataset-factoid-curated",
            features=tfds.features.FeaturesDict(
                {"id": text, "question": text, "answers": tfds.features.Sequence(tfds.features.Text())}
            ),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        return {split: self._generate_examples(self._file(dl_manager, split)) for split in SPLITS}

    def _file(self, dl_manager: tfds.download.DownloadManager, split: str) -> pathlib.Path:
        name = f"large2180-{split}.tsv"
        try:
            folder = pathlib.Path(dl_manager.manual_dir)
            local = [file for file in (folder / CURATED_TREC.copies[name], folder / name) if file.is_file()]
        except AssertionError:  # no such folder, or an empty one
            local = []
        return local[0] if local else pathlib.Path(dl_manager.download(CURATED_TREC.files[name]))

    def _generate_examples(self, file: pathlib.Path):
        """(line number, example); `file` has lines of JSON, or of `id <tab> kind <tab> question <tab> pattern`.

        Raises:
            ValueError: a line is neither.
        """
        with open(file, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    yield number, _from_json(line) if line.startswith("{") else _from_tsv(line)
                except (ValueError, RecursionError, KeyError) as error:
                    raise ValueError(f"{file}:{number} is no line of CuratedTREC ({error!r})") from error


def _from_json(line: str) -> dict:
    record = json.loads(line)
    return {"id": "", "question": record["question"], "answers": record["answer"]}


def _from_tsv(line: str) -> dict:
    question_id, _, question, pattern = line.rstrip("\r\n").split("\t")
    return {"id": question_id, "question": question, "answers": [pattern]}
