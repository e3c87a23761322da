"""Shared by all commands: an experiment file, typed flags that override its fields, one workdir, errors of one line.

`--help` lists every flag with its meaning and imports no JAX: commands import the library after they have read their
flags.
"""

import argparse
import dataclasses
import errno
import functools
import sys
from collections.abc import Callable
from typing import Annotated

import tyro
from etils import epath

from realm_jax import background, console, faults, paths, terminal
from realm_jax import workdir as workdir_lib
from realm_jax.buckets import check_reach
from realm_jax.config import Config, ConfigError, RunError
from realm_jax.experiments_file import load_experiment
from realm_jax.signals import Stopped
from realm_jax.workdir import Workdir

DEFAULT_EXPERIMENT = "experiments/nano.py"
MOST_SHOWN = 200  # characters of a name
REFUSALS = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENOMEM, errno.EIO, errno.ESTALE),
}
"""Errors of a file system that a user can correct."""


def _path(words: list[str], *, empty: bool) -> str:
    if not words[0].strip() and not empty:
        raise ConfigError("is empty: pass a path")
    return paths.expand(words[0])


def _path_type(*, empty: bool) -> tyro.constructors.PrimitiveConstructorSpec:
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=functools.partial(_path, empty=empty),
        is_instance=lambda value: isinstance(value, str),
        str_from_instance=lambda value: [value],
    )


PathFlag = Annotated[str, _path_type(empty=True)]
"""The type of a flag that names a file or folder, or is empty; its value goes through `paths.expand`."""
NeededPath = Annotated[str, _path_type(empty=False)]
"""The same for a flag that must not be empty."""


@dataclasses.dataclass(frozen=True)
class _NewRun:
    settings: Annotated[Config, tyro.conf.arg(name="")]
    config: PathFlag = DEFAULT_EXPERIMENT
    """Experiment file whose get_config() the other flags override; an existing workdir brings its own."""
    workdir: PathFlag = ""
    """Folder of the run (default: runs/NAME)."""
    corpus: PathFlag = ""
    """Short for --corpus.knowledge."""


def new_workdir(description: str, argv: list[str] | None = None) -> Workdir:
    """Parses the flags of a command that starts or resumes a run.

    Raises:
        ConfigError: a bad experiment file or value, or a workdir made with another config.
        SystemExit: `--help` (0) or a malformed flag (2).
    """
    argv = sys.argv[1:] if argv is None else argv
    experiment, workdir = early_path(argv, "--config"), early_path(argv, "--workdir")
    check_reach(workdir)
    has_own = workdir and (epath.Path(workdir) / "config.json").exists()
    if has_own and not experiment:
        default = Workdir.open(workdir).config
    else:
        default = load_experiment(experiment or DEFAULT_EXPERIMENT)
    flags = tyro.cli(
        _NewRun,
        description=description,
        args=argv,
        default=_NewRun(settings=default),
        config=(tyro.conf.FlagConversionOff,),  # booleans as --flag=True or --flag=False, like every other setting
    )
    config = flags.settings
    if flags.corpus:
        config = dataclasses.replace(config, corpus=dataclasses.replace(config.corpus, knowledge=flags.corpus))
    return Workdir.create(flags.workdir or f"runs/{config.name}", config)


def early_flag(argv: list[str], flag: str) -> str:
    """A flag's value, empty if it is not given, read before the others because their defaults depend on it."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(flag, dest="value", default="")
    return parser.parse_known_args(argv)[0].value


def early_path(argv: list[str], flag: str) -> str:
    """The same for a `PathFlag`."""
    return paths.expand(early_flag(argv, flag))


def existing(path: str) -> Workdir:
    """Opens the given run, or the newest under runs/, whose name it prints. Raises ConfigError if there is none."""
    if not path:
        path = str(workdir_lib.newest())
        print(f"workdir: {path} (the newest; --workdir chooses another)", flush=True)
    check_reach(path)
    return Workdir.open(path)


def start_jax(*, cpu_only: bool = False) -> None:
    """Prepares JAX for a command: compiled programs are kept on disk; with `cpu_only` it uses no accelerator."""
    import jax

    from realm_jax import parallel

    if cpu_only:
        jax.config.update("jax_platforms", "cpu")
    parallel.set_up_compilation_cache()


@background.ending()
def run(main: Callable[[], None]) -> None:
    """Runs a command; errors that a user can correct end it with one line and a non-zero status."""
    terminal.print_anything()
    console.set_up()
    try:
        try:
            faults.point("start")
            main()
        finally:
            console.close()
            sys.stdout.flush()  # here, so that a reader that went away is noticed before the end
    except ConfigError as error:
        sys.exit(_say(f"error: {error}", 2))
    except Stopped as error:
        sys.exit(_say(str(error), error.status))
    except RunError as error:
        sys.exit(_say(str(error), 1))
    except UnicodeEncodeError as error:
        if error.reason != "surrogates not allowed":
            raise
        name = paths.printable(error.object[:MOST_SHOWN])
        sys.exit(_say(f"error: {name}: a library cannot take names that are not UTF-8: rename it", 2))
    except BrokenPipeError:
        if not terminal.reader_is_gone():
            raise
        terminal.end_without_reader()
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        sys.exit(_say(f"error: {refusal(error)}", 2))


def refusal(error: OSError) -> str:
    """One line on what a file system refused, and what to do."""
    where = error.filename if error.filename is not None else "a file, or the output"
    return f"{where}: {error.strerror}: mend its permissions, free some space or pass another path"


def _say(line: str, status: int) -> int:
    print(line.replace("\n", "\\n"), file=sys.stderr, flush=True)  # a path may hold anything
    return status
