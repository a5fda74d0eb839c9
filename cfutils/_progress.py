"""The one way in which long work shows how far it is."""

import sys

from tqdm import tqdm


def bar(total, unit, progress):
    """A bar on standard error; None for `progress` shows it if that is a terminal."""
    hidden = not (sys.stderr.isatty() if progress is None else progress)
    return tqdm(total=total, unit=unit, leave=False, disable=hidden)
