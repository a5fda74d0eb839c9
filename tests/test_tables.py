"""Any table of ratings as a Dataset: frames, CSV and Parquet files."""

import re
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from cfutils.tables import load_ratings

BOOKS = pd.DataFrame(
    {
        "reader": ["zoe", "adam", "zoe"],
        "book": [70, 7, 7],
        "stars": [4.5, 1, 3],
        "when": ["mon", "tue", "wed"],
    }
)
COLUMNS = {"user": "reader", "item": "book", "rating": "stars"}
HEADER = "user_id,item_id,rating\n"


def user_ids(data):
    return data.users["user_id"].tolist()


def item_ids(data):
    return data.items["item_id"].tolist()


def written(folder, text, name="ratings.csv", encoding="utf-8"):
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def test_rows_follow_the_sorted_ids():
    data = load_ratings(BOOKS, **COLUMNS, timestamp="when")
    assert user_ids(data) == ["adam", "zoe"]
    assert item_ids(data) == [7, 70]
    assert data.items["title"].tolist() == ["7", "70"]
    expected = pd.DataFrame(
        {
            "user_num": [1, 0, 1],
            "item_num": [1, 0, 0],
            "rating": [4.5, 1.0, 3.0],
            "timestamp": ["mon", "tue", "wed"],
        }
    )
    assert_frame_equal(data.ratings, expected)


def test_the_input_is_left_alone():
    before = BOOKS.copy()
    data = load_ratings(BOOKS, **COLUMNS, timestamp="when")
    data.ratings.loc[0, ["rating", "timestamp"]] = [9, "sun"]
    assert_frame_equal(BOOKS, before)


@given(
    pairs=st.lists(st.tuples(st.text(max_size=3), st.integers()), min_size=1, unique=True),
    seed=st.integers(0, 100),
)
def test_nothing_is_lost(pairs, seed):
    table = pd.DataFrame(pairs, columns=["user_id", "item_id"])
    table["rating"] = np.random.default_rng(seed).normal(size=len(table))
    data = load_ratings(table)
    assert [user_ids(data)[row] for row in data.ratings["user_num"]] == table["user_id"].tolist()
    assert [item_ids(data)[row] for row in data.ratings["item_num"]] == table["item_id"].tolist()
    assert data.ratings["rating"].tolist() == table["rating"].tolist()


IDS = st.one_of(
    st.integers(-(10**18), 10**18).map(str),
    st.sampled_from(["7", "07", "x y", 'say "no", no', "NA", "nan", "None", "1.0", "é", "-0"]),
    st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=4),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(IDS, IDS), min_size=1, max_size=12, unique=True))
def test_files_load_as_the_frame_does(tmp_path, pairs):
    frame = pd.DataFrame(pairs, columns=["user_id", "item_id"], dtype="str")
    frame["rating"] = np.arange(len(frame)) / 2
    frame["when"] = np.arange(len(frame))
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_parquet(tmp_path / "a.parquet")
    expected = load_ratings(frame, timestamp="when")
    parquet = load_ratings(tmp_path / "a.parquet", timestamp="when")
    csv = load_ratings(tmp_path / "a.csv", timestamp="when")
    for name in ("users", "items", "ratings"):
        assert_frame_equal(getattr(parquet, name), getattr(expected, name))
    # In a CSV file ids that are all written as integers are integers, in their order.
    for column, ids, row in (
        ("user_id", user_ids(csv), "user_num"),
        ("item_id", item_ids(csv), "item_num"),
    ):
        texts = frame[column].tolist()
        whole = all(re.fullmatch("0|-?[1-9][0-9]{0,17}", text) for text in texts)
        assert ids == sorted({int(text) for text in texts} if whole else set(texts))
        assert [str(ids[number]) for number in csv.ratings[row]] == texts
    assert csv.ratings["rating"].tolist() == frame["rating"].tolist()
    assert csv.ratings["timestamp"].tolist() == frame["when"].tolist()


def test_ids_are_numbers_only_where_nothing_is_lost(tmp_path):
    data = load_ratings(written(tmp_path, HEADER + "007,3,5\n7,12,4\nNA,-1,2\n"))
    assert user_ids(data) == ["007", "7", "NA"]
    assert item_ids(data) == [-1, 3, 12]
    assert load_ratings(written(tmp_path, HEADER + "1\u0662,1,5\n12,1,4\n")).num_users == 2


