import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from cfutils import data as cfdata
from cfutils.data import (
    GENRES,
    MovieLens,
    load_movielens,
    load_ratings,
    rating_stats,
    split_ratings,
)

# MovieLens 100K -----------------------------------------------------------------------------------


def test_facts_of_the_ratings(movielens):
    ratings = movielens.ratings
    assert (movielens.num_users, movielens.num_items, len(ratings)) == (943, 1682, 100_000)
    assert sorted(ratings["rating"].unique()) == [1, 2, 3, 4, 5]
    assert not ratings.duplicated(["user_id", "movie_id"]).any()
    assert round(100 * len(ratings) / (943 * 1682), 2) == 6.30
    per_user = ratings["user_id"].value_counts()
    assert (per_user.min(), per_user.median(), per_user.max()) == (20, 65, 737)
    assert round(per_user.mean()) == 106
    assert ratings["timestamp"].min() > pd.Timestamp("1997-09-19")
    assert ratings["timestamp"].max() < pd.Timestamp("1998-04-23 12:00")


def test_facts_of_the_users(movielens):
    users = movielens.users
    assert (users["age"].min(), users["age"].max()) == (7, 73)
    assert (round(users["age"].mean(), 2), round(users["age"].std(), 2)) == (34.05, 12.19)
    assert users["gender"].value_counts().to_dict() == {"M": 670, "F": 273}
    occupations = users["occupation"].value_counts()
    assert (len(occupations), occupations.index[0], occupations.iloc[0]) == (21, "student", 196)
    assert (~users["zip_code"].str.isdigit()).sum() == 18
    assert users["original_id"].tolist() == list(range(1, 944))


def test_facts_of_the_movies(movielens):
    movies = movielens.movies
    indicators = movies[GENRES]
    assert len(GENRES) == 19
    assert (indicators.sum(axis=1) > 1).sum() == 849
    counts = indicators.sum()
    assert (counts["Drama"], counts["Comedy"], counts["unknown"]) == (725, 505, 2)
    assert movies.loc[movies["year"].isna(), "title"].tolist() == ["unknown"]
    assert movies["year"].min() == 1922
    assert movies["title"].duplicated().sum() == 18
    stats = rating_stats(movielens.ratings, "movie_id", 1682)
    top = stats["num_ratings"].idxmax()
    assert (movies["title"][top], stats["num_ratings"][top]) == ("Star Wars (1977)", 583)
    assert ((stats["num_ratings"] == 1).sum(), (stats["num_ratings"] < 20).sum()) == (141, 743)
    share = stats["num_ratings"].nlargest(168).sum() / 100_000
    assert round(100 * share, 1) == 42.7
    best = stats[stats["num_ratings"] > 20]["mean_rating"]
    assert movies["title"][best.idxmax()] == "Close Shave, A (1995)"
    assert round(best.max(), 3) == 4.491
    assert round(stats["num_ratings"].corr(stats["mean_rating"]), 2) == 0.43


def test_genres_lists_and_indicators_agree(movielens):
    movies = movielens.movies
    for genre in GENRES:
        assert movies[genre].tolist() == [int(genre in genres) for genres in movies["genres"]]
    # Two names with a hyphen, which splitting on "-" would lose.
    assert (movies["Sci-Fi"] + movies["Film-Noir"] > 0).sum() == 123


def test_colour_genre_is_the_rarest(movielens):
    movies = movielens.movies
    counts = movies[GENRES].sum()
    for movie in movies.itertuples():
        assert movie.genre in movie.genres
        assert counts[movie.genre] == min(counts[genre] for genre in movie.genres)


def test_titles_outside_ascii_survive(movielens):
    assert "Misérables, Les (1995)" in set(movielens.movies["title"])


def test_row_i_is_id_i_is_enforced(movielens):
    with pytest.raises(ValueError, match=r"users\.user_id should be the row numbers"):
        MovieLens(movielens.users.iloc[::-1], movielens.movies, movielens.ratings)
    fractions = movielens.ratings.head(2).assign(movie_id=[0.5, np.nan])
    with pytest.raises(ValueError, match=r"ratings\.movie_id should be integers"):
        MovieLens(movielens.users, movielens.movies, fractions)
    wrong = movielens.ratings.head(3).assign(movie_id=[0, 1682, 1])
    with pytest.raises(ValueError, match=r"0\.\.1681\. Received: 1682 in row 1"):
        MovieLens(movielens.users, movielens.movies, wrong)


