import hypothesis
import pytest

from cfutils.movielens import load_movielens

# On a busy machine a test may take long once; how long it takes is nobody's promise.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session")
def movielens():
    return load_movielens()
