"""What the commands are tested on."""

from tests.results.conftest import lander

__all__ = ["lander"]
