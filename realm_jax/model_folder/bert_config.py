"""Reads a BERT's config.json: every field is used, known to change nothing, or refused by name.

Fields are those of `transformers`' BertConfig and RealmConfig, and of Google's bert_config.json.
"""

import pathlib
from typing import Literal

from realm_jax.config import ConfigError, ModelConfig
from realm_jax.model_folder.small_files import read_object, shown

SHAPE = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "intermediate_size": "intermediate_size",
    "max_position_embeddings": "max_positions",
}
"""Fields of config.json that give a BERT's shape -> fields of `ModelConfig`."""
HEADS = {"retriever_proj_size": "projection_dim", "span_hidden_size": "span_hidden_size"}
"""The same for the sizes of REALM's heads, which only its own checkpoints have."""
GELUS: dict[str, Literal["tanh", "erf"]] = {"gelu_new": "tanh", "gelu_pytorch_tanh": "tanh", "gelu": "erf"}
"""`hidden_act` of config.json -> `ModelConfig.gelu`."""
FIXED = {"layer_norm_eps": 1e-12, "type_vocab_size": 2, "reader_layer_norm_eps": 1e-3}
"""Fields whose values are the same in all of REALM's models."""
_ABSENT = {
    "position_embedding_type": ("absolute",),
    "is_decoder": (False,),
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
}
"""Fields that ask for another kind of BERT, with the values that mean the plain one, as REALM's models are."""
_MODELS = ("bert", "realm")
_CLASSES = ("Bert", "TFBert", "FlaxBert", "Realm")
_SAME_AS = {"embedding_size": "hidden_size", "emb_size": "hidden_size"}
"""Names that older and distilled models use for fields of BERT."""

# Fields that change no number that a BERT computes, grouped by the reason.
_OF_TRAINING = """hidden_dropout_prob attention_probs_dropout_prob classifier_dropout initializer_range
    initializer_factor gradient_checkpointing finetuning_task problem_type use_cache training pre_trained"""
_OF_OTHER_HEADS = """id2label label2id num_labels pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers
    pooler_size_per_head pooler_type directionality tie_word_embeddings tie_encoder_decoder task_specific_params
    summary_type summary_activation summary_use_proj summary_proj_to_labels summary_first_dropout tf_legacy_loss
    span_hidden_size retriever_proj_size reader_layer_norm_eps max_span_width num_block_records num_candidates
    reader_beam_size reader_seq_len searcher_beam_size searcher_seq_len"""  # ties are compared in the weights
_OF_TOKENS = """pad_token_id bos_token_id eos_token_id eos_token_ids sep_token_id cls_token_id mask_token_id
    unk_token_id tokenizer_class model_max_length do_lower_case prefix language name"""  # the tokenizer's files say it
_OF_GENERATION = """decoder_start_token_id max_length min_length do_sample early_stopping num_beams num_beam_groups
    diversity_penalty temperature top_k top_p typical_p repetition_penalty length_penalty no_repeat_ngram_size
    encoder_no_repeat_ngram_size bad_words_ids num_return_sequences output_scores return_dict_in_generate
    forced_bos_token_id forced_eos_token_id remove_invalid_values exponential_decay_length_penalty suppress_tokens
    begin_suppress_tokens cross_attention_hidden_size"""
_OF_THE_LIBRARY = """architectures model_type transformers_version torch_dtype dtype attn_implementation
    output_attentions output_hidden_states output_past return_dict use_return_dict torchscript chunk_size_feed_forward
    xla_device sentence_transformers base_model_prefix adapters use_bfloat16"""
_IRRELEVANT = frozenset(" ".join((_OF_TRAINING, _OF_OTHER_HEADS, _OF_TOKENS, _OF_GENERATION, _OF_THE_LIBRARY)).split())


def read_config(folder: pathlib.Path, *, of_google: bool = False) -> tuple[pathlib.Path, dict] | None:
    """(file, content) of a folder's config.json, checked by `check_bert`; None where there is none.

    Args:
        of_google: take bert_config.json where there is no config.json.
    """
    names = ("config.json", "bert_config.json") if of_google else ("config.json",)
    for file in (folder / name for name in names):
        if file.exists() or file.is_symlink():
            values = read_object(file)
            check_bert(file, values)
            return file, values
    return None


def check_kind(file: pathlib.Path, values: dict) -> None:
    """Raises ConfigError, naming the model's type, if a config.json describes no BERT."""
    kind = values.get("model_type")
    classes = values.get("architectures")
    if kind is None and isinstance(classes, list) and classes and not str(classes[0]).startswith(_CLASSES):
        kind = classes[0]
    if kind is not None and kind not in _MODELS:
        raise ConfigError(f"{file}: is of a model of the type {shown(kind)}, not {' or '.join(_MODELS)}: pass a BERT")


def check_bert(file: pathlib.Path, values: dict) -> None:
    """Raises ConfigError, naming the field, if a config.json describes another model than the BERT of REALM."""
    check_kind(file, values)
    for name, value in values.items():
        if name in FIXED and (isinstance(value, bool) or value != FIXED[name]):
            raise ConfigError(
                f"{file}: has {name} {shown(value)}; REALM's models have {FIXED[name]}: pass another BERT"
            )
        if name in _ABSENT and value is not None and value not in _ABSENT[name]:
            raise ConfigError(
                f"{file}: has {name} {shown(value)}, REALM's models have {_ABSENT[name][0]}: pass another BERT"
            )
        same = name in _SAME_AS and value == values.get(_SAME_AS[name])
        known = same or name in SHAPE or name in FIXED or name in _ABSENT or name in _IRRELEVANT or name == "hidden_act"
        if not known and not name.startswith("_") and value not in (None, "", [], {}):
            raise ConfigError(
                f"{file}: has a field {shown(name)} ({shown(value)}) that is unknown here and may change what the "
                "model computes: delete it if it does not, or pass another BERT"
            )
    for name in ("hidden_act", *SHAPE):
        if name not in values:
            raise ConfigError(f"{file}: lacks {name!r}: is it a BERT's? add it, as the model was trained")
    for name in (*SHAPE, *(key for key in HEADS if values.get(key) is not None)):
        if not isinstance(values[name], int) or isinstance(values[name], bool) or values[name] < 1:
            raise ConfigError(f"{file}: has {name} {shown(values[name])}: correct it to a number of 1 or more")
    if not isinstance(values["hidden_act"], str) or values["hidden_act"] not in GELUS:
        raise ConfigError(f"{file}: has hidden_act {shown(values['hidden_act'])}, not one of {', '.join(GELUS)}")


def shape_of(values: dict) -> dict:
    """Fields of `ModelConfig` that a checked config.json decides: the shape and the GELU."""
    return {ours: values[name] for name, ours in SHAPE.items()} | {"gelu": GELUS[values["hidden_act"]]}


def check_shape(config: ModelConfig, folder: pathlib.Path, values: dict) -> None:
    """Raises ConfigError, with the flags to pass, if a checked config.json describes another BERT than the config."""
    theirs = shape_of(values)
    wrong = [f"--model.{ours}={value}" for ours, value in theirs.items() if value != getattr(config, ours)]
    if wrong:
        raise ConfigError(f"{folder} has another shape or GELU than the config's model: pass {' '.join(wrong)}")
