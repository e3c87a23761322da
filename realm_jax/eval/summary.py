"""The summary of a run: three states judged on the same held-out sentences, and what the index did meanwhile.

Writes `summary.json`, `report.md` with its `plots/`, and `report.html` into the workdir.
"""

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np
from etils import epath

from realm_jax import faults, processes, report
from realm_jax.config import ConfigError
from realm_jax.data.prepare import RunData, open_prepared
from realm_jax.eval import run_report
from realm_jax.eval.examples import describe
from realm_jax.eval.heldout import HeldoutSet, evaluate, heldout_sample, heldout_set
from realm_jax.eval.run_plots import run_plots
from realm_jax.index.embed_together import embed_together
from realm_jax.index.loaded_index import index_of
from realm_jax.index.store import IndexStore
from realm_jax.report import Part
from realm_jax.scores import recall
from realm_jax.training import phases
from realm_jax.workdir import Workdir, read_json_lines, write_json, write_text

log = logging.getLogger(__name__)

WAITED_FOR = ("retrieval", "index")
NOT_MEASURED = "The corpus has no held-out sentence: raise corpus.heldout_fraction to have the run measured."
WITH_BLOCKS_ALONE = "after REALM, span right: retrieved - null"
"""Share of spans that are right with blocks and wrong without, less the reverse."""
STATES = ("before ICT", "after ICT", "after REALM")


def summarize(workdir: Workdir, resources: dict) -> dict:
    """Evaluates a finished run and writes its summary and report.

    Where several processes have trained, the first one calls this while the others `help_to_summarize`.

    Args:
        resources: what the training processes measured (`peak_memory_mib`, `phase_seconds`); it is added as it is.

    Returns:
        the summary; its `states` are empty if the corpus has no held-out sentence.
    """
    data = open_prepared(workdir)
    summary = {"states": {}, "differences": {}, "index": index_facts(workdir), **resources}
    examples: Sequence[Part] = [NOT_MEASURED]
    try:
        heldout = heldout_set(workdir.config, data)
    except ConfigError as error:
        log.info(f"no held-out evaluation: {error}")
        processes.from_first(False)
    else:
        processes.from_first(True)
        measured, examples = _judge(workdir, data, heldout)
        summary["index"] |= measured.pop("index")
        summary |= measured
    title = f"{workdir.config.name}: {workdir.path}"
    write_report(workdir, title, summary, examples)
    write_json(workdir.summary_file, summary)  # comes last, since a run with a summary is finished
    return summary


def _judge(workdir: Workdir, data: RunData, heldout: HeldoutSet) -> tuple[dict, Sequence[Part]]:
    """Judges the three states on the held-out set; returns parts of the summary, and examples of the last state."""
    states = _states(workdir)
    last = states[STATES[-1]]
    sample = heldout_sample(workdir, data, heldout, last)
    if sample is not None:
        log.info(f"held-out sentences are judged {sample}")
    blocks = None if sample is None else sample.blocks
    values, embeddings = {}, {}
    for name, params in states.items():
        faults.point("evaluation")
        index = index_of(data.knowledge, _embed(workdir, data, params, name, blocks), blocks)
        values[name], _ = evaluate(workdir.config, data, heldout, params, name, index)
        if name != STATES[0]:
            embeddings[name] = index.embeddings
        _keep(workdir, name, values[name])
    measured = {
        "states": {name: _means(of_state) for name, of_state in values.items()},
        "differences": _differences(values),
        "index": {"mean_cosine_first_last": _mean_cosine(embeddings[STATES[1]], embeddings[STATES[2]])},
    }
    if sample is not None:
        measured["sample"] = sample.facts()
    return measured, describe(workdir.config, data, heldout, last, index.search)


def help_to_summarize(workdir: Workdir) -> None:
    """Embeds for the first process, which is in `summarize`, as long as it has blocks to embed."""
    if processes.from_first(False):
        data = open_prepared(workdir)
        for name, params in _states(workdir).items():
            _embed(workdir, data, params, name)


def _states(workdir: Workdir) -> dict[str, dict]:
    """The parameters that are judged, by the names of their states."""
    first = phases.first_params(workdir)
    warm = first | phases.warm_params(workdir, ("embedder",))
    return dict(zip(STATES, (first, warm, phases.last_params(workdir, "pretrain")), strict=True))


