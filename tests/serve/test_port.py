"""What is wrong with --port is said before the run is loaded."""

import pytest

from realm_jax.commands import serve
from realm_jax.config import ConfigError


@pytest.mark.parametrize("port", [80_000, -1])
def test_a_port_that_there_is_not(port):
    with pytest.raises(ConfigError, match=f"--port={port}: ports are 1 to 65535: pass one of these"):
        serve.main([f"--port={port}", "--workdir=nowhere"])