@pytest.mark.parametrize("module", ["cfutils", "cfutils.data", "cfutils.charts"])
def test_import_loads_no_tensorflow(module):
    code = f"import sys, {module}; print('tensorflow' in sys.modules, 'requests' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_modules_are_reached_through_the_package():
    import cfutils

    assert cfutils.data is cfdata
    assert "data" in dir(cfutils)
    with pytest.raises(AttributeError, match="nothing"):
        _ = cfutils.nothing


# Your own ratings ---------------------------------------------------------------------------------

BOOKS = pd.DataFrame(
    {
        "reader": ["zoe", "adam", "zoe"],
        "book": [70, 7, 7],
        "stars": [4.5, 1, 3],
        "when": ["mon", "tue", "wed"],
    }
)
COLUMNS = {"user": "reader", "item": "book", "rating": "stars"}


def test_load_ratings_makes_contiguous_ids_in_sorted_order():
    data = load_ratings(BOOKS, **COLUMNS, timestamp="when")
    assert data.users["original_id"].tolist() == ["adam", "zoe"]
    assert data.movies["original_id"].tolist() == [7, 70]
    assert data.movies["title"].tolist() == ["7", "70"]
    expected = pd.DataFrame(
        {
            "user_id": [1, 0, 1],
            "movie_id": [1, 0, 0],
            "rating": [4.5, 1.0, 3.0],
            "timestamp": ["mon", "tue", "wed"],
        }
    )
    assert_frame_equal(data.ratings, expected)


def test_load_ratings_leaves_its_input_alone():
    before = BOOKS.copy()
    load_ratings(BOOKS, **COLUMNS)
    assert_frame_equal(BOOKS, before)


@given(
    pairs=st.lists(st.tuples(st.text(max_size=3), st.integers()), min_size=1, unique=True),
    seed=st.integers(0, 100),
)
def test_load_ratings_loses_nothing(pairs, seed):
    table = pd.DataFrame(pairs, columns=["user_id", "item_id"])
    table["rating"] = np.random.default_rng(seed).normal(size=len(table))
    data = load_ratings(table)
    back = pd.DataFrame(
        {
            "user_id": data.users["original_id"].to_numpy()[data.ratings["user_id"]],
            "item_id": data.movies["original_id"].to_numpy()[data.ratings["movie_id"]],
            "rating": data.ratings["rating"],
        }
    )
    assert back["user_id"].tolist() == table["user_id"].tolist()
    assert back["item_id"].tolist() == table["item_id"].tolist()
    assert back["rating"].tolist() == table["rating"].tolist()


def test_csv_ids_become_numbers_only_where_nothing_is_lost(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text("user_id,item_id,rating\n007,3,5\n7,12,4\nNA,-1,2\n")
    data = load_ratings(path)
    assert data.users["original_id"].tolist() == ["007", "7", "NA"]
    assert data.movies["original_id"].tolist() == [-1, 3, 12]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user_id,rating\n1,2\n", r"item='item_id' should be a column.*'user_id', 'rating'"),
        ("user_id;item_id;rating\n1;2;3\n", r"user='user_id' should be a column.*sep="),
        ("", r"ratings.csv should be a CSV file.*header line"),
        ("user_id,item_id,rating\n0,2,3,9\n4,5,6,9\n", "more fields than the header"),
        ("user_id,item_id,rating\n1,2,3\n4,5,6,9\n", r"ratings.csv should be a CSV.*line 3"),
        ("user_id,item_id,rating\n", "at least one rating"),
        ("user_id,item_id,rating\n1,2,3\n1,,3\n", r"item_id should not be missing.*row 1"),
        ("user_id,item_id,rating\n1,2,\n", r"rating should be a finite number.*nan.*row 0"),
        ("user_id,item_id,rating\n1,2,good\n", r"finite number. Received: good in row 0"),
        ("user_id,item_id,rating\n1,2,3\n1,3,inf\n", r"finite number.*inf.*row 1"),
        ("user_id,item_id,rating\n1,2,3\n1,2,4\n", r"unique.*\(1, 2\) again in row 1.*drop_dup"),
    ],
)
def test_bad_tables_are_refused_with_row_and_value(tmp_path, text, message):
    path = tmp_path / "ratings.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_ratings(path)


