import dataclasses
import math
import tracemalloc
import types

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cfutils.baselines import ease_scores, ease_weights, fit_biases, popularity_scores
from cfutils.data import Dataset
from cfutils.metrics import (
    chance_metrics,
    list_metrics,
    mean_interval,
    rank_candidates,
    ranking_metrics,
    verdict,
)
from cfutils.tables import load_ratings

NUMBERS = st.one_of(st.integers(-3, 3).map(float), st.floats())


def dataset(num_users, num_items, *rows):
    """Ratings (user_num, item_num, rating) by the users u0, u1, ... of the items i0, i1, ..."""
    users, items = (
        [f"{kind}{n}" for n in range(count)] for kind, count in (("u", num_users), ("i", num_items))
    )
    return Dataset(
        pd.DataFrame({"user_id": users}),
        pd.DataFrame({"item_id": items, "title": items}),
        pd.DataFrame(rows, columns=["user_num", "item_num", "rating"]),
    )


def parts(data, is_test):
    return [dataclasses.replace(data, ratings=data.ratings[part]) for part in (~is_test, is_test)]


def random_parts(seed, num_users=30, num_items=40, share=0.3):
    """Structureless: which cells are filled, and with what, depends on nothing."""
    rng = np.random.default_rng(seed)
    users, items = np.nonzero(rng.random((num_users, num_items)) < share)
    stars = rng.integers(1, 6, len(users)).astype(float)
    data = dataset(num_users, num_items, *zip(users, items, stars, strict=True))
    return parts(data, rng.random(len(users)) < 0.3)


# Ranking ------------------------------------------------------------------------------------------


def test_metrics_of_a_list_by_hand():
    # One user, six items; item 0 is known. Best three candidates: 4, 2, 1. Relevant: 2 and 5.
    train = dataset(1, 6, (0, 0, 5))
    test = dataset(1, 6, (0, 2, 4), (0, 5, 5), (0, 1, 3))
    scores = np.array([[9.0, 3, 4, 1, 5, 2]])
    assert rank_candidates(scores, train, k=3).tolist() == [[4, 2, 1]]
    frame = ranking_metrics(scores, train, test, k=3)
    assert (frame.index.name, frame.index.tolist()) == ("user_num", [0])
    row = frame.loc[0]
    assert row["num_relevant"] == 2
    assert row["recall"] == 1 / 2
    assert row["precision"] == pytest.approx(1 / 3)
    # the hit stands at position 2; ideally both would stand at positions 1 and 2
    assert row["ndcg"] == pytest.approx((1 / math.log2(3)) / (1 + 1 / math.log2(3)))


@given(seed=st.integers(0, 200), k=st.integers(1, 60), least=st.sampled_from([1, 2.5, 4]))
def test_metrics_equal_a_plain_loop(seed, k, least):
    train, test = random_parts(seed, num_users=4, num_items=12, share=0.7)
    assume(test.ratings["rating"].max() >= least)
    scores = np.random.default_rng(seed).normal(size=(4, 12))
    received = ranking_metrics(scores, train, test, k=k, relevant_rating=least)
    known, mine = train.interactions().toarray(), test.interactions(binary=False).toarray()
    assert received.index.tolist() == [user for user in range(4) if mine[user].max() >= least]
    for user, row in received.iterrows():
        relevant = set(np.flatnonzero(mine[user] >= least))
        order = sorted(range(12), key=lambda j: -scores[user, j])
        gains = [float(j in relevant) for j in order if not known[user, j]][:k]
        dcg = sum(gain / math.log2(p + 2) for p, gain in enumerate(gains))
        ideal = sum(1 / math.log2(p + 2) for p in range(min(k, len(relevant))))
        assert row["num_relevant"] == len(relevant)
        assert row["recall"] == pytest.approx(sum(gains) / len(relevant))
        assert row["precision"] == pytest.approx(sum(gains) / k)
        assert row["ndcg"] == pytest.approx(dcg / ideal)


