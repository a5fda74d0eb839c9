"""Every public function, method and property says of what types it takes and returns."""

import importlib
import inspect
import pkgutil

import pytest

import cfutils
from cfutils import course

MODULES = [
    f"{package.__name__}.{module.name}"
    for package in (cfutils, course)
    for module in pkgutil.iter_modules(package.__path__)
    if not module.name.startswith("_")
]


def functions(owner, name):
    """Those of a module or class that it defines itself, by their full names."""
    public = getattr(owner, "__all__", vars(owner))
    for key, value in vars(owner).items():
        value = inspect.unwrap(getattr(value, "fget", value))
        value = getattr(value, "__func__", value)
        if key not in public or (key.startswith("_") and key != "__init__"):
            continue
        if getattr(value, "__module__", None) != name or not hasattr(value, "__qualname__"):
            continue
        if inspect.isclass(value):
            yield from functions(value, name)
        elif inspect.isfunction(value):
            yield f"{value.__qualname__}", value


@pytest.mark.parametrize("name", MODULES)
def test_public_functions_are_annotated(name):
    missing = []
    for full_name, function in functions(importlib.import_module(name), name):
        signature = inspect.signature(function)
        first = "." in full_name  # self or cls
        for parameter in list(signature.parameters.values())[first:]:
            if parameter.annotation is parameter.empty:
                missing.append(f"{full_name}({parameter.name})")
        if signature.return_annotation is signature.empty and not full_name.endswith("__init__"):
            missing.append(f"{full_name} -> ")
    assert missing == []
