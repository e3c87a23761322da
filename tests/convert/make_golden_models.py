"""Writes golden_models: small random REALM models, and what their classes of transformers 4.57.6 compute with them.

    .venv-oracle/bin/python tests/convert/make_golden_models.py tests/convert/golden_models

`embedder` and `knowledge_encoder` are safetensors; `scorer` and `openqa` are torch's pickles, as published ones are.
io.npz has 3 masked queries with 4 candidates, and 4 questions with a beam of 6 blocks of which 4 are read:

    query_*, block_*, joint_*          ids, mask and types; candidate 0 of each query is the null block
    labels, mlm_mask                   [batch, joint tokens]: the wordpieces, and which of them are predicted
    query_emb, relevance               of `embedder`, [batch, dim]; of `scorer`, [batch, candidates]
    mlm_logits, mlm_loss               of `knowledge_encoder`, [predictions, candidates, vocabulary] and a number
    question_*, read_*, body_mask      ids, mask and types, [questions, tokens] and [questions, read, tokens]
    beam, has_answers                  [questions, beam]: rows of block_emb, best first, and which of them are right
    starts, ends                       [questions, beam, answers]: where answers are, -1 where there are no more
    openqa_query_emb, retriever_loss, reader_loss, predicted (block, first, last)       of `openqa`, [questions, …]
    grad/scorer/*, grad/knowledge_encoder/*, grad/openqa/*      of mlm_loss, and of the sum of the questions' losses

Weights and inputs come from NumPy, the same everywhere; all is computed in float64, so that what differs is ours.
"""

import pathlib
import sys

import numpy as np
import torch
from transformers import (
    RealmConfig,
    RealmEmbedder,
    RealmForOpenQA,
    RealmKnowledgeAugEncoder,
    RealmRetriever,
    RealmScorer,
    RealmTokenizer,
)

SEED = 7
LETTERS = list("abcdefghijklmnopqrstuvwxyz")
VOCABULARY = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS]
CLS, SEP, MASK = (VOCABULARY.index(word) for word in ("[CLS]", "[SEP]", "[MASK]"))
QUERY_LEN, BLOCK_LEN = 10, 14
QUERIES = [(7, range(2, 5)), (4, range(1)), (8, range(6, 8))]
"""Letters of each query, and which of them are masked."""
CANDIDATES = [[(2, 6), (0, 11), (3, 1)], [(1, 5), (3, 8), (2, 2)], [(0, 4), (4, 7), (1, 9)]]
"""Letters in title and body of each query's candidates after the null block."""
BLOCKS = ["alongriver", "bridge", "canal", "harbourwalls", "island", "lighthouse", "mud", "oceanfront", "valley"]
QUESTIONS = {"h o w f a r": ["r i d", "a l", "l o"], "i s i t": ["g h t"], "w h y": ["x x x"], "m e": ["b o u", "y"]}
"""With answers: some in all of the beam, some only in what is not read of it, none, some only in what is read."""
CONFIG = RealmConfig(
    vocab_size=len(VOCABULARY),
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=64,
    hidden_act="gelu_new",
    retriever_proj_size=8,
    span_hidden_size=12,
    num_candidates=4,
    max_span_width=5,
    reader_beam_size=4,
    reader_seq_len=QUERY_LEN + BLOCK_LEN,
    searcher_beam_size=6,
    num_block_records=len(BLOCKS),
    pad_token_id=1,  # as published; BERT's vocabulary pads with 0
)


def saved(model, folder: pathlib.Path, rng: np.random.Generator, *, pickled: bool = False):
    """The model with random weights and without dropout, in float64; in the folder as float32.

    Tables and heads are small, as BERT's are at first, so that the epsilon of their LayerNorms shows; the rest is
    large, so that attention and the kind of GELU show.
    """
    for name, parameter in model.named_parameters():
        value = rng.normal(size=parameter.shape)
        if name.endswith(("LayerNorm.weight", "layer_normalization.weight")):
            value = 1 + 0.3 * value
        elif "embeddings." in name:
            value = 0.1 * value
        elif "cls." in name:
            value = 0.03 * value
        elif parameter.ndim == 2:
            value = 1.5 * value * parameter.shape[1] ** -0.5
        else:
            value = 0.3 * value
        parameter.data = torch.tensor(value, dtype=torch.float32)
    model.save_pretrained(folder, safe_serialization=not pickled)
    return model.eval().double()


def tokens(rows: list[tuple[list[int], ...]], length: int) -> dict[str, torch.Tensor]:
    """Ids, mask and types of `[CLS] first [SEP]` or `[CLS] first [SEP] second [SEP]`, padded with 0."""
    result = {name: torch.zeros((len(rows), length), dtype=torch.long) for name in ("ids", "mask", "types")}
    for i, segments in enumerate(rows):
        start, ids = 0, [CLS]
        for segment, words in enumerate(segments):
            ids += [*words, SEP]
            result["types"][i, start : len(ids)] = segment
            start = len(ids)
        result["ids"][i, :start] = torch.tensor(ids)
        result["mask"][i, :start] = 1
    return result


