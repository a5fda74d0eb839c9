"""Imports TensorFlow and Keras without the lines TensorFlow writes when it starts.

The lines come from C++ and go straight to file descriptor 2, whatever `TF_CPP_MIN_LOG_LEVEL`
says, and from there into the outputs of notebooks. Only lines known to be harmless are dropped; all
others are written again once the import is over.
"""

import contextlib
import os
import re
import sys
import tempfile

_KNOWN = re.compile(
    r"All log messages before absl::InitializeLog"
    r"|oneDNN custom operations are on"
    r"|This TensorFlow binary is optimized"
    r"|To enable the following instructions"
    r"|disabling MLIR crash reproducer"
    r"|XLA service|StreamExecutor \[0\]: Host|Compiled cluster using XLA"
    r"|Could not find cuda drivers|Unable to register cu|cuda_executor.cc|failed call to cuInit"
)


@contextlib.contextmanager
def quiet_start(known=_KNOWN):
    """Holds back what is written to file descriptor 2, then writes it again but for known lines."""
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            held.seek(0)
            for line in held.read().decode(errors="replace").splitlines(keepends=True):
                if not known.search(line):
                    os.write(2, line.encode())


with quiet_start():
    import keras
    import tensorflow as tf

    # The first operation, the first use of XLA and its first square root have lines of their own.
    # A worker among several has to join the others before its first operation.
    if "TF_CONFIG" not in os.environ:
        tf.function(tf.sqrt, autograph=False, jit_compile=True)(tf.ones([1000]))

__all__ = ["keras", "quiet_start", "tf"]
