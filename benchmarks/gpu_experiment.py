"""Does masked language modelling make a better retriever? experiments/minilm.py on one GPU, against a clock.

    python benchmarks/gpu_experiment.py --corpus=CORPUS --init=FOLDER --questions=FOLDER --warm_up
    python benchmarks/gpu_experiment.py --corpus=CORPUS --init=FOLDER --questions=FOLDER --minutes=9
    python benchmarks/gpu_experiment.py --dry_run                       (tiny, on a CPU, with questions of its own)

The first command runs every program of the experiment for a few steps: it fills the cache of compiled programs, shows
what fails, measures, and writes to plan.json the steps that fit into --minutes. The second runs the parts below in the
order of their worth and writes OUT/measured.tar anew after each, so that a run that is cut short is worth what it did;
the same command goes on where it was. It needs no network, and nothing on it is judged: benchmarks/gpu_scores.py makes
figures of measured.tar on any machine, and they alone touch the test questions' answers.

    first            what the first weights retrieve for the questions
    ict              the inverse cloze task, and what it retrieves
    realm            REALM from there; what it retrieves at each index version
    heldout          held-out masked sentences: retrieval after both, reading after REALM
    finetune_realm   fine-tuning on NQ's questions from REALM's retriever and encoder
    finetune_ict     the same from the retriever after ICT and the first encoder (ORQA, Lee et al. 2019)
    frozen           the control: REALM's steps with the retriever as ICT left it; held-out sentences
    finetune_frozen  fine-tuning from there
"""

import argparse
import dataclasses
import functools
import json
import pathlib
import platform
import runpy
import shutil
import sys
import tarfile
import time
import traceback
from collections.abc import Callable

import gpu_dry_run
import jax
import numpy as np
from gpu_tasks import Clock, Finetune, Ict, Realm, Stops

from realm_jax import console, parallel
from realm_jax.config import Config
from realm_jax.data.questions import questions as question_sets
from realm_jax.eval import heldout
from realm_jax.index.index_builder import IndexBuilder
from realm_jax.index.loaded_index import LoadedIndex, exact_index, open_exact
from realm_jax.index.own_versions import OwnVersions
from realm_jax.index.store import IndexStore
from realm_jax.index.version import Version
from realm_jax.models import embedder, reader
from realm_jax.openqa.inputs import question_tokens
from realm_jax.openqa.predict import Answerer
from realm_jax.openqa.retriever import SEARCH_BATCH, Retriever
from realm_jax.training import loop, phases
from realm_jax.workdir import Workdir, read_json_lines

EXPERIMENT = pathlib.Path(__file__).parents[1] / "experiments" / "minilm.py"
TESTS = ("nq_open_test_part", "squad_open_dev", "webquestions_test_part", "curatedtrec_test_part")
TRAIN = "nq_open_dev"
TRAININGS = ("ict", "pretrain", "frozen", "finetune_realm", "finetune_ict", "finetune_frozen")
DEPTH = 100
WARM_UP_STEPS, WARM_UP_LOG = 15, 5
SHARES = {"ict": 0.1, "realm": 0.35}
"""Of the minutes, for the steps alone."""
ENDS = {"ict": 0.4, "realm": 0.62}
"""Share of the minutes after which a phase stops at its next checkpoint; others have until the end."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="asset:mini", help="made by realm corpus, or a source")
    parser.add_argument("--init", default="asset:minilm", help="folder of MiniLM")
    parser.add_argument("--questions", type=pathlib.Path, help=f"folder of {TRAIN}.jsonl and {', '.join(TESTS)}")
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/gpu_experiment"))
    parser.add_argument("--out", type=pathlib.Path, help="folder of measured.tar and run.json (default: the workdir)")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--parts", default="", help="names of parts, with commas; default: all")
    parser.add_argument("--gradient_checkpointing", action="store_true", help="where the memory does not suffice")
    parser.add_argument("--warm_up", action="store_true")
    parser.add_argument("--dry_run", action="store_true")
    flags = parser.parse_args()
    clock = Clock(flags.minutes * 60)
    console.set_up()
    parallel.set_up_compilation_cache()
    config = settings(flags)
    if flags.dry_run:
        flags.questions = gpu_dry_run.questions(flags.workdir / "questions", (TRAIN, *TESTS))
    failed = Experiment(config, flags, clock).run([name for name in flags.parts.split(",") if name])
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


def settings(flags: argparse.Namespace) -> Config:
    """experiments/minilm.py with the plan's steps, if there is one; tiny for --dry_run."""
    config: Config = runpy.run_path(str(EXPERIMENT))["get_config"]()
    replace, plan = dataclasses.replace, {}
    if not flags.warm_up and (flags.workdir / "plan.json").exists():
        plan = json.loads((flags.workdir / "plan.json").read_text())
    again = flags.gradient_checkpointing or plan.get("gradient_checkpointing", False)
    pretrain = replace(
        config.pretrain,
        steps=plan.get("realm", config.pretrain.steps),
        checkpoint_every=config.pretrain.index_refresh_every,  # a phase ends there: its index is then of its weights
        recall_examples=2048,
    )
    config = replace(
        config,
        init=flags.init,
        model=replace(config.model, gradient_checkpointing=again),
        corpus=replace(config.corpus, knowledge=flags.corpus),
        ict=replace(config.ict, steps=plan.get("ict", config.ict.steps), checkpoint_every=100),
        pretrain=pretrain,
        index=replace(config.index, dtype="float32"),  # as what is judged
    )
    return gpu_dry_run.tiny(config) if flags.dry_run else config