def pretraining(folder: pathlib.Path, rng: np.random.Generator) -> dict:
    """Masked queries with their candidates."""

    def letters(count: int) -> list[int]:
        return rng.integers(VOCABULARY.index("a"), len(VOCABULARY), count).tolist()

    labels = torch.zeros((len(QUERIES), QUERY_LEN + BLOCK_LEN), dtype=torch.long)
    mlm_mask = torch.zeros_like(labels)
    queries, blocks, joint = [], [], []
    for b, ((length, masked), sizes) in enumerate(zip(QUERIES, CANDIDATES, strict=True)):
        query = letters(length)
        labels[b, 1 : 1 + length] = torch.tensor(query)
        for at in masked:
            query[at], mlm_mask[b, 1 + at] = MASK, 1
        candidates = [([], []), *((letters(title), letters(body)) for title, body in sizes)]
        queries.append((query,))
        blocks += candidates
        joint += [(query, body) for _, body in candidates]
    by_query = len(QUERIES), CONFIG.num_candidates, -1
    query = tokens(queries, QUERY_LEN)
    block = {name: x.view(by_query) for name, x in tokens(blocks, BLOCK_LEN).items()}
    joint = {name: x.view(by_query) for name, x in tokens(joint, QUERY_LEN + BLOCK_LEN).items()}

    embedder = saved(RealmEmbedder(CONFIG), folder / "embedder", rng)
    scorer = saved(RealmScorer(CONFIG), folder / "scorer", rng, pickled=True)
    encoder = saved(RealmKnowledgeAugEncoder(CONFIG), folder / "knowledge_encoder", rng)
    relevance = scorer(
        query["ids"],
        query["mask"],
        candidate_input_ids=block["ids"],
        candidate_attention_mask=block["mask"],
        candidate_token_type_ids=block["types"],
    ).relevance_score
    out = encoder(
        joint["ids"], joint["mask"], joint["types"], relevance_score=relevance, labels=labels, mlm_mask=mlm_mask
    )
    out.loss.backward()
    return {
        **named("query", query),
        **named("block", block),
        **named("joint", joint),
        "labels": labels,
        "mlm_mask": mlm_mask,
        "query_emb": embedder(query["ids"], query["mask"]).projected_score,
        "relevance": relevance,
        "mlm_logits": out.logits.view(*joint["ids"].shape, -1).transpose(1, 2)[mlm_mask.bool()],
        "mlm_loss": out.loss,
        **gradients("scorer", scorer),
        **gradients("knowledge_encoder", encoder),
    }


def fine_tuning(folder: pathlib.Path, rng: np.random.Generator) -> dict:
    """Questions with what their own retriever finds for them."""
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(VOCABULARY))
    tokenizer = RealmTokenizer(vocabulary)
    vocabulary.unlink()
    retriever, found = RealmRetriever(np.array([" ".join(text).encode() for text in BLOCKS], object), tokenizer), []

    def search(beam, *arguments, **options):
        found.append((beam, *retriever(beam, *arguments, **options)))
        return found[-1][1:]

    model = RealmForOpenQA(CONFIG, search)
    # large enough to move the best span, small enough to leave it to the reader
    model.block_emb = torch.tensor(0.6 * rng.normal(size=model.block_emb.shape), dtype=torch.float32)
    model = saved(model, folder / "openqa", rng, pickled=True)
    model.training = True  # of its own flag alone: the beam is searcher_beam_size long
    questions = [tokenizer(question, return_tensors="pt") for question in QUESTIONS]
    answers = [tokenizer(answers, add_special_tokens=False).input_ids for answers in QUESTIONS.values()]
    outs = [model(**q, answer_ids=a).reader_output for q, a in zip(questions, answers, strict=True)]
    sum(out.loss for out in outs).backward()
    beam, has_answers, starts, ends, pairs = zip(*found, strict=True)
    read = [{name: x[: CONFIG.reader_beam_size] for name, x in pair.items()} for pair in pairs]
    return {
        **named("question", ours(questions)),
        **named("read", ours(read)),
        "body_mask": padded([pair["token_type_ids"] * (1 - pair["special_tokens_mask"]) for pair in read]),
        "beam": torch.stack(beam),
        "has_answers": np.array(has_answers),
        "starts": padded(starts, -1),
        "ends": padded(ends, -1),
        "openqa_query_emb": torch.cat([model.embedder(**question).projected_score for question in questions]),
        "retriever_loss": torch.stack([out.retriever_loss for out in outs]),
        "reader_loss": torch.stack([out.reader_loss for out in outs]),
        "predicted": np.array([[int(x) for x in (out.block_idx, out.start_pos, out.end_pos)] for out in outs]),
        **gradients("openqa", model),
    }


def ours(inputs: list) -> dict:
    """A tokenizer's outputs as one batch, under our names."""
    theirs = {"ids": "input_ids", "mask": "attention_mask", "types": "token_type_ids"}
    return {name: padded([one[key].squeeze(0) for one in inputs]) for name, key in theirs.items()}


def padded(arrays, value: int = 0) -> np.ndarray:
    """Integer arrays of different shapes, stacked."""
    arrays = [np.asarray(array) for array in arrays]
    result = np.full((len(arrays), *np.max([array.shape for array in arrays], axis=0)), value)
    for row, array in zip(result, arrays, strict=True):
        row[tuple(slice(size) for size in array.shape)] = array
    return result


def named(prefix: str, arrays: dict) -> dict:
    return {f"{prefix}_{name}": array for name, array in arrays.items()}


def gradients(name: str, model) -> dict:
    """Of every parameter that took part."""
    parameters = model.named_parameters()
    return {f"grad/{name}/{path}": value.grad for path, value in parameters if value.grad is not None}


def main() -> None:
    folder, rng = pathlib.Path(sys.argv[1]), np.random.default_rng(SEED)
    folder.mkdir(exist_ok=True)
    arrays = pretraining(folder, rng) | fine_tuning(folder, rng)
    arrays = {name: x.detach().numpy() if torch.is_tensor(x) else x for name, x in arrays.items()}
    arrays = {name: x.astype(np.float32) if x.dtype == np.float64 else x for name, x in arrays.items()}
    np.savez_compressed(folder / "io.npz", **arrays)


if __name__ == "__main__":
    main()
