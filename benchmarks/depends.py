"""What each benchmark's figures depend on, and which results are older than the last change to it.

`report` writes the paths into every result, as `depends_on`: the code whose change may change the figure, not all that
runs. `realm_jax/config.py` is never among them: each new setting would make every result old.

A commit that moves or rewrites code without changing its numbers would make results old, too. Once it is shown that the
code gives the same bits as when a result was measured, the result's file may say up to which commit: `same_bits_at`.
"""

import json
import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def _under(folder: str, names: str) -> tuple[str, ...]:
    return tuple(f"realm_jax/{folder}/{name}.py" for name in names.split())


TEXTS = _under(
    "data",
    "assets blocks corpus corpus_writer sources/markdown pieces run_tokenizer salient segment sentences "
    "sources/sources",
)
ENCODERS = _under("models", "attention bert chunks embedder knowledge_encoder parts pretrained realm sequences")
SEARCH = _under("index", "exact scann search top_k")
STEP = (*ENCODERS, *_under("losses", "marginal"), "realm_jax/parallel.py", *_under("training", "optimizer"))
PRETRAINING = (
    *TEXTS,
    *_under("data", "assembly eligible_rows ict_examples masking packing pipeline recurring_spans"),
    *STEP,
    *_under("losses", "ict_loss"),
    *SEARCH,
    *_under("index", "current embed_blocks loaded_index source_block"),
    *_under("training", "ict_task loop pretrain_task retrieval room"),
)
ANSWERS = (
    *PRETRAINING,
    *_under("models", "reader span_sums"),
    *_under("losses", "openqa_loss"),
    *_under("openqa", "bodies inputs labels predict retriever signatures"),
    *_under("training", "best_params finetune_task finetuning"),
    *_under("eval", "question_answering"),
    *_under("scores", "answers recall"),
)
TAGGING = (
    "realm_jax/data/salient.py",
    "realm_jax/models/bert.py",
    *_under("tagging", "bio sentence_tagger silver tag_task tagger_model words"),
)

