import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfutils.baselines import ease_scores, fit_biases, popularity_scores
from cfutils.metrics import (
    chance_metrics,
    list_metrics,
    mean_interval,
    rank_candidates,
    ranking_metrics,
    verdict,
)


def ratings(*rows):
    return pd.DataFrame(rows, columns=["user_id", "movie_id", "rating"])


def random_ratings(seed, num_users=30, num_items=40, share=0.3):
    """Structureless: which cells are filled, and with what, depends on nothing."""
    rng = np.random.default_rng(seed)
    users, items = np.nonzero(rng.random((num_users, num_items)) < share)
    stars = rng.integers(1, 6, len(users)).astype(float)
    frame = pd.DataFrame({"user_id": users, "movie_id": items, "rating": stars})
    is_test = rng.random(len(frame)) < 0.3
    return frame[~is_test].reset_index(drop=True), frame[is_test].reset_index(drop=True)


def test_metrics_of_a_list_by_hand():
    # One user, six movies; movie 0 is known. Best three candidates: 4, 2, 1. Relevant: 2 and 5.
    train, test = ratings((0, 0, 5)), ratings((0, 2, 4), (0, 5, 5), (0, 1, 3))
    scores = np.array([[9.0, 3, 4, 1, 5, 2]])
    assert rank_candidates(scores, train, [0], 6, k=3).tolist() == [[4, 2, 1]]
    row = ranking_metrics(scores, train, test, 6, k=3).loc[0]
    assert row["num_relevant"] == 2
    assert row["recall"] == 1 / 2
    assert row["precision"] == pytest.approx(1 / 3)
    # the hit stands at position 2; ideally both would stand at positions 1 and 2
    assert row["ndcg"] == pytest.approx((1 / math.log2(3)) / (1 + 1 / math.log2(3)))


def test_perfect_and_worst_scores():
    train, test = random_ratings(0)
    truth = np.zeros((30, 40))
    truth[test["user_id"], test["movie_id"]] = test["rating"]
    best = ranking_metrics(truth, train, test, 40)
    assert (best["ndcg"] == 1).all()
    worst = ranking_metrics(-truth, train, test, 40, k=5)
    assert worst["ndcg"].mean() == 0


@given(seed=st.integers(0, 200), k=st.integers(1, 60))
def test_metrics_equal_a_plain_loop(seed, k):
    train, test = random_ratings(seed, num_users=4, num_items=12)
    if (test["rating"] < 4).all():
        return
    scores = np.random.default_rng(seed).normal(size=(4, 12))
    received = ranking_metrics(scores, train, test, 12, k=k)
    for user, row in received.iterrows():
        known = set(train.loc[train["user_id"] == user, "movie_id"])
        mine = test[test["user_id"] == user]
        relevant = set(mine.loc[mine["rating"] >= 4, "movie_id"])
        candidates = [
            j for j in sorted(range(12), key=lambda j: -scores[user, j]) if j not in known
        ]
        gains = [float(j in relevant) for j in candidates[:k]]
        dcg = sum(gain / math.log2(p + 2) for p, gain in enumerate(gains))
        ideal = sum(1 / math.log2(p + 2) for p in range(min(k, len(relevant))))
        assert row["num_relevant"] == len(relevant)
        assert row["recall"] == pytest.approx(sum(gains) / len(relevant))
        assert row["precision"] == pytest.approx(sum(gains) / k)
        assert row["ndcg"] == pytest.approx(dcg / ideal)


def test_training_movies_are_never_ranked_and_short_lists_are_padded():
    train = ratings(*[(0, j, 5) for j in range(4)])
    ranked = rank_candidates(np.ones((1, 5)), train, [0], 5, k=3)
    assert ranked.tolist() == [[4, -1, -1]]


def test_equal_scores_give_chance_though_ids_go_with_popularity():
    # The first 100 ids are the relevant ones. An order by id would find nothing else.
    users = range(400)
    test = ratings(*[(u, (7 * u) % 100, 5) for u in users])
    train = ratings(*[(u, 100 + u % 100, 5) for u in users])
    found = [
        ranking_metrics(np.zeros((400, 200)), train, test, 200, k=20)["recall"].mean(),
        ranking_metrics(lambda ids: np.zeros((len(ids), 200)), train, test, 200)["recall"].mean(),
    ]
    # 20 of 199 candidates, and 10 of 199; the 100 movies are the same for all users, so the
    # deviation is that of a draw of 20 of 200 without replacement: sqrt(.1 * .9 / 100) = 0.03.
    assert abs(found[0] - 20 / 199) < 4 * 0.03
    assert abs(found[1] - 10 / 199) < 4 * 0.022


def test_chance_is_the_mean_of_many_random_rankings():
    train, test = random_ratings(1)
    rng = np.random.default_rng(5)
    runs = [ranking_metrics(rng.random((30, 40)), train, test, 40, k=5).mean() for _ in range(400)]
    expected = chance_metrics(train, test, 40, k=5).mean()
    runs = pd.DataFrame(runs)
    for name in ("recall", "ndcg", "precision"):
        error = runs[name].std() / math.sqrt(len(runs))
        assert abs(runs[name].mean() - expected[name]) < 4 * error


