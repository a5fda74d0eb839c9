"""Any table of ratings as a Dataset, in whatever form it is kept, with its items and users."""

import argparse
import dataclasses
import inspect
import re
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from cfutils.tables import add_options, from_options, load_ratings

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
    pairs=st.lists(st.tuples(st.text("aé7~", max_size=3), st.integers()), min_size=1, unique=True),
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
        ("", r"ratings.csv is empty"),
        ("\n\n", r"ratings.csv is empty"),
        ("<!DOCTYPE html>\n<html>", "is HTML or XML. Is it the page"),
        ('[\n {"user_id": 1}]', "is JSON: one array, not a line for each row. Pass pd.read_json"),
        ("{'user_id': 1}\n", "is no JSON with an object in each line"),
        ('{"user_id": 1, "item_id": 2}\n', "rating='rating' should be a column of .*'item_id'"),
        ("a\0b,c\n", "is no text: it holds the byte 0"),
        ("196,242,3\n", r"has no header line.*names=\['user_id', 'item_id', 'rating'\]"),
        ("1::2::3::9\n", r"no header line.*sep='::', names=\['user_id', .*, 'column_4'\]"),
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
        (HEADER + "1,2,3\n1,2,4\n", r"once.*\(1, 2\) again in row 1.*duplicates='last'"),
        (HEADER + "1,1,5\n,1,5\n3,3,3\n,3,4\n", "user_id should.*row 1 .* first of 2 such rows"),
        (HEADER + "1,1,5\n2,1,bad\n3,1,inf\n4,1,\n", "bad in row 1 .* first of 3 such rows"),
        (HEADER + 'ann,"Stray,4\nbob,Emma,3\nann,"Other,4\n', "columns|line break"),
        (HEADER + 'ann,"Stray\nline",4\n', r"close each quote in the line .*line 2: 'ann,\"Stray'"),
        (HEADER + "ann,a,4\nbob,a,3\nann ,b,4\n", "user_id should not differ by blanks .*'ann '"),
        (HEADER + "Jose\u0301,a,4\nJos\u00e9,b,4\n", r"how letters are composed.*'Jos\\xe9'"),
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
    with pytest.raises(ValueError, match="'stars' should be a column of ratings, once"):
        load_ratings(pd.concat([BOOKS, BOOKS[["stars"]]], axis=1), **COLUMNS)
    with pytest.raises(ValueError, match="different columns"):
        load_ratings(BOOKS, user="reader", item="reader", rating="stars")


def test_a_file_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("none.csv", "none.parquet"):
        with pytest.raises(FileNotFoundError, match=rf"Received: '{name}', which is none in .*\. "):
            load_ratings(name)
    with pytest.raises(ValueError, match="is a folder without Parquet files"):
        load_ratings(".")
    with pytest.raises(OSError, match="ratings should be at http://127.0.0.1:9/a.csv. Received"):
        load_ratings("http://127.0.0.1:9/a.csv")
    with pytest.raises(ValueError, match="ratings should be a frame, .* Received: list. Make it"):
        load_ratings([[1, 2, 3]])


