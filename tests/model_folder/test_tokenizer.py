"""A folder's tokenizer is what all of its files say, in the case that they say; other kinds are refused by name."""

import json

import bert_folder
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers

from realm_jax.config import ConfigError
from realm_jax.data import assets
from realm_jax.model_folder.tokenizer import from_checkpoint
from realm_jax.model_folder.wordpiece import bert, effects, fits, piece, same, size

WORDS = ["Norland", "norland", "e", "\N{LATIN SMALL LETTER E WITH ACUTE}", "\u4e2d", "\u56fd"]
TEXT = "Norland \N{LATIN SMALL LETTER E WITH ACUTE} \u4e2d\u56fd"
SMALL = ["norland", "e", "\u4e2d", "\u56fd"]
IDS = {p: i for i, p in enumerate(bert_folder.vocabulary(WORDS))}


@pytest.fixture
def folder(tmp_path):
    """Of a BERT with capitals and small letters in its vocab.txt, and nothing that says how they are used."""
    return bert_folder.write(tmp_path / "bert", words=WORDS, weights=False)


def settings_of(folder, name="tokenizer_config.json", **values):
    (folder / name).write_text(json.dumps(values))
    return folder


def with_json(folder, tokenizer):
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def pieces(path) -> list[str]:
    return from_checkpoint(path).encode(TEXT, add_special_tokens=False).tokens


def refused(path) -> str:
    with pytest.raises(ConfigError) as error:
        from_checkpoint(path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500
    return str(error.value)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"do_lower_case": True}, SMALL),
        ({"do_lower_case": False}, [*WORDS[:1], *WORDS[3:]]),
        ({"do_lower_case": True, "strip_accents": False}, ["norland", *WORDS[3:]]),
        ({"do_lower_case": False, "strip_accents": True}, ["Norland", *SMALL[1:]]),
        ({"do_lower_case": True, "tokenize_chinese_chars": False}, [*SMALL[:2], "[UNK]"]),
    ],
)
def test_a_vocab_txt_is_used_as_its_settings_say(folder, values, expected):
    settings_of(folder, **values, tokenizer_class="BertTokenizer", model_max_length=512, do_basic_tokenize=True)
    assert pieces(folder) == pieces(folder / "vocab.txt") == expected
    tokenizer = from_checkpoint(folder)
    assert pieces(with_json(folder, tokenizer)) == expected and same(from_checkpoint(folder), tokenizer)
    assert effects(tokenizer).items() >= {k: v for k, v in values.items() if v is not None}.items()


def test_capitals_that_nothing_explains(folder):
    assert "has wordpieces with capitals ('Norland')" in refused(folder)
    assert 'write {"do_lower_case": false} (or true) into one' in refused(folder)
    bert_folder.write(folder, words=SMALL, weights=False)
    assert pieces(folder) == SMALL


def test_berts_own_vocabulary_needs_no_settings(tmp_path):
    tiny = from_checkpoint(assets.fetch("asset:bert-tiny"))
    lines = sorted(tiny.get_vocab(), key=tiny.get_vocab().get)
    (tmp_path / "vocab.txt").write_text("\n".join(lines), encoding="utf-8")
    assert same(from_checkpoint(tmp_path), tiny)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"do_lower_case": True}, "has do_lower_case true, and tokenizer.json does the opposite"),
        ({"strip_accents": True}, "has strip_accents true, and tokenizer.json does the opposite"),
        ({"tokenize_chinese_chars": False}, "has tokenize_chinese_chars false, and tokenizer.json"),
        ({"do_lower_case": "no"}, "has do_lower_case 'no': correct it to true or false"),
        ({"do_basic_tokenize": False}, "has do_basic_tokenize false, which is not read here"),
        ({"never_split": ["U.S."]}, "has never_split"),
        ({"word_tokenizer_type": "mecab"}, "has word_tokenizer_type 'mecab'"),
        ({"tokenizer_class": "BertJapaneseTokenizer"}, "asks for the tokenizer 'BertJapaneseTokenizer'"),
        ({"tokenizer_class": "XLMRobertaTokenizer"}, "asks for the tokenizer 'XLMRobertaTokenizer'"),
        ({"added_tokens_decoder": {"9" * 5000: "[ENT]"}}, "has '[ENT]' as '999"),
        ({"added_tokens_decoder": ["[ENT]"]}, "has an added_tokens_decoder that is no object"),
        ({"cls_token": "<s>"}, "calls its cls_token '<s>', not [CLS]"),
        ({"added_tokens_decoder": {"500": {"content": "[ENT]"}}}, "has '[ENT]' as 500, tokenizer.json as None"),
    ],
)
def test_settings_that_contradict(folder, values, message):
    with_json(settings_of(folder, **values), bert(IDS, lower=False))
    assert message in refused(folder) and "tokenizer_config.json" in refused(folder)


