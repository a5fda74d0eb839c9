"""The checkers of the exercises, the exercises themselves, and the copies without solutions."""

import itertools
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


# (notebook, solution, the call of its checker)
CHECKED = [
    (name, cell, after.source)
    for name, notebook in READ.items()
    for cell, after in solutions(notebook)
    if after is not None and after.source.startswith("exercises.")
]


# The exercises of the notebooks -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "cell", "check"), CHECKED, ids=[f"{name[:2]}-{c.id}" for name, c, _ in CHECKED]
)
def test_a_solution_passes_and_its_stub_does_not(name, cell, check):
    space = {"tf": tf}  # and the imports of the notebook, without the settings of its session
    lines = READ[name].cells[1].source.splitlines()
    exec("\n".join(line for line in lines if not line.startswith(("cf.", "pd."))), space)
    exec(tool.without_solution(cell.source, cell.id), space)
    assert repr(eval(check, space)).startswith("Not yet: your function returns nothing.")
    exec(cell.source, space)
    assert repr(eval(check, space)).startswith("Passed: ")


def test_each_checker_belongs_to_one_exercise():
    used = [check.partition("(")[0].removeprefix("exercises.") for *_, check in CHECKED]
    assert sorted(used) == sorted(WRONG)


@pytest.mark.parametrize("name", READ)
def test_a_notebook_has_two_to_four_exercises_each_with_a_hint_and_a_solution(name):
    text = "\n".join(c.source for c in READ[name].cells if c.cell_type == "markdown")
    number = len(solutions(READ[name]))
    assert 2 <= number <= 4
    found = re.findall(r"^\*\*Exercise (\d)\.\*\*", text, re.MULTILINE)
    assert found == [str(k) for k in range(1, number + 1)]
    assert text.count("<details><summary>Hint</summary>") == text.count("</details>") == number
    for cell, _ in solutions(READ[name]):
        assert cell.metadata["jupyter"] == {"outputs_hidden": True, "source_hidden": True}


# Answers that are wrong ---------------------------------------------------------------------------


norm, mean, total = np.linalg.norm, tf.reduce_mean, tf.reduce_sum


def products(U, V):
    return U @ tf.transpose(V)


def error(A, U, V):
    return A.values - tf.gather_nd(products(U, V), A.indices)


def sparse(frame, columns=("user_num", "item_num"), dtype=np.float32, shape=None):
    shape = shape or (frame["user_num"].max() + 1, frame["item_num"].max() + 1)
    return tf.SparseTensor(frame[list(columns)].to_numpy(), frame["rating"].to_numpy(dtype), shape)


def slopes(A, U, V):
    errors, number = np.nan_to_num(A - U @ V.T), np.sum(~np.isnan(A))
    return -2 * errors @ V / number, -2 * errors.T @ U / number


def step(A, U, V, rate, beside=0.0):
    by_U, by_V = slopes(A, U, V)
    by_U[0, 1] += beside
    return U - rate * by_U, V - rate * by_V


def step_one_by_one(A, U, V, rate):
    U = U - rate * slopes(A, U, V)[0]
    return U, V - rate * slopes(A, U, V)[1]


def step_in_place(A, U, V, rate):
    U[:], V[:] = step(A, U, V, rate)
    return U, V


def scored(query, items, measure, norms):
    return items @ query / (1 if measure == "dot" else norms)


def best(scores, own, k):
    return [int(j) for j in np.argsort(-scores) if j not in own][:k]


def best_with(value, scores, own, k):
    scores[list(own)] = value
    return np.argsort(-scores)[:k]


def pull(U, V):
    return mean(products(U, V) ** 2)


def loss(A, U, V, l2_coeff=0.0, gravity_coeff=0.0):
    l2 = mean(total(U**2, axis=1)) + mean(total(V**2, axis=1))
    return mean(error(A, U, V) ** 2) + l2_coeff * l2 + gravity_coeff * pull(U, V)


def log_p(psi, V, labels, axis=-1):
    return tf.gather(tf.nn.log_softmax(products(psi, V), axis=axis), labels, batch_dims=1)


def overflowing(psi, V, labels):
    scores = tf.exp(products(psi, V))
    p = scores / total(scores, axis=1, keepdims=True)
    return -mean(tf.math.log(tf.gather(p, labels, batch_dims=1)))


def gram(table):
    return tf.transpose(table) @ table


def pairs(U, V):
    return U.shape[0] * V.shape[0]


def part_of(counts, part):
    return round(part * len(counts))


