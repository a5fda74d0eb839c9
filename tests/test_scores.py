import io
import math
import re
import sys
import tracemalloc
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from cfutils import scores
from cfutils.data import MovieLens, load_ratings
from cfutils.scores import best_columns, compute_scores, find_movie, neighbours, recommend, top_k


def integers(seed, rows, d=3, high=3):
    """Small integers: float32 products are exact and ties are many."""
    return np.random.default_rng(seed).integers(-high, high + 1, (rows, d)).astype("float32")


def full_sort(table, k, excluded=()):
    """The k best columns of each row by Python's own sort: highest first, then lowest id."""
    lists = []
    for row, values in enumerate(table):
        left = [j for j in range(len(values)) if (row, j) not in excluded]
        best = sorted(left, key=lambda j, values=values: (-values[j], j))[:k]
        lists.append(best + [-1] * (k - len(best)))
    return np.array(lists).reshape(len(table), k)


# Scores -------------------------------------------------------------------------------------------


def test_scores_by_hand():
    # u = (3, 4) with |u| = 5; v = (1, 0), (6, 8) with |v| = 10, and zero
    items = [[1, 0], [6, 8], [0, 0]]
    np.testing.assert_allclose(compute_scores([3, 4], items), [3, 50, 0])
    np.testing.assert_allclose(compute_scores([3, 4], items, "cosine"), [3 / 5, 1, 0], rtol=1e-6)
    # 50 / 10^0.5 and 50 / 10
    np.testing.assert_allclose(
        compute_scores([3, 4], items, alpha=0.5), [3, 50 / math.sqrt(10), 0], rtol=1e-6
    )
    np.testing.assert_allclose(compute_scores([3, 4], items, alpha=1), [3, 5, 0], rtol=1e-6)
    np.testing.assert_allclose(compute_scores([3, 4], items, alpha=2), [3, 0.5, 0], rtol=1e-6)


def test_shapes_and_types():
    items = integers(0, 5)
    assert compute_scores(items[0], items).shape == (5,)
    assert compute_scores(items[:2], items).shape == (2, 5)
    assert compute_scores(items.astype("float64"), items).dtype == np.float32
    before = items.copy()
    compute_scores(items, items, "cosine")
    np.testing.assert_array_equal(items, before)


@pytest.mark.parametrize("alpha", [0, 0.3, 1, 2])
def test_zero_vectors_score_zero(alpha):
    zeros = np.zeros((2, 3))
    assert (compute_scores(zeros, zeros, "cosine") == 0).all()
    assert (compute_scores(zeros, integers(0, 4), "cosine") == 0).all()
    assert (compute_scores(integers(0, 4), zeros, alpha=alpha) == 0).all()


@given(seed=st.integers(0, 500), alpha=st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.5]))
def test_scores_equal_a_plain_loop(seed, alpha):
    users, items = integers(seed, 4), integers(seed + 1, 6)
    dot, cosine, between = (
        compute_scores(users, items),
        compute_scores(users, items, "cosine"),
        compute_scores(users, items, alpha=alpha),
    )
    for i, u in enumerate(users.astype(float)):
        for j, v in enumerate(items.astype(float)):
            product = sum(u * v)
            length, other = math.sqrt(sum(v * v)), math.sqrt(sum(u * u))
            assert dot[i, j] == product
            expected = product / (length * other) if length * other else 0
            assert cosine[i, j] == pytest.approx(expected, abs=1e-6)
            expected = product / length**alpha if length else 0
            assert between[i, j] == pytest.approx(expected, rel=1e-5, abs=1e-5)
    if alpha == 0:
        np.testing.assert_array_equal(between, dot)


