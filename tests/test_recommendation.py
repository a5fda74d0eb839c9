"""Lists of a few items, worked out by hand; models that know their ids, and other data."""

import dataclasses
import math
import re
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest

from cfutils.data import Dataset
from cfutils.factorization import CFModel
from cfutils.ids import texts
from cfutils.recommendation import embeddings, item_ratings, neighbours, recommend
from cfutils.tables import load_ratings


@pytest.fixture
def small():
    """Four items and two users; user 7 rated the first two, user 9 all but the first."""
    items = pd.DataFrame(
        {
            "item_id": [10, 20, 30, 40],
            "title": ["Alien (1979)", "Aliens (1986)", "Up [3] (2009)", "Heat, The (1995)"],
            "genres": [["Horror", "Sci-Fi"], ["Sci-Fi"], [], ["Drama"]],
            "year": [1979, 1986, 2009, 1995],
        }
    )
    rated = [(0, 0, 4), (0, 1, 2), (1, 1, 5), (1, 2, 3), (1, 3, 1)]
    ratings = pd.DataFrame(rated, columns=["user_num", "item_num", "rating"])
    return Dataset(pd.DataFrame({"user_id": [7, 9]}), items, ratings)


def ids(frame):
    return frame["item_id"].tolist()


class Model:
    # user 7 scores the items 1, 2, 3, 4; user 9 the opposite
    user_embeddings = np.array([[1.0, 0], [-1, 0]])
    item_embeddings = np.array([[1.0, 1], [2, 2], [3, 0], [4, 4]])


PAIR = Model.user_embeddings, Model.item_embeddings


@pytest.mark.parametrize("model", [Model(), PAIR])
def test_recommendations_leave_out_what_is_rated(small, model):
    expected = pd.DataFrame(
        {
            "item_id": [40, 30],
            "title": ["Heat, The (1995)", "Up [3] (2009)"],
            "genres": ["Drama", ""],
            "year": [1995, 2009],
            "num_ratings": [1, 1],
            "score": np.array([4, 3], "float32"),
        },
        index=pd.RangeIndex(1, 3, name="rank"),
    )
    pd.testing.assert_frame_equal(recommend(model, small, 7), expected, check_dtype=False)
    assert ids(recommend(model, small, user="9", k=1)) == [10]
    marked = recommend(model, small, user=np.int64(7), rated="mark")
    assert ids(marked) == [40, 30, 20, 10]
    np.testing.assert_array_equal(marked["rating"], [np.nan, np.nan, 2, 4])


def test_data_may_hold_a_part_of_the_ratings(small):
    train = dataclasses.replace(small, ratings=small.ratings.iloc[1:])  # 7 without item 10
    frame = recommend(PAIR, train, 7)
    assert (ids(frame), frame["num_ratings"].tolist()) == ([40, 30, 10], [1, 1, 0])


