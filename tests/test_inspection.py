import math

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from cfutils import inspection
from cfutils.inspection import (
    folding,
    genre_lift,
    map_quality,
    nearest_items,
    norm_persistence,
    norm_popularity,
)


def indicators(rows, names):
    return pd.DataFrame(rows, columns=names)


def random_movies(seed, num_movies=60, num_genres=3, k=5):
    """Neighbours and genres that have nothing to do with each other."""
    rng = np.random.default_rng(seed)
    nearest = nearest_items(rng.normal(size=(num_movies, 4)), k)
    genres = (rng.random((num_movies, num_genres)) < 0.3).astype(int)
    return nearest, indicators(genres, [f"g{i}" for i in range(num_genres)])


def test_nearest_items_by_hand():
    # cosines: items 0 and 1 point the same way, 2 is at 45 degrees, 3 opposite to 0
    items = np.array([[1, 0], [5, 0], [1, 1], [-1, 0]])
    assert nearest_items(items, 2).tolist() == [[1, 2], [0, 2], [0, 1], [2, 0]]
    # dot products of item 3 with 0, 1, 2: -1, -5, -1
    assert nearest_items(items, 1, measure="dot")[3].tolist() == [0]
    for k in (0, 4):
        with pytest.raises(ValueError, match=rf"less than the 4 items. Received: {k}"):
            nearest_items(items, k)


# Genres -------------------------------------------------------------------------------------------


def test_genre_lift_by_hand():
    # Movies 0-2 are A, 2 is B too, 3 has none. One neighbour each: 0 <-> 1, 2 -> 3, 3 -> 2.
    genres = indicators([[1, 0], [1, 0], [1, 1], [0, 0]], ["A", "B"])
    frame = genre_lift(np.array([[1], [0], [3], [2]]), genres, num_permutations=9)
    # A: 2 of its 3 movies' neighbours are A; by chance (3 - 1) / (4 - 1)
    assert frame.loc["A", ["num_movies", "agreement", "chance", "lift"]].tolist() == [
        3,
        pytest.approx(2 / 3),
        pytest.approx(2 / 3),
        pytest.approx(1),
    ]
    # any: 2 of 4; of the 12 ordered pairs the 6 among A share a genre
    assert frame.loc["any", ["num_movies", "agreement", "chance", "lift"]].tolist() == [
        4,
        0.5,
        0.5,
        1,
    ]
    assert frame.loc["B", ["agreement", "chance", "lift", "p_value"]].isna().all()


@settings(deadline=None)  # threads start at their own pace
@given(seed=st.integers(0, 300))
def test_agreement_and_chance_equal_plain_loops(seed):
    nearest, genres = random_movies(seed, num_movies=12, k=3)
    frame = genre_lift(nearest, genres, num_permutations=1)
    sets = [set(np.flatnonzero(row)) for row in genres.to_numpy()]
    shares = [bool(sets[i] & sets[j]) for i in range(12) for j in nearest[i]]
    assert frame.loc["any", "agreement"] == pytest.approx(np.mean(shares))
    pairs = [bool(sets[i] & sets[j]) for i in range(12) for j in range(12) if i != j]
    assert frame.loc["any", "chance"] == pytest.approx(np.mean(pairs))
    for g, name in enumerate(genres):
        mine = [i for i in range(12) if g in sets[i]]
        if len(mine) > 1:
            shares = [g in sets[j] for i in mine for j in nearest[i]]
            assert frame.loc[name, "agreement"] == pytest.approx(np.mean(shares))
            assert frame.loc[name, "num_movies"] == len(mine)


def test_the_p_value_is_that_of_all_permutations():
    # Six movies in a ring, each with the next as neighbour; two of them are A, side by side. Of
    # the 15 places of two movies 6 are side by side: p is 0.4 for many random permutations.
    nearest = (np.arange(6)[:, None] + 1) % 6
    genres = indicators([[1], [1], [0], [0], [0], [0]], ["A"])
    p = genre_lift(nearest, genres, num_permutations=4000).loc["A", "p_value"]
    assert abs(p - 0.4) < 4 * math.sqrt(0.4 * 0.6 / 4000)


