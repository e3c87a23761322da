"""A version's manifest: what it says is compared with its own checksum before it is believed."""

from etils import epath

from realm_jax.checksums import Damaged, crc_of_json
from realm_jax.config import ConfigError
from realm_jax.index.claims import MANIFEST
from realm_jax.workdir import read_json

FIX = "delete this index version and build a new one"


def read_manifest(folder: epath.Path) -> dict:
    """What the manifest in a version's folder says.

    Raises:
        Damaged: it is not what was written.
        FileNotFoundError: there is none.
    """
    file = folder / MANIFEST
    try:
        manifest = read_json(file)
    except ConfigError as error:
        raise Damaged(str(error)) from error
    found = checksum(manifest)
    if manifest.get("checksum", found) != found:
        raise Damaged(f"{file} differs from its checksum: {FIX}")
    return manifest


def checksum(manifest: dict) -> int:
    """CRC-32 of what a manifest says, its checksum left out; manifests of earlier releases have none."""
    return crc_of_json({name: value for name, value in manifest.items() if name != "checksum"})
