"""The examples of the README, run as they are printed, on ratings made here."""

import os
import pathlib
import re
import shutil
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

    One of them is called as in the example.
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
    table = pd.DataFrame(rows, columns=["reader", "book", "stars"])
    return table.replace({"reader": {f"{KINDS[1][0]}-00003": "anna"}})


def write(folder, ratings):
    """The two files of the examples: books have numbers, and titles in a table of their own."""
    titles = sorted(set(ratings["book"]))
    numbers = {
        title: 1000 + int(title.split("№")[1]) + 500 * KINDS.index(title.split(" №")[0])
        for title in titles
    }
    ratings.assign(book=ratings["book"].map(numbers)).to_csv(folder / "my_ratings.csv", index=False)
    books = pd.DataFrame({"title": titles, "book": map(numbers.get, titles)})
    books.assign(genres=books["title"].str.partition(" №")[0]).to_csv(
        folder / "my_books.csv", index=False
    )


def write_movielens(folder):
    """A dozen movies in the layout of the larger releases, all of them rated by thirty users."""
    folder.mkdir(parents=True)
    titles = ["Toy Story (1995)", "Fargo (1996)", *(f"Film {n} (1990)" for n in range(3, 13))]
    movies = pd.DataFrame({"movieId": range(1, 13), "title": titles, "genres": "Drama"})
    movies.to_csv(folder / "movies.csv", index=False)
    pairs = pd.MultiIndex.from_product([range(1, 31), range(1, 13)], names=["userId", "movieId"])
    ratings = pairs.to_frame(index=False).assign(timestamp=1_000_000_000)
    ratings["rating"] = (ratings["userId"] + ratings["movieId"]) % 10 / 2 + 0.5
    ratings.to_csv(folder / "ratings.csv", index=False)


def run(example, folder):
    return subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", example],
        cwd=folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONUTF8": "1", "CFUTILS_DATA": str(folder / "data")},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    write(folder, own_ratings())
    write_movielens(folder / "data" / "ml-25m")
    return folder


SERVE = """
import cfutils as cf
columns = {"user": "reader", "item": "book", "rating": "stars"}
data = cf.load_ratings("my_ratings.csv", items="my_books.csv", **columns)
print(cf.recommend(cf.load_model("books.keras"), data, user="anna"))
"""


@pytest.fixture(scope="module")
def outputs(examples, folder):
    """What each example prints, and a program that serves, in a fresh process each."""
    done = [run(example, folder) for example in (*examples[:2], SERVE)]
    shutil.copy(folder / "books.keras", folder / "before.keras")
    done.append(run(examples[2], folder))
    for process in done:
        assert process.returncode == 0, process.stderr
    shutil.move(folder / "before.keras", folder / "books.keras")
    return [process.stdout for process in done]


def test_the_examples_are_short(examples):
    assert len(examples) == 3
    for example in examples:
        assert len([line for line in example.splitlines() if line]) <= 9


def test_the_example_measures_better_than_chance(outputs):
    table = own_ratings()
    assert len(table) > 3000
    recall = float(re.search(r"^recall +([\d.]+)$", outputs[0], re.MULTILINE)[1])
    # By chance a list of 10 holds one of 160 books with 10/160. There is nothing to know but the
    # reader's kind of 40 books, of which 20 or more are not in training: at most about 10/20.
    assert 3 * 10 / 160 < recall < 10 / 20


def recommended(output):
    """The titles of the list that stands last in what was printed."""
    rows = re.findall(r"^\d+ +\d{4} +(.+?№\d+) ", output, re.MULTILINE)
    assert len(rows) == 10
    return rows


def test_the_example_recommends_what_the_reader_likes(outputs):
    own = set(own_ratings().query("reader == 'anna'")["book"])
    titles = recommended(outputs[0])
    assert len(own) >= 3
    assert not own & set(titles)
    assert sum(title.startswith(KINDS[1]) for title in titles) >= 8


def test_a_release_of_movielens_in_a_line(outputs):
    rows = re.findall(r"^\d+ +\d+ +(\S.*?\(\d{4}\))", outputs[1], re.MULTILINE)
    assert set(rows) == {f"Film {number} (1990)" for number in range(3, 13)}


def test_a_fresh_process_recommends_the_same(outputs):
    recommended(outputs[2])
    assert outputs[0].endswith(outputs[2])


def test_every_reader_has_a_list_after_a_night(outputs, folder):
    lists = pd.read_csv(folder / "lists.csv")
    table = own_ratings()
    assert lists.groupby("user_id").size().eq(10).all()
    assert set(lists["user_id"]) == set(table["reader"])
    rated = table.rename(columns={"reader": "user_id", "book": "title"})
    assert lists.merge(rated, on=["user_id", "title"]).empty
    own = table[table["stars"] >= 4].assign(kind=lambda t: t["book"].str.partition(" №")[0])
    liked = own.groupby("reader")["kind"].first()
    kinds = lists["title"].str.partition(" №")[0]
    assert (kinds == lists["user_id"].map(liked)).mean() > 0.8


def test_a_fresh_process_with_other_readers_recommends_the_same(outputs, folder):
    """Readers that come and go shift the rows, and the reader is found all the same.

    Who came is served from their ratings.
    """
    table = own_ratings()
    assert min(table["reader"]) > "Aaron"
    others = table[table["reader"] != min(table["reader"])]
    others = pd.concat([table[:2].assign(reader=["Aaron", "Abe"]), others])
    write(folder, others)
    process = run(SERVE, folder)
    assert process.returncode == 0, process.stderr
    assert recommended(process.stdout) == recommended(outputs[2])
    process = run(SERVE.replace("anna", "Aaron"), folder)
    assert process.returncode == 0, process.stderr
    assert not set(others[others["reader"] == "Aaron"]["book"]) & set(recommended(process.stdout))


def test_a_fresh_process_with_another_book_leaves_it_out(outputs, folder):
    """As many books as before, and all rows shifted: each title keeps its own score."""
    before = recommended(outputs[2])
    gone = before[4]
    new = f"{KINDS[0]} №1"
    write(folder, own_ratings().replace({"book": {gone: new}}))
    process = run(SERVE, folder)
    assert process.returncode != 0  # where warnings are errors
    assert "1 of the 160 items of data are not in the model and are left out: 1001" in (
        process.stderr
    )
    process = run("import warnings\nwarnings.simplefilter('ignore')\n" + SERVE, folder)
    assert process.returncode == 0, process.stderr
    after = recommended(process.stdout)
    assert after[:9] == [title for title in before if title != gone]
