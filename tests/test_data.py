"""The Dataset: its check, splits, counts and features."""

import dataclasses
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

import cfutils as cf
from cfutils.data import Dataset, check_pairs


def small(**changes):
    """Two users, three items, three ratings; the last item has none."""
    parts = {
        "users": pd.DataFrame({"user_id": ["ann", "bob"]}),
        "items": pd.DataFrame(
            {
                "item_id": [10, 20, 30],
                "title": ["A (1991)", "B (1999)", "C"],
                "year": pd.array([1991, 1999, None], "Int64"),
                "genres": [["war", "art"], ["art"], []],
            }
        ),
        "ratings": pd.DataFrame(
            {"user_num": [1, 0, 1], "item_num": [1, 0, 0], "rating": [1.0, 4.0, 2.0]}
        ),
    }
    return Dataset(**(parts | changes))


def ratings(**changes):
    return pd.DataFrame(
        {"user_num": [1, 0, 1], "item_num": [1, 0, 0], "rating": [1.0, 4.0, 2.0]} | changes
    )


def test_the_index_is_the_row_number():
    data = small()
    assert (data.num_users, data.num_items) == (2, 3)
    assert (data.users.index.name, data.items.index.name) == ("user_num", "item_num")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ratings": ratings(item_num=[0, 3, 1])}, "item_num should be from 0 to 2.*3 in row 1"),
        ({"ratings": ratings(user_num=[0, 1, -1])}, "user_num should be from 0 to 1.*-1 in row 2"),
        ({"ratings": ratings(item_num=[0.5, 1, 2])}, "ratings.item_num should be integers"),
        ({"ratings": ratings(user_num=[0, None, 1])}, "ratings.user_num should be integers"),
        ({"ratings": ratings(user_num=[1, 1, 1], item_num=0)}, r"\(1, 0\) again in row 1"),
        ({"ratings": ratings(rating=[1, np.nan, np.inf])}, "nan in row 1 .* first of 2 such rows"),
        ({"ratings": ratings(rating=[1, "good", 2])}, "rating should be a finite number"),
        ({"ratings": ratings().drop(columns="rating")}, r"ratings should have.*without \['rating'"),
        ({"ratings": ratings().iloc[:0]}, "at least one rating"),
        ({"users": pd.DataFrame({"user_id": ["a", "a"]})}, "users.user_id .* once. Received: 'a'"),
        ({"users": pd.DataFrame({"user_id": [1, "1"]})}, "users.user_id .* once. Received: '1'"),
        ({"users": pd.DataFrame({"user_id": ["a", None]})}, "user_id should not be missing.*row 1"),
        ({"users": ["a", "b"]}, "users should be a DataFrame. Received: list"),
        ({"users": pd.DataFrame({"id": [1, 2]})}, r"users should have .*without \['user_id'\]"),
        ({"items": pd.DataFrame({"item_id": [1, 2, 3]})}, r"without \['title'\]"),
        ({"items": small().items.iloc[::-1]}, r"items should have the index 0\.\.2"),
        ({"items": small().items.assign(genres="war|art")}, "genres should hold lists.*split"),
    ],
)
def test_what_is_no_data_set_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        small(**changes)
    with pytest.raises(ValueError, match=message):  # and where it is exchanged
        dataclasses.replace(small(), **changes)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, unique=True))
def test_check_pairs_gives_the_canonical_order(pairs):
    users, items = np.array(pairs).T
    order = check_pairs(users, items, np.ones(len(pairs)), (4, 5))
    order = range(len(pairs)) if order is None else order
    assert [pairs[place] for place in order] == sorted(pairs)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=2))
def test_check_pairs_finds_the_first_pair_that_is_there_again(pairs):
    users, items = np.array(pairs).T
    again = [row for row, pair in enumerate(pairs) if pair in pairs[:row]]
    if not again:
        check_pairs(users, items, np.ones(len(pairs)), (4, 5))
        return
    with pytest.raises(ValueError, match=f"again in row {again[0]} "):
        check_pairs(users, items, np.ones(len(pairs)), (4, 5))


def test_pairs_are_told_apart_beyond_32_bits():
    users, items = np.array([0, 70_000]), np.array([65_536, 65_536])  # equal modulo 2**32 in 16
    assert check_pairs(users, items, np.ones(2), (70_001, 2**32)) is None
    with pytest.raises(ValueError, match=r"fewer than 2\*\*63"):
        check_pairs(users, items, np.ones(2), (2**32, 2**31))


