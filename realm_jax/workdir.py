"""The folder that one run's processes share: its config, corpora, phases, index versions and summary.

Trainer and builder know each other only through these files. Everything is written to a temporary name and renamed,
so that a reader sees a file whole or not at all.
"""

import contextlib
import dataclasses
import json
import os
import uuid

from etils import epath

from realm_jax import config_json, lock, paths
from realm_jax.buckets import create, is_remote
from realm_jax.config import CONVERTED, Config, ConfigError

CHANGEABLE = {
    "model": ("gradient_checkpointing", "scan_layers"),
    "ict": ("micro_batch",),
    "pretrain": ("micro_batch", "micro_candidates"),
    "finetune": ("micro_batch",),
}
"""Settings of how a device goes about a step: a run may go on with others, on devices of less memory."""
TUNED = ("scann_leaves_to_search", "scann_reorder")
"""Settings of the index that `realm tune` writes into the config of a begun run."""


class Workdir:
    """Paths inside one run's folder, and its config. Raises ConfigError if the folder's name is not UTF-8."""

    def __init__(self, path: str | os.PathLike, config: Config):
        self.path = epath.Path(path)
        self.config = config
        if paths.printable(self.path) != os.fspath(self.path):  # what writes checkpoints takes no other names
            raise ConfigError(
                f"{paths.printable(path)}: its name, or the locale, is not UTF-8: pass another --workdir, or rename it"
            )

    @classmethod
    def create(cls, path: str | os.PathLike, config: Config) -> "Workdir":
        """Opens the folder, writing its config if the run has made nothing yet.

        A converted workdir without a corpus still takes any setting but those of its weights. The tracker may always
        change, and what is `CHANGEABLE`, since no result depends on it but by rounding and by what dropout draws. A run
        that was tuned (`tune_index`) keeps its settings under the flags that it was begun with.

        Raises:
            ConfigError: the folder holds another config; the message lists what differs.
        """
        workdir = cls(path, with_absolute_paths(config.check()))
        config = workdir.config
        is_converted = workdir.is_done("init")
        is_open = is_converted and not (workdir.knowledge_folder / "manifest.json").exists()
        is_begun = is_converted or workdir.tokenizer_file.exists()
        if is_begun or lock.is_held(workdir.trainer_lock):
            own = cls.open(path).config
            config = workdir._as_tuned(config, own)
            compared, theirs = _with_changeable_of(own, config), with_absolute_paths(own)
            if is_open:
                compared = dataclasses.replace(theirs, model=config.model, init=config.init)
            differences = config_json.differences(_with_spelling_of(theirs, compared), theirs)
            if differences:
                raise ConfigError(
                    f"{path} was made with another config ({'; '.join(differences)}): "
                    "pass another --workdir, or drop these flags to go on with its own"
                )
            if not is_open:
                workdir.config = _with_changeable_of(config, own)
        file, text = workdir.config_file, _json(config_json.to_json(workdir.config))
        if not file.exists() or file.read_bytes() != text.encode():  # a finished run may lie on a read-only disk
            write_text(file, text)
        return workdir

    @classmethod
    def open(cls, path: str | os.PathLike) -> "Workdir":
        """Opens an existing run. Raises ConfigError if there is none or its config cannot be read."""
        file = epath.Path(path) / "config.json"
        if not file.exists():
            raise ConfigError(f"{path} is no workdir (no config.json): pass --workdir=DIR of a run, or make one first")
        return cls(path, config_json.from_json(read_json(file)))

    def refuse_overwritten(self) -> None:
        """Raises ConfigError if another command has begun the run with its own config; to be called under the lock."""
        now = Workdir.open(self.path).config
        if differences := config_json.differences(self.config, now):
            raise ConfigError(
                f"{self.path} was begun by another command meanwhile ({'; '.join(differences)}): run again"
            )

    def tune_index(self, settings: dict, facts: dict) -> "Workdir":
        """Writes settings of the index's search into the config, and how they were found into `tuned_file`.

        Processes that have the run open keep their settings until they are started again.

        Args:
            settings: values of `TUNED`.
            facts: plain values, kept with them.

        Returns:
            The run with the new settings.
        """
        before = {name: getattr(self.config.index, name) for name in TUNED}
        if self.tuned_file.exists():
            before = read_json(self.tuned_file)["begun_with"]
        index = dataclasses.replace(self.config.index, **settings)
        tuned = Workdir(self.path, dataclasses.replace(self.config, index=index).check())
        write_json(self.tuned_file, {"settings": settings, "begun_with": before, **facts})  # first: `create` needs it
        write_json(self.config_file, config_json.to_json(tuned.config))
        return tuned

    def _as_tuned(self, config: Config, own: Config) -> Config:
        """The config with the run's own tuned settings, if it has those that the run was begun with."""
        if not self.tuned_file.exists():
            return config
        begun_with = read_json(self.tuned_file)["begun_with"]
        if any(getattr(config.index, name) != value for name, value in begun_with.items()):
            return config
        tuned = {name: getattr(own.index, name) for name in TUNED}
        return dataclasses.replace(config, index=dataclasses.replace(config.index, **tuned))

    @property
    def tuned_file(self) -> epath.Path:
        """How the settings of the index's search were chosen, and those that the run was begun with."""
        return self.index_folder / "tuned.json"

    @property
    def config_file(self) -> epath.Path:
        """The settings of all phases."""
        return self.path / "config.json"

    @property
    def trainer_lock(self) -> epath.Path:
        """Held by the one process that trains here."""
        return self.path / "trainer.lock"

    @property
    def update_lock(self) -> epath.Path:
        """Held by the one process that changes the knowledge corpus."""
        return self.path / "update.lock"

    @property
    def tokenizer_file(self) -> epath.Path:
        """The one vocabulary of the run."""
        return self.path / "tokenizer.json"

    @property
    def knowledge_folder(self) -> epath.Path:
        """The knowledge corpus Z."""
        return self.path / "corpus"

    @property
    def text_folder(self) -> epath.Path:
        """The pre-training text X."""
        same = self.config.corpus.pretrain_text in ("", self.config.corpus.knowledge)
        return self.knowledge_folder if same else self.path / "pretrain_text"

    @property
    def examples_folder(self) -> epath.Path:
        """Which rows of the corpora can be masked, and the run's probe."""
        return self.path / "examples"

    @property
    def index_folder(self) -> epath.Path:
        """Index versions of pre-training, and their history."""
        return self.path / "index"

    @property
    def index_folders(self) -> list[epath.Path]:
        """The run's index, and those that fine-tunings made for themselves."""
        return [self.index_folder, *sorted(self.path.glob("finetune/*/index"))]

    @property
    def conversion_file(self) -> epath.Path:
        """What a converted run was given, and where each parameter came from."""
        return self.phase("init") / "conversion.json"

    @property
    def summary_file(self) -> epath.Path:
        """What `realm run` measured at its end."""
        return self.path / "summary.json"

    def phase(self, name: str) -> epath.Path:
        """Folder of a training phase: ict or pretrain."""
        return self.path / name

    def is_done(self, phase: str) -> bool:
        """True once the phase has trained all its steps."""
        return (self.phase(phase) / "DONE").exists()

    def mark_done(self, phase: str, step: int) -> None:
        """Tells other processes that the phase is over."""
        write_json(self.phase(phase) / "DONE", {"step": step})