@given(seed=st.integers(0, 500), power=st.integers(-60, 60))
def test_cosine_does_not_change_with_lengths(seed, power):
    users, items = integers(seed, 4), integers(seed + 1, 6)
    factor = np.float32(2.0**power)
    same = compute_scores(users * factor, items * np.float32(3), "cosine")
    np.testing.assert_allclose(same, compute_scores(users, items, "cosine"), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1]], [[1]], "euclid"), r"measure should be one of dot, cosine. Received: 'euclid'"),
        (([[1]], [[1, 2]]), r"queries .* columns as item_embeddings, 2. Received: 1"),
        (([[1]], [1]), r"item_embeddings should be a table .* shape \[1\]"),
        (([["a"]], [[1]]), r"queries should be a table of numbers"),
        (([[1.0]], [[1], [math.nan]]), r"item_embeddings should be finite.*\[nan\] in row 1"),
        (([[1.0]], [[1e60]]), r"item_embeddings should be finite.*\[inf\] in row 0"),
        (([[1e20]], [[1e20]]), r"scores below 1e38.*diverged"),
    ],
)
def test_bad_tables_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        compute_scores(*arguments)
    queries, items, *measure = arguments
    options = {"measure": measure[0]} if measure else {}
    with pytest.raises(ValueError, match=message):
        top_k(queries, items, 1, **options)


@pytest.mark.parametrize("alpha", [-1, math.nan, math.inf, "1", True])
def test_bad_alpha_is_refused(alpha):
    with pytest.raises(ValueError, match=r"alpha should be a finite number, 0 or more. Received"):
        compute_scores([[1]], [[1]], alpha=alpha)
    with pytest.raises(ValueError, match=r"alpha should be None with measure='cosine'"):
        compute_scores([[1]], [[1]], "cosine", alpha=0.5)


# Top k --------------------------------------------------------------------------------------------


@settings(deadline=None)  # threads start at their own pace
@given(
    seed=st.integers(0, 10_000),
    num_items=st.integers(1, 60),
    k=st.integers(1, 70),
    share=st.sampled_from([0, 0.2, 0.95, 1]),
    small=st.booleans(),
)
def test_top_k_is_a_full_sort(seed, num_items, k, share, small):
    users, items = integers(seed, 7, high=1), integers(seed + 1, num_items, high=1)
    exclude = np.random.default_rng(seed).random((7, num_items)) < share
    with pytest.MonkeyPatch.context() as patch:
        if small:  # several tiles, blocks and workers
            patch.setattr(scores, "_COLUMNS", 4)
            patch.setattr(scores, "_ROWS", 2)
            patch.setattr(scores, "_processors", lambda: 3)
        ids, best = top_k(users, items, k, exclude=scipy.sparse.csr_array(exclude))
    table = users @ items.T
    expected = full_sort(table, k, set(zip(*np.nonzero(exclude), strict=True)))
    np.testing.assert_array_equal(ids, expected)
    values = np.where(ids >= 0, np.take_along_axis(table, np.maximum(ids, 0), axis=1), np.nan)
    np.testing.assert_array_equal(best, values)
    assert best.dtype == np.float32


@pytest.mark.parametrize("options", [{}, {"measure": "cosine"}, {"alpha": 0.5}])
def test_top_k_of_continuous_scores(options):
    rng = np.random.default_rng(0)
    users, items = rng.normal(size=(300, 8)), rng.normal(size=(5000, 8))
    ids, best = top_k(users, items, 10, **options)
    table = compute_scores(users, items, **options)
    np.testing.assert_array_equal(ids, np.argsort(-table, axis=1)[:, :10])
    np.testing.assert_allclose(best, np.take_along_axis(table, ids, axis=1), rtol=1e-5)


@settings(deadline=None)  # threads start at their own pace
@given(seed=st.integers(0, 500))
def test_permuted_items_give_permuted_results(seed):
    rng = np.random.default_rng(seed)
    users, items = rng.normal(size=(3, 4)), rng.normal(size=(30, 4))
    order = rng.permutation(30)
    ids, best = top_k(users, items, 5)
    permuted, same = top_k(users, items[order], 5)
    np.testing.assert_array_equal(order[permuted], ids)
    np.testing.assert_allclose(same, best, rtol=1e-5)