def test_encoding_and_separator(tmp_path):
    text = "user_id;item_id;rating\nAndré;007;3\nAndré;7;4\n"
    path = written(tmp_path, text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"ratings.csv should .*UTF-8. Rec.*encoding='cp1252'"):
        load_ratings(path, sep=";")
    data = load_ratings(path, sep=";", encoding="latin-1")
    assert (user_ids(data), item_ids(data)) == (["André"], ["007", "7"])
    assert data.ratings["rating"].tolist() == [3, 4]
    with pytest.raises(ValueError, match="encoding should be one .*: unknown encoding: klingon"):
        load_ratings(path, encoding="klingon")


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
    for suffix in ("gz", "bz2", "xz", "zst", "zip"):
        path = tmp_path / f"a.csv.{suffix}"
        if suffix == "zst":  # pandas needs another package for it
            with pyarrow.CompressedOutputStream(str(path), "zstd") as file:
                file.write(frame.to_csv(index=False).encode())
        else:
            frame.to_csv(path, index=False)
        assert load_ratings(path.rename(path.with_suffix(""))).num_users == 5000  # by its content
        path.with_suffix("").rename(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(
            ValueError, match=f"a.csv.{suffix} should (be a whole file|have as many)"
        ):
            load_ratings(path)
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a.csv", "b.csv"):
            archive.writestr(name, HEADER)
    with pytest.raises(ValueError, match=r"should hold one file. Received: \['a.csv', 'b.csv'\]"):
        load_ratings(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("[Content_Types].xml", "")
    with pytest.raises(ValueError, match="is an Excel file. Pass pd.read_excel"):
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


R = {"user": "u", "item": "i", "rating": "n"}
HEROES = 'u\ti\tartist\tn\n1\t7\t"heroes\t5\n2\t7\tx\t3\n3\t7\tlow"\t4\n'


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("u::i::n\n1::2::3\n", {"sep": "::"}, [(1, 2, 3)]),
        ("u:-:i:-:n\r\na:b:-::c:-:3", {"sep": ":-:"}, [("a:b", ":c", 3)]),
        ("u§i§n\n1§2§3\n", {"sep": "§"}, [(1, 2, 3)]),
        ("u::i::n\n1::é::3\n", {"sep": "::", "encoding": "utf-16"}, [(1, "é", 3)]),
        ("\ufeffu,i,n\n1,2,3\n", {}, [(1, 2, 3)]),
        ("u,i,n\r1,2,3\r1,4,5\r", {}, [(1, 2, 3), (1, 4, 5)]),
        ('\nu,i,n\n\n1,"2",3\n\n1,4,5', {}, [(1, 2, 3), (1, 4, 5)]),
        (
            "1\t2\t3\t881\n4\t2\t1\t9\n",
            {"sep": "\t", "names": list("uint")},
            [(1, 2, 3), (4, 2, 1)],
        ),
        (HEROES, {"sep": "\t", "quoting": False}, [(1, 7, 5), (2, 7, 3), (3, 7, 4)]),
        ('u,i,n,text\n1,2,3,"a\nb"\n4,5,1,c\n', {"quoting": True}, [(1, 2, 3), (4, 5, 1)]),
        ("u, i, n\n 1, 10, 5\n 1, 9, 4\n", {}, [(1, 10, 5), (1, 9, 4)]),
        ("u;i;n\n1;2;4,5\n", {"sep": ";", "decimal": ","}, [(1, 2, 4.5)]),
        ('u,i,n\n1,2,"4,5"\n', {"decimal": ","}, [(1, 2, 4.5)]),
        (
            "u;i;n\n1;2;400.000\n1;3;1,5\n",
            {"sep": ";", "decimal": ",", "thousands": "."},
            [(1, 2, 400_000), (1, 3, 1.5)],
        ),
        ('u,i,n\n1,2,"1,234"\n', {"thousands": ","}, [(1, 2, 1234)]),
        (
            '{"u": "013", "i": 5, "n": 2}\n{"i": 6, "u": "1", "n": 4.5}\n',
            {},
            [("013", 5, 2), ("1", 6, 4.5)],
        ),
        ("u,i,n\n1,2,3\n1,2,5\n1,3,1\n", {"duplicates": "last"}, [(1, 2, 5), (1, 3, 1)]),
        ("u,i,n\n1,2,3\n1,3,1\n1,2,5\n", {"duplicates": "mean"}, [(1, 3, 1), (1, 2, 4)]),
        ("u,i,n\n1,2,3\n1,3,1\n1,2,5\n", {"duplicates": "sum"}, [(1, 3, 1), (1, 2, 8)]),
        ("u,i,n,t\n1,2,3,20\n1,2,5,10\n", {"duplicates": "last", "timestamp": "t"}, [(1, 2, 3)]),
        ("u,i\n1,2\n2,2\n1,2\n", {"rating": None, "duplicates": "sum"}, [(2, 2, 1), (1, 2, 2)]),
    ],
)
def test_files_as_published_are_read(tmp_path, text, options, expected):
    path = written(tmp_path, text, encoding=options.get("encoding", "utf-8"))
    data = load_ratings(path, **R | options)
    assert triples(data) == expected


