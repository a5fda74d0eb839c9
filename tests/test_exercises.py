"""The checkers of the exercises, the exercises themselves, and the copies without solutions."""

import itertools
import os
import pathlib
import re
import sys

import exercises as tool  # tools/exercises.py
import nbformat
import numpy as np
import pandas as pd
import pytest

from cfutils import tf
from cfutils.course import exercises

ROOT = pathlib.Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
READ = {path.stem: nbformat.read(path, as_version=4) for path in NOTEBOOKS}


def solutions(notebook):
    """Each solution cell with the cell after it, or None."""
    return [
        (cell, after)
        for cell, after in itertools.pairwise([*notebook.cells, None])
        if cell.cell_type == "code" and "solution" in cell.metadata.get("tags", [])
    ]


CHECKED = [
    (name, cell, after)
    for name, notebook in READ.items()
    for cell, after in solutions(notebook)
    if after is not None and after.source.startswith("exercises.")
]


# The exercises of the notebooks -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "cell", "after"), CHECKED, ids=[f"{name[:2]}-{c.id}" for name, c, _ in CHECKED]
)
def test_a_solution_passes_and_its_stub_does_not(name, cell, after):
    space = {"tf": tf}  # and the imports of the notebook, without the settings of its session
    lines = READ[name].cells[1].source.splitlines()
    exec("\n".join(line for line in lines if not line.startswith(("cf.", "pd."))), space)
    exec(tool.without_solution(cell.source, cell.id), space)
    stub = eval(after.source, space)
    assert not stub.passed
    assert repr(stub).startswith("Not yet: your function returns nothing.")
    exec(cell.source, space)
    result = eval(after.source, space)
    assert result.passed, result
    assert repr(result).startswith("Passed: ")


def test_each_checker_belongs_to_one_exercise():
    used = [after.source.partition("(")[0].removeprefix("exercises.") for *_, after in CHECKED]
    assert sorted(used) == sorted(WRONG)


@pytest.mark.parametrize("name", READ)
def test_a_notebook_has_two_to_four_exercises_each_with_a_hint_and_a_solution(name):
    text = "\n".join(c.source for c in READ[name].cells if c.cell_type == "markdown")
    tasks = text.partition("## Exercises")[2]
    number = len(solutions(READ[name]))
    assert 2 <= number <= 4
    assert [f"**{k}.**" in tasks for k in range(1, number + 2)] == [True] * number + [False]
    assert tasks.count("<details><summary>Hint</summary>") == tasks.count("</details>") == number
    for cell, _ in solutions(READ[name]):
        assert cell.metadata["jupyter"] == {"outputs_hidden": True, "source_hidden": True}


# Answers that are wrong ---------------------------------------------------------------------------


def error(A, U, V):
    return A.values - tf.gather_nd(U @ tf.transpose(V), A.indices)


def sparse(frame, columns=("user_num", "item_num"), dtype=np.float32, shape=None):
    shape = shape or (frame["user_num"].max() + 1, frame["item_num"].max() + 1)
    return tf.SparseTensor(frame[list(columns)].to_numpy(), frame["rating"].to_numpy(dtype), shape)


def slopes(A, U, V):
    errors, number = np.nan_to_num(A - U @ V.T), np.sum(~np.isnan(A))
    return -2 * errors @ V / number, -2 * errors.T @ U / number


def step(A, U, V, rate):
    by_U, by_V = slopes(A, U, V)
    return U - rate * by_U, V - rate * by_V


def step_one_by_one(A, U, V, rate):
    U = U - rate * slopes(A, U, V)[0]
    return U, V - rate * slopes(A, U, V)[1]


def step_in_place(A, U, V, rate):
    by_U, by_V = slopes(A, U, V)
    U -= rate * by_U
    V -= rate * by_V
    return U, V


def step_beside(A, U, V, rate):
    U, V = step(A, U, V, rate)
    U[0, 1] += 0.5
    return U, V


def cosine(query, items, measure):
    norms = np.linalg.norm(query) * np.linalg.norm(items, axis=1)
    return items @ query / (1 if measure == "dot" else norms)


def best(scores, own, k):
    return [int(j) for j in np.argsort(-scores) if j not in own][:k]


def best_above_zero(scores, own, k):
    left = scores.copy()
    left[list(own)] = 0
    return np.argsort(-left)[:k]


def best_in_place(scores, own, k):
    scores[list(own)] = -np.inf
    return np.argsort(-scores)[:k]


def pull(U, V):
    return tf.reduce_mean((U @ tf.transpose(V)) ** 2)


def loss(A, U, V, l2_coeff, gravity_coeff):
    norms = sum(tf.reduce_mean(tf.reduce_sum(table**2, axis=1)) for table in (U, V))
    squared = tf.reduce_mean(error(A, U, V) ** 2)
    return squared + l2_coeff * norms + gravity_coeff * pull(U, V)