def test_split_is_disjoint_complete_and_repeatable(movielens):
    train, test = movielens.split(test_fraction=0.1, seed=3)
    assert (len(train.ratings), len(test.ratings)) == (90_000, 10_000)
    assert train.users is movielens.users is test.users
    assert train.items is movielens.items is test.items
    both = pd.concat([train.ratings, test.ratings])
    both = both.sort_values(["user_num", "item_num"], ignore_index=True)
    whole = movielens.ratings.sort_values(["user_num", "item_num"], ignore_index=True)
    assert_frame_equal(both, whole)
    assert_frame_equal(movielens.split(test_fraction=0.1, seed=3)[1].ratings, test.ratings)
    assert not movielens.split(test_fraction=0.1, seed=4)[1].ratings.equals(test.ratings)
    assert_frame_equal(movielens.split(seed=3)[1].ratings, test.ratings)  # a tenth by itself


def test_split_is_random_over_users(movielens):
    _, test = movielens.split(seed=0)
    # A user with 737 ratings keeps 73.7 of them in the test part, give or take five deviations of
    # the hypergeometric distribution, sqrt(737 * 0.1 * 0.9) = 8.1.
    most_active = movielens.user_stats()["num_ratings"].idxmax()
    assert abs((test.ratings["user_num"] == most_active).sum() - 73.7) < 5 * 8.1


@pytest.mark.parametrize(
    ("fraction", "in_test"),
    [(0.34, 1), (0.5, 2), (0.6, 2)],  # 1.02, 1.5 and 1.8 of three
)
def test_split_rounds_to_whole_ratings(fraction, in_test):
    assert len(small().split(test_fraction=fraction, seed=0)[1].ratings) == in_test


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, 0.1, True, "0.1", np.nan])
def test_split_refuses_to_leave_a_side_empty(fraction):
    with pytest.raises(ValueError, match=f"test_fraction should .*Received: {fraction!r}"):
        small().split(test_fraction=fraction, seed=0)


def timed(seed, num_ratings=60):
    """Ratings of 12 users and 30 items in 9 moments, so that many are at the same time."""
    rng = np.random.default_rng(seed)
    keys = rng.choice(12 * 30, num_ratings, replace=False)
    frame = pd.DataFrame({"user_num": keys // 30, "item_num": keys % 30, "rating": 3.0})
    frame["timestamp"] = rng.integers(0, 9, num_ratings)
    items = pd.DataFrame({"item_id": range(30), "title": [f"t{n}" for n in range(30)]})
    return Dataset(pd.DataFrame({"user_id": range(12)}), items, frame)


def keys_of(part):
    return set(zip(part.ratings["user_num"], part.ratings["item_num"], strict=True))


@pytest.mark.parametrize("name", ["split", "split_by_time", "split_last", "split_users"])
@given(seed=st.integers(0, 50))
def test_splits_are_disjoint_complete_and_repeatable(name, seed):
    data = timed(seed)
    train, test = getattr(data, name)(seed=seed)
    assert keys_of(train) | keys_of(test) == keys_of(data)
    assert not keys_of(train) & keys_of(test)
    assert train.users is test.users is data.users
    assert_frame_equal(train.ratings, data.ratings.merge(train.ratings))  # in their order
    for one, again in zip((train, test), getattr(data, name)(seed=seed), strict=True):
        assert_frame_equal(one.ratings, again.ratings)


@given(seed=st.integers(0, 50), fraction=st.floats(0.05, 0.9))
def test_a_split_by_time_asks_what_comes_next(seed, fraction):
    data = timed(seed)
    train, test = data.split_by_time(test_fraction=fraction, seed=seed)
    assert len(test.ratings) == round(fraction * 60)
    assert train.ratings["timestamp"].max() <= test.ratings["timestamp"].min()


@given(seed=st.integers(0, 50))
def test_a_split_of_the_last_leaves_everybody_a_history(seed):
    data = timed(seed, num_ratings=20)
    train, test = data.split_last(seed=seed)
    counts = data.ratings["user_num"].value_counts()
    assert sorted(test.ratings["user_num"]) == sorted(counts.index[counts > 1])
    latest = data.ratings.groupby("user_num")["timestamp"].max()
    assert (test.ratings["timestamp"] == test.ratings["user_num"].map(latest)).all()
    assert set(train.ratings["user_num"]) == set(data.ratings["user_num"])


@given(seed=st.integers(0, 50), fraction=st.floats(0.1, 0.9))
def test_a_split_of_users_keeps_each_whole(seed, fraction):
    data = timed(seed, num_ratings=20)
    train, test = data.split_users(test_fraction=fraction, seed=seed)
    ours, theirs = set(train.ratings["user_num"]), set(test.ratings["user_num"])
    assert not ours & theirs
    assert len(theirs) == round(fraction * len(ours | theirs))


def test_ratings_of_the_same_time_are_drawn_by_the_seed():
    frame = ratings(timestamp=[5, 5, 5])
    tests = [small(ratings=frame).split_by_time(test_fraction=0.3, seed=s)[1] for s in range(9)]
    assert {*map(tuple, (t.ratings["item_num"] for t in tests))} == {(0,), (1,)}


@pytest.mark.parametrize("name", ["split_by_time", "split_last"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, r"without \['timestamp'\]. Name it where you load: load_ratings"),
        ({"timestamp": [1, None, 3]}, "timestamp should not be missing. Received: nan in row 1"),
        ({"timestamp": ["1 May", "2 May", "3 May"]}, "numbers or dates. .* pd.to_datetime"),
    ],
)
def test_splits_in_time_need_times(name, change, message):
    with pytest.raises(ValueError, match=message):
        getattr(small(ratings=ratings(**change)), name)(seed=0)


@pytest.mark.parametrize("zone", [None, "UTC"])
def test_dates_are_times(zone):
    dates = pd.to_datetime(["2020-01-03", "2019-12-31", "2020-01-02"]).tz_localize(zone)
    data = small(ratings=ratings(timestamp=dates))
    assert data.split_by_time(test_fraction=0.3, seed=0)[1].ratings["rating"].tolist() == [1]
    assert data.split_last(seed=0)[1].ratings["rating"].tolist() == [1]  # bob's, of two


def test_splits_that_leave_a_side_empty_are_refused():
    data = small(ratings=ratings(timestamp=[1, 2, 3]))
    for name in ("split_by_time", "split_users"):  # 0.3 of a rating, 0.2 of a user
        with pytest.raises(ValueError, match="test_fraction should leave .* on both sides"):
            getattr(data, name)(test_fraction=0.1, seed=0)
    once = dataclasses.replace(data, ratings=data.ratings.iloc[:2])
    with pytest.raises(ValueError, match="a user with two or more. Received: 2 ratings of as many"):
        once.split_last(seed=0)
    for name in ("split", "split_by_time", "split_last", "split_users"):
        with pytest.raises(ValueError, match="seed should be an integer"):
            getattr(timed(0), name)(seed=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"title": ["A", None, "C"]}, "items.title should hold texts. Received: .* row 1.*fillna"),
        ({"title": [1, 2, 3]}, "items.title should hold texts. Received: 1 in row 0"),
        ({"genres": ["war|art", "art", ""]}, "items.genres should hold lists .* 'war.art'|war"),
        ({"genres": [["war"], None, []]}, "items.genres should hold lists of texts, .* row 1"),
        ({"genres": [["war"], [3], []]}, "items.genres should hold lists of texts, .* row 1"),
        ({"year": ["1991", 1999, None]}, "items.year should hold numbers .* 1991 in row 0"),
        ({"year": [19910101, 1999, None]}, "items.year should hold numbers below 10,000"),
    ],
)
def test_items_that_were_edited_are_checked(change, message):
    data = small()
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(data, items=data.items.assign(**change))