def test_ids_of_a_frame_keep_their_type():
    for dtype in (object, "str"):
        table = BOOKS.astype({"reader": dtype})
        assert load_ratings(table, **COLUMNS).users["user_id"].dtype == table["reader"].dtype
    table = BOOKS.astype({"reader": pd.CategoricalDtype(["zoe", "nobody", "adam"])})
    assert user_ids(load_ratings(table, **COLUMNS)) == ["adam", "zoe"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user_id,rating\n1,2\n", r"item='item_id' should be a column.*'user_id', 'rating'"),
        ("user_id;item_id;rating\n1;2;3\n", r"user='user_id' should be a column.*sep="),
        ("user_id,item_id,rating,rating\n1,2,3,4\n", "rating='rating' should be a column.* once"),
        ("", r"ratings.csv should be a CSV file.*header line.*Empty"),
        (HEADER + "0,2,3,9\n4,5,6,9\n", "Expected 3 columns, got 4"),
        (HEADER + "1,2,3\n4,5,6,9\n", "Expected 3 columns, got 4: 4,5,6,9"),
        (HEADER + "1,2,3\n4,5\n", "Expected 3 columns, got 2: 4,5"),
        (HEADER, "at least one rating"),
        (HEADER + "1,2,3\n1,,3\n", r"item_id should not be missing.*row 1"),
        (HEADER + "1,2,\n", r"rating should be a finite number.*nan.*row 0"),
        (HEADER + "1,2,good\n", r"finite number. Received: good in row 0"),
        (HEADER + '1,2,"4,5"\n', r"Received: 4,5 in row 0 .* decimal=','"),
        ("user_id\titem_id\trating\n1\t2\t3\n", r"sep='\\t'"),
        (HEADER + "1,2,3\n1,3,inf\n", r"finite number.*inf.*row 1"),
        (HEADER + "1,2,3\n1,2,4\n", r"once.*\(1, 2\) again in row 1.*drop_dup"),
        (HEADER + "1,1,5\n,1,5\n3,3,3\n,3,4\n", "user_id should.*row 1 .* first of 2 such rows"),
        (HEADER + "1,1,5\n2,1,bad\n3,1,inf\n4,1,\n", "bad in row 1 .* first of 3 such rows"),
        (HEADER + 'ann,"Stray,4\nbob,Emma,3\nann,"Other,4\n', "columns|line break"),
        (HEADER + 'ann,"Stray\nline",4\n', r"item_id should hold no line break.*'Stray"),
        (HEADER + "ann,a,4\nbob,a,3\nann ,b,4\n", "user_id should not differ by .*'ann'.*Take"),
    ],
)
def test_bad_files_are_refused_with_row_and_value(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        load_ratings(written(tmp_path, text))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rating": np.inf}, "rating should be a finite number. Received: inf in row 299999"),
        ({"user_id": None}, "user_id should not be missing. Received: .* in row 299999"),
        ({"user_id": "u0", "item_id": "i0"}, r"Received: \(u0, i0\) again in row 299999"),
    ],
)
@pytest.mark.slow
def test_faults_far_down_a_file_are_found(tmp_path, suffix, change, message):
    numbers = np.arange(300_000).astype(str)  # several blocks of the reader
    frame = pd.DataFrame({"user_id": "u" + pd.Series(numbers), "item_id": "i" + pd.Series(numbers)})
    frame["rating"] = 1.0
    for column, value in change.items():
        frame.loc[299_999, column] = value
    path = tmp_path / f"a{suffix}"
    frame.to_csv(path, index=False) if suffix == ".csv" else frame.to_parquet(path)
    with pytest.raises(ValueError, match=message):
        load_ratings(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reader": ["a", None, "b"]}, "reader should not be missing. Received: nan in row 1"),
        (
            {"reader": [7, "7", 8]},
            "reader should hold ids of one kind. Received: '7' twice.* Make all",
        ),
        ({"stars": pd.to_datetime("2020-01-01")}, "stars should hold real numbers.*datetime64"),
        ({"stars": [1, "2", "good"]}, "stars should be a finite number. Received: good in row 2"),
        ({"reader": "a", "book": [7, 8, 7]}, r"\(reader, book\).*\(a, 7\) again in row 2"),
    ],
)
def test_bad_frames_are_refused_with_row_and_value(change, message):
    with pytest.raises(ValueError, match=message):
        load_ratings(BOOKS.assign(**change), **COLUMNS)


def test_columns_are_named_once():
    with pytest.raises(ValueError, match="'stars' should be a column of the table, once"):
        load_ratings(pd.concat([BOOKS, BOOKS[["stars"]]], axis=1), **COLUMNS)
    with pytest.raises(ValueError, match="different columns"):
        load_ratings(BOOKS, user="reader", item="reader", rating="stars")


def test_the_advice_about_pairs_that_stand_twice_can_be_followed():
    frame = pd.DataFrame({"user_id": ["a", "b", "a"], "item_id": list("xyx"), "rating": [1, 2, 3]})
    with pytest.raises(ValueError, match="again in row 2") as caught:
        load_ratings(frame)
    advice = re.search(r"pass (frame\..*)\.$", str(caught.value))[1]
    data = load_ratings(eval(advice, {"frame": frame}))
    assert data.ratings["rating"].tolist() == [2, 3]


def test_a_file_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("none.csv", "none.parquet", "."):
        with pytest.raises(FileNotFoundError, match=rf"Received: '{name}', which is none in .*\. "):
            load_ratings(name)