def test_structureless_data_give_chance():
    values, lifts = [], []
    for seed in range(200):
        frame = genre_lift(*random_movies(seed, num_movies=80), num_permutations=49, seed=seed)
        values.append(frame["p_value"])
        lifts.append(frame["lift"])
    values, lifts = pd.DataFrame(values), pd.DataFrame(lifts)
    # p-values of a permutation test are uniform, or a little higher because of ties
    for name in values:
        for level in (0.1, 0.5):
            share = (values[name] <= level).mean()
            assert share < level + 4 * math.sqrt(level * (1 - level) / 200)
            assert share > level - 5 * math.sqrt(level * (1 - level) / 200)
    error = lifts.std() / math.sqrt(200)
    assert ((lifts.mean() - 1).abs() < 4 * error).all()


def test_planted_genres_are_found():
    # Ten tight groups of eight; the genre A is one group, B is dealt at random.
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(10, 6))
    items = np.repeat(centres, 8, axis=0) + 0.01 * rng.normal(size=(80, 6))
    genres = indicators(
        np.stack([np.arange(80) < 8, rng.permutation(80) < 20], axis=1).astype(int), ["A", "B"]
    )
    frame = genre_lift(nearest_items(items, 7), genres, num_permutations=99)
    assert frame.loc["A", "agreement"] == 1
    assert frame.loc["A", "lift"] == pytest.approx(79 / 7)
    assert frame.loc["A", "p_value"] == 1 / 100
    assert frame.loc["B", "p_value"] > 0.05


def test_genre_lift_is_repeatable_and_refuses_bad_input():
    nearest, genres = random_movies(0)
    runs = [genre_lift(nearest, genres, num_permutations=20, seed=3) for _ in range(2)]
    pd.testing.assert_frame_equal(*runs)
    with pytest.raises(ValueError, match=r"a row for each of the 60 movies .* shape \[59, 5\]"):
        genre_lift(nearest[1:], genres)
    with pytest.raises(ValueError, match=r"ids from 0 to 59. Received: -1"):
        genre_lift(np.where(nearest == nearest[0, 0], -1, nearest), genres)
    with pytest.raises(ValueError, match=r"indicators, 0 or 1. Received: 2"):
        genre_lift(nearest, genres + 1)


# Norms --------------------------------------------------------------------------------------------


def test_norm_and_popularity_by_hand():
    # norms 5, 1, 2, 3 have ranks 4, 1, 2, 3; popularity has ranks 3, 1, 2, 4: differences
    # 1, 0, 0, -1, so Spearman's rho is 1 - 6 * 2 / (4 * 15) = 0.8
    items = np.array([[3, 4], [1, 0], [0, 2], [3, 0]])
    assert norm_popularity(items, [10, 1, 2, 30]) == pytest.approx(0.8)
    assert math.isnan(norm_popularity(items, [7, 7, 7, 7]))


def test_persistence_by_bucket():
    # Bucket 0 is untouched, in bucket 1-4 the order is reversed, 5-19 holds two items only.
    initial = np.array([1.0, 2, 3, 1, 2, 3, 1, 2])[:, None]
    final = np.array([1.0, 2, 3, 9, 8, 7, 5, 6])[:, None]
    frame = norm_persistence(initial, final, [0, 0, 0, 1, 4, 2, 5, 19], edges=(0, 1, 5, 20))
    assert frame.index.tolist() == ["0", "1-4", "5-19"]
    np.testing.assert_allclose(frame["spearman"], [1, -1, np.nan])
    assert frame["num_items"].tolist() == [3, 3, 2]
    assert frame["initial_norm"].tolist() == [2, 2, 1.5]
    assert frame["final_norm"].tolist() == [2, 8, 5.5]
    frame = norm_persistence(initial, final, np.arange(8))
    assert frame.index.tolist() == ["0", "1-4", "5-19", "20-99", "100 or more"]
    assert frame["num_items"].tolist() == [1, 4, 3, 0, 0]
    with pytest.raises(ValueError, match=r"edges should hold all of popularity. Received: 20"):
        norm_persistence(initial, final, [20] * 8, edges=(0, 20))
    with pytest.raises(ValueError, match=r"same shape.*Received: \[7, 1\], \[8, 1\], 8"):
        norm_persistence(initial[1:], final, np.arange(8))


# Folding ------------------------------------------------------------------------------------------


def test_folding_by_hand():
    # Scores [[1, 2], [3, 6]]; (0, 0) is observed, as an explicit zero.
    users, items = [[1.0], [3.0]], [[1.0], [2.0]]
    observed = scipy.sparse.csr_array(([0.0], ([0], [0])), shape=(2, 2))
    # above 2.5: (0, 1, 4 by which) 0, 0.5, 3.5
    series = folding(users, items, observed, relatedness=2.5)
    assert series["mean_excess"] == pytest.approx((0 + 0.5 + 3.5) / 3)
    assert series["share_above"] == pytest.approx(2 / 3)
    # relatedness [[0, 1], [0, 10]]: excesses 1, 3, 0
    series = folding(users, items, observed, relatedness=([[1.0], [10]], [[0.0], [1]]))
    assert series["mean_excess"] == pytest.approx((1 + 3 + 0) / 3)