def log_p(psi, V, labels, axis=1):
    logs = tf.nn.log_softmax(psi @ tf.transpose(V), axis=axis)
    return tf.gather(logs, labels, batch_dims=1)


def overflowing(psi, V, labels):
    scores = tf.exp(psi @ tf.transpose(V))
    p = scores / tf.reduce_sum(scores, axis=1, keepdims=True)
    return -tf.reduce_mean(tf.math.log(tf.gather(p, labels, batch_dims=1)))


def gram(table):
    return tf.transpose(table) @ table


def pairs(U, V):
    return U.shape[0] * V.shape[0]


WRONG = {
    "shrunken_mean": [
        (lambda total, n, k, mu: total / n, "plain mean"),
        (lambda total, n, k, mu: (total + mu) / (n + k), "only once"),
        (lambda total, n, k, mu: (n * (total / n) + k * mu) / (n + k), "without ratings"),
        (lambda total, n, k, mu: ((total + k * mu) / (n + k)).mean(), "shape ()"),
    ],
    "top_share": [
        (lambda counts, part: counts.nlargest(10).sum() / counts.sum(), "always take 10"),
        (lambda counts, part: counts.nlargest(round(part * len(counts))).sum(), "by all ratings"),
        (lambda counts, part: counts.head(round(part * len(counts))).sum(), "in a small case"),
    ],
    "sparse_tensor": [
        (lambda frame, N, M: tf.sparse.to_dense(sparse(frame, shape=(N, M))), "SparseTensor"),
        (lambda frame, N, M: sparse(frame), "the shape is"),
        (lambda frame, N, M: sparse(frame, ("item_num", "user_num"), shape=(N, M)), "swapped"),
        (lambda frame, N, M: sparse(frame, ("item_num", "rating"), shape=(N, M)), "by name"),
        (lambda frame, N, M: sparse(frame, dtype=np.int64, shape=(N, M)), "float32"),
        (lambda frame, N, M: sparse(frame.assign(rating=1), shape=(N, M)), "not the ratings"),
        (lambda frame, N, M: sparse(frame.head(3), shape=(N, M)), "became 3 entries"),
    ],
    "mean_squared_error": [
        (
            lambda A, U, V: tf.reduce_mean((tf.sparse.to_dense(A) - U @ tf.transpose(V)) ** 2),
            "cell",
        ),
        (lambda A, U, V: tf.reduce_sum(error(A, U, V) ** 2) / pairs(U, V), "number of observed"),
        (lambda A, U, V: tf.reduce_mean(error(A, U, V)), "square them first"),
        (lambda A, U, V: error(A, U, V) ** 2, "return one number"),
    ],
    "gradient_step": [
        (lambda A, U, V, rate: step(A, U, V, -rate), "uphill"),
        (lambda A, U, V, rate: step(A, U, V, rate * np.sum(~np.isnan(A))), "gradient of the sum"),
        (lambda A, U, V, rate: slopes(A, U, V), "return the gradients"),
        (lambda A, U, V, rate: step(np.nan_to_num(A), U, V, rate), "unobserved cell"),
        (lambda A, U, V, rate: (U + (A - U @ V.T) @ V, V), "hold NaN"),
        (lambda A, U, V, rate: step(A, U, V, rate)[0], "(U, V)"),
        (step_one_by_one, "the new U"),
        (step_in_place, "you change what you are given"),
        (step_beside, "not that of finite differences at position 0, 1"),
    ],
    "scores": [
        (lambda query, items, measure: items @ query, "divide by both norms"),
        (lambda q, V, measure: np.nan_to_num(cosine(q, V, "")), '"dot" you give the cosine'),
        (cosine, "yours is nan"),
        (
            lambda q, V, m: V @ q / (1 if m == "dot" else np.linalg.norm(q)),
            "lacks the items' norms",
        ),
    ],
    "own_ratings": [
        (lambda scores, own, k: np.argsort(-scores)[:k], "rated already"),
        (best_above_zero, "minus infinity"),
        (lambda scores, own, k: best(scores, own, k - 1), "before you count"),
        (lambda scores, own, k: best(scores, own, 1) * k, "twice"),
        (lambda scores, own, k: best(-scores, own, k), "lowest score"),
        (lambda scores, own, k: sorted(best(scores, own, k)), "in another order"),
        (lambda scores, own, k: scores[best(scores, own, k)], "don't return scores"),
        (best_in_place, "copy it first"),
        (lambda scores, own, k: best(scores, own, k + 1)[1:], "is right"),
    ],
    "regularized_loss": [
        (lambda A, U, V, a, b: loss(A, U, V, 1.0, 1.0), "still add a penalty"),
        (lambda A, U, V, a, b: loss(A, U, V, b, a), "swapped"),
        (lambda A, U, V, a, b: loss(A, U, V, a, 0.0), "no gravity"),
        (lambda A, U, V, a, b: loss(A, U, V, a, b * pairs(U, V)), "is a sum"),
        (lambda A, U, V, a, b: loss(A, U, V, a, b) + a * b, "in a small case"),
        (lambda A, U, V, a, b: 2 * loss(A, U, V, a, b), "not the mean squared error"),
    ],
    "gravity": [
        (lambda U, V: tf.reduce_sum((U @ tf.transpose(V)) ** 2), "number of pairs"),
        (lambda U, V: tf.reduce_sum(gram(U) @ gram(V)) / pairs(U, V), "entry by entry"),
        (pull, "all N M scores"),
        (lambda U, V: float(np.mean((U.numpy() @ V.numpy().T) ** 2)), "all N M scores"),
    ],
    "softmax_loss": [
        (lambda psi, V, y: tf.reduce_mean(log_p(psi, V, y)), "sign"),
        (lambda psi, V, y: tf.reduce_mean(tf.exp(log_p(psi, V, y))), "mean probability"),
        (lambda psi, V, y: -tf.reduce_mean(log_p(psi, V, y, axis=0)), "over the users"),
        (overflowing, "exp overflows"),
    ],
    "softmax_model": [
        (lambda ids, V: V @ V[ids].sum(axis=0), "take their mean"),
        (lambda ids, V: V[ids].mean(axis=0), "one per movie"),
        (lambda ids, V: tf.nn.softmax(V @ V[ids].mean(axis=0)), "before the softmax"),
        (lambda ids, V: V @ V[ids[-1]], "the order of the history"),
        (lambda ids, V: V[ids] @ V[ids].mean(axis=0), "of shape (5,)"),
        (lambda ids, V: V @ V[ids].max(axis=0), "in a small case"),
    ],
}