def test_nothing_in_nothing_out():
    assert top_k(np.ones((0, 2)), np.ones((3, 2)), 4)[0].shape == (0, 4)
    ids, best = top_k(np.ones((2, 2)), np.ones((0, 2)), 1)
    assert (ids == -1).all()
    assert np.isnan(best).all()


def test_what_is_excluded_is_where_an_entry_is_stored():
    zero = scipy.sparse.coo_array(([0.0], ([0], [1])), shape=(1, 3))
    assert top_k([[1]], [[1], [3], [2]], 3, exclude=zero)[0].tolist() == [[2, 0, -1]]


def test_bad_k_and_bad_exclude_are_refused():
    for k in (0, -1, 2.0, True):
        with pytest.raises(ValueError, match=r"k should be an integer, 1 or more. Received"):
            top_k([[1]], [[1]], k)
    with pytest.raises(ValueError, match=r"exclude .*\[1, 2\].*Received: csr_array \(2, 2\)"):
        top_k([[1]], [[1], [2]], 1, exclude=scipy.sparse.csr_array((2, 2)))
    with pytest.raises(ValueError, match=r"exclude should be a SciPy sparse.*ndarray"):
        top_k([[1]], [[1], [2]], 1, exclude=np.zeros((1, 2)))


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(scores, "_processors", lambda: 2)
    users, items = integers(0, 2000, 4), integers(1, 20_000, 4)
    tracemalloc.start()
    top_k(users, items, 10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # two blocks of 128 x 20,000 float32 are 20 MB; all scores would be 160 MB
    assert peak < 40e6


def test_progress_is_shown_on_request_only(monkeypatch):
    for progress, shown in ((True, True), (False, False), (None, False)):
        text = io.StringIO()
        monkeypatch.setattr(sys, "stderr", text)
        top_k(integers(0, 9), integers(1, 9), 2, progress=progress)
        assert bool(text.getvalue()) == shown


@given(seed=st.integers(0, 1000), k=st.integers(1, 12), columns=st.integers(0, 9))
def test_best_columns_is_a_full_sort(seed, k, columns):
    table = np.random.default_rng(seed).integers(0, 4, (5, columns)).astype(float)
    table[table == 0] = -np.inf
    excluded = set(zip(*np.nonzero(table == -np.inf), strict=True))
    np.testing.assert_array_equal(best_columns(table, k), full_sort(table, k, excluded))


# Lists of movies ----------------------------------------------------------------------------------


@pytest.fixture
def small():
    """Four movies and two users; user 0 rated movies 0 and 1, user 1 rated 1, 2 and 3."""
    movies = pd.DataFrame(
        {
            "movie_id": range(4),
            "title": ["Alien (1979)", "Aliens (1986)", "Up [3] (2009)", "Heat, The (1995)"],
            "genres": [["Horror", "Sci-Fi"], ["Sci-Fi"], [], ["Drama"]],
            "year": [1979, 1986, 2009, 1995],
        }
    )
    pairs = [(0, 0, 4), (0, 1, 2), (1, 1, 5), (1, 2, 3), (1, 3, 1)]
    ratings = pd.DataFrame(pairs, columns=["user_id", "movie_id", "rating"])
    return MovieLens(pd.DataFrame({"user_id": range(2)}), movies, ratings)


class Model:
    # user 0 scores the movies 1, 2, 3, 4; user 1 the opposite
    user_embeddings = np.array([[1.0, 0], [-1, 0]])
    item_embeddings = np.array([[1.0, 1], [2, 2], [3, 0], [4, 4]])


PAIR = Model.user_embeddings, Model.item_embeddings


@pytest.mark.parametrize("model", [Model(), PAIR])
def test_recommendations_leave_out_what_is_rated(small, model):
    expected = pd.DataFrame(
        {
            "movie_id": [3, 2],
            "title": ["Heat, The (1995)", "Up [3] (2009)"],
            "genres": ["Drama", ""],
            "year": [1995, 2009],
            "num_ratings": [1, 1],
            "score": np.array([4, 3], "float32"),
        },
        index=pd.RangeIndex(1, 3, name="rank"),
    )
    pd.testing.assert_frame_equal(recommend(model, 0, small), expected, check_dtype=False)
    assert recommend(model, np.int64(0), small, k=1)["movie_id"].tolist() == [3]


def test_rated_movies_can_be_marked(small):
    frame = recommend(PAIR, 0, small, rated="mark")
    assert frame["movie_id"].tolist() == [3, 2, 1, 0]
    np.testing.assert_array_equal(frame["rating"], [np.nan, np.nan, 2, 4])
    assert "rating" not in recommend(PAIR, 0, small)


def test_ratings_of_a_user_may_be_a_part(small):
    train = small.ratings.iloc[1:]  # user 0 without movie 0
    assert recommend(PAIR, 0, small, ratings=train)["movie_id"].tolist() == [3, 2, 0]
    # the count stays that of the catalogue
    assert recommend(PAIR, 0, small, ratings=train)["num_ratings"].tolist() == [1, 1, 1]


def test_a_new_user_is_an_embedding_with_own_ratings(small):
    assert recommend(PAIR, [1.0, 0], small)["movie_id"].tolist() == [3, 2, 1, 0]
    own = pd.DataFrame({"movie_id": [3], "rating": [5]})
    assert recommend(PAIR, np.array([1, 0]), small, ratings=own)["movie_id"].tolist() == [2, 1, 0]
    marked = recommend(PAIR, np.array([1, 0]), small, ratings=own, rated="mark")
    np.testing.assert_array_equal(marked["rating"], [5, np.nan, np.nan, np.nan])


def test_the_measure_decides_the_order(small):
    # cosines with (1, 0): 0.707 for movies 0, 1, 3 and 1 for movie 2
    assert recommend(PAIR, [1, 0], small, measure="cosine", k=1)["movie_id"].tolist() == [2]
    # 4 / sqrt(4 sqrt(2)) = 1.68 and 3 / sqrt(3) = 1.73
    best = recommend(PAIR, [1, 0], small, alpha=0.5, k=1)
    assert best["movie_id"].tolist() == [2]
    assert best["score"].item() == pytest.approx(math.sqrt(3))


def test_neighbours_are_without_the_movie(small):
    frame = neighbours(PAIR, 0, small)
    assert frame["movie_id"].tolist() == [1, 3, 2]
    np.testing.assert_allclose(frame["score"], [1, 1, 1 / math.sqrt(2)], rtol=1e-6)
    assert neighbours(PAIR, 0, small, measure="dot")["movie_id"].tolist() == [3, 1, 2]
    assert frame.columns.name == "nearest to Alien (1979)"
    # <(3, 0), v> / |v|^2 = 3/2, 6/8 and 12/32
    frame = neighbours(PAIR, 2, small, measure="dot", alpha=2)
    assert frame["movie_id"].tolist() == [0, 1, 3]


def test_neighbours_of_a_title_name_what_else_matched(small):
    frame = neighbours(PAIR, "ALIEN", small)  # Aliens has two ratings, Alien one
    assert frame.attrs == {"movie_id": 1, "other_matches": {0: "Alien (1979)"}}
    assert frame.columns.name == "nearest to Aliens (1986) (1 more matched)"
    assert "1 more matched" in frame.to_html()


def test_find_movie_is_literal_and_ignores_case(small):
    assert find_movie("alien", small)["title"].tolist() == ["Aliens (1986)", "Alien (1979)"]
    assert find_movie(" [3] ", small)["movie_id"].tolist() == [2]
    assert find_movie("(1979", small)["movie_id"].tolist() == [0]
    columns = ["movie_id", "title", "genres", "year", "num_ratings"]
    assert find_movie("heat", small).columns.tolist() == columns
    with pytest.raises(LookupError, match=r"Received: 'A.ien'. Closest: Alien \(1979\); Aliens"):
        find_movie("A.ien", small)
    with pytest.raises(LookupError, match=r"Closest: Heat, The \(1995\)"):
        find_movie("the heat", small)
    with pytest.raises(LookupError, match=r"Closest: none; try a shorter"):
        find_movie("qqqq", small)
    for text in ("", "  ", 3):
        with pytest.raises(ValueError, match=r"text should be part of a title. Received"):
            find_movie(text, small)


def test_a_table_without_genres_is_enough():
    data = load_ratings(pd.DataFrame({"user_id": [1, 2], "item_id": ["x", "y"], "rating": [1, 2]}))
    frame = recommend((np.eye(2), np.eye(2)), 0, data)
    assert frame.columns.tolist() == ["movie_id", "title", "num_ratings", "score"]
    assert frame["title"].tolist() == ["y"]


# A model that knows its ids, and other data


TABLE = [("ann", "x", 5), ("ann", "y", 1), ("cid", "y", 4), ("cid", "z", 2)]


def table(*rows):
    return load_ratings(pd.DataFrame(rows, columns=["user_id", "item_id", "rating"]))


class Known:
    """Ann likes x before y before z, cid the opposite; who is new is folded in."""

    user_ids, item_ids = pd.Index(["ann", "cid"]), pd.Index(["x", "y", "z"])
    user_embeddings, item_embeddings = np.array([[1.0], [-1.0]]), np.array([[3.0], [2.0], [1.0]])
    nothing = pd.DataFrame({"user_id": [], "movie_id": [], "rating": []})

    def fold_in(self, rows, ratings):
        self.folded = list(zip(rows.tolist(), ratings.tolist(), strict=True))
        return np.array([1.0])

    def titles(self, user, data):
        return recommend(self, user, data, ratings=self.nothing)["title"].tolist()


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        (table(*TABLE), {"ann": 0, "cid": 1}),
        # somebody new stands before, between or behind; somebody is gone
        (table(("abe", "x", 1), *TABLE), {"ann": 1, "cid": 2}),
        (table(*TABLE, ("bob", "x", 1), ("dan", "x", 1)), {"ann": 0, "cid": 2}),
        (table(*TABLE[2:], ("dan", "x", 3)), {"cid": 0}),
    ],
)
def test_a_model_that_knows_its_ids_finds_users_in_other_data(data, rows):
    orders = {"ann": ["x", "y", "z"], "cid": ["z", "y", "x"]}
    for name, row in rows.items():
        assert Known().titles(name, data) == Known().titles(row, data) == orders[name]


