"""The kill matrix (`tests/reliability`): any process of a run is ended anywhere, and the same command is given again.

    make test-kill

Runs all its cases, writes benchmarks/results/kill_matrix.json, and fails if one of them does.
"""

import argparse
import collections
import statistics
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as xml
from pathlib import Path

from report import write_result

REPOSITORY = Path(__file__).resolve().parents[1]
NOTE = (
    "Seconds from a signal to the end of the process that it was sent to, and of its builder; medians over the cases "
    "of a point. Several cases ran at once."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=3, help="cases at once, each with up to two processes")
    parser.add_argument("--name", default="kill_matrix", help="of the result; empty for none")
    flags, of_pytest = parser.parse_known_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "results.xml"
        command = [sys.executable, "-m", "pytest", "tests/reliability", "--junitxml", str(file), *of_pytest]
        command += ["-k", "test_the_same_command", "-n", str(flags.workers), "--max-worker-restart=0"]
        status = subprocess.run(command, cwd=REPOSITORY, check=False).returncode
        values = summed_up(xml.parse(file).getroot())
    values["minutes"] = round((time.monotonic() - started) / 60, 1)
    if flags.name:
        print(write_result(flags.name, values, NOTE))
    sys.exit(status)


def summed_up(root: xml.Element) -> dict:
    """By command and point: how many cases there are, how many passed, and the seconds of an end by a signal."""
    rows: dict[tuple[str, str], dict] = collections.defaultdict(lambda: {"cases": 0, "passed": 0, "seconds": []})
    for case in root.iter("testcase"):
        said = {found.get("name"): found.get("value") for found in case.iter("property")}
        if not said:  # it was not run
            continue
        row = rows[said["command"], said["point"]]
        row["cases"] += 1
        row["passed"] += case.find("failure") is None and case.find("error") is None
        if "seconds" in said:
            row["seconds"].append(float(said["seconds"]))
    found = [
        {
            **{"command": command, "point": point, "cases": row["cases"], "passed": row["passed"]},
            "seconds to the end": round(statistics.median(row["seconds"]), 2) if row["seconds"] else None,
            "most": round(max(row["seconds"]), 2) if row["seconds"] else None,
        }
        for (command, point), row in rows.items()
    ]
    return {"cases": sum(row["cases"] for row in found), "passed": sum(row["passed"] for row in found), "rows": found}


if __name__ == "__main__":
    main()
