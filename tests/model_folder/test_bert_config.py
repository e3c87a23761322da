"""Every field of config.json is used, known to change nothing, or refused by name; anything else is one line."""

import json

import bert_folder
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from realm_jax.config import ConfigError
from realm_jax.model_folder.bert_config import read_config, shape_of

# Written down from configs of published BERTs: two of `transformers` 3 and 5, one of an older library, one of Google.
PUBLISHED = {
    "transformers 5": {
        "add_cross_attention": False, "bos_token_id": None, "classifier_dropout": None, "dtype": "float32",
        "eos_token_id": None, "initializer_range": 0.02, "is_decoder": False, "position_embedding_type": "absolute",
        "tie_word_embeddings": True, "transformers_version": "5.5.4", "use_cache": True,
        "_attn_implementation_autoset": True, "_name_or_path": "x/y", "torch_dtype": "float32",
    },
    "a tagger of transformers 3": {
        "architectures": ["BertForTokenClassification"], "_num_labels": 9, "id2label": {"0": "O"},
        "label2id": {"O": 0}, "output_past": True, "gradient_checkpointing": False,
        "directionality": "bidi", "pooler_fc_size": 768, "pooler_num_attention_heads": 12, "pooler_num_fc_layers": 3,
        "pooler_size_per_head": 128, "pooler_type": "first_token_transform",
    },
    "of the time before": {
        "finetuning_task": None, "num_labels": 2, "output_attentions": False, "output_hidden_states": False,
        "pruned_heads": {}, "torchscript": False, "use_bfloat16": False, "do_sample": False, "eos_token_ids": 0,
        "length_penalty": 1.0, "max_length": 20, "num_beams": 1, "num_return_sequences": 1,
        "repetition_penalty": 1.0, "temperature": 1.0, "top_k": 50, "top_p": 1.0, "is_decoder": False,
    },
    "distilled": {"emb_size": bert_folder.HIDDEN, "cell": {}, "structure": [], "training": "", "pre_trained": ""},
}  # fmt: skip


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    """Writes a config.json of text, or of fields that replace or add to those of a BERT; returns its folder."""
    folder = tmp_path_factory.mktemp("config")

    def make(content=None, **changes):
        values = {name: value for name, value in bert_folder.config(100, **changes).items() if value is not ...}
        text = json.dumps(values) if content is None else content
        (folder / "config.json").write_bytes(text.encode() if isinstance(text, str) else text)
        return folder

    return make


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_ones_are_taken(write, name):
    values = read_config(write(**PUBLISHED[name]))[1]
    assert shape_of(values) == {
        "vocab_size": 100,
        "hidden_size": bert_folder.HIDDEN,
        "num_layers": 1,
        "num_heads": 2,
        "intermediate_size": bert_folder.INNER,
        "max_positions": bert_folder.POSITIONS,
        "gelu": "erf",
    }


def test_what_google_and_older_libraries_leave_out(write, tmp_path):
    folder = write(model_type=..., architectures=..., layer_norm_eps=..., pad_token_id=...)
    assert read_config(folder) is not None
    (folder / "config.json").rename(tmp_path / "bert_config.json")
    assert read_config(tmp_path) is None and read_config(tmp_path, of_google=True)[0].name == "bert_config.json"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_act": "relu"}, "hidden_act 'relu', not one of gelu_new, gelu_pytorch_tanh, gelu"),
        ({"hidden_act": ["gelu"]}, "hidden_act"),
        ({"layer_norm_eps": 1e-5}, "layer_norm_eps 1e-05; REALM's models have 1e-12"),
        ({"type_vocab_size": 1}, "type_vocab_size 1; REALM's models have 2"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key'"),
        ({"is_decoder": True}, "is_decoder true"),
        ({"add_cross_attention": True}, "add_cross_attention true"),
        ({"pruned_heads": {"0": [1]}}, "unknown here .*|'pruned_heads'"),
        ({"auto_map": {"AutoModel": "x--modeling.Model"}}, "'auto_map'"),
        ({"quantization_config": {"bits": 4}}, "'quantization_config'"),
        ({"embedding_size": 8}, "'embedding_size' .8."),
        ({"use_task_id": True}, "'use_task_id'"),
        ({"model_type": "roberta"}, "of a model of the type 'roberta', not bert or realm"),
        ({"model_type": ["bert"]}, "of a model of the type"),
        ({"model_type": None, "architectures": ["ElectraForPreTraining"]}, "type 'ElectraForPreTraining'"),
        ({"hidden_size": "16"}, "hidden_size '16': correct it to a number"),
        ({"num_attention_heads": True}, "num_attention_heads true"),
        ({"vocab_size": 0}, "vocab_size 0"),
        ({"intermediate_size": 24.5}, "intermediate_size 24.5"),
        ({"hidden_act": ...}, "lacks 'hidden_act'"),
        ({"max_position_embeddings": ...}, "lacks 'max_position_embeddings'"),
        ({"x\ny": "a\nb" * 99}, r"'x\\ny'"),
    ],
)
def test_what_would_be_another_model_is_named(write, changes, message):
    with pytest.raises(ConfigError, match=message) as error:
        read_config(write(**changes))
    assert "config.json: " in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty: download it again"),
        ("not JSON", "is not JSON"),
        ('{"hidden_size": 12', "is not JSON"),
        ("[1, 2]", "is no JSON object, but "),
        ('"text"', "is no JSON object, but 'text'"),
        ("[" * 100_000, "is not JSON .too many brackets"),
        ('{"hidden_size": ' + "9" * 5000 + "}", "is not JSON"),
        (b"\xff\xfe{", "is no UTF-8 text"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a git-lfs pointer.*: run git lfs pull"),
    ],
)
def test_what_is_no_json_object(write, content, message):
    with pytest.raises(ConfigError, match=f"config.json: {message}") as error:
        read_config(write(content))
    assert "\n" not in str(error.value)


def test_a_byte_order_mark_is_no_harm(write):
    assert read_config(write(b"\xef\xbb\xbf" + json.dumps(bert_folder.config(9)).encode()))[1]["vocab_size"] == 9


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.dictionaries(st.sampled_from([*bert_folder.config(1), "auto_map", "is_decoder", "emb_size"]), JSON, max_size=3)
    | st.text(max_size=20)
)
def test_anything_else_is_taken_or_one_line(write, found):
    try:
        read_config(write(**found) if isinstance(found, dict) else write(found))
    except ConfigError as error:
        assert len(str(error).splitlines()) == 1