def many(seed, num_users=30, num_items=25):
    """Random ratings, and embeddings of everybody; the last user has no ratings here."""
    rng = np.random.default_rng(seed)
    keys = rng.choice((num_users - 1) * num_items, 150, replace=False)
    ratings = pd.DataFrame(
        {"user_num": keys // num_items, "item_num": keys % num_items, "rating": 3.0}
    )
    users = pd.DataFrame({"user_id": [f"u{n}" for n in range(num_users)]})
    items = pd.DataFrame({"item_id": range(100, 100 + num_items)})
    items["title"] = items["item_id"].astype(str)
    pair = rng.normal(size=(num_users, 3)), rng.normal(size=(num_items, 3))
    return Dataset(users, items, ratings), pair


@pytest.mark.parametrize("options", [{}, {"measure": "cosine"}, {"alpha": 0.5}, {"rated": "mark"}])
def test_one_list_for_all_is_that_of_each(options):
    data, pair = many(1)
    everybody = recommend(pair, data, k=4, **options)
    assert everybody["user_id"].drop_duplicates().tolist() == data.users["user_id"].tolist()
    for user, frame in everybody.groupby("user_id", sort=False):
        alone = recommend(pair, data, user, k=4, **options)
        expected = alone.reset_index().assign(user_id=user, basis="model")
        found = frame.reset_index(drop=True)
        pd.testing.assert_frame_equal(found, expected[found.columns], check_dtype=False)
    some = recommend(pair, data, ["u3", "u1"], k=4, **options)
    expected = pd.concat([everybody[everybody["user_id"] == u] for u in ("u3", "u1")])
    pd.testing.assert_frame_equal(some, expected.reset_index(drop=True))


def test_lists_of_some_items_and_without_what_was_seen():
    data, (U, V) = many(2)
    train, _ = data.split(test_fraction=0.3, seed=0)
    allowed = [*range(100, 115)]
    frame = recommend((U, V), train, k=25, items=allowed, without=[101, "102"], exclude=data)
    scores = U @ V.T
    for row, user in enumerate(data.users["user_id"]):
        seen = set(data.ratings.loc[data.ratings["user_num"] == row, "item_num"])
        left = [i for i in range(15) if i not in {1, 2} | seen]
        expected = sorted(left, key=lambda i: -scores[row, i])
        assert (frame[frame["user_id"] == user]["item_id"] - 100).tolist() == expected
    # users and items of the other data are found by their ids
    other = dataclasses.replace(data, users=data.users[::-1].reset_index(drop=True))
    found = recommend((U, V), data, "u0", k=25, exclude=other)["item_id"]
    rows = data.ratings.loc[data.ratings["user_num"].isin([0, 29]), "item_num"]
    assert set(found) == set(range(100, 125)) - set(100 + rows)


def test_a_rating_of_zero_is_a_rating():
    data, (U, V) = many(4)
    ratings = data.ratings.assign(rating=np.where(data.ratings.index % 2, 0.0, 1.0))
    data = dataclasses.replace(data, ratings=ratings)
    frame = recommend((U, V), data, k=25)
    known = set(zip(ratings["user_num"], ratings["item_num"] + 100, strict=True))
    listed = zip(frame["user_id"].str[1:].astype(int), frame["item_id"], strict=True)
    assert not known & set(listed)
    other = dataclasses.replace(data, ratings=ratings.iloc[:1])
    assert len(recommend((U, V), other, k=25, exclude=data)) == len(frame)
    marked = recommend((U, V), data, k=25, rated="mark")
    assert marked["rating"].notna().sum() == len(ratings)
    assert marked["rating"].sum() == ratings["rating"].sum()


def test_who_has_a_row_of_zeros_is_folded_in_where_the_model_can():
    data, (U, V) = many(5)
    row = int(data.ratings["user_num"].iloc[0])
    U[row] = 0
    frame = recommend((U, V), data, k=3)  # a pair of arrays can not
    assert set(frame.loc[frame["user_id"] == f"u{row}", "basis"]) == {"popularity"}
    model = CFModel(data, 3, l2_coeff=0.1, seed=0)
    model.train_als(data, num_iterations=2)
    model._users.assign(model.user_embeddings * (np.arange(30) != row)[:, None])
    frame = recommend(model, data, k=3)
    assert set(frame.loc[frame["user_id"] == f"u{row}", "basis"]) == {"ratings"}


def test_what_has_nothing_in_common_excludes_nothing():
    data, pair = many(6)
    strange = dataclasses.replace(
        data, users=data.users.assign(user_id=[f"x{n}" for n in range(30)])
    )
    with pytest.raises(ValueError, match="exclude should hold users and items of data. .* no user"):
        recommend(pair, data, exclude=strange)


@pytest.mark.parametrize("way", ["train", "train_als"])
def test_who_was_never_trained_on_gets_what_is_popular(way):
    data, _ = many(3)
    train, _ = data.split_users(test_fraction=0.2, seed=1)  # some have no rating in training
    model = CFModel(data, 4, l2_coeff=0.1, gravity_coeff=1.0, seed=0)
    how = {"learning_rate": 1.0} if way == "train" else {}
    getattr(model, way)(train, num_iterations=3, **how)
    frame = recommend(model, train, k=3)
    rated = set(train.ratings["user_num"])
    basis = frame.groupby("user_id", sort=False)["basis"].unique()
    expected = ["model" if row in rated else "popularity" for row in range(30)]
    assert basis.str[0].tolist() == expected
    assert "popularity" in expected
    counts = train.item_stats()["num_ratings"].to_numpy()
    best = (100 + np.argsort(-counts, kind="stable")[:3]).tolist()
    popular = frame[frame["basis"] == "popularity"]
    assert popular["score"].isna().all()
    assert set(popular.groupby("user_id")["item_id"].agg(tuple)) == {tuple(best)}
    # with the ratings at hand they are folded in
    again = recommend(model, data, k=3)
    has = set(data.ratings["user_num"])
    expected = [
        "model" if u in rated else "ratings" if u in has else "popularity" for u in range(30)
    ]
    assert again.groupby("user_id", sort=False)["basis"].first().tolist() == expected
    folded = model.fold_in(data)
    new = min(has - rated)
    scores = folded[new] @ model.item_embeddings.T
    scores[data.ratings.loc[data.ratings["user_num"] == new, "item_num"]] = -np.inf
    expected = (100 + np.argsort(-scores)[:3]).tolist()
    assert again.loc[again["user_id"] == f"u{new}", "item_id"].tolist() == expected


def test_the_measure_decides_the_order(small):
    # cosines with (1, 0): 0.707 for all items but the third, which has 1
    assert ids(recommend(PAIR, small, 7, rated="mark", measure="cosine", k=1)) == [30]
    # 4 / sqrt(4 sqrt(2)) = 1.68 and 3 / sqrt(3) = 1.73
    best = recommend(PAIR, small, 7, rated="mark", alpha=0.5, k=1)
    assert (ids(best), best["score"].item()) == ([30], pytest.approx(math.sqrt(3)))


def test_a_table_without_genres_is_enough():
    data = table(("ann", "x", 1), ("bob", "y", 2))
    frame = recommend((np.eye(2), np.eye(2)), data, "ann")
    assert frame.columns.tolist() == ["item_id", "title", "num_ratings", "score"]
    assert frame["title"].tolist() == ["y"]


# A model that knows its ids, and other data


TABLE = [("ann", "x", 5), ("ann", "y", 1), ("cid", "y", 4), ("cid", "z", 2)]


def table(*rows):
    return load_ratings(pd.DataFrame(rows, columns=["user_id", "item_id", "rating"]))


class Known:
    """Ann likes x before y before z, cid the opposite; who is new is folded in.

    By a linear rule: u = sum_j (a_j - 3) V_j.
    """

    user_ids, item_ids = texts(["ann", "cid"]), texts(["x", "y", "z"])
    user_embeddings, item_embeddings = np.array([[1.0], [-1.0]]), np.array([[3.0], [2.0], [1.0]])
    iteration = 1

    def fold_in(self, A):
        assert A.shape == (1, len(self.item_embeddings))
        self.folded = dict(zip(A.indices.tolist(), A.data.tolist(), strict=True))
        return self.fold_in_parts(A.indices, A.data).sum(axis=0, keepdims=True)

    def fold_in_parts(self, item_nums, ratings):
        return (ratings - 3)[:, None] * self.item_embeddings[item_nums]


def titles(model, data, user):
    return recommend(model, data, user, rated="mark")["title"].tolist()


@pytest.mark.parametrize(
    "data",
    [
        table(*TABLE),
        # somebody new stands before, between or behind; somebody is gone
        table(("abe", "x", 1), *TABLE),
        table(*TABLE, ("bob", "x", 1), ("dan", "x", 1)),
        table(*TABLE[2:], ("dan", "x", 3)),
    ],
)
def test_users_are_found_in_other_data(data):
    assert titles(Known(), data, "cid") == ["z", "y", "x"]
    if "ann" in set(data.users["user_id"]):
        assert titles(Known(), data, "ann") == ["x", "y", "z"]


def test_a_user_who_is_not_in_the_model_is_folded_in():
    data, model = table(("abe", "z", 2), ("abe", "x", 5), *TABLE), Known()
    assert recommend(model, data, "abe")["title"].tolist() == ["y"]
    assert model.folded == {0: 5, 2: 2}  # rows of the model
    unrated = dataclasses.replace(data, ratings=data.ratings[data.ratings["user_num"] > 0])
    with pytest.warns(UserWarning, match="can say nothing of this user: .* most rated items"):
        frame = recommend(model, unrated, "abe")
    # x and z have as many ratings, y fewer or as many: in the order of the items
    counts = unrated.item_stats()["num_ratings"].to_numpy()
    assert (
        frame["title"].tolist()
        == unrated.items["title"].iloc[np.argsort(-counts, kind="stable")].tolist()
    )
    assert set(frame["basis"]) == {"popularity"}
    assert frame["score"].isna().all()
    fixed = dataclasses.make_dataclass("Fixed", ["user_ids", "item_ids", "item_embeddings"])
    with pytest.raises(ValueError, match="model should have fold_in .* Fixed"):
        recommend(fixed(Known.user_ids, Known.item_ids, Known.item_embeddings), data, "abe")


def test_users_of_whom_the_model_knows_none_are_folded_in_with_a_warning():
    data = table(("dan", "x", 4), ("dan", "y", 1), ("eve", "z", 1))
    with pytest.warns(UserWarning, match="None of the users of data is in .* has 'ann' and"):
        recommend(Known(), data, "dan")


@pytest.mark.parametrize(
    ("data", "left", "new"),
    [
        # as many items, but one is another; more before and behind; one less
        (table(*TABLE[:1], ("ann", "aa", 2), *TABLE[3:]), "xz", "1 of the 3 .*: 'aa'"),
        (
            table(*TABLE, *[("cid", item, 2) for item in ("a0", "a1", "a2", "a3", "a4", "zz")]),
            "xyz",
            r"6 of the 9 .*'a0', 'a1', 'a2', 'a3', 'a4', \.\.\.\.",
        ),
        (table(*TABLE[:3]), "xy", None),
    ],
)
def test_items_are_found_in_other_data(data, left, new):
    """Neither an exchanged nor a shifted item gets the embedding of another."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert titles(Known(), data, "ann") == [*left]
        assert titles(Known(), data, "cid") == [*left[::-1]]
        near = neighbours(Known(), data, "x", measure="dot")
        recommend(Known(), data, ratings={"x": 5})
    expected = {"y": 6.0, "z": 3.0}
    assert dict(zip(near["title"], near["score"], strict=True)) == {
        title: expected[title] for title in left[1:]
    }
    messages = {str(each.message) for each in caught}
    assert {each.filename for each in caught} <= {__file__}  # the line that called
    assert len(messages) == (new is not None)
    if new:
        assert re.match(new + r".* model.for_data\(data\), trained", messages.pop())


def test_data_of_which_the_model_knows_no_item_is_refused():
    with pytest.raises(ValueError, match=r"1 others, 'q' the first, .* the model has 'x'"):
        recommend(Known(), table(("ann", "q", 1)), "ann")


# Somebody new


def test_own_ratings_are_folded_in_and_left_out():
    model, data = Known(), table(("abe", "a", 1), *TABLE)  # a is not in the model
    with pytest.warns(UserWarning, match="1 of the 4 items"):
        frame = recommend(model, data, ratings={"z": 5, "a": 4}, rated="mark")
    assert model.folded == {2: 5}
    # u = (5 - 3) 1 = 2
    assert ids(frame) == ["x", "y", "z"]
    assert frame["score"].tolist() == [6, 4, 2]
    assert frame["because"].tolist() == ["z", "z", "z"]
    np.testing.assert_array_equal(frame["rating"], [np.nan, np.nan, 5])
    with pytest.warns(UserWarning, match="1 of the 4 items"):
        assert ids(recommend(model, data, ratings={"z": 5, "a": 4})) == ["x", "y"]
    with pytest.warns(UserWarning, match="1 of the 4|can say nothing of this user"):
        frame = recommend(model, data, ratings={"a": 1})
    assert set(frame["basis"]) == {"popularity"}
    assert frame["because"].isna().all()  # the panel shows the column
    with pytest.raises(ValueError, match="model should have fold_in .* tuple"):
        recommend((np.eye(2), np.eye(3)[:, :2]), table(*TABLE), ratings={"x": 1})


def test_the_reason_is_the_rating_whose_absence_costs_most():
    """Against brute force: solve without one rating's right-hand side, for every rating."""
    import cfutils as cf

    rng = np.random.default_rng(3)
    pairs = np.sort(rng.permutation(20 * 30)[:200])
    data = table(*zip(pairs // 30, 100 + pairs % 30, rng.integers(1, 6, 200), strict=True))
    assert (data.num_users, data.num_items) == (20, 30)
    model = cf.CFModel(data, 4, l2_coeff=0.1, gravity_coeff=0.3, seed=1)
    model.train_als(data, num_iterations=5)
    own = {102: 5, 107: 1, 111: 3, 129: 4}
    frame = recommend(model, data, ratings=own, k=26)

    row = {item: item_num for item_num, item in data.items["item_id"].items()}
    rows, values = np.array([row[item] for item in own]), np.array([*own.values()], float)
    V = model.item_embeddings.astype(float)
    # alpha = gravity_coeff |Omega| / (N M), lambda = l2_coeff |Omega| / N
    H = V[rows].T @ V[rows] + 0.3 * 200 / 600 * V.T @ V + 0.1 * 200 / 20 * np.eye(4)
    full = V @ np.linalg.solve(H, V[rows].T @ values)
    loss = np.stack(
        [full - V @ np.linalg.solve(H, V[rows].T @ np.where(rows == r, 0, values)) for r in rows]
    )
    assert len(frame) == 26
    for item in frame.itertuples():
        costs = loss[:, row[item.item_id]]
        np.testing.assert_allclose(item.score, full[row[item.item_id]], rtol=1e-4, atol=1e-5)
        assert pd.isna(item.because) == (costs.max() <= 0)
        if costs.max() > 0:
            assert item.because == str([*own][costs.argmax()])
    assert frame["because"].nunique() > 1


def test_items_are_named_by_id_or_title(small):
    named = {"10": 5, 20: 4.0, "up [3]": np.float32(3), "the heat": np.int64(1)}
    assert item_ratings(small, named) == {0: 5, 1: 4, 2: 3, 3: 1}


@pytest.mark.parametrize(
    ("ratings", "error", "message"),
    [
        ({}, ValueError, "ratings should hold at least one rating. Received: none"),
        ({"alie": 5}, LookupError, r"title or an id. Received: 'alie'. .*\(id 20\).*\(id 10\)"),
        ({0: 5}, LookupError, "Received: 0. Find it"),  # a row is no id
        ({True: 5}, ValueError, "Received: True"),
        ({"Alien": 5, 10: 4}, ValueError, r"once. Received: 'Alien \(1979\)' again as 10"),
        ({10: 6}, ValueError, "from 1 to 5, the range of data.ratings. Received: 6 for 10"),
        ({10: float("nan")}, ValueError, "Received: nan"),
        ({10: 10**400}, ValueError, "Received: 1000"),
        ({10: "5"}, ValueError, "Received: '5'"),
        ({10: True}, ValueError, "Received: True"),
        ([10, 5], TypeError, r"ratings should be a dict .* list. Make one: dict\(zip"),
        ("my_ratings.json", TypeError, "read_own_ratings"),
    ],
)
def test_what_is_no_rating_is_refused(small, ratings, error, message):
    for refuse in (item_ratings, lambda data, ratings: recommend(PAIR, data, ratings=ratings)):
        with pytest.raises(error, match=message):
            refuse(small, ratings)


# Neighbours


def test_neighbours_are_without_the_item(small):
    frame = neighbours(PAIR, small, 10)
    assert ids(frame) == [20, 40, 30]
    np.testing.assert_allclose(frame["score"], [1, 1, 1 / math.sqrt(2)], rtol=1e-6)
    assert frame.columns.name == "nearest to Alien (1979)"
    assert ids(neighbours(PAIR, small, "10", measure="dot")) == [40, 20, 30]
    # <(3, 0), v> / |v|^2 = 3/2, 6/8 and 12/32
    assert ids(neighbours(PAIR, small, "up [3]", measure="dot", alpha=2)) == [10, 20, 40]


@pytest.mark.parametrize(
    ("text", "item_id", "others"),
    [
        ("(19", 20, {10: "Alien (1979)", 40: "Heat, The (1995)"}),  # the most rated
        ("ALIEN", 10, {20: "Aliens (1986)"}),  # a whole title, though Aliens has more ratings
        ("the heat", 40, {}),
    ],
)
def test_neighbours_of_a_part_of_a_title_name_what_else_matched(small, text, item_id, others):
    frame = neighbours(PAIR, small, text)
    assert frame.attrs == {"item_id": item_id, "other_matches": others}
    assert f"{len(others)} more matched" in frame.to_html() or not others


def test_a_number_is_an_id_or_a_whole_title():
    rows = [(user, "117", 1) for user in range(3)] + [(0, "17", 1), (0, "170", 1)]
    assert neighbours((np.eye(3),) * 2, table(*rows), "17").attrs["item_id"] == "17"
    for part in ("7", "01"):
        with pytest.raises(LookupError, match=rf"'{part}'"):
            neighbours((np.eye(3),) * 2, table(*rows), part)


def test_titles_of_several_items_are_told_apart_by_ratings_or_case():
    rows = [(user, "EMMA", 1) for user in range(3)] + [(0, "Emma", 1), (0, "emma", 1)]
    for text, title in {"EMMA": "EMMA", "Emma": "Emma", "emma": "emma", "eMMa": "EMMA"}.items():
        near = neighbours((np.eye(3),) * 2, table(*rows), text)
        assert near.columns.name == f"nearest to {title} (2 more matched)"


@pytest.mark.filterwarnings("ignore:1 of the 3 items:UserWarning")
def test_an_item_that_the_model_does_not_know_has_no_neighbours():
    data = table(*TABLE[:1], ("ann", "aa", 2), *TABLE[3:])
    with pytest.raises(ValueError, match="item should be in the model. Received: 'aa', which is"):
        neighbours(Known(), data, "aa")


# Embeddings


def test_embeddings_stand_in_the_order_of_the_data(small):
    data = table(*TABLE[2:], ("ann", "x", 3))
    users, items = embeddings(Known(), data)
    assert (users.tolist(), items.tolist()) == ([[1], [-1]], [[3], [2], [1]])
    # the model has an item and a user more
    users, items = embeddings(Known(), table(("cid", "z", 1), ("cid", "y", 2)))
    assert (users.tolist(), items.tolist()) == ([[-1]], [[2], [1]])
    np.testing.assert_array_equal(np.vstack(embeddings(PAIR, small)), np.vstack(PAIR))
    for strange, kind in ((("bob", "x", 1), "users"), (("ann", "q", 1), "items")):
        with pytest.raises(ValueError, match=f"data should have {kind} of the model only"):
            embeddings(Known(), table(*TABLE, strange))
    model = Known()  # without a table of users
    model.user_ids = model.user_embeddings = None
    model.fold_in = lambda A: np.full((A.num_users, 1), 7.0)
    assert embeddings(model, data)[0].tolist() == [[7], [7]]


def test_bad_requests_are_refused(small):
    def refuse(error, message, function, *given, **options):
        with pytest.raises(error, match=message):
            function(*given, **options)

    for options, message in (
        (
            {"user": 0},
            "user should be an id of data.users, no row number. Received: 0",
        ),  # a row is no id
        ({"user": 7, "ratings": {10: 5}}, "user should not be given with ratings, .*both"),
        ({"exclude": small, "ratings": {10: 5}}, "exclude should not be given with ratings"),
        ({"user": [0, 1, 2, 3]}, "user should be an id of data.users, .* Received: 0"),
        ({"user": np.array([7.5])}, "user should be an id of data.users, .* Received: .*7.5"),
        ({"user": [7, 9, "7"]}, "each id once. Received: '7' again"),
        ({"user": []}, "Received: an empty list"),
        ({"user": 7, "items": "Alien"}, "items should be a list of ids or titles. .*'Alien'"),
        ({"user": 7, "without": 10}, "without should be a list of ids or titles. .* 10"),
        ({"user": 7, "items": []}, r"should leave an item .* items=\[\], without=\(\)"),
        ({"user": 7, "items": [10], "without": [10]}, "should leave an item that the model has"),
        ({"user": 7, "exclude": small.ratings}, "exclude should be a Dataset. Received: DataFr"),
        ({"user": 7, "rated": "x"}, "rated should be 'exclude' or 'mark'. Received: 'x'"),
        ({"user": 7, "k": 0}, "k should be an integer, 1 or more. Received: 0"),
    ):
        refuse(ValueError, message, recommend, PAIR, small, **options)
    for item, error, message in (
        (0, LookupError, "item should be an id of data.items, no row number. Received"),
        ([10], ValueError, "an id .* or a title. Received"),
        (" ", ValueError, "text should be part of a title. Received: ' '"),
        ("Alein", LookupError, "Closest: Alien"),
    ):
        refuse(error, message, neighbours, PAIR, small, item)
    few = PAIR[0][:1], PAIR[1]
    refuse(ValueError, "the model's 1 users. Received: 2", recommend, few, small, 7)
    for model, message in (
        ((None, np.ones((3, 2))), "the model's 3 items. Received: 4"),
        ({}, "model should have item_emb.* Received: dict"),
        ((1, 2, 3), "model should have item_emb.* Received: tuple"),
    ):
        refuse(ValueError, message, neighbours, model, small, 10)


def test_untrained_models_are_refused(small):
    model = Model()
    model.iteration = 0
    for function, options in (
        (recommend, {"user": 7}),
        (recommend, {"ratings": {10: 5}}),
        (neighbours, {"item": 10}),
        (embeddings, {}),
    ):
        with pytest.raises(ValueError, match="trained. Received: a new Model. Call model.train"):
            function(model, small, **options)


@pytest.mark.slow
def test_neither_scores_nor_lists_nor_the_panel_import_tensorflow():
    code = (
        "import sys, cfutils.scores, cfutils.recommendation, cfutils.panel\n"
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