@given(arrays(float, (2, 4), elements=NUMBERS))
def test_lists_of_any_scores(scores):
    """Without NaN every list is in order and leaves out what is known; with NaN it is refused."""
    train = dataset(2, 4, (0, 3, 1.0))
    if np.isnan(scores).any():
        with pytest.raises(
            ValueError, match="scores should be numbers. Received: NaN for user_num"
        ):
            rank_candidates(scores, train, k=4)
        return
    for user, listed in enumerate(rank_candidates(scores, train, k=5)):
        candidates = [j for j in range(4) if scores[user, j] > -np.inf and (user, j) != (0, 3)]
        assert sorted(listed) == sorted([-1] * (5 - len(candidates)) + candidates)
        assert (listed[len(candidates) :] == -1).all()
        ordered = scores[user, listed[: len(candidates)]]
        assert (np.sort(ordered)[::-1] == ordered).all()


@pytest.mark.parametrize(
    "scores",
    [
        np.zeros((400, 200)),
        lambda users: np.zeros((len(users), 200)),
        (np.zeros((400, 2)), np.ones((200, 2))),
    ],
    ids=["array", "function", "embeddings"],
)
def test_equal_scores_give_chance_though_the_first_items_are_the_relevant_ones(scores):
    # An order by row would find all of them among the first 100, its reverse none.
    test = dataset(400, 200, *[(u, u % 100, 5) for u in range(400)])
    train = dataset(400, 200, *[(u, 100 + u % 100, 5) for u in range(400)])
    found = ranking_metrics(scores, train, test, k=100)["recall"].mean()
    # 100 of 199 candidates, about the same for all users: the deviation is that of a draw of 100
    # of 200 without replacement, sqrt(1/4 / 100 * 100/199) = 0.035.
    assert abs(found - 100 / 199) < 4 * 0.035
    usual, first, other = (
        rank_candidates(scores, train, [7], **seed) for seed in ({}, {"seed": 0}, {"seed": 1})
    )
    assert usual.tolist() == first.tolist() != other.tolist()
    assert usual.shape == (1, 10)


@given(seed=st.integers(0, 200))
def test_embeddings_rank_as_their_products_do(seed):
    # Whole numbers: equal scores are many, and no order of summation changes them.
    rng = np.random.default_rng(seed)
    train, _ = random_parts(seed, num_users=9, share=0.9)
    users, items = rng.integers(-2, 3, (9, 3)), rng.integers(-2, 3, (40, 3))
    chosen = [7, 0, 3, 8]
    expected = rank_candidates(users @ items.T, train, chosen, k=20, seed=5)
    ranked = rank_candidates([users, items], train, chosen, k=20, seed=5)
    np.testing.assert_array_equal(ranked, expected)


def test_a_model_is_ranked_by_its_ids():
    # The model knows the items in another order, and one user more.
    rng = np.random.default_rng(0)
    train, test = random_parts(0)
    U, V = rng.normal(size=(31, 5)).astype("f4"), rng.normal(size=(40, 5)).astype("f4")
    shuffled = rng.permutation(40)
    model = types.SimpleNamespace(user_embeddings=U, item_embeddings=V[shuffled])
    model.user_ids = pd.Index([f"u{n}" for n in range(31)], dtype="str")
    model.item_ids = pd.Index([f"i{n}" for n in shuffled], dtype="str")
    expected = ranking_metrics(U[:30] @ V.T, train, test)
    pd.testing.assert_frame_equal(ranking_metrics(model, train, test), expected)


def test_blocks_do_not_change_the_result(monkeypatch):
    train, test = random_parts(2)
    scores = np.random.default_rng(0).normal(size=(30, 40))
    whole = ranking_metrics(scores, train, test)
    monkeypatch.setattr("cfutils.metrics._CELLS", 7 * 40)
    pd.testing.assert_frame_equal(ranking_metrics(lambda ids: scores[ids], train, test), whole)