def test_blocks_do_not_change_the_result(monkeypatch):
    train, test = random_ratings(2)
    scores = np.random.default_rng(0).normal(size=(30, 40))
    whole = ranking_metrics(scores, train, test, 40)
    monkeypatch.setattr("cfutils.metrics._CELLS", 7 * 40)
    pd.testing.assert_frame_equal(ranking_metrics(lambda ids: scores[ids], train, test, 40), whole)


def test_bad_scores_are_refused():
    train, test = ratings((0, 0, 5)), ratings((0, 2, 4))
    with pytest.raises(ValueError, match=r"NaN for user 0, movie 1"):
        ranking_metrics(np.array([[1, np.nan, 2]]), train, test, 3)
    with pytest.raises(ValueError, match=r"shape \[1, 3\].*Received: \[1, 2\]"):
        ranking_metrics(np.ones((1, 2)), train, test, 3)
    with pytest.raises(ValueError, match=r"relevant_rating=4.*highest 3"):
        ranking_metrics(np.ones((1, 3)), train, ratings((0, 2, 3)), 3)


def test_mean_interval_by_hand():
    # mean 2, standard error sqrt(1/3), t quantile with two degrees of freedom 4.302653
    interval = mean_interval([1, 2, 3])
    half = 4.302653 * math.sqrt(1 / 3)
    assert interval["mean"] == 2
    assert interval["low"] == pytest.approx(2 - half, abs=1e-5)
    assert interval["high"] == pytest.approx(2 + half, abs=1e-5)
    assert interval["n"] == 3


def test_mean_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    inside = 0
    for values in rng.normal(3, 2, size=(2000, 5)):
        interval = mean_interval(values, confidence=0.8)
        inside += interval["low"] < 3 < interval["high"]
    assert abs(inside / 2000 - 0.8) < 4 * math.sqrt(0.8 * 0.2 / 2000)


@pytest.mark.parametrize("values", [[1], [1, math.nan], [[1, 2]]])
def test_mean_interval_refuses_what_has_no_spread(values):
    with pytest.raises(ValueError, match="two or more finite"):
        mean_interval(values)


def test_list_metrics_by_hand():
    # Movie 0 stands in two lists, movie 2 in one, movies 1 and 3 in none: popularities 9, 9, 4.
    series = list_metrics([[0, 2], [0, -1]], [9, 7, 4, 1])
    assert series["median_popularity"] == 9
    assert series["coverage"] == 2 / 4
    # ascending counts 0, 0, 1, 2 with weights -3, -1, 1, 3: 7 / (4 * 3)
    assert series["gini"] == pytest.approx(7 / 12)


@given(seed=st.integers(0, 200))
def test_gini_is_the_mean_difference_of_all_pairs(seed):
    ranked = np.random.default_rng(seed).integers(0, 9, (5, 3))
    counts = np.bincount(ranked.ravel(), minlength=9)
    # half the mean absolute difference of two movies, relative to the mean count
    expected = np.abs(counts[:, None] - counts).mean() / (2 * counts.mean())
    assert list_metrics(ranked, np.ones(9))["gini"] == pytest.approx(expected)


def test_list_metrics_of_extremes():
    assert list_metrics([[0, 1], [2, 3]], np.ones(4)).tolist() == [1, 1, 0]
    assert list_metrics([[1], [1]], np.ones(4))["gini"] == 1 - 1 / 4
    with pytest.raises(ValueError, match=r"ids from -1 to 3. Received: 4"):
        list_metrics([[4]], np.ones(4))
    with pytest.raises(ValueError, match=r"a movie at least. Received: only empty places"):
        list_metrics([[-1]], np.ones(4))


def test_verdicts():
    # 2 -+ 2.48, see test_mean_interval_by_hand
    assert verdict([1, 2, 3])["verdict"] == "undecided"
    assert verdict([11, 12, 13])["verdict"] == "holds"
    assert verdict([-11, -12, -13])["verdict"] == "does not hold"
    # at 80 % the quantile is 1.886: 2 -+ 1.09
    assert verdict([1, 2, 3], confidence=0.8)["verdict"] == "holds"
    assert verdict([1, 2, 3]).index.tolist() == ["mean", "low", "high", "n", "verdict"]
    assert verdict([1, 2, 3])["low"] == mean_interval([1, 2, 3])["low"]
    assert verdict([0.0, 0.0])["verdict"] == "undecided"
    with pytest.raises(ValueError, match="two or more finite"):
        verdict([1])


def test_verdicts_without_an_effect_are_undecided_as_often_as_promised():
    rng = np.random.default_rng(1)
    readings = [verdict(values)["verdict"] for values in rng.normal(size=(1000, 5))]
    for reading in ("holds", "does not hold"):  # 2.5 % each
        assert readings.count(reading) / 1000 < 0.025 + 4 * math.sqrt(0.025 * 0.975 / 1000)


