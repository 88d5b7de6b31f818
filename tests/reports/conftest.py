from tests.results.conftest import lander

__all__ = ["lander"]