def _embed(
    workdir: Workdir, data: RunData, params: dict, name: str, blocks: np.ndarray | None = None
) -> np.ndarray | None:
    folder = workdir.path / "eval" / "embedding"
    return embed_together(workdir.config, params["embedder"], data.knowledge, folder, name, blocks=blocks)


def write_report(workdir: Workdir, title: str, summary: dict, examples: Sequence[Part]) -> None:
    """Writes the summary for people: `report.md` with `plots/*.svg`, and `report.html`."""
    plots = run_plots(workdir, summary["index"])
    for plot in plots:
        write_text(workdir.path / report.PLOTS / f"{plot.name}.svg", report.standalone(plot.svg))
    write_text(workdir.path / "report.md", run_report.markdown(title, summary, examples, plots))
    write_text(workdir.path / "report.html", run_report.html(title, summary, examples, plots))


def per_example_file(workdir: Workdir, state: str) -> epath.Path:
    """The file with one state's values for each held-out sentence, for paired comparisons between runs of one seed."""
    return workdir.path / "eval" / "heldout" / f"{state.replace(' ', '_')}.npz"


def _keep(workdir: Workdir, state: str, values: dict[str, np.ndarray]) -> None:
    file = per_example_file(workdir, state)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as out:
        np.savez(out, **values)


def _means(values: dict[str, np.ndarray]) -> dict:
    """Mean, 95% interval and n of each measure; utility also by whether a candidate has the answer."""
    means = {name: _interval(recall.mean(value)) for name, value in values.items()}
    if "utility" in values:
        holds = values["answer_retrieved"][: len(values["utility"])]
        means["utility_with_answer"] = _interval(recall.mean(values["utility"][holds]))
        means["utility_without_answer"] = _interval(recall.mean(values["utility"][~holds]))
    return means


def _differences(values: dict[str, dict[str, np.ndarray]]) -> dict:
    """Paired differences between states, and between what is read, with their 95% intervals."""
    before, after = values["after ICT"], values["after REALM"]
    paired = {f"{name}: after REALM - after ICT": after[name] - 1.0 * before[name] for name in after}
    paired["after REALM, loss: random - retrieved"] = after["loss_random"] - after["loss_retrieved"]
    paired["after REALM, loss: null - retrieved"] = after["loss_null"] - after["loss_retrieved"]
    paired[WITH_BLOCKS_ALONE] = after["right_retrieved"] - after["right_null"]
    return {name: _interval(recall.mean(value)) for name, value in paired.items()}


def _interval(value: recall.Mean) -> dict:
    return {key: round(number, 5) for key, number in dataclasses.asdict(value).items()}


def _mean_cosine(first: np.ndarray, last: np.ndarray) -> float:
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(last, axis=1)
    return round(float(((first * last).sum(1) / norms).mean()), 4)


def index_facts(workdir: Workdir) -> dict:
    """What happened to the run's index so far: versions built and adopted, their recall, and waits of training."""
    store = IndexStore(workdir.index_folder)
    history = store.history()
    published = [event for event in history if event["event"] == "published"]
    adopted = [event for event in history if event["event"] == "adopted"]
    metrics, _ = read_json_lines(workdir.phase("pretrain") / "metrics.jsonl")
    waits = {f"{of}_wait_seconds": sum(line.get(f"{of}_wait_seconds") or 0 for line in metrics) for of in WAITED_FOR}
    probes = [(event["step"], event.get("probe", {})) for event in published]
    probes += [(version.step, version.manifest.get("probe", {})) for version in store.whole_versions()]
    # A version that was published for new texts has the step of the one before it, and no probe.
    recall_by_step = {step: {} for step, _ in probes} | {step: probe for step, probe in probes if probe}
    return {
        "published_steps": [event["step"] for event in published],
        "publish_seconds": [event["seconds"] for event in published],
        "adopted": [{"step": event["step"], "trainer_step": event["trainer_step"]} for event in adopted],
        **{name: round(seconds, 3) for name, seconds in waits.items()},
        "recall_by_version": {str(step): recall for step, recall in sorted(recall_by_step.items())},
    }