def test_a_file_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("none.csv", "none.parquet"):
        with pytest.raises(FileNotFoundError, match=rf"Received: '{name}', which is none in .*\. "):
            load_ratings(name)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_advice_about_pairs_that_stand_twice_can_be_followed(tmp_path, monkeypatch, suffix):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"mine{suffix}"
    frame = pd.DataFrame({"user_id": ["007", "NA", "007"], "item_id": list("aba")})
    frame = frame.assign(rating=[1, 2, 3])
    frame.to_csv(path, index=False) if suffix == ".csv" else frame.to_parquet(path)
    for table, where in ((path.name, "row 2 \\(counted from 0, below"), (frame, r"row 2\. ")):
        with pytest.raises(ValueError, match=where) as caught:
            load_ratings(table)
        advice = re.search(r"(?:pass|after) (.*)$", str(caught.value))[1]
        once = eval(advice, {"pandas": pd, "table": frame, "str": str})
        data = load_ratings("once.csv" if once is None else once)
        assert data.users["original_id"].tolist() == ["007", "NA"]
        assert data.ratings.sort_values("user_id")["rating"].tolist() == [3, 2]


def test_a_file_in_another_encoding_is_named(tmp_path):
    path = tmp_path / "latin.csv"
    path.write_bytes("user_id;item_id;rating\nAndré;007;3\nAndré;7;3\n".encode("latin-1"))
    with pytest.raises(
        ValueError, match=r"latin.csv should be in UTF-8. Received: .*encoding='cp1252'"
    ):
        load_ratings(path)


def test_another_encoding_and_separator_can_be_named(tmp_path):
    path = tmp_path / "latin.csv"
    path.write_bytes("user_id;item_id;rating\nAndré;007;3\nAndré;7;4\n".encode("latin-1"))
    data = load_ratings(path, sep=";", encoding="latin-1")
    assert data.users["original_id"].tolist() == ["André"]
    assert data.movies["original_id"].tolist() == ["007", "7"]
    assert data.ratings["rating"].tolist() == [3, 4]