NANO = (
    *PRETRAINING,
    *_under("index", "probe"),
    *_under("eval", "heldout"),
    *_under("scores", "recall"),
    "experiments/nano.py",
)
PATHS = {
    "ablations": (*ANSWERS, *_under("data/questions", "cloze"), "experiments/ablations.py", "experiments/nano.py"),
    "answers": (*ANSWERS, *_under("data/questions", "questions"), *_under("eval", "baselines bm25_index closed_book")),
    "build_corpus": ("realm_jax/data/build", *TEXTS),
    "compiled_memory": (
        *STEP,
        *_under("models", "reader span_sums"),
        *_under("losses", "ict_loss openqa_loss"),
        *_under("plan", "compiled longest_batch"),
        *_under("training", "finetune_task fit ict_task pretrain_task"),
    ),
    "convert_published": (
        "realm_jax/convert",
        "realm_jax/model_folder",
        *_under("models", "parts"),
        *_under("data", "blocks corpus corpus_writer segment"),
    ),
    "corpus_memory": (*_under("data", "blocks corpus corpus_writer segment"), *SEARCH),
    "curve": (
        *PRETRAINING,
        *_under("eval", "baselines bm25_index heldout"),
        *_under("openqa", "bodies labels retriever"),
        *_under("scores", "recall"),
        "experiments/passages.py",
    ),
    "embedding": (*_under("data", "length_batches"), *_under("index", "embed_blocks"), *ENCODERS),
    "exact_search": _under("index", "exact top_k"),
    "finetune_step": (
        *_under("models", "attention bert embedder reader sequences span_sums"),
        *_under("losses", "openqa_loss"),
        *_under("data", "assembly packing"),
        *_under("openqa", "bodies inputs labels signatures"),
        *_under("training", "finetune_search finetune_task optimizer retrieval room"),
        *_under("index", "exact"),
        "realm_jax/parallel.py",
    ),
    "gpu": (
        *STEP,
        *_under("data", "pipeline"),
        *_under("index", "embed_blocks exact"),
        *_under("training", "pretrain_task"),
    ),
    "gpu_scores": (
        *ANSWERS,
        *_under("eval", "baselines bm25_index gold heldout"),
        *_under("scores", "bootstrap"),
        "benchmarks/gpu_experiment.py",
        "experiments/minilm.py",
    ),
    "host": (
        *_under("data", "assembly corpus eligible_rows masking packing pipeline segment"),
        *_under("openqa", "bodies labels signatures"),
        *_under("training", "room"),
    ),
    "index_recall": (*SEARCH, *_under("index", "lsh")),
    "index_update": (
        *ANSWERS,
        *_under("data/questions", "cloze"),
        *_under("index", "index_builder knowledge_update publish"),
    ),
    "large_step": (*STEP, *_under("training", "pretrain_task")),
    "nano": NANO,
    "plan": (
        *STEP,
        *_under("losses", "ict_loss openqa_loss"),
        *_under("models", "reader span_sums"),
        *_under("plan", "device_memory parameters planned work"),
        *_under("training", "finetune_task ict_task pretrain_task"),
    ),
    "pretrain_step": (*STEP, *_under("data", "assembly packing pipeline"), *_under("training", "pretrain_task room")),
    "kill_matrix": (
        *_under("index", "current index_builder publish store"),
        *_under("training", "builder_process loop retrieval"),
        "realm_jax/checkpoints.py",
        "realm_jax/faults.py",
        "realm_jax/run.py",
        "realm_jax/signals.py",
    ),
    "rehearsal": (
        *_under("data", "corpus eligible_rows pipeline recurring_spans segment"),
        *_under("index", "current embed_blocks probe publish scann shared_embedding shared_work store"),
        *_under("training", "pretrain_task retrieval"),
        "realm_jax/buckets.py",
        "realm_jax/local_cache.py",
        "realm_jax/parallel.py",
        "realm_jax/processes.py",
    ),
    "sampling": NANO,
    "soak": (
        *_under("index", "current index_builder publish store"),
        *_under("training", "loop retrieval"),
        "realm_jax/checkpoints.py",
        "realm_jax/signals.py",
    ),
    "search": (*SEARCH, "benchmarks/search_faiss.py"),
    "squad_recall": (
        *PRETRAINING,
        *_under("openqa", "bodies inputs labels signatures"),
        *_under("eval", "baselines bm25_index zero_shot"),
        *_under("scores", "recall"),
        "experiments/nano.py",
        "experiments/squad.py",
    ),
    "tagger": TAGGING,
    "tagger_parts": TAGGING,
    "taggers": (*TAGGING, "realm_jax/tagging/entities.py", "tests/data/annotated.jsonl"),
}
"""By the name of the script that writes the result."""


def check() -> None:
    """Prints the results that are older than the last change to a path of theirs; exits if such a path is missing."""
    root = RESULTS.parent.parent
    results = {file.name: json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))}
    for name, result in results.items():
        missing = [path for path in result["depends_on"] if not (root / path).exists()]
        if missing:
            sys.exit(f"{name} depends on {', '.join(missing)}, which is not there: name what took its place")
    if said := _no_history(root):
        print(f"How old the results are is not known: {said}")
        return
    for name, result in results.items():
        if change := last_change(result, root):
            print(f"{name} ({result['date'][:10]}, commit {result['commit'][:8]}) is older than {change}")


def last_change(result: dict, root: Path) -> str:
    """The last commit that changed a path of a result and that the result does not contain; "" if there is none.

    A result contains the changes up to its `same_bits_at`, if it has one, or else up to its own commit.
    """
    commits = [result.get("same_bits_at", ""), result["commit"].partition("+")[0]]
    known = [c for c in commits if c and _git(root, "rev-parse", "--verify", "--quiet", f"{c}^{{commit}}")]
    since = [f"{known[0]}..HEAD"] if known else [f"--since={result['date']}", "HEAD"]
    return _git(root, "log", "-1", "--format=%h (%cs): %s", *since, "--", *result["depends_on"])


def _no_history(root: Path) -> str:
    if _git(root, "rev-parse", "--show-toplevel") != str(root.resolve()):
        return "this is no git checkout"
    return "this clone is shallow" if _git(root, "rev-parse", "--is-shallow-repository") == "true" else ""


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()