def test_who_is_new_in_the_data_is_folded_in_from_their_ratings():
    data, model = table(("abe", "z", 2), ("abe", "x", 1), *TABLE), Known()
    assert recommend(model, "abe", data)["title"].tolist() == ["y"]
    assert sorted(model.folded) == [(0, 1), (2, 2)]  # rows of the model
    with pytest.raises(ValueError, match=r"or have rated movies that are. Received: 'abe', who is"):
        model.titles("abe", data)
    with pytest.raises(ValueError, match="user should be in the model or"):
        recommend(without_fold_in(), "abe", data)


def without_fold_in():
    kept = ("user_ids", "item_ids", "user_embeddings", "item_embeddings")
    return type("Fixed", (), {name: getattr(Known, name) for name in kept})()


def test_somebody_who_is_not_in_the_data_is_named():
    for user in ("bob", "0", ""):
        with pytest.raises(ValueError, match=rf"an original id of data.users. Received: '{user}'"):
            recommend(Known(), user, table(*TABLE))


def test_ids_of_any_kind_are_found_as_texts():
    days = pd.date_range("2026-01-01", periods=2)
    data = table(*[(day, book, 1) for day in days for book in (1.5, 2.5)])
    model = Known()
    model.user_ids, model.item_ids = pd.Index(map(str, days)), pd.Index(["1.5", "2.5"])
    model.item_embeddings = model.item_embeddings[:2]
    assert model.titles(0, data) == model.titles("2026-01-01 00:00:00", data) == ["1.5", "2.5"]
    assert model.titles(1, data) == ["2.5", "1.5"]