def test_ids_that_are_not_meant_as_such_are_refused(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text('user_id,item_id,rating\nann,"Stray,4\nbob,Emma,3\nann,"Other,4\n')
    with pytest.raises(ValueError, match=r"item_id should hold no line break. Received: 'Stray,4"):
        load_ratings(path)
    path.write_text("user_id,item_id,rating\nann,a,4\nbob,a,3\nann ,b,4\n")
    with pytest.raises(ValueError, match=r"user_id should not differ by .* 'ann' and 'ann '. Take"):
        load_ratings(path)
    assert load_ratings(pd.read_csv(path)).num_users == 3  # a frame is taken as it is


def test_an_id_as_number_and_as_text_is_refused():
    frame = pd.DataFrame({"user_id": [7, "7", 8], "item_id": ["a", "b", "a"], "rating": 1})
    with pytest.raises(ValueError, match=r"user_id should not hold .* Received: '7' twice. Make "):
        load_ratings(frame)
    assert load_ratings(frame.assign(user_id=frame["user_id"].astype(str))).num_users == 2


def test_digits_of_other_scripts_stay_text(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text("user_id,item_id,rating\n1\u0662,1,5\n12,1,4\n", encoding="utf-8")
    assert load_ratings(path).num_users == 2


def test_a_missing_timestamp_leaves_the_others_numbers(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text("user_id,item_id,rating,at\n1,1,5,978300760\n2,1,4,\n")
    times = load_ratings(path, timestamp="at").ratings["timestamp"]
    assert times[0] == 978300760
    assert np.isnan(times[1])


def test_dates_are_not_ratings():
    with pytest.raises(ValueError, match=r"stars should hold real numbers. Received: datetime64"):
        load_ratings(BOOKS.assign(stars=pd.to_datetime("2020-01-01")), **COLUMNS)


def test_a_doubled_column_is_refused():
    doubled = pd.concat([BOOKS, BOOKS[["stars"]]], axis=1)
    with pytest.raises(ValueError, match="'stars' should be one column"):
        load_ratings(doubled, **COLUMNS)


def test_one_column_cannot_play_two_roles():
    with pytest.raises(ValueError, match="different columns"):
        load_ratings(BOOKS, user="reader", item="reader", rating="stars")


# Split and counts ---------------------------------------------------------------------------------


def test_split_is_disjoint_complete_and_repeatable(movielens):
    train, test = split_ratings(movielens.ratings, test_fraction=0.1, seed=3)
    assert (len(train), len(test)) == (90_000, 10_000)
    both = pd.concat([train, test]).sort_values(["user_id", "movie_id"], ignore_index=True)
    whole = movielens.ratings.sort_values(["user_id", "movie_id"], ignore_index=True)
    assert_frame_equal(both, whole)
    again = split_ratings(movielens.ratings, test_fraction=0.1, seed=3)
    assert_frame_equal(again[1], test)
    other = split_ratings(movielens.ratings, test_fraction=0.1, seed=4)
    assert not other[1].equals(test)


def test_split_is_random_over_users(movielens):
    _, test = split_ratings(movielens.ratings, test_fraction=0.1, seed=0)
    # A user with 737 ratings keeps 73.7 of them in the test part, give or take five deviations of
    # the hypergeometric distribution, sqrt(737 * 0.1 * 0.9) = 8.1.
    most_active = movielens.ratings["user_id"].value_counts().index[0]
    assert abs((test["user_id"] == most_active).sum() - 73.7) < 5 * 8.1


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, 0.1])
def test_split_refuses_to_leave_a_side_empty(fraction):
    three = pd.DataFrame({"rating": [1, 2, 3]})
    with pytest.raises(ValueError, match=f"Received: {fraction} of 3 ratings"):
        split_ratings(three, test_fraction=fraction, seed=0)


def test_rating_stats_of_three_movies():
    ratings = pd.DataFrame({"movie_id": [2, 0, 2], "rating": [1.0, 4.0, 2.0]})
    stats = rating_stats(ratings, "movie_id", 3)
    assert stats["num_ratings"].tolist() == [1, 0, 2]
    assert stats["mean_rating"][0] == 4.0
    assert np.isnan(stats["mean_rating"][1])
    assert stats["mean_rating"][2] == 1.5  # (1 + 2) / 2


def test_rating_stats_refuses_ids_out_of_range():
    ratings = pd.DataFrame({"movie_id": [5], "rating": [1.0]})
    with pytest.raises(ValueError, match=r"movie_id should lie in 0\.\.4. Received: 5"):
        rating_stats(ratings, "movie_id", 5)


@pytest.mark.parametrize("column", ["movie_id", "rating"])
def test_rating_stats_refuses_gaps(column):
    ratings = pd.DataFrame({"movie_id": [0, 1], "rating": [1.0, 2.0]}, dtype=float)
    ratings.loc[1, column] = np.nan
    with pytest.raises(ValueError, match=f"{column} should not be missing. Received: nan in row 1"):
        rating_stats(ratings, "movie_id", 2)


def test_explicit_path_is_only_read(tmp_path):
    with pytest.raises(cfdata.DataError, match="Received: a folder without them"):
        load_movielens(tmp_path)
    with pytest.raises(cfdata.DataError, match="no such folder or file"):
        load_movielens(tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


# Files in chunks

IDS = st.one_of(
    st.integers(-(10**18), 10**18).map(str),
    st.sampled_from(["7", "07", "x y", 'say "no", no', "NA", "nan", "None", "1.0", "é", "-0"]),
    st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=4),
)


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.tuples(IDS, IDS), min_size=1, max_size=12, unique=True),
    st.integers(1, 5),
)
def test_files_in_chunks_load_as_the_frame_does(tmp_path, monkeypatch, pairs, rows):
    monkeypatch.setattr("cfutils.data._ROWS", rows)
    frame = pd.DataFrame(pairs, columns=["user_id", "item_id"], dtype="str")
    frame["rating"] = np.arange(len(frame)) / 2
    frame["when"] = np.arange(len(frame))
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_parquet(tmp_path / "a.parquet")
    expected = load_ratings(frame, timestamp="when")
    parquet = load_ratings(tmp_path / "a.parquet", timestamp="when")
    csv = load_ratings(tmp_path / "a.csv", timestamp="when")
    for name in ("users", "movies", "ratings"):
        pd.testing.assert_frame_equal(getattr(parquet, name), getattr(expected, name))
    # In a CSV file ids that are all written as integers are integers, in their order.
    for ids, table in (("user_id", "users"), ("item_id", "movies")):
        texts = frame[ids].tolist()
        if all(re.fullmatch("0|-?[1-9][0-9]{0,17}", text) for text in texts):
            distinct = sorted({int(text) for text in texts})
        else:
            distinct = sorted(set(texts))
        assert getattr(csv, table)["original_id"].tolist() == distinct
        codes = csv.ratings["user_id" if table == "users" else "movie_id"]
        assert [str(distinct[code]) for code in codes] == texts
    assert csv.ratings["rating"].tolist() == frame["rating"].tolist()
    assert csv.ratings["timestamp"].tolist() == frame["when"].tolist()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rating": np.nan}, "rating should be a finite number. Received: nan in row 8"),
        ({"rating": np.inf}, "rating should be a finite number. Received: inf in row 8"),
        ({"user_id": None}, "user_id should not be missing. Received: nan in row 8"),
        ({"user_id": "u0", "item_id": "i0"}, r"Received: \(u0, i0\) again in row 8"),
    ],
)
def test_faults_far_down_a_file_are_found(tmp_path, monkeypatch, suffix, change, message):
    monkeypatch.setattr("cfutils.data._ROWS", 3)
    names = {"user_id": [f"u{n}" for n in range(10)], "item_id": [f"i{n}" for n in range(10)]}
    frame = pd.DataFrame(names | {"rating": np.ones(10)})
    for column, value in change.items():
        frame.loc[8, column] = value
    path = tmp_path / f"a{suffix}"
    frame.to_csv(path, index=False) if suffix == ".csv" else frame.to_parquet(path)
    with pytest.raises(ValueError, match=message):
        load_ratings(path)