def test_settings_that_agree_with_tokenizer_json(folder):
    with_json(folder, bert(IDS, lower=False))
    token = {"content": "[CLS]", "lstrip": False}
    settings_of(folder, "special_tokens_map.json", cls_token=token, unk_token="[UNK]")
    values = {"tokenizer_class": "PreTrainedTokenizerFast", "never_split": bert_folder.SPECIALS[::-1]}
    values |= {"strip_accents": None, "added_tokens_decoder": {"2": token}}
    settings_of(folder, cls_token="[CLS]", do_lower_case=False, **values)
    assert pieces(folder)[0] == "Norland"
    settings_of(folder, "special_tokens_map.json", mask_token={"content": "<mask>"})
    assert "special_tokens_map.json: calls its mask_token '<mask>', not [MASK]" in refused(folder)


def test_tokenizer_json_and_vocab_txt_differ(folder):
    with_json(folder, bert(IDS | {"Norland": IDS["norland"], "norland": IDS["Norland"]}, lower=False))
    assert "are different vocabularies: 'Norland' is" in refused(folder)
    with_json(folder, bert({p: i for p, i in IDS.items() if p != "e"}, lower=False))
    assert "'e' is None in the one" in refused(folder)


def test_tokens_that_were_added(folder):
    tokenizer = bert(IDS, lower=False)
    tokenizer.add_special_tokens(["[ENT]"])
    with_json(settings_of(folder, "added_tokens.json", **{"[ENT]": len(IDS)}), tokenizer)
    assert size(from_checkpoint(folder)) == len(IDS) + 1
    (folder / "tokenizer.json").unlink()
    settings_of(folder, do_lower_case=False)
    assert "added_tokens.json: adds '[ENT]'" in refused(folder)


@pytest.mark.parametrize("special", bert_folder.SPECIALS)
def test_a_special_token_that_is_missing(folder, special):
    vocabulary = [p for p in IDS if p != special and p not in WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    assert f"has no {special}: pass --init of a BERT" in refused(folder)
    with_json(folder, Tokenizer(models.WordPiece({p: i for i, p in enumerate(vocabulary)}, unk_token="[UNK]")))
    assert f"has no {special}" in refused(folder)


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (models.BPE({"a": 0}, []), "a byte-pair vocabulary"),
        (models.Unigram([("a", 0.0)]), "a SentencePiece vocabulary"),
        (models.WordLevel({"a": 0}, "a"), "a 'WordLevel' vocabulary"),
    ],
)
def test_other_kinds_of_tokenizer_json(folder, model, kind):
    assert f"is {kind}: only WordPiece is read" in refused(with_json(folder, Tokenizer(model)))


@pytest.mark.parametrize(("name", "kind"), [("spiece.model", "SentencePiece"), ("merges.txt", "byte-pair")])
def test_other_kinds_by_their_files(tmp_path, name, kind):
    (tmp_path / name).write_bytes(b"x")
    assert f"has {name} ({kind}): only WordPiece is read" in refused(tmp_path)


@pytest.mark.parametrize("kind", ["roberta", "albert", "distilbert", "electra", "deberta-v2"])
def test_the_folder_of_another_model(folder, kind):
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    assert f"config.json: is of a model of the type '{kind}', not bert or realm" in refused(folder)


