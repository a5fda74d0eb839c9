"""Imports TensorFlow and Keras without the lines TensorFlow writes when it starts.

The lines come from C++ and go straight to file descriptor 2, and from there into the outputs of
notebooks. `TF_CPP_MIN_LOG_LEVEL`, set before the import, keeps those of the first operations away;
during the import itself they come whatever it says, and the known ones are dropped here. Everything
else is written again once the import is over. Nothing of TensorFlow runs here: threads can still be
set, and processes forked.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator

_KNOWN = re.compile(
    r"All log messages before absl::InitializeLog"
    r"|oneDNN custom operations are on"
    r"|This TensorFlow binary is optimized"
    r"|To enable the following instructions"
    r"|Could not find cuda drivers|Unable to register cu|cuda_executor.cc|failed call to cuInit"
)


@contextlib.contextmanager
def quiet_start(known: re.Pattern[str] = _KNOWN) -> Iterator[None]:
    """Holds back what is written to file descriptor 2, then writes it again but for known lines."""
    try:
        saved = os.dup(2)
    except OSError:  # standard error is closed: there is nothing to keep clean
        yield
        return
    with contextlib.suppress(AttributeError, OSError, ValueError):
        sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            with contextlib.suppress(AttributeError, OSError, ValueError):
                sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            held.seek(0)
            for line in held.read().decode(errors="replace").splitlines(keepends=True):
                if not known.search(line):
                    os.write(2, line.encode())


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")

with quiet_start():
    import keras
    import tensorflow as tf

__all__ = ["keras", "quiet_start", "tf"]
