"""Eight fake CPU devices for every test, and one tiny corpus that the runs of tests share."""

import dataclasses
import gc
import os
import pathlib
import shutil

import hypothesis
import pytest

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Models are so small that compiling is most of the time they take, here and in the processes that tests start.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

# Tracing leaves many objects behind: looking through all of them again and again takes a twentieth of the time.
gc.set_threshold(10_000, 10, 100)

hypothesis.settings.register_profile("seeded", derandomize=True)  # a test that passes today passes tomorrow
hypothesis.settings.load_profile("seeded")

from realm_jax import config as config_lib  # noqa: E402
from realm_jax import console  # noqa: E402
from realm_jax.config_json import to_json  # noqa: E402
from realm_jax.data import assets  # noqa: E402
from realm_jax.data.prepare import prepare  # noqa: E402
from realm_jax.workdir import Workdir, write_json  # noqa: E402

NUM_ARTICLES = 80
MOST_MAPS = 20_000
LONGEST = (
    "docs/test_commands.py",
    "benchmarks/test_rehearsal.py",
    "mutants/test_mutants.py",
    "test_packaging.py",
    "test_floors.py",
    "test_several_processes.py",
    "training/test_micro_batches.py",
    "notebooks/test_execution.py",
    "test_gpu_benchmark.py",
    "test_answering.py",
    "ablations/test_ablate.py",
    "test_processes.py",
    "tagging/test_tag.py",
    "api/test_python_page.py",
    "test_run.py",
)
"""Files by how long they take. They start first: one that starts last keeps a worker when the others are done."""


def pytest_collection_modifyitems(items):
    rank = {pathlib.Path(__file__).parent / name: number for number, name in enumerate(LONGEST)}
    assert all(file.exists() for file in rank)
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """A cache of downloads of its own."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["REALM_JAX_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def compiled(tmp_path_factory):
    """Compiled programs of all workers, and of the processes that tests start, in one folder."""
    import jax

    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(shared / "compiled"))
    jax.config.update("jax_compilation_cache_dir", folder)


@pytest.fixture(scope="module", autouse=True)
def maps_left():
    """Drops compiled programs once they take a third of the memory maps that Linux gives a process: with none left, XLA
    crashes."""
    yield
    maps = pathlib.Path("/proc/self/maps")
    if maps.exists() and maps.read_text().count("\n") > MOST_MAPS:
        import jax

        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="session", autouse=True)
def shown_log():
    """What the library logs is on stdout, as in a command, but a message with the long path of a test is one line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(console, "WIDTH", 1000)
        console.set_up()
        yield


@pytest.fixture(autouse=True)
def shown_log_after_a_test_of_it(shown_log):
    """A test that sets the log up otherwise leaves no trace."""
    console.set_up()


@pytest.fixture(scope="session")
def corpus_file(tmp_path_factory):
    """The first articles of the mini-corpus, as JSON lines."""
    lines = assets.fetch(assets.MINI_CORPUS).read_text().splitlines(keepends=True)[:NUM_ARTICLES]
    file = tmp_path_factory.mktemp("texts") / "tiny.jsonl"
    file.write_text("".join(lines))
    return file


@pytest.fixture(scope="session")
def tiny_config(corpus_file):
    """Everything as small as it gets; no ICT, batches for eight devices."""
    return config_lib.Config(
        name="tiny",
        model=config_lib.ModelConfig(
            vocab_size=700,
            hidden_size=16,
            num_layers=1,
            num_heads=2,
            intermediate_size=32,
            max_positions=96,
            dropout=0.0,
            pooling="mean",
            projection_dim=16,
        ),
        corpus=config_lib.CorpusConfig(knowledge=str(corpus_file), block_len_tokens=48, heldout_fraction=0.2),
        ict=config_lib.IctConfig(steps=0, batch_size=8, query_len_tokens=24),
        pretrain=config_lib.PretrainConfig(
            steps=4,
            batch_size=8,
            num_candidates=4,
            max_masks=2,
            query_len_tokens=32,
            learning_rate=1e-3,
            index_refresh_every=2,
            checkpoint_every=2,
            log_every=2,
        ),
        index=config_lib.IndexConfig(search="exact", device="inline", wait_timeout_s=60.0, embed_batch_tokens=2048),
        finetune=config_lib.FinetuneConfig(question_len_tokens=32),
    )