@dataclasses.dataclass(frozen=True)
class _RetrievingBuilder(IndexBuilder):
    """Keeps what each version of REALM's index retrieves."""

    retrieve: Callable[[str, dict, LoadedIndex], None] = lambda *_: None

    def build(self, step: int, embedder_params: dict, embedded_by: dict | None = None) -> Version:
        version = super().build(step, embedder_params, embedded_by)
        self.retrieve(f"realm-{step:05}", embedder_params, open_exact(version, self.data.knowledge))
        return version


class Experiment:
    """The parts of the experiment over one workdir; a few steps of each for --warm_up."""

    def __init__(self, config: Config, flags: argparse.Namespace, clock: Clock):
        self.config, self.clock, self.warm_up = config, clock, flags.warm_up
        self.out: pathlib.Path = flags.out or flags.workdir
        self.out.mkdir(parents=True, exist_ok=True)
        folder = flags.workdir / ("warm_up" if flags.warm_up else "run")
        if flags.warm_up:
            shutil.rmtree(folder, ignore_errors=True)
        self.workdir = Workdir.create(folder.resolve(), config)
        self.measured = folder / "measured"
        self.measured.mkdir(exist_ok=True)
        self._record = self.measured / "run.json"
        new = {"parts": {}, "seconds": {}, "errors": {}}
        self.record = json.loads(self._record.read_text()) if self._record.exists() else new
        self.data = phases.prepare_run(self.workdir)
        self.first = phases.first_params(self.workdir)
        self.sets = {name: question_sets.read(str(flags.questions / f"{name}.jsonl")) for name in (TRAIN, *TESTS)}
        tested = [question for name in TESTS for question in self.sets[name]]
        length = config.pretrain.query_len_tokens
        self.tokens = question_tokens(tested, self.data.tokenizer, self.data.special, length)
        self.ict_store = IndexStore(self.workdir.path / "ict_index")
        self.store = IndexStore(self.workdir.index_folder)
        self._plan_file = flags.workdir / "plan.json"
        self._note("started", clock.spent())

    # The parts, each of which needs those that it names.

    def run(self, names: list[str]) -> list[str]:
        """Runs the parts that are not done, in order. Returns those that failed."""
        parts: dict[str, tuple[tuple[str, ...], Callable[[], None]]] = {
            "first": ((), self._first),
            "ict": ((), self._ict),
            "realm": (("ict",), self._realm),
            "heldout": (("realm",), self._heldout),
            "finetune_realm": (("realm",), lambda: self._finetune("realm")),
            "finetune_ict": (("ict",), lambda: self._finetune("ict")),
            "frozen": (("ict",), self._frozen),
            "finetune_frozen": (("frozen",), lambda: self._finetune("frozen")),
        }
        failed = []
        state = self.record["parts"]
        for name, (needs, part) in parts.items():
            if state.get(name) == "done" or (names and name not in names):
                continue
            if any(state.get(need) != "done" for need in needs) or self.clock.left() < self._least(name):
                state[name] = "left out"
                continue
            started = time.monotonic()
            try:
                part()
                state[name] = "done"
            except Exception:  # whatever it is, the other parts are worth having
                state[name] = "failed"
                self.record["errors"][name] = traceback.format_exc()[-4000:]
                failed.append(name)
                traceback.print_exc()
            self._note(name, time.monotonic() - started)
            self._save()
            if self.warm_up:
                self._plan_file.write_text(json.dumps(self.plan(), indent=1))
        print(json.dumps({key: self.record.get(key) for key in ("parts", "seconds", "step_seconds")}), flush=True)
        return failed

    def _least(self, name: str) -> float:
        """Seconds under which a part is not begun; the controls have to be whole to be worth anything."""
        if self.warm_up or name in ("first", "ict", "realm"):
            return float("-inf")
        if name == "frozen":
            return 0.75 * self.config.pretrain.steps * self._step_seconds("pretrain")
        return self.record["seconds"].get("finetune_realm", 20.0) if name.startswith("finetune") else 5.0

    def _first(self) -> None:
        embedding = self.first["embedder"]
        self._retrieve("first", embedding, exact_index(self.config, self.data.knowledge, embedding, "first weights"))

    def _ict(self) -> None:
        self._train("ict", Ict(self.config, self.data, {"embedder": self.first["embedder"]}), ENDS["ict"])
        towers = self._last("ict", ("embedder",))["embedder"]
        if self.ict_store.latest() is None:
            IndexBuilder(self.config, self.data, self.ict_store, "ict").build(0, towers)
        if self.store.latest() is None:
            shutil.copytree(self.ict_store.folder, self.store.folder, dirs_exist_ok=True)
        self._retrieve("ict", towers, open_exact(self.ict_store.latest(), self.data.knowledge))

    def _realm(self) -> None:
        builder = _RetrievingBuilder(self.config, self.data, self.store, retrieve=self._retrieve)
        params = self.first | self._last("ict", ("embedder",))
        embedded_by = self.ict_store.latest().manifest["embedded_by"]
        own = OwnVersions(builder, self.workdir.phase("pretrain"), params["embedder"], embedded_by)
        self._train("pretrain", Realm(self.config, self.data, self.store, params, own), ENDS["realm"])

    def _frozen(self) -> None:
        frozen = dataclasses.replace(self.config.pretrain, train_retriever=False, index_refresh_every=0)
        config = dataclasses.replace(self.config, pretrain=frozen)
        params = self.first | self._last("ict", ("embedder",))
        self._train("frozen", Realm(config, self.data, self.ict_store, params))
        self._judge("frozen", self._last("frozen"))

    def _heldout(self) -> None:
        self._judge("ict", self._last("ict", ("embedder",)))  # its encoder has no head yet
        self._judge("realm", self._last("pretrain"))

    def _finetune(self, arm: str) -> None:
        encoder = self.first if arm == "ict" else self._last("frozen" if arm == "frozen" else "pretrain")
        towers = (self._last("ict", ("embedder",)) if arm == "ict" else encoder)["embedder"]
        store = self.store if arm == "realm" else self.ict_store
        scorer = jax.device_get(reader.init(self.config.model, jax.random.key(self.config.seed)))
        params = {
            "embedder": {side: jax.tree.map(np.array, embedder.tower(towers, side)) for side in ("query", "block")},
            "reader": {**scorer, "bert": encoder["encoder"]["bert"]},
        }
        answer = functools.partial(self._answer, open_exact(store.latest(), self.data.knowledge))
        train, dev = self._split()

        def exact_match(params: dict) -> float:
            return float(np.mean([found.is_correct for found in answer(params, dev)]))

        phase = f"finetune_{arm}"
        folder = self.workdir.phase(phase)
        settings = self.config.finetune
        eval_every = WARM_UP_STEPS if self.warm_up else -(-len(train) // settings.batch_size)
        config = dataclasses.replace(self.config, finetune=dataclasses.replace(settings, eval_every=eval_every))
        task = Finetune(config, self.data, train, store, params, exact_match, folder)
        self._train(phase, task)
        best = task._best.restore(jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params))
        test = dev if self.warm_up else self.sets[TESTS[0]]
        lines = [
            {"correct": found.is_correct, "oracle": found.oracle, "rank": found.answer_rank, "answer": found.answer}
            for found in answer(best, test)
        ]
        text = json.dumps({"evaluations": task._best.past, "answers": lines})
        (self.measured / f"answers_{arm}.json").write_text(text)

    def _split(self) -> tuple[list, list]:
        """NQ's questions for training, and the last of them for the choice of the checkpoint."""
        count = self.config.finetune.dev_questions
        return self.sets[TRAIN][:-count], self.sets[TRAIN][-count:]

    def _answer(self, index: LoadedIndex, params: dict, asked: list) -> list:
        settings = self.config.finetune
        return Answerer(self.config, self.data, params, index).answer(asked, num_blocks=settings.inference_blocks)

    # What parts are made of.

    def _train(self, phase: str, task: Stops, share: float = 1.0) -> None:
        """Trains to the end, or until a share of the time is over."""
        if self.workdir.is_done(phase):
            return
        if self.warm_up:
            task.last_step, task.log_every = WARM_UP_STEPS, WARM_UP_LOG
        else:
            task.ends = self.clock.at(share)
        loop.run(task, self.workdir.phase(phase))
        self.workdir.mark_done(phase, task.steps)

    def _last(self, phase: str, parts: tuple = phases.PARTS) -> dict:
        return phases.last_params(self.workdir, phase, parts)

    def _retrieve(self, state: str, towers: dict, index: LoadedIndex) -> None:
        """Keeps the best blocks of every test question, which nobody looks at here."""
        length = self.config.pretrain.query_len_tokens
        retriever = Retriever(self.config, self.data, towers, index, length)
        query_emb = retriever.embed(self.tokens)
        padded = np.pad(query_emb, ((0, -len(query_emb) % SEARCH_BATCH), (0, 0)))  # one program to compile
        blocks, _ = retriever.search(padded, min(DEPTH, self.data.knowledge.num_blocks))
        limits = np.cumsum([len(self.sets[name]) for name in TESTS])
        found = np.split(blocks[: len(query_emb)], limits[:-1])
        np.savez_compressed(self.measured / f"retrieved_{state}.npz", **dict(zip(TESTS, found, strict=True)))

    def _judge(self, state: str, params: dict) -> None:
        values, _ = heldout.evaluate(self.config, self.data, heldout.heldout_set(self.config, self.data), params, state)
        np.savez_compressed(self.measured / f"heldout_{state}.npz", **values)

    def _step_seconds(self, phase: str) -> float:
        """Median of a phase's lines of metrics, without the first, which compiles; of the last of a warm-up."""
        lines = [line["step_seconds"] for line in read_json_lines(self.workdir.phase(phase) / "metrics.jsonl")[0]]
        return float(np.median(lines[-1:] if self.warm_up else lines[1:] or [0.0])) if lines else 0.0

    def plan(self) -> dict:
        """Steps that fit: the experiment's own, whose programs are compiled, unless they take too long or too short."""
        ict, realm, steps = self.config.ict, self.config.pretrain, {}
        units = {"ict": 100, "realm": realm.index_refresh_every}
        for part, phase, own in (("ict", "ict", ict), ("realm", "pretrain", realm)):
            fit = SHARES[part] * self.clock.seconds / (self._step_seconds(phase) or float("inf"))
            keep = not fit or 0.4 * fit <= own.steps <= 1.2 * fit
            steps[part] = own.steps if keep else max(1, round(fit / units[part])) * units[part]
        return {**steps, "gradient_checkpointing": self.config.model.gradient_checkpointing}

    def _note(self, name: str, seconds: float) -> None:
        self.record["seconds"][name] = round(self.record["seconds"].get(name, 0.0) + seconds, 1)

    def _save(self) -> None:
        """Writes what there is to OUT, whole or not at all."""
        device = jax.local_devices()[0]
        stats = device.memory_stats() or {}
        for phase in TRAININGS:
            file = self.workdir.phase(phase) / "metrics.jsonl"
            if file.exists():
                shutil.copy(file, self.measured / f"metrics_{phase}.jsonl")
        self.record |= {
            "device": device.device_kind,
            "peak_memory_gib": round(stats.get("peak_bytes_in_use", 0) / 2**30, 2),
            "versions": {"python": platform.python_version(), "jax": jax.__version__, "numpy": np.__version__},
            "config": dataclasses.asdict(self.config),
            "blocks": self.data.knowledge.num_blocks,
            "segment_hashes": self.data.knowledge.segment_hashes,
            "step_seconds": {phase: self._step_seconds(phase) for phase in TRAININGS},
        }
        self._record.write_text(json.dumps(self.record, indent=1))
        name = "warm_up" if self.warm_up else "measured"
        partial = self.out / f".{name}.tar"
        with tarfile.open(partial, "w") as archive:
            archive.add(self.measured, arcname="measured")
        partial.rename(self.out / f"{name}.tar")
        shutil.copy(self._record, self.out / f"{name}.json")


if __name__ == "__main__":
    main()
