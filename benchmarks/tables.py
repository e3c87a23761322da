"""Writes tables of README.md and of pages in docs/, and two pictures, from benchmarks/results/.

python benchmarks/tables.py
python benchmarks/tables.py --check      (for `make lint`: only compares, and looks at what results depend on)
"""

import json
import pathlib
import re
import statistics
import sys
from collections.abc import Iterable

import beside_table
import curve_picture
import curve_table
import depends
import gpu_table
import host_table
import kill_table
import large_step_table
import nano_picture
import nano_table
import rehearsal_table
import search_picture
import search_table

from realm_jax.ablations.ablation_table import markdown

HERE = pathlib.Path(__file__).parent
README, RESULTS = HERE.parent / "README.md", HERE.parent / "docs" / "results.md"
BEGIN, END = "<!-- results: begin (benchmarks/tables.py) -->\n", "<!-- results: end -->"
SCALING = HERE.parent / "docs" / "scaling.md"
REHEARSAL = "<!-- rehearsal (benchmarks/tables.py) -->\n", "<!-- /rehearsal -->"
RELIABILITY = HERE.parent / "docs" / "reliability.md"
KILLS = "<!-- kills (benchmarks/tables.py) -->\n", "<!-- /kills -->"
SEARCH = HERE.parent / "docs" / "search.md"
SEARCHED = "<!-- search (benchmarks/tables.py) -->\n", "<!-- /search -->"
PICTURES = {"nano": nano_picture.svg, "search": search_picture.svg, "curve": curve_picture.svg}
IN_README = ("nano",)
HEAD = """# Results

Every measurement is one file of `benchmarks/results/`; `python benchmarks/tables.py` makes this page of them.

"""


def main() -> None:
    text = README.read_text()
    fresh = {README: _between(text, BEGIN, END, tables(IN_README)), RESULTS: HEAD + tables(RENDERERS)}
    fresh[SCALING] = _between(SCALING.read_text(), *REHEARSAL, tables(["rehearsal"]))
    fresh[RELIABILITY] = _between(RELIABILITY.read_text(), *KILLS, tables(["kill_matrix", "soak"]))
    fresh[SEARCH] = _between(SEARCH.read_text(), *SEARCHED, tables(["search", "exact_search"]))
    for name, draw in PICTURES.items():
        values = json.loads((HERE / "results" / f"{name}.json").read_text())["values"]
        fresh[HERE.parent / "docs" / "img" / f"{name}.svg"] = draw(values)
    fresh |= _headers(json.loads((HERE / "results" / "compiled_memory.json").read_text())["values"]["rows"])
    for file, content in fresh.items():
        if "--check" not in sys.argv:
            file.write_text(content)
        elif not file.exists() or file.read_text() != content:
            sys.exit(f"{file.name} is out of date: run python benchmarks/tables.py")
    if "--check" in sys.argv:
        depends.check()


def _between(text: str, begin: str, end: str, content: str) -> str:
    """The text with other content between two marks."""
    before, rest = text.split(begin)
    return before + begin + content + end + rest.split(end)[1]


def tables(names: Iterable[str]) -> str:
    """Tables of the measurements that exist, as Markdown."""
    parts = []
    for name in names:
        file = HERE / "results" / f"{name}.json"
        if file.exists():
            result = json.loads(file.read_text())
            cores = result["hardware"]["cores"]
            hardware = f"{cores} core{'s' * (cores > 1)}, {result['hardware']['cpu']}"
            stamp = f"{result['date'][:10]}, commit {result['commit'][:8]}, {hardware}"
            note = f" {result['note']}" if result["note"] else ""
            parts.append(f"{RENDERERS[name](result['values'])}\n\n<sub>`{result['command']}`; {stamp}.{note}</sub>\n")
    return "\n".join(parts)