# Baselines ----------------------------------------------------------------------------------------


def test_biases_by_hand():
    # mean 3; movie 0 has residuals 1 and 2, movie 1 has -3; damping 1 adds one zero to each:
    # b = 3/3 = 1 and -3/2. User 0 is left with 1-1 = 0 and -3+1.5 = -1.5: -1.5/3; user 1: (2-1)/2.
    train = ratings((0, 0, 4), (1, 0, 5), (0, 1, 0))
    mean, users, items = fit_biases(train, 3, 3, damping=1)
    assert mean == 3
    np.testing.assert_allclose(items, [1, -1.5, 0])
    np.testing.assert_allclose(users, [-0.5, 0.5, 0])


def test_popularity_counts():
    scores = popularity_scores(ratings((0, 2, 1), (1, 2, 5), (1, 0, 3)), 2, 3)
    assert scores.tolist() == [[1, 0, 2], [1, 0, 2]]


@pytest.mark.parametrize("binary", [True, False])
def test_ease_solves_its_least_squares_problem(binary):
    train, _ = random_ratings(3, num_users=25, num_items=6)
    histories = np.zeros((25, 6))
    histories[train["user_id"], train["movie_id"]] = 1 if binary else train["rating"]
    scores = ease_scores(train, 25, 6, l2=2.0, binary=binary)
    for j in range(6):  # each column is a ridge regression on the other columns
        others = np.delete(histories, j, axis=1)
        weights = np.linalg.solve(others.T @ others + 2 * np.eye(5), others.T @ histories[:, j])
        np.testing.assert_allclose(scores[:, j], others @ weights, atol=1e-5)


def test_ease_gives_back_what_was_withheld_from_a_checkerboard():
    # Even users rate even movies, odd users odd ones; one rating of each user is held out.
    cells = [(u, j, 5) for u in range(12) for j in range(10) if (u + j) % 2 == 0]
    held = [(u, (u + 2 * u) % 10) for u in range(12)]
    held = {(u, j if (u + j) % 2 == 0 else (j + 1) % 10) for u, j in held}
    train = ratings(*[c for c in cells if c[:2] not in held])
    test = ratings(*[c for c in cells if c[:2] in held])
    result = ranking_metrics(ease_scores(train, 12, 10, l2=1.0), train, test, 10, k=1)
    assert (result["recall"] == 1).all()


def test_structureless_data_give_chance():
    found, chance = [], []
    for seed in range(8):
        train, test = random_ratings(seed, num_users=150, num_items=60)
        for scores in (
            ease_scores(train, 150, 60, l2=10.0),
            ease_scores(train, 150, 60, l2=100.0, binary=False),
        ):
            found.append(ranking_metrics(scores, train, test, 60)["ndcg"].mean())
            chance.append(chance_metrics(train, test, 60)["ndcg"].mean())
    interval = mean_interval(np.subtract(found, chance), confidence=0.999)
    assert interval["low"] < 0 < interval["high"]


def test_known_figures_on_movielens(movielens):
    # From an independent implementation on the same split: 846 users, popularity 0.131, EASE 0.329.
    train = movielens.ratings.drop(movielens.ratings.sample(frac=0.1, random_state=42).index)
    test = movielens.ratings.sample(frac=0.1, random_state=42)
    shape = movielens.num_users, movielens.num_items
    popular = ranking_metrics(popularity_scores(train, *shape), train, test, shape[1])
    assert len(popular) == 846
    assert popular["ndcg"].mean() == pytest.approx(0.131, abs=0.001)
    scores = ease_scores(train, *shape, l2=4000.0, binary=False)
    ease = ranking_metrics(scores, train, test, shape[1])
    assert ease["ndcg"].mean() == pytest.approx(0.329, abs=0.001)


def test_embeddings_rank_as_their_products_do():
    # Whole numbers: equal scores are many, and no order of summation changes them.
    rng = np.random.default_rng(0)
    users, items = rng.integers(-2, 3, (9, 3)), rng.integers(-2, 3, (40, 3))
    pairs = rng.permutation(9 * 40)[:90]
    train = pd.DataFrame({"user_id": pairs // 40, "movie_id": pairs % 40})
    chosen = [7, 0, 3, 8]
    expected = rank_candidates(users @ items.T, train, chosen, 40, k=7, seed=5)
    ranked = rank_candidates((users, items), train, chosen, 40, k=7, seed=5)
    np.testing.assert_array_equal(ranked, expected)
    with pytest.raises(ValueError, match="scores should have 40 item embeddings. Received: 39"):
        rank_candidates((users, items[1:]), train, chosen, 40)


def test_progress_is_shown_when_asked(capsys):
    scores, train = np.ones((3, 4)), pd.DataFrame({"user_id": [0], "movie_id": [1]})
    rank_candidates(scores, train, range(3), 4, k=2)
    assert capsys.readouterr().err == ""
    rank_candidates(scores, train, range(3), 4, k=2, progress=True)
    assert "0/3" in capsys.readouterr().err