def test_items_without_genres_and_years_have_no_features():
    data = small()
    bare = data.items.assign(genres=[[]] * 3, year=pd.array([None] * 3, "Int64"))
    data = dataclasses.replace(data, items=bare)
    with pytest.raises(ValueError, match="genres .*not all empty"):
        data.genre_table()
    with pytest.raises(ValueError, match="not all missing"):
        data.item_features()


def test_counts_and_means_by_hand():
    stats = small().item_stats()
    assert stats["num_ratings"].tolist() == [2, 1, 0]
    assert stats["mean_rating"].tolist()[:2] == [3.0, 1.0]  # (4 + 2) / 2
    assert np.isnan(stats["mean_rating"][2])
    assert small().user_stats()["mean_rating"].tolist() == [4.0, 1.5]


def test_interactions_by_hand():
    data = small()
    assert data.interactions(binary=False).toarray().tolist() == [[4, 0, 0], [2, 1, 0]]
    assert data.interactions().toarray().tolist() == [[1, 0, 0], [1, 1, 0]]
    assert data.interactions().dtype == np.float32


def test_features_by_hand():
    features = small().item_features()
    assert features["genres"].tolist() == [[0.5, 0.5], [1, 0], [0, 0]]  # art, war
    assert features["decade"].tolist() == [[1], [1], [0]]
    assert small().genre_table().to_dict("list") == {"art": [1, 1, 0], "war": [1, 0, 0]}
    bare = small(items=small().items[["item_id", "title"]])
    with pytest.raises(ValueError, match="genres .* or year"):
        bare.item_features()
    with pytest.raises(ValueError, match="column genres"):
        bare.genre_table()


# The door -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "module",
    ["cfutils", *(f"cfutils.{name}" for name in ("movielens", "metrics", "charts", "panel"))],
)
@pytest.mark.slow
def test_import_loads_no_tensorflow(module):
    code = f"import sys, {module}; print('tensorflow' in sys.modules, 'requests' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_everything_at_the_door_is_there():
    for name in cf.__all__:
        assert getattr(cf, name) is not None
    assert set(cf.__all__) <= set(dir(cf))
    assert callable(cf.recommend)  # whatever else has been imported before
    with pytest.raises(AttributeError, match="nothing"):
        _ = cf.nothing
