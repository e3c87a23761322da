"""A folder in which documented commands run as they are written, in seconds instead of hours.

The experiments are the repository's own with few steps and a small model. Files that a user would bring (a dump, texts,
questions) and published checkpoints lie where the commands look for them; nothing is downloaded.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
from unittest import mock

from documented import REPOSITORY
from tokenizers import Tokenizer

for helpers in ("convert", "data/build"):
    sys.path.insert(0, str(REPOSITORY / "tests" / helpers))

SHRINK = '''
"""{name} with few steps and a small model."""

import dataclasses
import runpy

REAL = runpy.run_path("{real}")
MODEL = dict(vocab_size={vocab}, hidden_size=32, num_layers=1, num_heads=2, intermediate_size=64, projection_dim=16)
STEPS = dict(steps=6, batch_size=8, index_refresh_every=3, checkpoint_every=3)
EVALUATION = dict(log_every=2, eval_examples=16, recall_examples=64, num_candidates=4, retriever_update_every=1)


def small(config):
    replace = dataclasses.replace
    knowledge = "asset:mini" if config.corpus.knowledge.startswith(("asset:", "tfds:")) else config.corpus.knowledge
    index = replace(config.index, wait_timeout_s=120.0, embed_batch_tokens=4096)
    if index.max_age_steps:
        index = replace(index, max_age_steps=STEPS["index_refresh_every"])
    return replace(
        config,
        init="random",
        model=replace(config.model, **MODEL),
        corpus=replace(config.corpus, knowledge=knowledge, pretrain_text="", heldout_fraction=0.2),
        ict=replace(config.ict, steps=4, batch_size=8, checkpoint_every=4),
        pretrain=replace(config.pretrain, **STEPS, **EVALUATION),
        finetune=replace(config.finetune, **FINETUNE),
        index=index,
    )


FINETUNE = dict(epochs=1, batch_size=8, train_questions=16, dev_questions=8)


def get_config():
    return small(REAL["get_config"]())


def get_arms():
    replace = dataclasses.replace
    arms = REAL["get_arms"]()
    return {{n: replace(a, config=small(a.config), finetune=replace(a.finetune, **FINETUNE)) for n, a in arms.items()}}
'''


class Sandbox:
    """The folder, and how commands run in it."""

    def __init__(self, folder: pathlib.Path, cache: pathlib.Path, tokenizer: pathlib.Path):
        self.folder, self._cache = folder, cache
        files = ["Makefile", "README.md", "setup.cfg", "pyproject.toml", "constraints.txt", "requirements-oracle.txt"]
        for name in (*files, "benchmarks", "launch", "notebooks"):
            if (REPOSITORY / name).exists():
                (folder / name).symlink_to(REPOSITORY / name)
        (folder / "experiments").mkdir()
        for file in (REPOSITORY / "experiments").glob("[!_]*.py"):
            text = SHRINK.format(
                name=file.name, real=file, vocab=len(json.loads(tokenizer.read_text())["model"]["vocab"])
            )
            (folder / "experiments" / file.name).write_text(text)
        self._bring_texts()
        self._bring_checkpoints(tokenizer)

    def run(self, command: str, timeout_s: int = 900) -> subprocess.CompletedProcess:
        """Runs it with bash, with this Python and one device; `make` takes the environment as it is."""
        python = pathlib.Path(sys.executable)
        as_it_is = "" if re.search(r"(?<![-\w])setup\b", command) else " -o setup"
        command = re.sub(r"\bmake\b(?= |$)", f"make{as_it_is} PY={python}", command)
        environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1", "HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline"}
        environment |= {"REALM_JAX_CACHE": str(self._cache), "PATH": f"{python.parent}:{os.environ['PATH']}"}
        return subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )

    def _bring_texts(self) -> None:
        lines = (REPOSITORY / "realm_jax" / "data" / "mini_corpus.jsonl").read_text().splitlines()[:80]
        for name in ("articles.jsonl", "my_corpus.jsonl"):
            (self.folder / name).write_text("\n".join(lines) + "\n")
        (self.folder / "folder").mkdir()
        for i, article in enumerate(map(json.loads, lines)):
            text = f"# {article['title']}\n\n{article['text']}\n" if i % 2 else article["text"]
            (self.folder / "folder" / f"{i}.{'md' if i % 2 else 'txt'}").write_text(text)
        new = {"id": "larks", "title": "Lark House", "text": "Lark House was built in 1911 by Ida Brandt."}
        (self.folder / "new.jsonl").write_text(json.dumps(new) + "\n")
        questions = [
            {"question": f"What is number {i}?", "answers": [json.loads(line)["title"]]} for i, line in enumerate(lines)
        ]
        (self.folder / "questions.jsonl").write_text("\n".join(map(json.dumps, questions)) + "\n")
        import dump

        packed = dump.write(self.folder, "multistream")
        index = packed.with_name(packed.name.replace(".xml.bz2", "-index.txt.bz2"))
        for ours in (packed, index):
            shutil.copy(ours, self.folder / ours.name.replace("test-", "enwiki-latest-"))
        shutil.copy(packed, self.folder / "DUMP.xml.bz2")

    def _bring_checkpoints(self, tokenizer: pathlib.Path) -> None:
        """What would come from Hugging Face and from Google's bucket, under the same names, small and random."""
        import published
        from test_convert import TF_ROOTS, write_records
        from test_tensor_bundle import write_bundle

        pieces = Tokenizer.from_file(str(tokenizer))
        config = {**published.CONFIG, "max_position_embeddings": 512}
        texts = [f"Block {i} is about number {i}. It has two sentences." for i in range(40)]
        with mock.patch.object(published, "POSITIONS", config["max_position_embeddings"]):
            parts = {"embedder": published.embedder(), "encoder": published.encoder()}
            everything, plain_bert = published.openqa(len(texts)), published.plain_bert()
        for part, tensors in parts.items():
            published.write(self.folder / "google" / f"realm-cc-news-pretrained-{part}", tensors, config, pieces)
        folder = published.write(self.folder / "google" / "realm-cc-news-pretrained-openqa", everything, config, pieces)
        write_records(folder / "block_records.npy", texts)
        published.write(self.folder / "google-bert" / "bert-base-uncased", plain_bert, config, pieces)
        for name, part in {"embedder": "embedder", "bert": "encoder"}.items():
            folder = self.folder / "cc_news_pretrained" / name / "variables"
            folder.mkdir(parents=True)
            write_bundle(folder / "variables", published.to_tf(parts[part], *TF_ROOTS[part]))
            (folder / "config.json").write_text(json.dumps(config))
        vocabulary = sorted(pieces.get_vocab().items(), key=lambda item: item[1])
        (self.folder / "vocab.txt").write_text("\n".join(piece for piece, _ in vocabulary) + "\n")
