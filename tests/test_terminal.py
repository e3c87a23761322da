"""Whatever the terminal: a command ends as it would without one."""

import os
import subprocess
import sys

import pytest

from realm_jax.commands import cli

SAYS = """
import sys
from realm_jax.commands import cli
def main():
    print("Łódź \\udce9")
    print("北京", file=sys.stderr)
    for _ in range(int(sys.argv[1])):
        print("x" * 100)
cli.run(main)
print("ended well" if sys.stdout else "", file=sys.__stderr__)
"""


def says(lines=0, shell='"$@"', **environment):
    command = ["bash", "-c", shell, "bash", sys.executable, "-c", SAYS, str(lines)]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, timeout=60, check=False)
    assert b"Traceback" not in done.stderr and b"Exception" not in done.stderr, done.stderr
    return done


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", rb"\u0141\xf3d\u017a \udce9"),
        ("iso8859-1", b"\\u0141\xf3d\\u017a \\udce9"),
        ("utf-8", "Łódź \\udce9".encode()),
    ],
)
def test_a_letter_that_the_encoding_lacks_is_printed_as_its_number(encoding, shown):
    done = says(PYTHONIOENCODING=encoding)
    assert done.stdout == shown + b"\n" and b"ended well" in done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams(closed):
    assert says(3, f'"$@" {closed}').returncode == 0


def test_a_reader_that_goes_away_ends_it_in_silence():
    done = says(100_000, '"$@" | head -1; exit ${PIPESTATUS[0]}')
    assert done.returncode == 141 and b"ended well" not in done.stderr
    assert says(1, '"$@" | sleep 0; exit ${PIPESTATUS[0]}').returncode in (0, 141)


@pytest.mark.parametrize("command", ["", "show"])
def test_nor_does_one_who_reads_no_help(command):
    words = [sys.executable, "-m", "realm_jax", *filter(None, [command]), "--help"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(words, stdout=write, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_an_output_that_takes_nothing_is_named():
    done = says(1, '"$@" >/dev/full')
    assert done.returncode == 2 and b"error: a file, or the output: No space left on device" in done.stderr


def test_what_a_file_system_refuses_is_one_line(tmp_path, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as stop:
        cli.run(lambda: (tmp_path / "file" / "x").read_bytes())
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/file/x: Not a directory: mend its permissions")
    with pytest.raises(FileNotFoundError):  # more likely our mistake
        cli.run(lambda: (tmp_path / "none").read_bytes())
    with pytest.raises(BrokenPipeError):  # of no pipe to the terminal
        cli.run(lambda: (_ for _ in ()).throw(BrokenPipeError()))
