"""What nbval takes for the same output: all but the last digits of numbers."""

import nbformat
import pytest
from outputs import Text, alike

pytest_plugins = ["pytester"]


@pytest.mark.parametrize(
    ("expected", "received", "same"),
    [
        ("NDCG 0.2802, holds", "NDCG 0.2799, holds", True),
        ("0.0010", "0.0015", True),  # five units of the last place
        ("3.18 [3.10, 3.26]", "3.20 [3.08, 3.27]", True),  # one per cent
        ("-0.0002", "0.0003", True),
        ("a  9.99\nb 10.00", "a 10.01\nb  9.99", True),  # aligned by their widths
        ("<td>12.955</td>\n", "<td>12.956</td>\n", True),
        ("0.2802", "0.2702", False),  # 3.6 %
        ("0.0010", "0.0016", False),  # six units
        ("3.18", "3.24", False),  # 1.9 %, six units
        ("0.2802", "0.280", False),  # another number of places
        ("0.2802", "0.28021", False),
        ("NDCG 0.2802, holds", "NDCG 0.2802, undecided", False),
        ("10 of 12", "11 of 12", False),  # counts
        ("Star Wars (1977) 0.9", "Star Wars (1978) 0.9", False),
        ("0.1 0.2", "0.1", False),
        ("0.1", "nan", False),
        ("-0.5000", "0.5000", False),
        ("1.5", "", False),
        ("Keras 3.15.0", "Keras 3.16.0", False),  # versions are words
    ],
)
def test_last_digits_do_not_count_and_everything_else_does(expected, received, same):
    assert alike(expected, received) == same
    assert (Text(expected) == Text(received)) == same
    assert (Text(expected) != Text(received)) == (not same)


@pytest.mark.slow
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
