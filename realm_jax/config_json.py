"""The config as JSON: what `WORKDIR/config.json` holds, and what differs from it."""

import dataclasses

from realm_jax.config import Config, ConfigError


def to_json(config: Config) -> dict:
    """The config as plain JSON values."""
    return dataclasses.asdict(config)


def from_json(values: dict) -> Config:
    """Inverse of `to_json`; what an older config.json lacks has its default. Raises ConfigError on an unknown key."""
    sections = {f.name: f.type for f in dataclasses.fields(Config) if dataclasses.is_dataclass(f.type)}
    try:
        return Config(**{k: sections[k](**v) if k in sections else v for k, v in values.items()})
    except TypeError as error:
        raise ConfigError(f"config.json was written by another version of realm_jax: {error}") from error


def differences(ours: Config, theirs: Config) -> list[str]:
    """Lines `section.field: ours != theirs` of every field that differs."""
    lines = []
    for key, value in _flat(to_json(ours)).items():
        other = _flat(to_json(theirs))[key]
        if value != other:
            lines.append(f"{key}: {value!r} here, {other!r} there")
    return lines


def _flat(values: dict, prefix: str = "") -> dict:
    flat = {}
    for key, value in values.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat
