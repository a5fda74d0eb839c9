"""Importing the package runs nothing of TensorFlow, and starting it writes no line."""

import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / "cfutils"
MODULES = ["cfutils"] + [
    f"cfutils.{'.'.join(path.relative_to(PACKAGE).with_suffix('').parts)}"
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.stem != "__init__"
]
pytestmark = pytest.mark.slow


def run(code, **options):
    options = {"capture_output": True, "text": True, "check": True} | options
    return subprocess.run([sys.executable, "-c", code], **options)


def test_after_the_import_of_all_modules_threads_can_be_set_and_processes_forked():
    """Both fail, or hang, once TensorFlow has run an operation."""
    code = f"""
import importlib, multiprocessing
for name in {MODULES!r}:
    importlib.import_module(name)
from cfutils._tensorflow import tf
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)

def add(n):
    return int(tf.reduce_sum(tf.ones([n])))

with multiprocessing.get_context("fork").Pool(2) as pool:
    print(pool.map(add, [2, 3]), add(4))
"""
    assert run(code, timeout=120).stdout == "[2, 3] 4\n"


def test_tensorflow_starts_without_a_line():
    code = """
from cfutils.factorization import CFModel
from cfutils._tensorflow import tf
model = CFModel((300, 300), 2, l2_coeff=0.1)
A = tf.SparseTensor([[0, 0], [1, 1]], [1.0, 2.0], (300, 300))
model.train(A, num_iterations=2, batch_size=1)
model.train_als(A, num_iterations=1)
print(model.iteration)
"""
    done = run(code)
    assert (done.stdout, done.stderr) == ("3\n", "")


def test_quiet_start_drops_known_lines_and_keeps_the_others():
    """Also where standard error is closed."""
    code = """
import os, re
from cfutils._tensorflow import quiet_start, tf
with quiet_start(re.compile("noise")):
    os.write(2, b"noise 1\\nerror 2\\n")
os.write(2, b"noise 3\\n")
os.close(2)
with quiet_start():
    print(int(tf.reduce_sum(tf.ones(3))))
"""
    done = run(code)
    assert (done.stdout, done.stderr) == ("3\n", "error 2\nnoise 3\n")