def _sampling(values: dict) -> str:
    rows = {
        "plain recall@1": "plain_recall@1",
        "hard recall@1": "hard_recall@1",
        "answer among the candidates": "answer_retrieved",
        "retrieval utility": "utility",
        "loss, retrieved blocks": "loss_retrieved",
        "loss, random blocks": "loss_random",
        "loss, null block": "loss_null",
    }
    lines = ["**What an epoch has once** (`experiments/nano.py`, after REALM; mean ± half the 95% interval)", ""]
    lines += ["| held-out sentences | each span | each block | block − span | n |", "|---|---:|---:|---:|---:|"]
    for label, key in rows.items():
        span, block = (values["states"][arm][key] for arm in ("span", "block"))
        paired = values["block_minus_span"][key]
        cells = [f"{c['mean']:.3f} ±{c['half_width']:.3f}" for c in (span, block)]
        cells += [f"{paired['mean']:+.3f} ±{paired['half_width']:.3f}", str(paired["n"])]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    spread = values["examples_by_spans_of_their_sentence"]
    counts = list(spread["span"])
    lines += ["", "| spans of an example's sentence | " + " | ".join(counts) + " |", "|---|" + "---:|" * len(counts)]
    for sampling, of in spread.items():
        lines.append(f"| each {sampling} once | " + " | ".join(f"{100 * of[c]:.1f}%" for c in counts) + " |")
    return "\n".join(lines)


def _squad(values: dict) -> str:
    ks = ("recall@1", "recall@5", "recall@20")
    lines = [
        f"**SQuAD-open dev, 2,067 paragraphs, zero-shot passage recall** (mean of {len(values['seeds'])} seeds)",
        "",
    ]
    lines += ["| | " + " | ".join(ks) + " |", "|---|" + "---:|" * len(ks)]
    for arm, row in values["mean"].items():
        lines.append(f"| {arm} | " + " | ".join(f"{row[k]:.3f}" for k in ks) + " |")
    return "\n".join(lines)


def _memory(values: dict) -> str:
    blocks, length = values["blocks"], values["mean block length in wordpieces"]
    lines = [f"**Memory with {blocks:,} blocks of {length:.0f} wordpieces** (anonymous bytes a block and process)", ""]
    lines += ["| search | while its files are built | open | at the peak |", "|---|---:|---:|---:|"]
    for search in ("exact", "scann"):
        cells = [values.get(f"{search}: anonymous bytes a block{at}") for at in (" in a build", "", " at the peak")]
        lines.append(f"| {search} | " + " | ".join("" if cell is None else f"{cell:,.0f}" for cell in cells) + " |")
    on_disk, spans = values["corpus on disk, bytes a block"], values["mean spans of a block"]
    lines += [
        "",
        f"With {spans:.0f} spans a block, the corpus takes {on_disk:,} bytes a block on disk, mapped into memory.",
    ]
    return "\n".join(lines)


def _answers(values: dict) -> str:
    """One table for all fine-tunings of a benchmarks/answers.py result."""
    some = next(iter(values["finetunings"].values()))
    lines = [
        f"**Exact match on small corpora** ({some['corpus']}, {some['blocks']:,} blocks; percent, 95% interval)",
        "",
    ]
    lines += ["| fine-tuning, system | exact match | recall@5 | questions | seconds |", "|---|---:|---:|---:|---:|"]
    for name, row in values["finetunings"].items():
        for system, of in row["systems"].items():
            recall = row["recall"].get(system, {}).get("recall@5")
            recall = "" if recall is None else f"{100 * recall:.1f}"
            seconds = row["finetuning_seconds"] if system == "fine-tuned" else ""
            exact_match = _interval(of["exact_match"])
            lines.append(f"| {name}, {system} | {exact_match} | {recall} | {row['questions']:,} | {seconds} |")
        for other, d in ((k, v) for k, v in row.items() if k.startswith("minus ")):
            exact_match, recall = (
                _interval(d["exact_match"], "+"),
                f"{_interval(d['recall@5'], '+')} before fine-tuning",
            )
            lines.append(f"| {name} {other} | {exact_match} | {recall} | {row['questions']:,} | |")
    return "\n".join(lines)