@pytest.mark.parametrize("change", [{"unk_token": "<unk>"}, {"continuing_subword_prefix": "@@"}])
def test_a_wordpiece_that_is_not_berts(folder, change):
    with_json(folder, bert(IDS, lower=False))
    values = json.loads((folder / "tokenizer.json").read_text())
    values["model"] |= change
    (folder / "tokenizer.json").write_text(json.dumps(values))
    assert f"has {next(iter(change))} " in refused(folder)


def test_another_normalizer_that_lower_cases(folder):
    tokenizer = bert(IDS)
    parts = [normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()]
    tokenizer.normalizer = normalizers.Sequence(parts)
    with_json(settings_of(folder, do_lower_case=True), tokenizer)
    assert pieces(folder)[:2] == SMALL[:2]
    assert "does the opposite" in refused(settings_of(folder, do_lower_case=False))


def test_more_wordpieces_than_a_corpus_can_store(folder):
    (folder / "vocab.txt").write_text("\n".join([*bert_folder.SPECIALS, *map(str, range(1 << 16))]))
    assert "has 65541 wordpieces, a corpus stores 65536" in refused(folder)


def test_an_id_of_two_wordpieces(folder):
    with_json(folder, bert(IDS, lower=False))
    values = json.loads((folder / "tokenizer.json").read_text())
    values["model"]["vocab"]["e"] = 5
    (folder / "tokenizer.json").write_text(json.dumps(values))
    (folder / "vocab.txt").unlink()
    assert "gives one id to several wordpieces" in refused(folder)


def test_line_ends_marks_and_blank_lines(folder):
    settings_of(folder, do_lower_case=False)
    plain = (folder / "vocab.txt").read_bytes()
    for content in (b"\xef\xbb\xbf" + plain, plain.replace(b"\n", b"\r\n"), plain + b"\n\n", plain.rstrip()):
        (folder / "vocab.txt").write_bytes(content)
        assert from_checkpoint(folder).get_vocab() == IDS
    (folder / "vocab.txt").write_bytes(plain.replace(b"\ne\n", b"\n\n", 1))
    tokenizer = from_checkpoint(folder)
    assert size(tokenizer) == len(IDS) == len(tokenizer.get_vocab()) + 1


def test_beside_the_weights(folder):
    settings_of(folder, do_lower_case=False)
    for name in ("model.safetensors", "model.safetensors.index.json"):
        (folder / name).write_bytes(b"is not opened")
        assert same(from_checkpoint(folder / name), from_checkpoint(folder))


def test_a_table_of_words_may_be_padded():
    tokenizer = bert({p: i for i, p in enumerate(bert_folder.SPECIALS)})
    fitting = [rows for rows in range(1, 300) if fits(tokenizer, rows)]
    assert fitting == [5, 8, 16, 32, 64, 128]
    assert (piece(tokenizer, 4), piece(tokenizer, 7)) == ("[MASK]", "[row 7]")


TOKENIZER = json.loads(bert({p: i for i, p in enumerate([*bert_folder.SPECIALS, "a", "##b"])}).to_str())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 1 << 40) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=3,
)
CHANGES = st.dictionaries(st.sampled_from([*TOKENIZER, "x"]), JSON, max_size=2)
OF_MODEL = st.dictionaries(st.sampled_from([*TOKENIZER["model"], "x"]), JSON, max_size=2)
CONFIG = st.dictionaries(
    st.sampled_from(["do_lower_case", "cls_token", "tokenizer_class", "never_split", "added_tokens_decoder", "x"]), JSON
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(CHANGES, OF_MODEL, CONFIG, st.binary(max_size=30), st.booleans())
def test_anything_else_is_taken_or_one_line(tmp_path, changes, of_model, config, lines, has_json):
    for name in ("tokenizer.json", "vocab.txt"):
        (tmp_path / name).unlink(missing_ok=True)
    if has_json:
        content = {**TOKENIZER, "model": TOKENIZER["model"] | of_model, **changes}
        (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    else:
        (tmp_path / "vocab.txt").write_bytes("\n".join(bert_folder.SPECIALS).encode() + b"\n" + lines)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    try:
        from_checkpoint(tmp_path).encode("a text", add_special_tokens=False)
    except ConfigError as error:
        assert len(str(error).splitlines()) == 1
