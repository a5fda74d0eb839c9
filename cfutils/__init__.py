"""Learn, measure and use embedding-based recommendation.

`cfutils` backs a series of notebooks on MovieLens 100K and works on any table of (user, item,
rating). Its modules are loaded when they are first used, so `import cfutils` is quick and
TensorFlow is imported only by the modules that train.
"""

import importlib

__version__ = "0.1.0"
__all__ = [
    "baselines",
    "charts",
    "claims",
    "data",
    "distributed",
    "exercises",
    "factorization",
    "inspection",
    "losses",
    "metrics",
    "panel",
    "scores",
    "softmax",
]


def __getattr__(name):
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *__all__])