def with_absolute_paths(config: Config) -> Config:
    """The config with paths that mean the same in every folder."""
    corpus, init = config.corpus, config.init
    knowledge = corpus.knowledge if corpus.knowledge == CONVERTED else paths.absolute(corpus.knowledge)
    corpus = dataclasses.replace(corpus, knowledge=knowledge, pretrain_text=paths.absolute(corpus.pretrain_text))
    if init not in ("random", CONVERTED) and (os.path.exists(paths.expand(init)) or not _may_be_repository(init)):
        init = paths.absolute(init)
    return dataclasses.replace(config, corpus=corpus, init=init)


def _with_changeable_of(other: Config, config: Config) -> Config:
    """The config with what may change in a begun run as `other` has it."""
    sections = {
        name: dataclasses.replace(
            getattr(config, name), **{field: getattr(getattr(other, name), field) for field in fields}
        )
        for name, fields in CHANGEABLE.items()
    }
    return dataclasses.replace(config, tracker=other.tracker, **sections)


def _may_be_repository(init: str) -> bool:
    """Whether a word may be `OWNER/NAME` on Hugging Face."""
    return init.count("/") == 1 and init[0] not in "/.~"


def _with_spelling_of(own: Config, config: Config) -> Config:
    """The config, with the spelling that `own` has for each path that names the same place."""
    corpus, theirs = config.corpus, own.corpus
    for field in ("knowledge", "pretrain_text"):
        if paths.are_same(getattr(corpus, field), getattr(theirs, field)):
            corpus = dataclasses.replace(corpus, **{field: getattr(theirs, field)})
    init = own.init if paths.are_same(config.init, own.init) else config.init
    return dataclasses.replace(config, corpus=corpus, init=init)


