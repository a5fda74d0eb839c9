"""The engine under the exercises: it tries an answer on cases and says what is wrong with it."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

Case = tuple[Any, ...]
Table = Callable[..., tuple[Any, dict[str, Any]]]


@dataclasses.dataclass(frozen=True, repr=False)
class Result:
    """What a check found; it shows itself as a sentence or two."""

    passed: bool
    message: str

    def __repr__(self) -> str:
        return f"{'Passed' if self.passed else 'Not yet'}: {self.message}"


class NotYet(Exception):
    """What is wrong with an answer, for the learner to read."""


def read_array(answer: Any, right: np.ndarray) -> np.ndarray:
    """An answer as an array of float64, leading axes of length 1 taken off."""
    try:
        values = np.asarray(answer, np.float64)
    except (TypeError, ValueError, RuntimeError):
        raise NotYet(f"return {_wanted(right)}; you return {kind(answer)}.") from None
    while values.ndim > right.ndim and len(values) == 1:
        values = values[0]
    return values


def exercise(
    *trials: list[Case],
    praise: str,
    given: Callable[..., Case] = lambda *case: case,
    read: Callable[[Any, np.ndarray], np.ndarray] = read_array,
    also: Callable[[Any], str | None] = lambda function: None,
) -> Callable[[Table], Callable[[Any], Result]]:
    """A decorator that makes a check, from an answer to a `Result`, of a table.

    The table is a function from a case to the right answer, a number or an array, and a dict
    {what to say: wrong answer}. What is said is the first that fits an answer on all cases of a
    trial. A list holds several wrong answers, a function says by itself whether it fits an answer,
    and None stands for all that is not known. In what is said, {mine}, {right} and {place} stand
    for the first number that is not right.

    Args:
        trials: Lists of cases; one is tried if the answer is right on those before.
        praise: What to say of the right answer.
        given: From a case to the arguments of the answer; the case by default.
        read: From what a function returns, and the right answer, to an array.
        also: From a function whose results are right to what else is wrong with it, or None.
    """

    def decorate(table: Table) -> Callable[[Any], Result]:
        def check(function: Any) -> Result:
            try:
                for cases in trials:
                    _try(function, table, cases, given, read)
                message = also(function)
            except NotYet as found:
                message = str(found)
            except Exception as error:  # an answer of a kind that no check expects
                name = type(error).__name__
                message = f"your answer has a form that can't be read here ({name})."
            return Result(message is None, message or praise)

        check.__name__ = check.__qualname__ = table.__name__
        check.__doc__ = table.__doc__
        return check

    return decorate


def _try(function: Any, table: Table, cases: list[Case], given: Any, read: Any) -> None:
    """Raise `NotYet` on a function that is not right on all cases."""
    right, wrong, mine = [], [], []
    for case in cases:
        answer, mistakes = table(*case)
        right.append(np.asarray(answer, np.float64))
        wrong.append(mistakes)
        arguments = given(*copy.deepcopy(case))
        before = _text(arguments)
        mine.append(read(call(function, *arguments), right[-1]))
        if _text(arguments) != before and close(mine[-1], right[-1]):
            raise NotYet("the result is right, but you change what you are given; copy it first.")
    agree = list(map(close, mine, right))
    if not all(agree):
        at = agree.index(False)
        raise NotYet(_fill(_explain(mine, right[at], wrong, at), mine[at], right[at]))


def _explain(mine: list[Any], right: np.ndarray, wrong: list[dict[str, Any]], at: int) -> str:
    """What is likely to be wrong with answers of which that to case `at` is not right."""
    for message, value in wrong[at].items():
        if callable(value) and mine[at].ndim == right.ndim and value(mine[at]):
            return message
        if value is not None and not callable(value):
            each = [w[message] if isinstance(value, list) else [w[message]] for w in wrong]
            if any(all(map(close, mine, values)) for values in zip(*each, strict=True)):
                return message
    if mine[at].shape != right.shape:
        return f"return {_wanted(right)}; yours has the shape {mine[at].shape}."
    for message, value in wrong[at].items():
        if value is None:
            return message
    if not np.isfinite(mine[at]).all():
        return "your answer holds NaN or infinity in a case where it should not."
    return "in a small case your function gives {mine}{place}, and {right} is right."


def _fill(message: str, mine: np.ndarray, right: np.ndarray) -> str:
    """Put the first number that is wrong, the right one and its place into a message."""
    if "{mine}" not in message:
        return message
    at = np.unravel_index(np.argmin(np.isclose(mine, right, 1e-3, 1e-5)), right.shape)
    place = f" at position {', '.join(map(str, at))}" if at else ""
    return message.format(mine=f"{mine[at]:.4g}", right=f"{right[at]:.4g}", place=place)


def call(function: Any, *arguments: Any) -> Any:
    """What a function answers; `NotYet` if it is none, stops with an error or answers nothing."""
    if callable(function):
        try:
            with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
                function = function(*arguments)
        except (Exception, SystemExit) as error:
            line = (str(error).strip().splitlines() or [""])[0]
            line = line if len(line) <= 150 else f"{line[:150]} ..."
            raise NotYet(f"your function stopped with {type(error).__name__}: {line}") from None
    elif function is not None and function is not ...:
        text = f"a function is checked here, and you passed {kind(function)}. "
        raise NotYet(f"{text}Pass the function's name, without parentheses.")
    if function is None or function is ...:
        text = "your function returns nothing. Write it in the place of the dots, and end it with "
        raise NotYet(f"{text}`return`.")
    return function


def close(mine: Any, expected: Any) -> bool:
    same_shape = np.shape(mine) == np.shape(expected)
    return same_shape and np.allclose(mine, expected, 1e-3, 1e-5, equal_nan=True)


def _text(arguments: Case) -> str:
    return repr([value for value in arguments if isinstance(value, (np.ndarray, dict))])


def _wanted(right: np.ndarray) -> str:
    return f"an array of shape {right.shape}" if right.ndim else "one number"


def kind(value: Any) -> str:
    return f"a value of type {type(value).__name__}"
