"""nbval compares outputs exactly; charts are compared by the tables beside them instead."""

import pytest


@pytest.hookimpl
def pytest_collectstart(collector):
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("application/vnd.vegalite.v5+json",)
