"""What nbval takes for the same output: all but the last digits of numbers."""

import nbformat
import pytest
from outputs import Text, alike

pytest_plugins = ["pytester"]


@pytest.mark.parametrize(
    ("expected", "received"),
    [
        ("NDCG 0.2802, holds", "NDCG 0.2799, holds"),
        ("0.0010", "0.0015"),  # five units of the last place
        ("3.18 [3.10, 3.26]", "3.20 [3.08, 3.27]"),  # one per cent
        ("-0.0002", "0.0003"),
        ("a  9.99\nb 10.00", "a 10.01\nb  9.99"),  # aligned by their widths
        ("<td>12.955</td>\n", "<td>12.956</td>\n"),
    ],
)
def test_last_digits_do_not_count(expected, received):
    assert alike(expected, received)
    assert Text(expected) == Text(received)


@pytest.mark.parametrize(
    ("expected", "received"),
    [
        ("0.2802", "0.2702"),  # 3.6 %
        ("0.0010", "0.0016"),  # six units
        ("3.18", "3.24"),  # 1.9 %, six units
        ("0.2802", "0.280"),  # another number of places
        ("0.2802", "0.28021"),
        ("NDCG 0.2802, holds", "NDCG 0.2802, undecided"),
        ("10 of 12", "11 of 12"),  # counts
        ("Star Wars (1977) 0.9", "Star Wars (1978) 0.9"),
        ("0.1 0.2", "0.1"),
        ("0.1", "nan"),
        ("-0.5000", "0.5000"),
        ("1.5", ""),
        ("Keras 3.15.0", "Keras 3.16.0"),  # versions are words
    ],
)
def test_everything_else_counts(expected, received):
    assert not alike(expected, received)
    assert Text(expected) != Text(received)


def test_nbval_uses_it(pytester, request):
    cells = [
        nbformat.v4.new_code_cell(
            f"print({code!r})",
            execution_count=number + 1,
            outputs=[nbformat.v4.new_output("stream", text=f"{kept}\n")],
        )
        for number, (code, kept) in enumerate(
            [("0.2802", "0.2799"), ("0.2802", "0.2702"), ("yes", "no")]
        )
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), pytester.path / "some.ipynb")
    root = request.config.rootpath
    pytester.makeconftest((root / "notebooks" / "conftest.py").read_text("utf-8"))
    pytester.makeini(f"[pytest]\npythonpath = {root / 'tools'}")
    done = pytester.runpytest_subprocess("--nbval", "--nbval-current-env", "-p", "no:cacheprovider")
    done.assert_outcomes(passed=1, failed=2)