def test_encoding_and_separator(tmp_path):
    text = "user_id;item_id;rating\nAndré;007;3\nAndré;7;4\n"
    path = written(tmp_path, text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"ratings.csv should .*UTF-8. Rec.*encoding='cp1252'"):
        load_ratings(path, sep=";")
    data = load_ratings(path, sep=";", encoding="latin-1")
    assert (user_ids(data), item_ids(data)) == (["André"], ["007", "7"])
    assert data.ratings["rating"].tolist() == [3, 4]
    with pytest.raises(ValueError, match="unknown encoding: klingon. Name its encoding"):
        load_ratings(path, encoding="klingon")
    with pytest.raises(ValueError, match="sep should be one character. Received: '::'"):
        load_ratings(path, sep="::")


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (["97", "98", "mon", ""], ["97", "98", "mon", None]),
        (["4", "5", "", "7.5"], [4.0, 5.0, None, 7.5]),
        (["4", "5", "6", "7"], [4, 5, 6, 7]),
    ],
)
def test_timestamps_are_of_one_kind(tmp_path, times, expected):
    lines = [f"{row},1,5,{time}" for row, time in enumerate(times)]
    path = written(tmp_path, "\n".join(["user_id,item_id,rating,at", *lines]))
    found = load_ratings(path, timestamp="at").ratings["timestamp"]
    assert [None if pd.isna(value) or value == "" else value for value in found] == expected


def test_compressed_files_are_read_and_half_of_one_refused(tmp_path):
    frame = pd.DataFrame({"user_id": range(5000), "item_id": 1, "rating": 3.0})
    for suffix in ("gz", "bz2", "xz", "zip"):
        path = tmp_path / f"a.csv.{suffix}"
        frame.to_csv(path, index=False)
        assert load_ratings(path).num_users == 5000
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(ValueError, match=f"a.csv.{suffix} should be a (whole|CSV) file"):
            load_ratings(path)
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a.csv", "b.csv"):
            archive.writestr(name, HEADER)
    with pytest.raises(ValueError, match=r"should hold one file. Received: \['a.csv', 'b.csv'\]"):
        load_ratings(path)


def test_a_file_at_an_address_is_read(tmp_path):
    BOOKS.to_csv(tmp_path / "books.csv.gz", index=False)

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, directory=tmp_path, **kwargs)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        data = load_ratings(f"http://127.0.0.1:{server.server_port}/books.csv.gz", **COLUMNS)
        server.shutdown()
    assert item_ids(data) == [7, 70]


def test_parquet_files(tmp_path):
    path = written(tmp_path, HEADER + "1,2,3\n", "a.pq")
    with pytest.raises(ValueError, match=r"a.pq should be a whole Parquet file. Received: "):
        load_ratings(path)
    frame = pd.DataFrame({"user_id": [5, 5, 9], "item_id": list("bab"), "stars": [1, 2, 3]})
    frame.astype({"item_id": "category"}).to_parquet(path)
    with pytest.raises(ValueError, match=r"rating='rating' should be a column.*'stars'"):
        load_ratings(path)
    data = load_ratings(path, rating="stars")
    assert (user_ids(data), item_ids(data)) == ([5, 9], ["a", "b"])
    assert data.ratings["item_num"].tolist() == [1, 0, 1]
    frame.set_index(["user_id", "item_id"]).to_parquet(path)  # what was an index is a column
    assert_frame_equal(load_ratings(path, rating="stars").ratings, data.ratings)
    content = path.read_bytes()
    path.write_bytes(content[:4] + bytes(60) + content[64:])
    with pytest.raises(ValueError, match=r"a.pq should be a whole Parquet file. Received: "):
        load_ratings(path, rating="stars")


JUNK = st.one_of(
    st.integers(-3, 6),
    st.sampled_from([None, True, np.nan, np.inf, 10**30, 2.5, "", "a", "1", b"x", pd.NaT, 1j]),
)


@settings(max_examples=200)
@given(st.lists(st.tuples(JUNK, JUNK, JUNK), max_size=4))
def test_whatever_a_frame_holds_is_kept_or_refused(rows):
    columns = ["user_id", "item_id", "rating"]
    table = pd.DataFrame(
        {
            name: pd.Series([row[at] for row in rows], dtype=object)
            for at, name in enumerate(columns)
        }
    )
    try:
        data = load_ratings(table)
    except (ValueError, TypeError) as error:
        assert isinstance(error, ValueError), repr(error)
        assert "should" in str(error)
        return
    assert len(data.ratings) == len(rows) > 0
    kept = zip(data.ratings["user_num"], data.ratings["item_num"], data.ratings["rating"])  # noqa: B905
    for (user, item, rating), (u, i, r) in zip(rows, kept, strict=True):
        assert (user_ids(data)[u], item_ids(data)[i], float(rating)) == (user, item, r)