def newest(root: str | os.PathLike = "runs") -> epath.Path:
    """The workdir under `root` whose config or summary changed last. Raises ConfigError if there is none."""
    files = [f for pattern in ("*/config.json", "*/summary.json") for f in epath.Path(root).glob(pattern)]
    if not files:
        raise ConfigError(f"no run under {root}/: make one with `make pretrain`, or pass --workdir=DIR")
    return max(files, key=lambda file: file.stat().mtime).parent


def write_json(file: os.PathLike, values: dict | list) -> None:
    """Writes JSON so that readers see all of it or the file before."""
    write_text(file, _json(values))


def write_text(file: os.PathLike, text: str) -> None:
    """The same for any text; a device or pipe is written to, not replaced. Raises ConfigError when the disk is full."""
    file, content = epath.Path(file), text.encode("utf-8", "backslashreplace")  # half a surrogate pair, as in a path
    if is_remote(file):  # an object appears whole
        file.write_bytes(content)
        return
    if _is_stream(file):
        with open(file, "ab") as stream:
            stream.write(content)
        return
    if os.path.islink(file):  # stays one
        file = epath.Path(os.path.realpath(file))
    temporary = file.parent / f".{file.name}.{uuid.uuid4().hex[:8]}"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(file)
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror or error}: free some space or fix the path") from error
    finally:  # also where a signal ends this
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def create_json(file: epath.Path, values: dict) -> bool:
    """Writes JSON to a new file; False if there is one: of several processes, one alone makes it, whole.

    Raises:
        FileNotFoundError: its folder is gone.
    """
    content = _json(values).encode()
    if is_remote(file):
        return create(file, content)
    temporary = file.parent / f".{file.name}.{uuid.uuid4().hex[:8]}"
    try:
        temporary.write_bytes(content)
        os.link(temporary, file)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _json(values: dict | list) -> str:
    return json.dumps(values, indent=1, ensure_ascii=False) + "\n"


def _is_stream(file: epath.Path) -> bool:
    """Whether a path is of a device or a pipe, or of a file that is open, as `/dev/stdout` may be."""
    is_open = os.fspath(file).startswith(("/dev/std", "/dev/fd/", "/proc/"))
    return is_open or (os.path.exists(file) and not os.path.isfile(file) and not os.path.isdir(file))


def read_json(file: epath.Path) -> dict:
    """Reads JSON. Raises ConfigError naming the file if it is damaged."""
    try:
        found = json.loads(epath.Path(file).read_bytes())
        if not isinstance(found, dict):
            raise ValueError("no JSON object")
        return found
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, or too deep
        raise ConfigError(f"{file} is damaged ({error}): delete it and rerun the command that wrote it") from error


def read_json_lines(file: epath.Path) -> tuple[list[dict], int]:
    """Reads a file of JSON objects, one a line, that may be growing; empty if there is none.

    Returns:
        The objects, and how many lines held none; a last line that is still being written counts as neither.
    """
    if not file.exists():
        return [], 0
    records, damaged = [], 0
    for line in file.read_bytes().split(b"\n")[:-1]:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):  # no JSON, no UTF-8, or too deep
            record = None
        if isinstance(record, dict):
            records.append(record)
        else:
            damaged += 1
    return records, damaged