@pytest.mark.parametrize("kind", ["function", "embeddings"])
def test_four_times_the_users_take_no_more_memory_for_scores(kind):
    peaks = []
    for n in (500, 2_000, 8_000):  # what is only made once falls to the first
        U, V = np.ones((n, 8), "f4"), np.ones((2_000, 8), "f4")
        scores = (U, V) if kind == "embeddings" else lambda users, U=U, V=V: U[users] @ V.T
        train = dataset(n, 2_000, (0, 0, 1.0))
        tracemalloc.start()
        rank_candidates(scores, train, k=1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.6 * peaks[1]


def test_progress_is_shown_when_asked(capsys):
    train, test = dataset(3, 4, (0, 1, 5)), dataset(3, 4, (2, 1, 5))
    for scores in (np.ones((3, 4)), (np.ones((3, 1)), np.ones((4, 1)))):
        rank_candidates(scores, train)
        ranking_metrics(scores, train, test)
        assert capsys.readouterr().err == ""
        rank_candidates(scores, train, progress=True)
        assert "0/3" in capsys.readouterr().err
        ranking_metrics(scores, train, test, progress=True)
        assert "0/1" in capsys.readouterr().err


# What is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [0, True, 2.0, "10", None])
def test_a_list_has_a_length(k):
    train, test = dataset(1, 3, (0, 0, 5)), dataset(1, 3, (0, 2, 4))
    for function, *arguments in (
        (rank_candidates, np.ones((1, 3)), train),
        (ranking_metrics, np.ones((1, 3)), train, test),
        (chance_metrics, train, test),
    ):
        with pytest.raises(ValueError, match=f"k should be an integer, 1 or more. Received: {k!r}"):
            function(*arguments, k=k)


def test_users_are_rows():
    train = dataset(2, 3, (0, 0, 5))
    for users in ([2], [-1], [0.0], [True], ["u0"], [[0, 1]], 1):
        with pytest.raises(ValueError, match=r"rows of train.users, 0..1. Received: "):
            rank_candidates(np.ones((2, 3)), train, users)
    for scores in (np.ones((2, 3)), (np.ones((2, 1)), np.ones((3, 1)))):
        assert rank_candidates(scores, train, [], k=4).shape == (0, 4)


def test_scores_of_other_data_are_refused():
    train = dataset(2, 3, (0, 0, 5))
    for scores, message in (
        (np.ones((2, 2)), r"shape \[2, 3\], users by items"),
        (np.ones((3, 3)), r"shape \[2, 3\], users by items"),
        (np.ones(3), r"shape \[2, 3\], users by items"),
        (lambda users: np.ones((2, 3)), r"shape \[1, 3\].*Received: \[2, 3\]"),
        ((np.ones((2, 4)), np.ones((2, 4))), "the model's 2 items"),
    ):
        with pytest.raises(ValueError, match=message):
            rank_candidates(scores, train, [0])


def test_parts_that_do_not_belong_together_are_refused():
    train, test = dataset(2, 4, (0, 0, 5), (1, 1, 4)), dataset(2, 4, (0, 2, 5))
    ids = test.items.assign(item_id=["i1", "i2", "i3", "i0"])
    for message, other in {
        r"the 2 users of train, 'u0', .* Received: 3, 'u0'": dataset(3, 4, (0, 2, 5)),
        r"the 4 items of train, 'i0', .* Received: 3, 'i0'": dataset(2, 3, (0, 2, 5)),
        r"Received: 4, 'i1', 'i2'": dataclasses.replace(test, items=ids),
        r"no rating of train.* 1 of 2 in both, the first that of user_id u1 for item_id i1": (
            dataset(2, 4, (0, 2, 5), (1, 1, 5))
        ),
        r"at least relevant_rating=4.0. Received: 1 ratings, highest 3": dataset(2, 4, (0, 2, 3)),
        "be a Dataset. Received: DataFrame": test.ratings,
    }.items():
        with pytest.raises(ValueError, match=f"test should .*{message}"):
            chance_metrics(train, other)
        with pytest.raises(ValueError, match=f"test should .*{message}"):
            ranking_metrics(np.ones((2, 4)), train, other)
    with pytest.raises(ValueError, match=r"train should be a Dataset. Received: DataFrame. Take"):
        rank_candidates(np.ones((2, 4)), train.ratings)


@pytest.mark.parametrize("part", [None, "ratings", pd.DataFrame({"rating": [1]}), (1, 2)])
def test_baselines_want_a_dataset(part):
    for baseline in (fit_biases, popularity_scores, ease_weights, ease_scores):
        options = {"l2": 1.0} if baseline in (ease_weights, ease_scores) else {}
        with pytest.raises(ValueError, match="train should be a Dataset. Received: "):
            baseline(part, **options)


def test_options_out_of_range_are_named():
    train, test = dataset(2, 3, (0, 0, 5), (1, 0, 4)), dataset(2, 3, (0, 2, 4))
    scores = np.ones((2, 3))
    for seed in (-1, None, True, 1.5, "1"):
        with pytest.raises(ValueError, match=f"seed should be an integer.* Received: {seed!r}"):
            rank_candidates(scores, train, seed=seed)
    for least in (True, "4", math.nan, [4]):
        with pytest.raises(ValueError, match="relevant_rating should be a number or None"):
            ranking_metrics(scores, train, test, relevant_rating=least)
        with pytest.raises(ValueError, match="relevant_rating should be a number or None"):
            chance_metrics(train, test, relevant_rating=least)
    for confidence in (0, 1, 95, -0.5, True, math.nan, "0.95"):
        for function in (mean_interval, verdict):
            with pytest.raises(ValueError, match="confidence should be"):
                function([1, 2, 3], confidence)
    with pytest.raises(ValueError, match="l2 should be larger: no inverse at this"):
        ease_weights(dataset(1, 2, (0, 0, 5), (0, 1, 5)), l2=1e-300)  # two equal columns


def test_lists_of_scores_are_a_table_and_two_tables_are_embeddings():
    train = dataset(2, 3, (0, 0, 5))
    rows = [[3.0, 2, 1], [1, 2, 3]]  # as many as a pair has parts
    assert rank_candidates(rows, train, k=3).tolist() == [[1, 2, -1], [2, 1, 0]]
    for wrong in (np.full((2, 3), "1.0"), np.ones((2, 3), complex), np.full((2, 3), None)):
        with pytest.raises(ValueError, match=r"scores should be numbers of shape \[2, 3\]"):
            rank_candidates(wrong, train)


# Chance -------------------------------------------------------------------------------------------


def scaled(values):
    """Two users who rate four items each, with these ratings in turn; the second half is a test."""
    frame = pd.DataFrame({"u": np.repeat([0, 1], 4), "i": [*range(4)] * 2})
    frame["r"] = np.resize(np.asarray(values, float), 8)
    data = load_ratings(frame, user="u", item="i", rating="r")
    parts = data.ratings["item_num"] < 2, data.ratings["item_num"] >= 2
    return [
        dataclasses.replace(data, ratings=data.ratings[part].reset_index(drop=True))
        for part in parts
    ]


@pytest.mark.parametrize(
    ("values", "relevant"),
    [
        ([1, 5, 4, 3, 5, 2, 5, 4], 3),  # stars: 4 and 5 of those in the test, 4, 3, 5, 4
        ([0.5, 5, 3.5, 4, 1, 1, 4.5, 2], 2),  # half stars
        ([1], 4),  # no ratings: whatever was used
    ],
)
def test_what_is_relevant_follows_from_known_scales(values, relevant):
    train, test = scaled(values)
    scores = np.ones((2, 4))
    assert ranking_metrics(scores, train, test)["num_relevant"].sum() == relevant
    assert chance_metrics(train, test)["num_relevant"].sum() == relevant


@pytest.mark.parametrize(
    ("values", "scale"), [([1, 10, 7], "1 to 10"), ([0, 1], "0 to 1"), ([3, 4e5], "3 to 400")]
)
def test_on_other_scales_what_is_relevant_has_to_be_said(values, scale):
    train, test = scaled(values)
    for measure in (
        lambda **o: ranking_metrics(np.ones((2, 4)), train, test, **o),
        lambda **o: chance_metrics(train, test, **o),
    ):
        with pytest.raises(ValueError, match=f"{scale}.*relevant_rating="):
            measure()
        assert len(measure(relevant_rating=1)) == 2


def test_chance_is_the_mean_of_many_random_rankings():
    train, test = random_parts(1)
    rng = np.random.default_rng(5)
    runs = [ranking_metrics(rng.random((30, 40)), train, test, k=5).mean() for _ in range(400)]
    expected = chance_metrics(train, test, k=5).mean()
    runs = pd.DataFrame(runs)
    for name in ("recall", "ndcg", "precision"):
        error = runs[name].std() / math.sqrt(len(runs))
        assert abs(runs[name].mean() - expected[name]) < 4 * error


def test_chance_with_fewer_candidates_than_places():
    # Two candidates, one of them relevant, in lists of four: the hit is certain, in either place.
    train, test = dataset(2, 5, (1, 0, 5), (1, 1, 5), (1, 2, 5)), dataset(2, 5, (1, 3, 4))
    frame = chance_metrics(train, test, k=4)
    assert (frame.index.name, frame.index.tolist()) == ("user_num", [1])
    assert frame.loc[1].tolist() == [1, 1, pytest.approx((1 + 1 / math.log2(3)) / 2), 1 / 4]
    # ten places unless said otherwise
    assert chance_metrics(train, test).loc[1, "precision"] == 1 / 10
    assert frame.columns.tolist() == ["num_relevant", "recall", "ndcg", "precision"]


# Lists, intervals, verdicts -----------------------------------------------------------------------


def test_list_metrics_by_hand():
    # Item 0 stands in two lists, item 2 in one, items 1 and 3 in none: popularities 9, 9, 4.
    series = list_metrics([[0, 2], [0, -1]], [9, 7, 4, 1])
    assert series["median_popularity"] == 9
    assert series["coverage"] == 2 / 4
    # ascending counts 0, 0, 1, 2 with weights -3, -1, 1, 3: 7 / (4 * 3)
    assert series["gini"] == pytest.approx(7 / 12)
    assert list_metrics([[0, 1], [2, 3]], np.ones(4)).tolist() == [1, 1, 0]
    assert list_metrics([[1], [1]], np.ones(4))["gini"] == 1 - 1 / 4
    for wrong in (4, -2):
        with pytest.raises(ValueError, match=f"ranked should hold -1 to 3. Received: {wrong}"):
            list_metrics([[wrong]], np.ones(4))
    with pytest.raises(ValueError, match=r"an item at least. Received: only empty places"):
        list_metrics([[-1]], np.ones(4))
    for wrong in ([[0.0, 1]], [[math.nan]], [["0"]], [[True]], [0, 1], None):
        with pytest.raises(ValueError, match="ranked should be an array of integers"):
            list_metrics(wrong, np.ones(4))
    for wrong in ([math.nan, 1], ["1", "2"], np.ones((2, 2)), [], 3):
        with pytest.raises(ValueError, match="popularity should be an array of finite numbers"):
            list_metrics([[0]], wrong)


@given(seed=st.integers(0, 200))
def test_gini_is_the_mean_difference_of_all_pairs(seed):
    ranked = np.random.default_rng(seed).integers(0, 9, (5, 3))
    counts = np.bincount(ranked.ravel(), minlength=9)
    # half the mean absolute difference of two items, relative to the mean count
    expected = np.abs(counts[:, None] - counts).mean() / (2 * counts.mean())
    assert list_metrics(ranked, np.ones(9))["gini"] == pytest.approx(expected)


def test_mean_interval_and_verdict_by_hand():
    # mean 2, standard error sqrt(1/3), t quantile with two degrees of freedom 4.302653
    half = 4.302653 * math.sqrt(1 / 3)
    for series in (mean_interval([1, 2, 3]), verdict([1, 2, 3])):
        assert (series["mean"], series["n"]) == (2, 3)
        assert series["low"] == pytest.approx(2 - half, abs=1e-5)
        assert series["high"] == pytest.approx(2 + half, abs=1e-5)
    assert verdict([1, 2, 3]).index.tolist() == ["mean", "low", "high", "n", "verdict"]
    # 2 -+ 2.48; at 80 % the quantile is 1.886: 2 -+ 1.09
    assert verdict([1, 2, 3])["verdict"] == "undecided"
    assert verdict([1, 2, 3], confidence=0.8)["verdict"] == "holds"
    assert verdict([11, 12, 13])["verdict"] == "holds"
    assert verdict([-11, -12, -13])["verdict"] == "does not hold"
    assert verdict([0.0, 0.0])["verdict"] == "undecided"


def test_intervals_cover_as_often_as_they_say():
    rng = np.random.default_rng(0)
    intervals = [mean_interval(values, 0.8) for values in rng.normal(3, 2, size=(1000, 5))]
    inside = sum(interval["low"] < 3 < interval["high"] for interval in intervals)
    assert abs(inside / 1000 - 0.8) < 4 * math.sqrt(0.8 * 0.2 / 1000)


@given(
    st.one_of(
        st.lists(st.one_of(NUMBERS, st.sampled_from([None, "x"])), max_size=4), st.just([[1, 2]])
    )
)
def test_intervals_of_anything(values):
    good = len(values) > 1 and all(isinstance(v, float) and abs(v) < 1e150 for v in values)
    for function in (mean_interval, verdict):
        try:
            interval = function(values)[["low", "mean", "high"]]
        except ValueError as error:
            assert "values should be two or more finite numbers" in str(error)
            assert not good
        else:
            assert good
            assert np.isfinite(interval.to_numpy(float)).all()
            assert interval["low"] <= interval["mean"] <= interval["high"]


# Baselines ----------------------------------------------------------------------------------------


def test_biases_by_hand():
    # mean 3; item 0 has residuals 1 and 2, item 1 has -3; damping 1 adds one zero to each:
    # b = 3/3 = 1 and -3/2. User 0 is left with 1-1 = 0 and -3+1.5 = -1.5: -1.5/3; user 1: (2-1)/2.
    # Without damping: plain means 3/2, -3; left are -0.5 and 0 for user 0, 0.5 for user 1.
    train = dataset(3, 3, (0, 0, 4), (1, 0, 5), (0, 1, 0))
    for damping, of_users, of_items in (
        (1, [-0.5, 0.5, 0], [1, -1.5, 0]),
        (0, [-0.25, 0.5, 0], [1.5, -3, 0]),
    ):
        mean, users, items = fit_biases(train, damping=damping)
        assert mean == 3
        np.testing.assert_allclose(users, of_users)
        np.testing.assert_allclose(items, of_items)
    # five zeros unless said otherwise: 3/7, -3/6
    np.testing.assert_allclose(fit_biases(train)[2], [3 / 7, -1 / 2, 0])
    with pytest.raises(ValueError, match="damping should be a finite number, 0 or more"):
        fit_biases(train, damping=-1)


def test_popularity_counts():
    scores = popularity_scores(dataset(2, 4, (0, 2, 1), (1, 2, 5), (1, 0, 3)))
    assert scores.tolist() == [[1, 0, 2, 0], [1, 0, 2, 0]]


@pytest.mark.parametrize("binary", [True, False])
def test_ease_solves_its_least_squares_problem(binary):
    train, _ = random_parts(3, num_users=25, num_items=6)
    histories = np.zeros((25, 6))
    places = train.ratings["user_num"], train.ratings["item_num"]
    histories[places] = 1 if binary else train.ratings["rating"]
    scores = ease_scores(train, l2=2.0, binary=binary)
    for j in range(6):  # each column is a ridge regression on the other columns
        others = np.delete(histories, j, axis=1)
        weights = np.linalg.solve(others.T @ others + 2 * np.eye(5), others.T @ histories[:, j])
        np.testing.assert_allclose(scores[:, j], others @ weights, atol=1e-5)
    if binary:
        np.testing.assert_array_equal(ease_scores(train, l2=2.0), scores)
        np.testing.assert_allclose(histories @ ease_weights(train, l2=2.0), scores, atol=1e-5)
    for l2 in (0, -1, math.nan):
        with pytest.raises(ValueError, match="l2 should be a finite number, above 0"):
            ease_weights(train, l2=l2)


def test_ease_gives_back_what_was_withheld_from_a_checkerboard():
    # Even users rate even items, odd users odd ones; one rating of each user is held out.
    data = dataset(12, 10, *[(u, j, 5) for u in range(12) for j in range(u % 2, 10, 2)])
    held = (3 * data.ratings["user_num"] - data.ratings["item_num"]) % 10 == 0
    train, test = parts(data, held)
    assert len(test.ratings) == 12
    result = ranking_metrics(ease_scores(train, l2=1.0), train, test, k=1)
    assert (result["recall"] == 1).all()


def test_structureless_data_give_chance():
    differences = []
    for seed in range(8):
        train, test = random_parts(seed, num_users=150, num_items=60)
        chance = chance_metrics(train, test)["ndcg"].mean()
        for scores in (ease_scores(train, l2=10.0), ease_scores(train, l2=100.0, binary=False)):
            differences.append(ranking_metrics(scores, train, test)["ndcg"].mean() - chance)
    interval = mean_interval(differences, confidence=0.999)
    assert interval["low"] < 0 < interval["high"]


def test_known_figures_on_movielens(movielens):
    # From an independent implementation on the same split: 846 users, popularity 0.131, EASE 0.329.
    ratings = movielens.ratings
    is_test = ratings.index.isin(ratings.sample(frac=0.1, random_state=42).index)
    train, test = parts(movielens, is_test)
    popular = ranking_metrics(popularity_scores(train), train, test)
    assert len(popular) == 846
    assert popular["ndcg"].mean() == pytest.approx(0.131, abs=0.001)
    ease = ranking_metrics(ease_scores(train, l2=4000.0, binary=False), train, test)
    assert ease["ndcg"].mean() == pytest.approx(0.329, abs=0.001)
