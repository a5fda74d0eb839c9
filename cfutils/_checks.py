"""Arguments that are refused with the name, the rule, the value and the remedy."""

import numbers
from typing import Any

import numpy as np


def integer(name: str, value: Any, least: int) -> int:
    """An integer of `least` or more; bool is none."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(f"{name} should be an integer, {least} or more. Received: {value!r}.")
    return int(value)


def positive_integer(name: str, value: Any) -> int:
    """An integer of 1 or more."""
    return integer(name, value, 1)


def finite(name: str, value: Any, *, positive: bool = False) -> float:
    """A finite number of 0 or more, or above 0."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not np.isfinite(value) or value < 0 or (positive and value == 0):
        rule = "above 0" if positive else "0 or more"
        raise ValueError(f"{name} should be a finite number, {rule}. Received: {value!r}.")
    return float(value)


def share(name: str, value: Any) -> float:
    """A number above 0 and below 1."""
    if finite(name, value, positive=True) >= 1:
        raise ValueError(f"{name} should be above 0 and below 1. Received: {value!r}.")
    return float(value)


def shown(values: Any, limit: int = 5) -> str:
    """The first few values of a longer list, for a message."""
    values = list(values)
    return ", ".join(map(repr, values[:limit])) + (", ..." if len(values) > limit else "")