def triples(data):
    columns = (data.ratings[name] for name in ("user_num", "item_num", "rating"))
    rows = zip(*columns, strict=True)
    return [(user_ids(data)[u], item_ids(data)[i], r) for u, i, r in rows]


@pytest.mark.parametrize("end", ["\n", ""])
def test_lines_that_a_quote_joins_are_refused(tmp_path, end):
    path = written(tmp_path, HEROES.rstrip() + end)
    with pytest.raises(ValueError, match='2 lines .* from line 2: .*"heroes.*quoting=False'):
        load_ratings(path, sep="\t", **R)


def test_a_separator_between_two_blocks_is_one(tmp_path, monkeypatch):
    monkeypatch.setattr("cfutils._reading._BLOCK", 7)
    lines = [f"{row}:::{row}a:::{row % 5}" for row in range(100)]
    data = load_ratings(written(tmp_path, "\n".join(["u:::i:::n", *lines])), sep=":::", **R)
    assert triples(data) == [(row, f"{row}a", row % 5) for row in range(100)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sep": ""}, "sep should be the characters between two fields. Received: ''"),
        ({"names": ["a", "b"]}, "names should have one name for each field. Received: 2 names for"),
        ({"names": "uin"}, "names should be a list of names"),
        ({"quoting": "no"}, "quoting should be None, True or False. Received: 'no'"),
        ({"decimal": ",", "thousands": ","}, "two different characters. Received: ',' and ','"),
        ({"duplicates": "first"}, "duplicates should be one of error, last, mean, sum. Received"),
        ({"unrated": "yes"}, "unrated should be one of keep, drop. Received: 'yes'"),
    ],
)
def test_options_are_checked(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        load_ratings(written(tmp_path, HEADER + "1,2,3\n"), **options)


def test_folders_of_parquet_files_and_arrow_tables(tmp_path):
    frame = pd.DataFrame({"u": ["b", "a"], "i": [2, 3], "n": [4.0, 5.0]})
    for name, part in (("x", frame), ("y", frame.assign(i=7))):
        part.to_parquet(tmp_path / f"{name}.parquet")
    (tmp_path / "_SUCCESS").touch()
    found = triples(load_ratings(tmp_path, **R))
    assert found == [("b", 2, 4), ("a", 3, 5), ("b", 7, 4), ("a", 7, 5)]
    table = pyarrow.table(frame)
    views = table.set_column(0, "u", table["u"].cast(pyarrow.string_view()))  # as Polars has them

    class Stream:  # all that is known of a table of another library
        def __arrow_c_stream__(self, requested_schema=None):
            return views.__arrow_c_stream__(requested_schema)

    for source in (table, Stream()):
        assert triples(load_ratings(source, **R)) == [("b", 2, 4), ("a", 3, 5)]


MOVIES = (
    "i,name,kinds,when,budget\n"
    '30,"Heat, the (1995)",Crime|Drama,1995,7\n7,,(no genres listed),,8\n99,Nobody\'s,,2001,9\n'
)


def test_items_and_users_are_joined_by_id(tmp_path):
    ratings = written(tmp_path, "u,i,n\nzoe,30,5\nadam,7,4\nadam,500,1\n")
    items = written(tmp_path, MOVIES, "movies.csv")
    users = pd.DataFrame({"u": ["zoe", "eve", "adam"], "age": [30, 40, 50]})
    columns = {"title": "name", "genres": "kinds", "year": "when"}
    with pytest.warns(UserWarning, match="1 of the 3 items of ratings are not in items: 500"):
        data = load_ratings(ratings, items=items, users=users, **columns, **R)
    assert data.users.to_dict("list") == {"user_id": ["adam", "eve", "zoe"], "age": [50, 40, 30]}
    assert item_ids(data) == [7, 30, 99, 500]
    assert data.items["title"].tolist() == ["7", "Heat, the (1995)", "Nobody's", "500"]
    assert data.items["genres"].tolist() == [[], ["Crime", "Drama"], [], []]
    assert data.items["year"].astype(object).tolist() == [pd.NA, 1995, 2001, pd.NA]
    assert data.items["budget"].tolist()[:3] == [8, 7, 9]
    assert triples(data) == [("zoe", 30, 5), ("adam", 7, 4), ("adam", 500, 1)]
    dataclasses.replace(data)  # passes the check of a Dataset
    with pytest.warns(UserWarning, match="500"):
        dropped = load_ratings(ratings, items=items, users=users, unrated="drop", **columns, **R)
    assert (user_ids(dropped), item_ids(dropped)) == (["adam", "zoe"], [7, 30, 500])
    assert triples(dropped) == triples(data)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([7, 30], [7, 30]),  # numbers in the ratings too
        (["7", "30", "41"], [7, 30, 41]),  # texts: the same items
        ([7.0, 30.0], [7, 30]),
        (["7", "30", "tt1"], ["30", "7", "tt1"]),  # no numbers: all are texts
    ],
)
def test_ids_of_two_tables_are_of_one_kind(given, expected):
    ratings = pd.DataFrame({"u": [1, 1], "i": [30, 7], "n": [2, 3]})
    items = pd.DataFrame(
        {"i": given, "title": [f"title of {int(i) if i != 'tt1' else i}" for i in given]}
    )
    data = load_ratings(ratings, items=items, **R)
    assert item_ids(data) == expected
    assert data.items["title"].tolist() == [f"title of {i}" for i in expected]
    assert [item_ids(data)[row] for row in data.ratings["item_num"]] == [
        expected[expected.index(type(expected[0])(i))] for i in (30, 7)
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"i": [7, 7]},
            r"items should hold each id once. Received: 7 twice.*drop_duplicates\('i'\)",
        ),
        ({"i": [7, None]}, "items: i should not be missing"),
        ({"year": ["1995", "soon"]}, "items: year should be whole years. Received: soon in row 1"),
        ({"year": [1995.5, 2000]}, "items: year should be whole years. Received: 1995.5 in row 0"),
        ({"genres": ["['Action']", ""]}, r"genres should be lists.*\['Action'\].*literal_eval"),
        (
            {"genres": [3, 4]},
            "genres should be lists, or texts that genre_sep='|' splits. Received: 3",
        ),
    ],
)
def test_bad_tables_of_items_are_refused(change, message):
    ratings = pd.DataFrame({"u": [1], "i": [7], "n": [2]})
    items = pd.DataFrame({"i": [7, 8], "title": ["a", "b"]}).assign(**change)
    with pytest.raises(ValueError, match=message):
        load_ratings(ratings, items=items, **R)