def test_parquet_files_of_other_kinds(tmp_path):
    path = tmp_path / "a.pq"
    path.write_text("user_id,item_id,rating\n1,2,3\n")
    with pytest.raises(ValueError, match=r"a.pq should be a Parquet file. Received: "):
        load_ratings(path)
    frame = pd.DataFrame({"user_id": [5, 5, 9], "item_id": list("bab"), "stars": [1, 2, 3]})
    frame.astype({"item_id": "category"}).to_parquet(path)
    with pytest.raises(ValueError, match=r"rating='rating' should be a column.*'stars'"):
        load_ratings(path)
    data = load_ratings(path, rating="stars")
    assert data.users["original_id"].tolist() == [5, 9]
    assert data.movies["original_id"].tolist() == ["a", "b"]
    assert data.ratings["movie_id"].tolist() == [1, 0, 1]


def test_what_is_wrong_is_counted_through_the_whole_file(tmp_path, monkeypatch):
    monkeypatch.setattr("cfutils.data._ROWS", 2)
    path = tmp_path / "a.csv"
    path.write_text("user_id,item_id,rating\n1,1,5\n,1,bad\n3,3,3\n,3,4\n,,9\n")
    with pytest.raises(ValueError, match=r"user_id should.*nan in row 1 .* first of 3 such rows"):
        load_ratings(path)
    path.write_text("user_id,item_id,rating\n1,1,5\n2,1,4\n3,1,bad\n4,1,inf\n5,1,\n")
    with pytest.raises(ValueError, match=r"rating should.*bad in row 2 .* first of 3 such rows"):
        load_ratings(path)