@pytest.mark.parametrize("name", WRONG)
def test_typical_mistakes_are_named(name):
    for answer, phrase in WRONG[name]:
        result = getattr(exercises, name)(answer)
        assert not result.passed
        assert phrase in repr(result)
        assert 20 < len(repr(result)) < 250


def stops(*arguments):
    raise SystemExit(1)


ODD = {
    "no function": 7,
    "dots": ...,
    "its result": np.zeros(3),
    "no arguments": lambda: 1.0,
    "stops": stops,
    "warns": lambda *arguments: np.log(np.array(-1.0)),
    "divides by zero": lambda *arguments: 1 / 0,
    "a stub": lambda *arguments: ...,
    "text": lambda *arguments: "0.5",
    "its arguments": lambda *arguments: arguments,
    "a ragged list": lambda *arguments: [[1], [2, 3]],
    "an object": lambda *arguments: object(),
    "a frame": lambda *arguments: pd.DataFrame({"a": ["b"]}),
    "NaN": lambda *arguments: float("nan"),
    "empty": lambda *arguments: [],
    "two of nothing": lambda *arguments: (None, None),
    "a complex number": lambda *arguments: 1j,
    "a huge error": lambda *arguments: {}["x" * 10_000],
}


@pytest.mark.parametrize("name", WRONG)
def test_no_answer_makes_a_checker_raise(name):
    for kind, answer in ODD.items():
        result = getattr(exercises, name)(answer)
        assert not result.passed, kind
        assert repr(result).startswith("Not yet: ")
        assert len(repr(result)) < 300


def test_right_answers_of_other_kinds_pass():
    def numpy_gravity(U, V):
        U, V = np.asarray(U), np.asarray(V)
        return np.sum((U.T @ U) * (V.T @ V)) / (len(U) * len(V))

    def numpy_free_gravity(U, V):
        return tf.reduce_sum(gram(U) * gram(V)) / pairs(U, V)

    assert exercises.gravity(numpy_gravity).passed
    assert exercises.gravity(tf.function(numpy_free_gravity)).passed
    assert not exercises.gravity(tf.function(pull)).passed
    assert exercises.own_ratings(lambda scores, own, k: np.array(best(scores, own, k))).passed
    assert exercises.top_share(
        lambda counts, part: counts[counts > counts.quantile(1 - part)].sum() / counts.sum()
    ).passed
    assert exercises.softmax_model(lambda ids, V: tf.constant(V @ V[ids].mean(axis=0))).passed
    assert exercises.gradient_step(lambda *given: list(step(*given))).passed
    assert exercises.mean_squared_error(
        lambda A, U, V: float(np.mean(error(A, U, V).numpy() ** 2))
    ).passed