def test_columns_of_items_are_named(tmp_path):
    ratings = pd.DataFrame({"u": [1], "i": [7], "n": [2]})
    items = pd.DataFrame({"i": [7], "name": ["a"], "genres": ["x, y"]})
    with pytest.raises(ValueError, match="title='title' should be a column of items.*'name'"):
        load_ratings(ratings, items=items, **R)
    with pytest.raises(ValueError, match="year='when' should be a column of items"):
        load_ratings(ratings, items=items, title="name", year="when", **R)
    with pytest.raises(ValueError, match="items should have one column 'title'. Received: "):
        load_ratings(ratings, items=items.assign(title="b"), title="name", **R)
    data = load_ratings(ratings, items=items, title=None, genre_sep=", ", **R)
    assert data.items["title"].tolist() == ["7"]
    assert data.items["genres"].tolist() == [["x", "y"]]


def test_a_command_loads_as_the_function_does(tmp_path):
    path = written(tmp_path, "1|7|4,5\n1|7|3\n")
    (tmp_path / "movies.csv").write_text("i|title|genres\n7|Heat|A+B\n")
    parser = argparse.ArgumentParser()
    add_options(parser)
    words = f"--items {tmp_path}/movies.csv --user u --item i --rating n --names u i n --sep |"
    words += " --decimal , --duplicates last --genre-sep + --quoting no --year="
    data = from_options(path, parser.parse_args(words.split()))
    assert triples(data) == [(1, 7, 3)]
    assert data.items.to_dict("list") == {"item_id": [7], "title": ["Heat"], "genres": [["A", "B"]]}
    defaults = vars(parser.parse_args([]))
    names = inspect.signature(load_ratings).parameters
    assert {*defaults} == {*names} - {"ratings"}
    for name in {*defaults} - {"quoting"}:
        assert defaults[name] == names[name].default


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