@pytest.mark.parametrize("line", range(6))
def test_a_line_with_too_many_fields_is_refused_wherever_it_stands(tmp_path, monkeypatch, line):
    monkeypatch.setattr("cfutils.data._ROWS", 2)
    lines = [f"{row},2,3" for row in range(6)]
    lines[line] += ",9"
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["user_id,item_id,rating", *lines]))
    with pytest.raises(ValueError, match=f"more fields than|line {line + 2}, saw 4"):
        load_ratings(path)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (["97", "98", "mon", ""], ["97", "98", "mon", None]),
        (["True", "False", "4", "5"], ["True", "False", "4", "5"]),
        (["", "", "mon", "tue"], [None, None, "mon", "tue"]),
        (["4", "5", "", "7.5"], [4.0, 5.0, None, 7.5]),
        (["4", "5", "6", "7"], [4, 5, 6, 7]),
    ],
)
def test_timestamps_are_of_one_kind_whatever_the_chunks(tmp_path, monkeypatch, times, expected):
    path = tmp_path / "a.csv"
    lines = [f"{row},1,5,{time}" for row, time in enumerate(times)]
    path.write_text("\n".join(["user_id,item_id,rating,at", *lines]))
    for rows in (2, 100):
        monkeypatch.setattr("cfutils.data._ROWS", rows)
        found = load_ratings(path, timestamp="at").ratings["timestamp"]
        received = [None if pd.isna(value) else value for value in found]
        assert list(zip(map(type, received), received, strict=True)) == list(
            zip(map(type, expected), expected, strict=True)
        )


def test_the_timestamps_of_a_frame_keep_their_type_and_are_no_part_of_it():
    frame = BOOKS.assign(when=pd.Categorical(["mon", "tue", "wed"]), at=[1, 2, 3])
    kept = load_ratings(frame, **COLUMNS, timestamp="when").ratings["timestamp"]
    assert kept.dtype == frame["when"].dtype
    ratings = load_ratings(frame, **COLUMNS, timestamp="at").ratings
    ratings.loc[0, "timestamp"] = 9
    assert frame["at"].tolist() == [1, 2, 3]


def test_a_compressed_file_is_read_and_half_of_one_refused(tmp_path):
    path = tmp_path / "a.csv.gz"
    frame = pd.DataFrame({"user_id": range(5000), "item_id": 1, "rating": 3.0})
    frame.to_csv(path, index=False)
    assert load_ratings(path).num_users == 5000
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"a.csv.gz should be a CSV file.* ended before"):
        load_ratings(path)


def test_columns_that_were_the_index_of_a_parquet_file_are_columns(tmp_path, monkeypatch):
    monkeypatch.setattr("cfutils.data._ROWS", 2)
    path = tmp_path / "a.PARQUET"
    frame = pd.DataFrame({"user_id": list("cab"), "item_id": [7, 7, 5], "rating": [1.0, 2, 3]})
    for index in (["user_id"], ["user_id", "item_id"]):
        frame.set_index(index).to_parquet(path)
        data = load_ratings(path)
        assert data.users["original_id"].tolist() == ["a", "b", "c"]
        assert data.ratings["user_id"].tolist() == [2, 0, 1]
        assert data.ratings["movie_id"].tolist() == [1, 1, 0]


def test_a_damaged_parquet_file_is_named(tmp_path):
    path = tmp_path / "a.parquet"
    pd.DataFrame({"user_id": [1, 2], "item_id": [1, 1], "rating": [1.0, 2.0]}).to_parquet(path)
    content = path.read_bytes()
    path.write_bytes(content[:4] + bytes(60) + content[64:])
    with pytest.raises(ValueError, match=r"a.parquet should be a whole Parquet file. Received: "):
        load_ratings(path)


def test_ids_of_a_frame_keep_their_type():
    for dtype in (object, "str", "category"):
        table = BOOKS.astype({"reader": dtype})
        found = load_ratings(table, **COLUMNS).users["original_id"]
        assert found.dtype == table["reader"].dtype


def test_loading_shows_progress_when_asked(tmp_path, capsys):
    path = tmp_path / "a.csv"
    path.write_text("user_id,item_id,rating\n1,2,3\n")
    load_ratings(path)
    assert capsys.readouterr().err == ""
    load_ratings(path, progress=True)
    assert "row" in capsys.readouterr().err
