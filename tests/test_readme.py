"""The examples of the README, run as they are printed, on ratings made here."""

import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow
KINDS = ["Märchen", "Krimi, hart", "詩集", 'the "classics"']


@pytest.fixture(scope="module")
def examples():
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)


def own_ratings():
    """Readers who like one kind of book and not the others, most of them with few ratings.

    One of them is called as in the examples, and so are two books of one kind.
    """
    rng = np.random.default_rng(7)
    books = [f"{kind} №{5 * number}" for kind in KINDS for number in range(40)]
    rows = []
    for reader in range(400):
        liked = np.arange(160) // 40 == reader % 4
        number = 3 if reader % 10 == 9 else int(rng.integers(8, 30))
        chances = np.where(liked, 6.0, 1.0)
        for book in rng.choice(160, number, replace=False, p=chances / chances.sum()):
            stars = int(rng.integers(4, 6) if liked[book] else rng.integers(1, 4))
            rows.append((f"{KINDS[reader % 4][0]}-{3 * reader:05d}", books[book], stars))
    named = {
        f"{KINDS[0]} №5": "Emma",
        f"{KINDS[0]} №10": "Persuasion",
        f"{KINDS[1][0]}-00003": "anna",
    }
    return pd.DataFrame(rows, columns=["reader", "book", "stars"]).replace(named)


def run(example, folder):
    return subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", example],
        cwd=folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONUTF8": "1"},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    own_ratings().to_csv(folder / "my_ratings.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def outputs(examples, folder):
    """What each example prints, in a fresh process each and in the same folder."""
    done = [run(example, folder) for example in examples]
    for process in done:
        assert process.returncode == 0, process.stderr
    assert (folder / "books.keras").is_file()
    return [process.stdout for process in done]


def test_the_example_is_short(examples):
    for example in examples:
        assert len([line for line in example.splitlines() if line]) <= 8


def test_the_example_measures_better_than_chance(outputs):
    table = own_ratings()
    assert len(table) > 3000
    recall = float(re.search(r"^recall +([\d.]+)$", outputs[0], re.MULTILINE)[1])
    # By chance a list of 10 holds one of 160 books with 10/160. There is nothing to know but the
    # reader's kind of 40 books, of which 20 or more are not in training: at most about 10/20.
    assert 3 * 10 / 160 < recall < 10 / 20


def recommended(output):
    """The titles of the list that stands last in what was printed."""
    # Rank, id, title, which is the id as a text, number of ratings, score.
    rows = re.findall(r"^\d+ +(\S.*?) +\1 +\d+ +[\d.]+", output, re.MULTILINE)
    assert len(rows) == 10
    return rows


def test_the_example_recommends_what_the_reader_likes(outputs):
    own = set(own_ratings().query("reader == 'anna'")["book"])
    titles = recommended(outputs[0])
    assert len(own) >= 3
    assert not own & set(titles)
    assert sum(title.startswith(KINDS[1]) for title in titles) >= 8


def test_a_fresh_process_recommends_the_same(outputs):
    recommended(outputs[1])
    assert outputs[0].endswith(outputs[1])


def test_a_fresh_process_with_other_readers_recommends_the_same(outputs, examples, folder):
    """Readers that come and go shift the rows, and the reader is found all the same.

    Who came is served from their ratings.
    """
    table = own_ratings()
    assert min(table["reader"]) > "Aaron"
    others = table[table["reader"] != min(table["reader"])]
    others = pd.concat([table[:2].assign(reader=["Aaron", "Abe"]), others])
    others.to_csv(folder / "my_ratings.csv", index=False)
    process = run(examples[1], folder)
    assert process.returncode == 0, process.stderr
    assert recommended(process.stdout) == recommended(outputs[1])
    process = run(examples[1].replace("anna", "Aaron"), folder)
    assert process.returncode == 0, process.stderr
    assert not set(others[others["reader"] == "Aaron"]["book"]) & set(recommended(process.stdout))


def test_a_fresh_process_with_another_book_leaves_it_out(outputs, examples, folder):
    """As many books as before, and all rows shifted: each title keeps its own score."""
    before = recommended(outputs[1])
    gone = before[4]
    table = own_ratings().replace({"book": {gone: "A new one"}})
    table.to_csv(folder / "my_ratings.csv", index=False)
    process = run(examples[1], folder)
    assert process.returncode != 0  # where warnings are errors
    assert "1 of the 160 items of data are not in the model and are left out: 'A new one'" in (
        process.stderr
    )
    process = run("import warnings\nwarnings.simplefilter('ignore')\n" + examples[1], folder)
    assert process.returncode == 0, process.stderr
    after = recommended(process.stdout)
    assert after[:9] == [title for title in before if title != gone]


def test_the_softmax_example_serves_somebody_new(outputs):
    titles = recommended(outputs[2])
    assert sum(title.startswith(KINDS[0]) for title in titles) >= 8
    assert not {"Emma", "Persuasion"} & set(titles)
