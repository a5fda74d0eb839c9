"""Embeddings as files for viewers: read back as a viewer reads them, and as pandas does."""

import csv
import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import cfutils as cf
from cfutils.export import save_embeddings

FLOATS = st.floats(allow_nan=False, allow_infinity=False, width=32)
# Texts that try to break a line, a field or the header.
HOSTILE = st.one_of(
    st.text(alphabet="\t\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029\ufeff\x00\"'\\,; aé中", max_size=8),
    st.sampled_from(["", " ", '"', "nan", "NA", "1e5", "title", "\ufeff", "a\tb\nc", "'=1+1"]),
    st.text(max_size=20),
)


def read_as_the_projector_does(path):
    """The lines of a file as lists of fields, by the rules of the Embedding Projector's parser.

    It splits at "\\n" and "\\t", skips lines that JavaScript's trim() empties, and takes the first
    line for a header if there is a tab in it.
    """
    lines = path.read_bytes().decode().split("\n")
    rows = [line.split("\t") for line in lines if line.strip("\ufeff \t\r\v\f\xa0\u2028\u2029")]
    return rows


@st.composite
def tables(draw):
    num_rows, dim = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    embeddings = draw(arrays(np.float32, (num_rows, dim), elements=FLOATS))
    titles = draw(st.lists(HOSTILE, min_size=num_rows, max_size=num_rows))
    names = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=6)
    ids = draw(st.lists(names, min_size=num_rows, max_size=num_rows, unique=True))
    return embeddings, titles, ids


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # disks
@given(tables())
def test_reading_back_gives_the_same_ids_and_numbers(tmp_path, table):
    embeddings, titles, ids = table
    numbers = range(len(ids))
    frame = pd.DataFrame({"title": titles, "item_id": ids, "number": numbers})
    vectors, metadata = save_embeddings(tmp_path / "some", embeddings, frame)
    assert (vectors, metadata) == (tmp_path / "some_vectors.tsv", tmp_path / "some_metadata.tsv")
    read = np.array(read_as_the_projector_does(vectors), np.float32)
    np.testing.assert_array_equal(read.view(np.uint32), embeddings.view(np.uint32))
    header, *rows = read_as_the_projector_does(metadata)
    assert header == ["title", "item_id", "number"]
    assert [row[1] for row in rows] == ids
    assert [row[2] for row in rows] == [str(number) for number in numbers]
    for (text, _, _), title in zip(rows, titles, strict=True):
        kept = ["".join(part.split()) for part in (text, title)]  # all but blanks, tabs and breaks
        assert kept[0] == kept[1]
        assert len(text) == len(title)


def test_the_pair_is_plain_text(tmp_path):
    frame = pd.DataFrame(
        {
            "item_id": [0, 1],
            "title": ['Zoë\'s "book"\nin\ttwo', None],
            "year\n": pd.array([1995, None], "Int64"),
            "genres": [["War", "Drama"], np.array([])],
        }
    )
    vectors, metadata = save_embeddings(str(tmp_path / "a.b"), [[0.1, -0.0], [1 / 3, 5]], frame)
    # 1/3 in float32: the shortest decimal that is read back as the same number
    assert vectors.read_bytes() == b"0.1\t-0.0\n0.33333334\t5.0\n"
    assert metadata.read_bytes().decode() == (
        'item_id\ttitle\tyear \tgenres\n0\tZoë\'s "book" in two\t1995\tWar|Drama\n1\t\t\t\n'
    )
    assert sorted(os.listdir(tmp_path)) == ["a.b_metadata.tsv", "a.b_vectors.tsv"]
    options = {"sep": "\t", "quoting": csv.QUOTE_NONE, "keep_default_na": False}
    assert pd.read_csv(metadata, **options)["title"].tolist() == ['Zoë\'s "book" in two', ""]


def test_the_columns_are_written_and_the_index_is_not(tmp_path, monkeypatch):
    data = cf.load_ratings(
        pd.DataFrame({"user_id": ["u", "v"], "item_id": [30, 7], "rating": [1, 2]})
    )
    items = save_embeddings(tmp_path / "items", np.eye(2), data.items)[1]
    assert items.read_text() == "item_id\ttitle\n7\t7\n30\t30\n"
    # one column has no header
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    users = save_embeddings("~/users", np.eye(2), data.users)[1]
    assert users.parent == tmp_path
    assert users.read_text() == "u\nv\n"


@pytest.mark.parametrize("blank", ["", " ", "\t", "\n", "\u2028", "\ufeff", "\xa0", None])
def test_a_row_that_a_viewer_would_skip_is_refused(tmp_path, blank):
    frame = pd.DataFrame({"title": ["a", blank], "more": ["", blank]})
    for columns, row in ((["title"], 1), (["title", "more"], 1), ([], 0)):
        with pytest.raises(ValueError, match=rf"nothing but blanks in row {row}. Add a column"):
            save_embeddings(tmp_path / "a", np.eye(2), frame[columns])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        (np.eye(3), r"shape \[2, d\], one row per row of frame. Received: \[3, 3\]. Items go"),
        (np.ones(2), r"Received: \[2\]"),
        (np.ones((2, 0)), r"Received: \[2, 0\]"),
        ([["a"], ["b"]], r"embeddings should be numbers. Received: <U1"),
        ([[1, 2], [3, np.nan]], r"finite numbers in float32. Received: nan in row 1, column 1"),
        ([[1, 1e39], [3, 4]], r"Received: inf in row 0, column 1"),
        (np.eye(2), r"item_id should hold no tab or line break. Received: 'b\\tc' in row 1"),
    ],
)
def test_what_is_no_embedding_of_the_rows_is_refused(tmp_path, embeddings, message):
    frame = pd.DataFrame({"title": ["a\n", "b"], "item_id": ["a", "b\tc"]})
    with pytest.raises(ValueError, match=message):
        save_embeddings(tmp_path / "a", embeddings, frame)
    with pytest.raises(ValueError, match=r"frame should be a DataFrame. Received: (list|Series)"):
        save_embeddings(tmp_path / "a", embeddings, frame["title"])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["missing/a", ""])
def test_a_missing_folder_is_named(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"a folder that exists. Received: .*mkdir"):
        save_embeddings(name, np.eye(2), pd.DataFrame({"item_id": [0, 1]}))


def test_a_full_disk_leaves_the_old_pair(tmp_path, monkeypatch):
    frame = pd.DataFrame({"title": ["a", "b"]})
    pair = save_embeddings(tmp_path / "a", np.eye(2), frame)
    before = [path.read_bytes() for path in pair]
    calls = []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:  # the first of the two files still had room
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_embeddings(tmp_path / "a", np.zeros((2, 2)), frame)
    assert [path.read_bytes() for path in pair] == before
    assert len(os.listdir(tmp_path)) == 2


def test_there_is_never_a_new_file_beside_an_old_one(tmp_path, monkeypatch):
    pair = save_embeddings(tmp_path / "a", np.eye(2), pd.DataFrame({"title": ["a", "b"]}))
    seen, replace = [], os.replace

    def watched(source, target):
        replace(source, target)
        seen.append([path.read_text() for path in pair if path.exists()])

    monkeypatch.setattr(os, "replace", watched)
    save_embeddings(tmp_path / "a", np.ones((2, 1)), pd.DataFrame({"title": ["c", "d"]}))
    assert seen == [["1.0\n1.0\n"], ["1.0\n1.0\n", "c\nd\n"]]
