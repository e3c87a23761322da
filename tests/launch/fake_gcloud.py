"""Stands in for gcloud: refuses what the real one (528.0.0, `gcloud compute tpus … --help`) does not take, and keeps
slices as folders. A host is a home folder in which `ssh` runs its command for real.

A slice's folder holds `slice.json` (the states) and one folder for each host. A file `next` says what befalls the slice
at the next `follow`: `lost` (the connection breaks) or `preempted`.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

WIDE = {"--zone", "--project", "--format", "--quiet"}
SSH = {"--worker", "--ssh-flag", "--command", "--internal-ip", "--output-directory", "--strict-host-key-checking"}
FLAGS = {
    ("queued-resources", "create"): {
        *("--accelerator-type", "--runtime-version", "--node-id", "--spot", "--scopes", "--guaranteed", "--async"),
        *("--reserved", "--labels", "--metadata", "--network", "--service-account", "--valid-until-duration"),
    },
    ("queued-resources", "describe"): set(),
    ("queued-resources", "delete"): {"--force", "--async"},
    ("tpu-vm", "describe"): set(),
    ("tpu-vm", "ssh"): SSH,
    ("tpu-vm", "scp"): {"--worker", "--recurse", "--compress", "--scp-flag"},
}
NEEDED = {("queued-resources", "create"): {"--accelerator-type", "--runtime-version", "--node-id"}}
NO_VALUE = {"--quiet", "--spot", "--force", "--async", "--recurse", "--compress", "--guaranteed", "--reserved"}


def parse(words: list[str]) -> tuple[tuple[str, str], list[str], dict[str, str]]:
    """Command, positional arguments and flags of `compute tpus …`. Raises ValueError where gcloud would refuse."""
    if words[:2] != ["compute", "tpus"] or tuple(words[2:4]) not in FLAGS:
        raise ValueError(f"Invalid choice: {words[:4]}")
    command, positional, flags = tuple(words[2:4]), [], {}
    for word in words[4:]:
        name, has_value, value = word.partition("=")
        if not word.startswith("--"):
            positional.append(word)
        elif name not in FLAGS[command] | WIDE or bool(has_value) == (name in NO_VALUE):
            raise ValueError(f"unrecognized arguments: {word}")
        elif has_value and not value and name != "--command":
            raise ValueError(f"argument {name}: expected one argument")
        else:
            flags[name] = value
    if len(positional) != (2 if command[1] == "scp" else 1):
        raise ValueError(f"positional arguments: {positional}")
    if missing := NEEDED.get(command, set()) - set(flags):
        raise ValueError(f"argument {missing}: Must be specified")
    return command, positional, flags


def main() -> int:
    root = pathlib.Path(os.environ["FAKE_CLOUD"])
    with (root / "calls").open("a") as file:
        file.write(json.dumps(sys.argv[1:]) + "\n")
    command, positional, flags = parse(sys.argv[1:])
    name = positional[-1].partition(":")[0]
    file = root / name / "slice.json"
    if command == ("queued-resources", "create"):
        if file.exists():
            return say("ALREADY_EXISTS")
        hosts = 1 if int(flags["--accelerator-type"].split("-")[1]) <= 8 else 2
        for number in range(hosts):
            (file.parent / str(number)).mkdir(parents=True)
        file.write_text(json.dumps({"queue": ["WAITING_FOR_RESOURCES", "ACTIVE"], "node": "READY"}))
        return 0
    if not file.exists():
        return say(f"NOT_FOUND: Resource '{name}' was not found")
    if command[1] == "delete":
        shutil.rmtree(file.parent)
        return 0
    now = json.loads(file.read_text())
    if command[1] == "describe":
        queue = now["queue"]
        print(now["node"] if command[0] == "tpu-vm" else queue.pop(0) if len(queue) > 1 else queue[0])
        file.write_text(json.dumps(now))
        return 0
    if now["node"] != "READY":
        return say("the TPU is not ready")
    homes = sorted(file.parent.glob("[0-9]")) if flags["--worker"] == "all" else [file.parent / flags["--worker"]]
    if command[1] == "scp":
        for home in homes:
            shutil.copy(positional[0], home / positional[1].partition(":")[2])
        return 0
    befalls = file.with_name("next")
    if "follow" in flags["--command"] and befalls.exists():
        if befalls.read_text() == "preempted":
            file.write_text(json.dumps({"queue": ["SUSPENDED"], "node": "PREEMPTED"}))
        befalls.unlink()
        return say("connection closed")
    shells = [subprocess.Popen(["bash", "-c", flags["--command"]], cwd=h, env=host(h)) for h in homes]
    return max(shell.wait() for shell in shells)


def host(home: pathlib.Path) -> dict[str, str]:
    """Environment of a host: none of what the scripts have at home."""
    return {"HOME": str(home), "PATH": os.environ["PATH"], "AGAIN_S": "0.1", **json.loads(os.environ["FAKE_HOST"])}


def say(error: str) -> int:
    print(f"ERROR: (gcloud) {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ValueError as error:
        sys.exit(2 if say(str(error)) else 0)