@exercises.exercise([(1, 2), (3, 5)], [(0, 0)], praise="right.")
def a_sum(a, b):
    """Check f(a, b), the sum of two numbers."""
    if a == 0:
        return 0, {"nothing and nothing is {right}, not {mine}.": None}
    return a + b, {
        "this is a difference.": [a - b, b - a],
        "this is below zero.": lambda mine: mine < 0,
    }


def test_a_teacher_adds_an_exercise_as_a_table():
    assert repr(a_sum(lambda a, b: a + b)) == "Passed: right."
    for answer, message in (
        (lambda a, b: a - b, "this is a difference."),
        (lambda a, b: b - a, "this is a difference."),
        (lambda a, b: -a - b, "this is below zero."),
        (lambda a, b: a * b, "in a small case your function gives 2, and 3 is right."),
        (lambda a, b: [a, b], "return one number; yours has the shape (2,)."),
        (lambda a, b: a + b + (a == 0), "nothing and nothing is 0, not 1."),
    ):
        assert a_sum(answer) == exercises.Result(False, message)
    assert (a_sum.__name__, a_sum.__doc__[:14]) == ("a_sum", "Check f(a, b),")


# The copies to solve ------------------------------------------------------------------------------


def run_tool(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["exercises.py", *map(str, arguments)])
    tool.main()


def test_the_copies_hold_every_notebook_and_nothing_of_a_solution(tmp_path, monkeypatch):
    run_tool(monkeypatch, "--output", tmp_path)
    assert [path.name for path in sorted(tmp_path.glob("*.ipynb"))] == [p.name for p in NOTEBOOKS]
    for path in NOTEBOOKS:
        copy = nbformat.read(tmp_path / path.name, as_version=4)
        nbformat.validate(copy)
        for cell, original in zip(copy.cells, READ[path.stem].cells, strict=True):
            if cell.cell_type == "code":
                assert (cell.outputs, cell.execution_count) == ([], None)
                compile(cell.source, cell.id, "exec")
            if "solution" in original.metadata.get("tags", []):
                head, _, rest = original.source.partition("### BEGIN SOLUTION\n")
                solution, _, tail = rest.partition("### END SOLUTION")
                assert cell.source == f"{head}...  # your code here{tail}"
                for line in filter(None, map(str.strip, solution.splitlines())):
                    assert line not in cell.source
                assert "jupyter" not in cell.metadata
            elif cell.source != original.source:  # where the solutions are
                assert "Solutions are folded" in original.source
                assert "in the folder `notebooks`" in cell.source
        text = (tmp_path / path.name).read_text("utf-8")
        assert text.count("in the folder `notebooks`") == 1
        assert not re.search("SOLUTION|make exercises|Solutions are folded", text)


def test_the_first_copy_finds_the_run_times():
    code = "".join(cell.source for cell in READ["01_eda"].cells if cell.cell_type == "code")
    path = re.search(r'Path\("(.*run_times.json)"\)', code)[1]
    for folder in ("notebooks", "exercises"):
        assert pathlib.Path(os.path.normpath(tool.ROOT / folder / path)).is_file()


def test_a_copy_that_is_there_is_kept(tmp_path, monkeypatch, capsys):
    mine = tmp_path / NOTEBOOKS[0].name
    mine.write_text("my answers")
    run_tool(monkeypatch, "--output", tmp_path)
    assert mine.read_text() == "my answers"
    assert f"{mine} is kept" in capsys.readouterr().out
    assert (tmp_path / NOTEBOOKS[1].name).is_file()


def test_a_stub_is_indented_as_its_solution():
    part = "    ### BEGIN SOLUTION\n    y = 2\n    return x * y\n    ### END SOLUTION\n"
    stub = "    ...  # your code here\n"
    source = f"def f(x):\n{part}def g(x):\n{part}f(1)"
    assert tool.without_solution(source, "a") == f"def f(x):\n{stub}def g(x):\n{stub}f(1)"


@pytest.mark.parametrize(
    "source",
    [
        "x = 1",
        "### BEGIN SOLUTION\nx = 1",
        "x = 1\n### END SOLUTION",
        "### BEGIN SOLUTION\n### BEGIN SOLUTION\n### END SOLUTION",
    ],
)
def test_a_solution_that_is_not_marked_stops_the_tool(tmp_path, monkeypatch, source):
    (tmp_path / "notebooks").mkdir()
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["solution"]})
    path = tmp_path / "notebooks" / "01_one.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    monkeypatch.setattr(tool, "NOTEBOOKS", path.parent)
    with pytest.raises(SystemExit, match="01_one.ipynb: cell"):
        run_tool(monkeypatch, "--output", tmp_path / "copies")
    assert not list((tmp_path / "copies").glob("*.ipynb"))