@pytest.fixture(scope="session")
def tiny_run(tiny_config, tmp_path_factory):
    """A workdir whose corpus is prepared; tests only read it."""
    workdir = Workdir.create(tmp_path_factory.mktemp("runs") / "tiny", tiny_config)
    prepare(workdir)
    return _kept(workdir)


@pytest.fixture
def new_run(tiny_run, tmp_path):
    """Makes workdirs with the same corpus and other settings: `new_run(pretrain={"steps": 9}, seed=3)`."""

    def make(name="run", **changes) -> Workdir:
        workdir = Workdir.create(tmp_path / name, _changed(tiny_run.config, changes))
        shutil.copy(tiny_run.tokenizer_file, workdir.tokenizer_file)
        shutil.copytree(tiny_run.knowledge_folder, workdir.knowledge_folder)
        return workdir

    return make


@pytest.fixture(scope="session")
def pretrained_run(tiny_run, tmp_path_factory):
    """A workdir as after ICT and pre-training, with an index of the last weights; each phase has
    random weights of its own. Tests only read it: `copy_run` gives them one to write to."""
    import jax
    import numpy as np

    from realm_jax.checkpoints import Checkpoints
    from realm_jax.data.prepare import open_prepared
    from realm_jax.index.index_builder import IndexBuilder
    from realm_jax.index.store import IndexStore
    from realm_jax.training import phases

    workdir = _copy(tiny_run, tmp_path_factory.mktemp("runs") / "pretrained")
    first, rng = phases.first_params(workdir), np.random.default_rng(0)
    for phase, parts in {"ict": ["embedder"], "pretrain": ["embedder", "encoder"]}.items():
        params = {part: first[part] for part in parts}
        params = jax.tree.map(lambda x: (x + rng.normal(0, 0.1, x.shape)).astype(np.float32), params)
        with Checkpoints(workdir.phase(phase)) as checkpoints:
            checkpoints.save(1, params)
        workdir.mark_done(phase, 1)
    data, store = open_prepared(workdir), IndexStore(workdir.index_folder)
    source = {"phase": "pretrain", "step": workdir.config.pretrain.steps}
    IndexBuilder(workdir.config, data, store).build(source["step"], params["embedder"], embedded_by=source)
    return _kept(workdir)


def _kept(workdir: Workdir) -> Workdir:
    """The workdir, which is kept as it is now, too: what tests leave in it by reading is in no copy."""
    shutil.copytree(workdir.path, _as_made(workdir))
    return workdir


def _as_made(workdir: Workdir) -> pathlib.Path:
    return workdir.path.with_name(f"{workdir.path.name}-as-made")


def _copy(workdir, path, **changes) -> Workdir:
    kept = _as_made(workdir)
    shutil.copytree(kept if kept.exists() else workdir.path, path)
    copied = Workdir(path, _changed(workdir.config, changes))
    if changes:
        write_json(copied.config_file, to_json(copied.config))
    return copied


def _changed(config: config_lib.Config, changes: dict) -> config_lib.Config:
    for section, values in changes.items():
        if isinstance(values, dict):
            values = dataclasses.replace(getattr(config, section), **values)
        config = dataclasses.replace(config, **{section: values})
    return config


@pytest.fixture
def between_batches(monkeypatch):
    """Has a function called by index builders of this process after every batch of blocks that they embed."""
    from realm_jax import faults

    return lambda call: monkeypatch.setattr(faults, "point", lambda name: call() if name == "embedding" else None)


@pytest.fixture(scope="session")
def copy_run():
    """Copies a workdir: `copy_run(workdir, path)`, or with other settings, as those of `new_run`."""
    return _copy


@pytest.fixture(scope="session")
def tuned_run(pretrained_run, tmp_path_factory, copy_run) -> Workdir:
    """The pre-trained run, fine-tuned by hand; tests only read it."""
    from tests.tuned import finetune_by_hand

    workdir = copy_run(pretrained_run, tmp_path_factory.mktemp("runs") / "tuned")
    finetune_by_hand(workdir)
    return workdir
