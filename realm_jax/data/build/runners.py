"""Beam's runners, by the names that `--runner` takes, and the options that each of them is given."""

import shlex
from typing import Literal

RunnerName = Literal["direct", "dataflow", "flink", "spark", "portable"]


def options(runner: str, workers: int, beam: str = "") -> list[str]:
    """Beam's options for a runner.

    Args:
        workers: processes of the direct runner, or most workers of a cluster.
        beam: the user's further options, which win.
    """
    by_runner = {
        "direct": [
            "--runner=DirectRunner",
            f"--direct_num_workers={workers}",
            f"--direct_running_mode={'multi_processing' if workers > 1 else 'in_memory'}",
        ],
        "dataflow": ["--runner=DataflowRunner", f"--num_workers={workers}", "--autoscaling_algorithm=NONE"],
        "flink": ["--runner=FlinkRunner", f"--parallelism={workers}", "--environment_type=DOCKER"],
        "spark": ["--runner=SparkRunner", "--environment_type=DOCKER"],
        "portable": ["--runner=PortableRunner", "--environment_type=LOOPBACK"],
    }
    chosen = shlex.split(beam)
    given = {option.split("=")[0] for option in chosen}
    by_runner["direct"].append("--default_sdk_harness_log_level=ERROR")
    return [option for option in by_runner[runner] if option.split("=")[0] not in given] + chosen
