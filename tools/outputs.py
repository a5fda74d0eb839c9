"""Whether two texts that a notebook put out are the same but for the last digits of numbers.

The order in which float32 numbers are added up depends on the processor and on what else it does,
and training carries the difference on: the same notebook gave 0.2799 on a quiet machine and 0.2802
on a busy one. What is no decimal number has to be the same to the letter.
"""

import math
import re

UNITS, SHARE = 5, 0.01  # of the last decimal place, of the number: the larger counts
_DECIMAL = re.compile(r"(?<![\w.])(-?\d+)\.(\d+)(?!\w|\.\d)")


class Text(str):
    """A text that differs from another only if `alike` says so."""

    __hash__ = str.__hash__

    def __eq__(self, other):
        return isinstance(other, str) and alike(str(self), str(other))

    def __ne__(self, other):
        return not self == other


def alike(expected, received):
    """Whether both have the same words and, between them, decimal numbers of as many places that
    differ by `UNITS` or `SHARE` at most. Blanks don't count: they align tables.
    """
    words = [" ".join(_DECIMAL.sub("#", text).split()) for text in (expected, received)]
    pairs = zip(_DECIMAL.findall(expected), _DECIMAL.findall(received), strict=False)
    return words[0] == words[1] and all(_close(*pair) for pair in pairs)


def _close(expected, received):
    places = len(expected[1])
    numbers = [float(".".join(parts)) for parts in (expected, received)]
    tolerance = max((UNITS + 0.01) * 10.0**-places, SHARE * abs(numbers[0]))
    return len(received[1]) == places and math.isclose(*numbers, rel_tol=0, abs_tol=tolerance)
