"""The summary of a run: three states judged on the same held-out sentences, and what the index did meanwhile.

Writes `summary.json` and `report.md` into the workdir and prints both as tables.
"""

import dataclasses
import json

import numpy as np
from etils import epath
from rich.console import Console
from rich.markdown import Markdown

from realm_jax.config import ConfigError
from realm_jax.data.prepare import open_prepared
from realm_jax.eval.examples import describe
from realm_jax.eval.heldout import evaluate, heldout_set
from realm_jax.index.versions import IndexStore
from realm_jax.scores import recall
from realm_jax.training import phases
from realm_jax.workdir import Workdir, write_json, write_text

STATES = ("before ICT", "after ICT", "after REALM")


def summarize(workdir: Workdir, resources: dict) -> dict:
    """Evaluates a finished run and writes its summary and report.

    Args:
        resources: what only the running processes knew (`peak_memory_mib`, `phase_seconds`), kept as it is.

    Returns:
        the summary; its `heldout` is empty when the corpus has no held-out sentence.
    """
    data, store = open_prepared(workdir), IndexStore(workdir.index_folder)
    summary = {"states": {}, "differences": {}, "index": _index_facts(store, workdir), **resources}
    examples = "The corpus has no held-out sentence: raise corpus.heldout_fraction to have the run measured.\n"
    try:
        heldout = heldout_set(workdir.config, data)
    except ConfigError as error:
        print(f"no held-out evaluation: {error}", flush=True)
    else:
        first = phases.first_params(workdir)
        warm = phases.warm_params(workdir)
        last = phases.last_params(workdir, "pretrain", first)
        values, embeddings = {}, {}
        for name, params in zip(STATES, (first, warm, last), strict=True):
            values[name], embeddings[name] = evaluate(workdir.config, data, heldout, params, name)
            if name == STATES[0]:
                del embeddings[name]
            _keep(workdir, name, values[name])
        summary["states"] = {name: _means(of_state) for name, of_state in values.items()}
        summary["differences"] = _differences(values)
        summary["index"]["mean_cosine_first_last"] = _mean_cosine(embeddings[STATES[1]], embeddings[STATES[2]])
        examples = describe(workdir.config, data, heldout, last, embeddings[STATES[2]])
    report = _report(workdir, summary, examples)
    write_json(workdir.summary_file, summary)
    write_text(workdir.path / "report.md", report)
    Console().print(Markdown(report))
    return summary


def per_example_file(workdir: Workdir, state: str) -> epath.Path:
    """Where one state's values per held-out sentence are kept, for paired comparisons between runs of one seed."""
    return workdir.path / "eval" / "heldout" / f"{state.replace(' ', '_')}.npz"


def _keep(workdir: Workdir, state: str, values: dict[str, np.ndarray]) -> None:
    file = per_example_file(workdir, state)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as out:
        np.savez(out, **values)


def _means(values: dict[str, np.ndarray]) -> dict:
    """Each measure's mean, 95% interval and n; utility also where the answer is, or is not, in a candidate."""
    means = {name: _interval(recall.mean(value)) for name, value in values.items()}
    if "utility" in values:
        holds = values["answer_retrieved"][: len(values["utility"])]
        means["utility_with_answer"] = _interval(recall.mean(values["utility"][holds]))
        means["utility_without_answer"] = _interval(recall.mean(values["utility"][~holds]))
    return means


def _differences(values: dict[str, dict[str, np.ndarray]]) -> dict:
    """Paired differences with their 95% intervals: the claims that a run can make."""
    before, after = values["after ICT"], values["after REALM"]
    paired = {f"{name}: after REALM - after ICT": after[name] - 1.0 * before[name] for name in after}
    paired["after REALM, loss: random - retrieved"] = after["loss_random"] - after["loss_retrieved"]
    paired["after REALM, loss: null - retrieved"] = after["loss_null"] - after["loss_retrieved"]
    return {name: _interval(recall.mean(value)) for name, value in paired.items()}


def _interval(value: recall.Mean) -> dict:
    return {key: round(number, 5) for key, number in dataclasses.asdict(value).items()}