def test_two_disparate_groups_fold_without_the_unobserved():
    # Two users and two movies that share no rating. Embedded on one line, all ratings are met and
    # each is told to like the other's movie; on two axes none is.
    observed = scipy.sparse.csr_array(np.eye(2))
    folded = folding(np.ones((2, 1)), 5 * np.ones((2, 1)), observed)
    assert folded.tolist() == [5, 1]
    assert folding(np.eye(2), 5 * np.eye(2), observed).tolist() == [0, 0]


def test_folding_in_blocks_and_bad_input(monkeypatch):
    rng = np.random.default_rng(0)
    users, items = rng.normal(size=(50, 3)), rng.normal(size=(20, 3))
    observed = scipy.sparse.csr_array((rng.random((50, 20)) < 0.3).astype(float))
    scores = (users @ items.T)[observed.toarray() == 0]
    monkeypatch.setattr("cfutils.inspection._BLOCK", 7)
    series = folding(users, items, observed, relatedness=0.5)
    assert series["mean_excess"] == pytest.approx(np.maximum(scores - 0.5, 0).mean(), rel=1e-5)
    assert series["share_above"] == pytest.approx((scores > 0.5).mean())
    with pytest.raises(ValueError, match=r"observed should have shape \[50, 20\].*\[20, 50\]"):
        folding(users, items, observed.T)
    with pytest.raises(ValueError, match=r"leave a pair out. Received: all of \[1, 1\]"):
        folding([[1]], [[1]], scipy.sparse.csr_array([[1.0]]))


# Maps ---------------------------------------------------------------------------------------------


def test_a_faithful_map_and_a_random_one():
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(200, 2))
    turned = flat @ np.linalg.qr(rng.normal(size=(5, 5)))[0][:2]  # a plane in five dimensions
    assert map_quality(turned, 3 * flat).tolist() == [pytest.approx(1), pytest.approx(1)]
    quality = map_quality(turned, rng.normal(size=(200, 2)))
    assert quality["trustworthiness"] == pytest.approx(0.5, abs=0.06)
    assert abs(quality["distance_correlation"]) < 0.1


def test_trustworthiness_and_distance_correlation_differ():
    # The four clusters keep their members and change places: neighbours stay, distances don't.
    rng = np.random.default_rng(1)
    points = rng.normal(size=(120, 2))
    at = np.repeat([0, 1, 2, 3], 30)
    line, shuffled = np.arange(4) * 100.0, np.array([0, 300.0, 100, 200])
    quality = map_quality(
        points + line[at][:, None] * [1, 0],
        points + shuffled[at][:, None] * [1, 0],
        num_neighbors=5,
    )
    assert quality["trustworthiness"] == pytest.approx(1)
    assert quality["distance_correlation"] < 0.8


def test_map_quality_knows_cosines_and_refuses_bad_input():
    # On the unit circle the order of cosine distances is that of chords: both figures are 1.
    angles = np.random.default_rng(0).random(50)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    lengths = np.random.default_rng(1).uniform(1, 9, (50, 1))
    quality = map_quality(circle * lengths, circle, metric="cosine")
    assert quality.tolist() == [pytest.approx(1), pytest.approx(1)]
    with pytest.raises(ValueError, match=r"same number of rows. Received: 50 and 49"):
        map_quality(circle, circle[1:])
    with pytest.raises(ValueError, match=r"less than half of the 50 points. Received: 25"):
        map_quality(circle, circle, num_neighbors=25)


def test_tsne_map_keeps_separate_groups_apart_and_follows_its_seed():
    rng = np.random.default_rng(0)
    groups = np.repeat([0, 1], 40)
    points = rng.normal(size=(80, 5)) + 30 * groups[:, None]
    one, again, other = (inspection.tsne_map(points, perplexity=10, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert abs(one - other).max() > 0
    # the nearest neighbour of every point on the map is of its own group
    distances = np.linalg.norm(one[:, None] - one[None], axis=2) + 1e9 * np.eye(80)
    assert (groups[distances.argmin(axis=1)] == groups).all()
