"""The trained vocabulary: exact size, the same in every process, and every text comes back."""

import json
import subprocess
import sys

import pytest

from realm_jax.config import ConfigError
from realm_jax.data import run_tokenizer

TEXTS = [
    "The river Seine flows through Paris.",
    "Paris is a city; the city of the Seine!",
    "Zürich lies at a lake.",
] * 3
TRAIN = "import json, sys; from realm_jax.data import run_tokenizer; "
TRAIN += "print(run_tokenizer.train(json.load(sys.stdin), 90).to_str())"


@pytest.mark.parametrize("size", [70, 90, 500])
def test_vocabulary_has_exactly_the_size_asked_for(size):
    tokenizer = run_tokenizer.train(TEXTS, size)
    assert tokenizer.get_vocab_size() == size
    assert sorted(tokenizer.get_vocab().values()) == list(range(size))
    assert [tokenizer.id_to_token(i) for i in range(5)] == run_tokenizer.SPECIALS


def test_same_texts_give_the_same_ids_in_every_process(corpus_file):
    texts = [json.loads(line)["text"] for line in corpus_file.read_text().splitlines()][:40]
    outputs = {
        subprocess.run(
            [sys.executable, "-c", TRAIN.replace("90", "400")],
            input=json.dumps(texts),
            text=True,
            check=True,
            stdout=subprocess.PIPE,
        ).stdout.strip()
        for _ in range(3)
    }
    assert outputs == {run_tokenizer.train(texts, 400).to_str()}


def test_every_trained_text_can_be_spelled():
    tokenizer = run_tokenizer.train(TEXTS, 90)
    for text in TEXTS:
        encoding = tokenizer.encode(text, add_special_tokens=False)
        assert "[UNK]" not in encoding.tokens
        assert tokenizer.decode(encoding.ids).replace(" ", "") == text.lower().replace(" ", "").replace("ü", "u")


def test_special_tokens_in_a_text_are_single_pieces():
    tokenizer = run_tokenizer.train(TEXTS, 90)
    assert tokenizer.encode("a [MASK] city", add_special_tokens=False).tokens.count("[MASK]") == 1


def test_too_small_a_vocabulary_is_an_error():
    with pytest.raises(ConfigError, match=r"different letters for a vocabulary of 20: pass --model.vocab_size=\d+"):
        run_tokenizer.train(TEXTS, 20)


def test_vocabulary_of_a_checkpoint_folder(tmp_path):
    with pytest.raises(ConfigError, match="neither tokenizer.json nor vocab.txt"):
        run_tokenizer.from_checkpoint(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join([*run_tokenizer.SPECIALS, "paris", "is", "##t"]) + "\n")
    tokenizer = run_tokenizer.from_checkpoint(tmp_path)
    assert tokenizer.get_vocab_size() == 8
    assert tokenizer.encode("Paris IST", add_special_tokens=False).tokens == ["paris", "is", "##t"]
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ConfigError, match="tokenizer.json: is not JSON"):
        run_tokenizer.from_checkpoint(tmp_path)
