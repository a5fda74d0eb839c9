import pytest

from cfutils.data import load_movielens


@pytest.fixture(scope="session")
def movielens():
    return load_movielens()