def test_ids_that_are_numbers_are_texts_too():
    rows = [(70, 4, 1), (5, 4, 2), (70, 9, 3)]
    data = table(*rows)
    model = Known()
    model.user_ids, model.item_ids = pd.Index(["5", "70"]), pd.Index(["4", "9"])
    model.item_embeddings = model.item_embeddings[:2]
    assert model.titles("70", data) == model.titles(1, data) == ["9", "4"]
    assert model.titles("5", data) == ["4", "9"]


@pytest.mark.parametrize(
    ("data", "titles", "new"),
    [
        # as many movies, but one is another; one more before and behind; one less
        (table(*TABLE[:1], ("ann", "aa", 2), *TABLE[3:]), ["x", "z"], "1 of the 3 .*: 'aa'"),
        (table(*TABLE, ("cid", "a", 2), ("cid", "zz", 2)), ["x", "y", "z"], "2 of the 5 .*'a', 'z"),
        (table(*TABLE[:3]), ["x", "y"], None),
    ],
)
def test_a_model_that_knows_its_ids_finds_movies_in_other_data(data, titles, new):
    """Neither an exchanged nor a shifted movie gets the embedding of another."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert Known().titles("ann", data) == titles
        assert Known().titles("cid", data) == titles[::-1]
        near = neighbours(Known(), "x", data, measure="dot")
    assert near["title"].tolist() == titles[1:]
    assert near["score"].tolist() == [{"y": 6.0, "z": 3.0}[title] for title in titles[1:]]
    messages = {str(each.message) for each in caught}
    assert len(messages) == (new is not None)
    if new:
        assert re.match(new + r".* Train a new model", messages.pop())


@pytest.mark.filterwarnings("ignore:1 of the 3 movies:UserWarning")
def test_a_movie_that_the_model_does_not_know_has_no_neighbours():
    data = table(*TABLE[:1], ("ann", "aa", 2), *TABLE[3:])
    with pytest.raises(ValueError, match="movie should be in the model. Received: 'aa', which is"):
        neighbours(Known(), "aa", data)


def test_users_of_whom_the_model_knows_none_are_folded_in_with_a_warning():
    with pytest.warns(
        UserWarning, match="None of the users of data is in the model, which has 'an"
    ):
        recommend(Known(), "dan", table(("dan", "x", 4), ("dan", "y", 1), ("eve", "z", 1)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"user_id": ["ann"]}, r"ratings.user_id should be an integer .* 'ann' in row 0"),
        ({"user_id": [7]}, r"ratings.user_id should .* = 2. Received: .*7"),
        (
            {"movie_id": ["x"]},
            r"ratings.movie_id should be an integer .* It is a row of data.movies",
        ),
        ({"movie_id": [1.5]}, r"ratings.movie_id should be an integer .*1.5"),
        ({"movie_id": [9]}, r"ratings.movie_id should .* = 2. Received: .*9"),
    ],
)
@pytest.mark.parametrize("user", ["ann", "abe"])
def test_ratings_by_ids_in_the_place_of_rows_are_refused(user, change, message):
    """Nothing would be left out, and what is rated already would be recommended."""
    data = table(*TABLE, ("abe", "z", 2))
    row = data.users["original_id"].tolist().index(user)
    columns = {"user_id": [row], "movie_id": [0], "rating": [5.0]}
    with pytest.raises(ValueError, match=message):
        recommend(Known(), user, data, ratings=pd.DataFrame(columns | change))


def test_ratings_without_users_are_refused():
    own = pd.DataFrame({"movie_id": [0], "rating": [5.0]})
    with pytest.raises(
        ValueError, match=r"columns user_id and movie_id. Received: \['movie_id', 'r"
    ):
        recommend(Known(), "ann", table(*TABLE), ratings=own)


def test_the_advice_about_a_movie_rated_twice_can_be_followed():
    data = table(*TABLE)
    twice = pd.concat([data.ratings, data.ratings])
    with pytest.raises(ValueError, match=r"Received: movie \d again. Keep one: ") as caught:
        recommend(Known(), "cid", data, ratings=twice)
    advice = re.search(r"drop_duplicates\((.*)\)\.$", str(caught.value))[1]
    once = twice.drop_duplicates(eval(advice))
    assert recommend(Known(), "cid", data, ratings=once)["title"].tolist() == ["x"]


def test_data_of_which_the_model_knows_nothing_is_refused():
    with pytest.raises(
        ValueError, match=r"Received: 1 others, 'q' the first, .* the model has 'x'"
    ):
        recommend(Known(), 0, table(("ann", "q", 1)))


def test_the_whole_title_is_taken_before_one_that_holds_it():
    rows = [(user, "117", 1) for user in range(3)] + [(0, "17", 1), (0, "170", 1)]
    pair = np.eye(3), np.eye(3)
    assert neighbours(pair, "17", table(*rows)).attrs["movie_id"] == 1
    for part in ("7", "01"):
        with pytest.raises(LookupError, match=rf"'{part}'"):
            neighbours(pair, part, table(*rows))
    rows = [(user, "EMMA", 1) for user in range(3)] + [(0, "Emma", 1), (0, "emma", 1)]
    for title in ("EMMA", "Emma", "emma"):
        near = neighbours(pair, title, table(*rows))
        assert near.columns.name == f"nearest to {title} (2 more matched)"


def test_bad_requests_are_refused(small):
    with pytest.raises(ValueError, match=r"user should be an integer from 0 to 1. Received: 2"):
        recommend(PAIR, 2, small)
    for user in (1.5, [1.0], True, None):
        with pytest.raises(ValueError, match=r"user should be the row of .* of 2 numbers"):
            recommend(PAIR, user, small)
    with pytest.raises(ValueError, match=r"a row for each of the 2 users of data. Received: 1 row"):
        recommend((PAIR[0][:1], PAIR[1]), 0, small)
    with pytest.raises(ValueError, match=r"rated should be 'exclude' or 'mark'. Received: 'x'"):
        recommend(PAIR, 0, small, rated="x")
    for movie in (4, -1, 1.0):
        with pytest.raises(ValueError, match=r"movie should be an integer from 0 to 3. Received"):
            neighbours(PAIR, movie, small)
    with pytest.raises(ValueError, match=r"a row for each of the 4 movies .* Received: 3 rows"):
        neighbours((None, np.ones((3, 2))), 0, small)
    with pytest.raises(ValueError, match=r"model should have item_embeddings.*Received: dict"):
        neighbours({}, 0, small)
    with pytest.raises(ValueError, match=r"a pair .*Received: 3 parts"):
        neighbours((1, 2, 3), 0, small)
    twice = pd.DataFrame({"movie_id": [1, 1], "rating": [1, 2]})
    with pytest.raises(ValueError, match=r"each movie of the user once. Received: movie 1 again"):
        recommend(PAIR, [1, 0], small, ratings=twice)
    with pytest.raises(ValueError, match=r"ratings.movie_id .* = 3. Received: .*7"):
        recommend(PAIR, [1, 0], small, ratings=pd.DataFrame({"movie_id": [7], "rating": [1]}))


def test_scores_import_no_tensorflow():
    import subprocess

    code = "import sys, cfutils.scores; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