def _interval(of: dict, sign: str = "") -> str:
    """In percent, the mean with the ends of its interval; `sign` "+" for a difference."""
    mean, low, high = (f"{100 * of[end]:{sign}.1f}" for end in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def _ablations(values: dict) -> str:
    title = "**Ablations** (percent; R@k is the retriever's before fine-tuning; the paper's: Natural Questions dev)"
    lines = [title, "", markdown(values)]
    if "stale_index" in values:
        times = values["stale_index"]["index_age_steps"] / values["realm"]["index_age_steps"]
        lines += ["", "Index age: in steps, on average. Never refreshed, the index is "]
        lines[-1] += f"{times:.0f} times as old as REALM's; the paper's row is of one that is 30 times staler."
    return "\n".join(lines)


def _finetune_step(values: dict) -> str:
    title = "**One fine-tuning step** (2-layer BERT, 5 blocks of at most 288 wordpieces read, batch 16)"
    runs = {name: run for name, run in values.items() if isinstance(run, dict)}
    rows = {"questions/s": [run["questions_per_second"] for run in runs.values()]}
    shares = [f"{100 * run['retriever_loss_share']:.1f}%" for run in runs.values()]
    rows["share of the retriever's loss over 5000 blocks"] = shares
    for part in next(iter(runs.values()))["parts_ms"]:
        rows[f"{part}, ms a step"] = [run["parts_ms"][part] for run in runs.values()]
    head = [f"| | {' | '.join(runs)} |", "|---|" + "---:|" * len(runs)]
    return "\n".join([title, "", *head, *(f"| {name} | {' | '.join(map(str, row))} |" for name, row in rows.items())])


def _build_corpus(values: dict) -> str:
    one, cluster = values["one process"], values["22 GB of bz2"]
    lines = ["**From a dump to a corpus** (English Wikipedia, rule tagger)", ""]
    lines += ["| stage, one core | MB of XML a second |", "|---|---:|"]
    lines += [f"| {stage} | {rate} |" for stage, rate in one["xml_mb_per_second"].items()]
    lines += ["", f"| whole command, {values['workers']} workers | s | MB/s | blocks/s | largest process, MB |"]
    lines += ["|---|---:|---:|---:|---:|"]
    for run in values["whole command"].values():
        cells = [run["seconds"], run["xml_mb_per_second"], run["blocks_per_second"], run["largest_process_mb"]]
        lines.append(f"| {run['xml_mb']} MB | " + " | ".join(map(str, cells)) + " |")
    lines += ["", f"A dump of 22 GB (bz2) would take {cluster['core_hours']} core-hours: "]
    lines[-1] += (
        f"an hour on {cluster['workers_for_one_hour']} such cores, unpacking apart (a multistream dump needs none)."
    )
    return "\n".join(lines)


def _compiled_memory(values: dict) -> str:
    """One line for each step, a column for each hardware."""
    rows = values["rows"]
    columns = {row["hardware"]: row["memory_gib"] for row in rows}
    lines = ["**Memory of a training step on one device, GiB** (as compiled, not run)", ""]
    heads = " | ".join(f"{name}{_estimated(name)}, has {memory}" for name, memory in columns.items())
    lines += [f"| experiment, phase | batch | held at once | {heads} |", "|---|---:|---:|" + "---:|" * len(columns)]
    for step in dict.fromkeys((row["config"], row["phase"]) for row in rows):
        found = {row["hardware"]: row for row in rows if (row["config"], row["phase"]) == step}
        first = next(iter(found.values()))
        cells = [_reserved(found[name]) if name in found else "" for name in columns]
        sizes = f"{first['batch_size']:,} | {first['micro_batch'] or 'all'}"
        lines.append(f"| `{step[0]}`, {step[1]} | {sizes} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _headers(rows: list[dict]) -> dict[pathlib.Path, str]:
    """Experiment files whose headers state their largest step on each hardware for which all phases were compiled."""
    fresh, phases = {}, {row["phase"] for row in rows}
    for config in dict.fromkeys(row["config"] for row in rows):
        stated = []
        for name in sorted({row["hardware"] for row in rows}):
            steps = [row for row in rows if (row["config"], row["hardware"]) == (config, name)]
            if len(steps) == len(phases):  # else the largest step may be one that was not compiled
                largest = max(row["reserved_gib"] for row in steps)
                stated.append(f"{name} {largest:.1f} of {steps[0]['memory_gib']}{_estimated(name)}")
        line = f"memory    GiB of a device, as compiled: {', '.join(stated)}"
        file = HERE.parent / config
        fresh[file] = re.sub(r"^memory .*$", line, file.read_text(), count=1, flags=re.M)
    return fresh


def _estimated(hardware: str) -> str:
    """XLA's CPU compiler stands in for that of GPUs."""
    return " (estimate)" if hardware.startswith("gpu") else ""


def _reserved(row: dict) -> str:
    return str(row["reserved_gib"]) if row["fits"] else f"{row['reserved_gib']}: does not fit"


def _plan(values: dict) -> str:
    lines = ["**Plans beside what came** (`realm plan`, on this machine)", ""]
    if "memory" in values:
        lines += ["| step, changed settings | compiled, MB | planned, MB | ratio |", "|---|---:|---:|---:|"]
    for row in values.get("memory", []):
        changes = ", ".join(f"{name.split('.')[1]} {value}" for name, value in row["changes"].items())
        compiled, planned = (f"{row[key] / 1e6:,.0f}" for key in ("compiled_bytes", "planned_bytes"))
        label = f"{row['experiment']}, {row['phase']}{f': {changes}' if changes else ''}"
        lines.append(f"| {label} | {compiled} | {planned} | {row['ratio']:.2f} |")
    if "seconds" in values:
        lines += ["", "| seconds a step | real run | planned, measured | ratio | planned, assumed | ratio |"]
        lines += ["|---|---:|---:|---:|---:|---:|"]
    for row in values.get("seconds", []):
        real, measured = (statistics.mean(row[kind]) for kind in ("real", "measured"))
        ratios = f"{measured:.3f} | {row['measured_ratio']:.2f} | {row['assumed']:.3f} | {row['assumed_ratio']:.2f}"
        lines.append(f"| {row['experiment']}, {row['phase']} | {real:.3f} | {ratios} |")
    return "\n".join(lines)


def _index_update(values: dict) -> str:
    lines = [
        "**Do answers follow the texts?** (cloze questions that were answered rightly, their articles exchanged)",
        "",
    ]
    lines += ["| exact match, in percent, against | before | after the exchange |", "|---|---:|---:|"]
    for name in ("old", "new"):
        before, after = (100 * values["exact_match"][when][name] for when in ("before", "after"))
        lines.append(f"| the {name} text's answer | {before:.0f} | {after:.0f} |")
    lines += ["", f"{values['questions']} questions; {values['blocks']} new blocks were searchable after "]
    lines[-1] += f"{values['searchable_after_s']} s, the whole command took {values['whole_command_s']} s."
    return "\n".join(lines)


RENDERERS = {
    "nano": nano_table.markdown,
    "curve": curve_table.markdown,
    "sampling": _sampling,
    "squad_recall": _squad,
    "squad_answers": _answers,
    "squad_more_steps": _answers,
    "small_answers": _answers,
    "ablations": _ablations,
    "squad_ablations": _ablations,
    "index_update": _index_update,
    "finetune_step": _finetune_step,
    "host": host_table.markdown,
    "pretrain_step": beside_table.step,
    "embedding": beside_table.embedding,
    "gpu": gpu_table.markdown,
    "search": search_table.markdown,
    "exact_search": search_table.exact,
    "index_recall": search_table.by_share,
    "corpus_memory": _memory,
    "long_blocks_memory": _memory,
    "build_corpus": _build_corpus,
    "compiled_memory": _compiled_memory,
    "rehearsal": rehearsal_table.markdown,
    "kill_matrix": kill_table.markdown,
    "soak": kill_table.soak,
    "plan": _plan,
    "large_step": large_step_table.markdown,
}

if __name__ == "__main__":
    main()