WRONG = {
    "shrunken_mean": [
        (lambda total, n, k, mu: total / n, "plain mean"),
        (lambda total, n, k, mu: (total + k * mu) / n, "divide by n + k"),
        (lambda total, n, k, mu: total / (n + k), "add k mu"),
        (lambda total, n, k, mu: (total + mu) / (n + k), "only once"),
        (lambda total, n, k, mu: (n * total + k * mu) / (n + k), "is a sum already"),
        (lambda total, n, k, mu: (n * (total / n) + k * mu) / (n + k), "without ratings"),
        (lambda total, n, k, mu: ((total + k * mu) / (n + k)).mean(), "shape ()"),
    ],
    "top_share": [
        (lambda counts, part: counts[: part_of(counts, part)].sum(), "in a small case"),
        (lambda n, part: n.iloc[: part_of(n, part)].sum() / n.sum(), "sort them"),
        (lambda n, part: n.nsmallest(part_of(n, part)).sum() / n.sum(), "least rated"),
        (lambda counts, part: counts.nlargest(10).sum() / counts.sum(), "always take 10"),
        (lambda counts, part: counts.nlargest(part_of(counts, part)).sum(), "by all ratings"),
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
        (lambda A, U, V: mean((tf.sparse.to_dense(A) - products(U, V)) ** 2), "unobserved cell"),
        (lambda A, U, V: total(error(A, U, V) ** 2) / pairs(U, V), "the number of observed"),
        (lambda A, U, V: mean(error(A, U, V)), "square them first"),
        (lambda A, U, V: mean(abs(error(A, U, V))), "square them instead"),
        (lambda A, U, V: tf.sqrt(mean(error(A, U, V) ** 2)), "root"),
        (lambda A, U, V: mean(error(A, U, V)) ** 2, "mean of the squares"),
        (lambda A, U, V: error(A, U, V) ** 2, "return one number"),
    ],
    "gradient_step": [
        (lambda A, U, V, rate: step(A, U, V, -rate), "uphill"),
        (lambda A, U, V, rate: step(A, U, V, rate / 2), "factor of 2"),
        (lambda A, U, V, rate: step(A, U, V, rate * np.sum(~np.isnan(A))), "gradient of the sum"),
        (lambda A, U, V, rate: step(A, U, V, rate * np.mean(~np.isnan(A))), "all N M cells"),
        (lambda A, U, V, rate: slopes(A, U, V), "return the gradients"),
        (lambda A, U, V, rate: step(np.nan_to_num(A), U, V, rate), "unobserved cell"),
        (lambda A, U, V, rate: (U + (A - U @ V.T) @ V, V), "hold NaN"),
        (lambda A, U, V, rate: step(A, U, V, rate)[0], "(U, V)"),
        (step_one_by_one, "the new U"),
        (step_in_place, "you change what you are given"),
        (lambda *given: step(*given, beside=0.5), "of finite differences at position 0, 1"),
    ],
    "scores": [
        (lambda q, V, measure: V @ q, "divide by both norms"),
        (
            lambda q, V, measure: np.nan_to_num(V @ q / (norm(q) * norm(V, axis=1))),
            '"dot" you give the cosine',
        ),
        (lambda q, V, measure: scored(q, V, measure, norm(q) * norm(V, axis=1)), "yours is nan"),
        (lambda q, V, measure: scored(q, V, measure, norm(V, axis=1)), "lacks the query's norm"),
        (lambda q, V, measure: scored(q, V, measure, norm(q)), "lacks the items' norms"),
        (lambda q, V, measure: scored(q, V, measure, norm(q) * norm(V)), "axis=1"),
    ],
    "own_ratings": [
        (lambda scores, own, k: np.argsort(-scores)[:k], "rated already"),
        (lambda scores, own, k: best_with(0, scores.copy(), own, k), "minus infinity"),
        (lambda scores, own, k: best(scores, own, k - 1), "before you count"),
        (lambda scores, own, k: best(scores, own, 1) * k, "twice"),
        (lambda scores, own, k: best(-scores, own, k), "lowest score"),
        (lambda scores, own, k: sorted(best(scores, own, k)), "in another order"),
        (lambda scores, own, k: scores[best(scores, own, k)], "don't return scores"),
        (lambda scores, own, k: best_with(-np.inf, scores, own, k), "copy it first"),
        (lambda scores, own, k: best(scores, own, k + 1)[1:], "is right"),
    ],
    "regularized_loss": [
        (lambda A, U, V, a, b: loss(A, U, V, 1.0, 1.0), "still add a penalty"),
        (lambda A, U, V, a, b: loss(A, U, V, b, a), "swapped"),
        (lambda A, U, V, a, b: loss(A, U, V, 0.0, b), "no l2 penalty"),
        (lambda A, U, V, a, b: loss(A, U, V, a, 0.0), "no gravity"),
        (lambda A, U, V, a, b: loss(A, U, V) + a * total(U**2) + a * total(V**2), "norms up"),
        (lambda A, U, V, a, b: loss(A, U, V, a) + b * total(products(U, V) ** 2), "is a sum"),
        (
            lambda A, U, V, a, b: loss(A, U, V, a) + b * mean((A.values - error(A, U, V)) ** 2),
            "observed pairs only",
        ),
        (lambda A, U, V, a, b: 2 * loss(A, U, V, a, b), "not the mean squared error"),
    ],
    "gravity": [
        (lambda U, V: total(products(U, V) ** 2), "number of pairs"),
        (lambda U, V: mean(products(U, V)), "square them"),
        (lambda U, V: total(gram(U) @ gram(V)) / pairs(U, V), "entry by entry"),
        (lambda U, V: mean(gram(U) * gram(V)), "d x d"),
        (pull, "all N M scores"),
        (lambda U, V: float(np.mean((U.numpy() @ V.numpy().T) ** 2)), "all N M scores"),
    ],
    "softmax_loss": [
        (lambda psi, V, y: -total(log_p(psi, V, y)), "take their mean"),
        (lambda psi, V, y: mean(log_p(psi, V, y)), "sign"),
        (lambda psi, V, y: mean(tf.exp(log_p(psi, V, y))), "mean probability"),
        (lambda psi, V, y: -mean(tf.nn.log_softmax(products(psi, V))), "all movies"),
        (lambda psi, V, y: -mean(log_p(psi, V, y, axis=0)), "over the users"),
        (overflowing, "exp overflows"),
    ],
    "softmax_model": [
        (lambda ids, V: V @ V[ids].sum(axis=0), "take their mean"),
        (lambda ids, V: V[ids].mean(axis=0), "one per movie"),
        (lambda ids, V: tf.nn.softmax(V @ V[ids].mean(axis=0)), "before the softmax"),
        (lambda ids, V: V @ V[ids[-1]], "the order of the history"),
        (lambda ids, V: V @ V.mean(axis=0), "outside of the history"),
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


ODD = {
    "no function": 7,
    "dots": ...,
    "its result": np.zeros(3),
    "no arguments": lambda: 1.0,
    "stops": lambda *arguments: sys.exit(1),
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
        assert repr(result).startswith("Not yet: "), kind
        assert len(repr(result)) < 300, kind


def test_right_answers_of_other_kinds_pass():
    def gravity(U, V):
        return total(gram(U) * gram(V)) / pairs(U, V)

    for check, answer in {
        exercises.gravity: lambda U, V: float(gravity(U.numpy(), V.numpy())),
        exercises.own_ratings: lambda *given: np.array(best(*given)),
        exercises.top_share: lambda n, part: n[n > n.quantile(1 - part)].sum() / n.sum(),
        exercises.softmax_model: lambda ids, V: tf.constant(V @ V[ids].mean(axis=0)),
        exercises.gradient_step: lambda *given: list(step(*given)),
        exercises.mean_squared_error: lambda *given: float(mean(error(*given) ** 2)),
    }.items():
        assert check(answer).passed
    assert exercises.gravity(tf.function(gravity)).passed
    assert not exercises.gravity(tf.function(pull)).passed


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
        (lambda a, b: b - a, "this is a difference."),
        (lambda a, b: -a - b, "this is below zero."),
        (lambda a, b: a * b, "in a small case your function gives 2, and 3 is right."),
        (lambda a, b: [a, b], "return one number; yours has the shape (2,)."),
        (lambda a, b: a + b + (a == 0), "nothing and nothing is 0, not 1."),
    ):
        assert a_sum(answer) == exercises.Result(False, message)


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
                solution = original.source.partition("### BEGIN SOLUTION\n")[2]
                solution = solution.partition("### END SOLUTION")[0]
                assert "...  # your code here" in cell.source
                for line in filter(None, map(str.strip, solution.splitlines())):
                    assert line not in cell.source
                assert "jupyter" not in cell.metadata
            elif cell.source != original.source:  # where the solutions are
                assert "Solutions are folded" in original.source
        text = (tmp_path / path.name).read_text("utf-8")
        assert text.count("in the folder `notebooks`") == 1
        assert not re.search("SOLUTION|make exercises|Solutions are folded", text)


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