def _mean_cosine(first: np.ndarray, last: np.ndarray) -> float:
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(last, axis=1)
    return round(float(((first * last).sum(1) / norms).mean()), 4)


def _index_facts(store: IndexStore, workdir: Workdir) -> dict:
    history = store.history()
    published = [event for event in history if event["event"] == "published"]
    adopted = [event for event in history if event["event"] == "adopted"]
    waits = [_waits(line) for line in _metrics(workdir)]
    return {
        "published_steps": [event["step"] for event in published],
        "publish_seconds": [event["seconds"] for event in published],
        "adopted": [{"step": event["step"], "trainer_step": event["trainer_step"]} for event in adopted],
        "retrieval_wait_seconds": round(sum(w[0] for w in waits), 3),
        "index_wait_seconds": round(sum(w[1] for w in waits), 3),
        "recall_by_version": {str(version.step): version.manifest.get("probe", {}) for version in store.versions()},
    }


def _metrics(workdir: Workdir) -> list[dict]:
    file = workdir.phase("pretrain") / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _waits(line: dict) -> tuple[float, float]:
    return line.get("retrieval_wait_seconds") or 0.0, line.get("index_wait_seconds") or 0.0


ROWS = {
    "loss with retrieved blocks": "loss_retrieved",
    "loss with random blocks": "loss_random",
    "loss with the null block": "loss_null",
    "accuracy with retrieved blocks": "accuracy_retrieved",
    "accuracy with random blocks": "accuracy_random",
    "accuracy with the null block": "accuracy_null",
    "retrieval utility": "utility",
    "- answer in a candidate": "utility_with_answer",
    "- answer in none": "utility_without_answer",
    "share of p on the null block": "null_share",
    "answer among the candidates": "answer_retrieved",
    "answer among random blocks": "answer_random",
    "plain recall@1": "plain_recall@1",
    "plain recall@5": "plain_recall@5",
    "plain recall@20": "plain_recall@20",
    "hard recall@1": "hard_recall@1",
    "hard recall@5": "hard_recall@5",
    "hard recall@20": "hard_recall@20",
}


def _report(workdir: Workdir, summary: dict, examples: str) -> str:
    lines = [f"# {workdir.config.name}: {workdir.path}", "", "## Held-out sentences (mean ± half the 95% interval)", ""]
    states = summary["states"]
    if states:
        lines += ["| | " + " | ".join(states) + " | n |", "|---|" + "---:|" * (len(states) + 1)]
        for label, key in ROWS.items():
            cells = [of_state.get(key) for of_state in states.values()]
            if any(cells):
                shown = " | ".join(f"{c['mean']:.3f} ±{c['half_width']:.3f}" if c else "" for c in cells)
                lines.append(f"| {label} | {shown} | {cells[-1]['n'] if cells[-1] else ''} |")
        lines += [
            "",
            "Loss is in nats per predicted wordpiece. After ICT means: as pre-training starts, with the encoder",
        ]
        lines += ["warmed up if the config asks for it. Random blocks are the same for every state.", ""]
        lines += ["| paired difference | mean | 95% interval |", "|---|---:|---|"]
        for name, d in summary["differences"].items():
            low, high = d["mean"] - d["half_width"], d["mean"] + d["half_width"]
            lines.append(f"| {name} | {d['mean']:+.3f} | {low:+.3f} to {high:+.3f} |")
    index = summary["index"]
    lines += [
        "",
        "## Index",
        "",
        f"versions published from steps {index['published_steps']}; adopted (version's step @ ",
    ]
    lines[-1] += "trainer's step): " + ", ".join(f"{a['step']} @ {a['trainer_step']}" for a in index["adopted"])
    if "mean_cosine_first_last" in index:
        lines.append(f"mean cosine of a block's embedding, first to last version: {index['mean_cosine_first_last']}")
    waits = index["retrieval_wait_seconds"], index["index_wait_seconds"]
    lines.append(f"training waited {waits[0]} s for retrieval and {waits[1]} s for the builder")
    lines.append(f"peak memory (PSS, MiB): {summary.get('peak_memory_mib')}; seconds: {summary.get('phase_seconds')}")
    return "\n".join([*lines, "", "## Three masked sentences", "", examples])
