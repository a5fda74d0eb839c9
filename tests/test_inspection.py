import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfutils.data import Dataset
from cfutils.inspection import (
    folding,
    genre_lift,
    map_quality,
    nearest_items,
    norm_persistence,
    norm_popularity,
    tsne_map,
)


def random_items(seed, num_items=60, k=5):
    """Neighbours and genres that have nothing to do with each other."""
    rng = np.random.default_rng(seed)
    nearest = nearest_items(rng.normal(size=(num_items, 4)), k)
    genres = (rng.random((num_items, 3)) < 0.3).astype(int)
    return nearest, pd.DataFrame(genres, columns=["g0", "g1", "g2"])


def test_nearest_items_by_hand():
    # cosines: items 0 and 1 point the same way, 2 is at 45 degrees, 3 opposite to 0
    items = [[1, 0], [5, 0], [1, 1], [-1, 0]]
    assert nearest_items(items, 2).tolist() == [[1, 2], [0, 2], [0, 1], [2, 0]]
    # dot products of item 3 with 0, 1, 2: -1, -5, -1
    assert nearest_items(items, 1, measure="dot")[3].tolist() == [0]
    assert nearest_items(np.random.default_rng(0).normal(size=(20, 3))).shape == (20, 10)
    with pytest.raises(ValueError, match=r"k should be less than the 4 items. Received: 4"):
        nearest_items(items, 4)
    for k in (0, True):
        with pytest.raises(ValueError, match=rf"k should be an integer, 1 or more. Received: {k}"):
            nearest_items(items, k)


# Genres -------------------------------------------------------------------------------------------


def test_genre_lift_by_hand():
    # Items 0-2 are A, 2 is B too, 3 has none. One neighbour each: 0 <-> 1, 2 -> 3, 3 -> 2.
    genres = pd.DataFrame([[1, 0], [1, 0], [1, 1], [0, 0]], columns=["A", "B"])
    frame = genre_lift([[1], [0], [3], [2]], genres, num_permutations=9)
    assert frame.columns.tolist() == ["num_items", "agreement", "chance", "lift", "p_value"]
    assert frame.index.tolist() == ["any", "A", "B"]
    # A: 2 of its 3 items' neighbours are A; by chance (3 - 1) / (4 - 1)
    np.testing.assert_allclose(frame.loc["A"].iloc[:4].tolist(), [3, 2 / 3, 2 / 3, 1])
    # any: 2 of 4; of the 12 ordered pairs the 6 among A share a genre
    np.testing.assert_allclose(frame.loc["any"].iloc[:4].tolist(), [4, 0.5, 0.5, 1])
    assert frame.loc["B"].iloc[1:].isna().all()


@given(seed=st.integers(0, 300))
def test_agreement_and_chance_equal_plain_loops(seed):
    nearest, genres = random_items(seed, num_items=12, k=3)
    frame = genre_lift(nearest, genres, num_permutations=1)
    sets = [set(np.flatnonzero(row)) for row in genres.to_numpy()]
    shares = [bool(sets[i] & sets[j]) for i in range(12) for j in nearest[i]]
    assert frame.loc["any", "agreement"] == pytest.approx(np.mean(shares))
    pairs = [bool(sets[i] & sets[j]) for i in range(12) for j in range(12) if i != j]
    assert frame.loc["any", "chance"] == pytest.approx(np.mean(pairs))
    for g, name in enumerate(genres):
        mine = [i for i in range(12) if g in sets[i]]
        assert frame.loc[name, "num_items"] == len(mine)
        if len(mine) > 1:
            shares = [g in sets[j] for i in mine for j in nearest[i]]
            assert frame.loc[name, "agreement"] == pytest.approx(np.mean(shares))


@pytest.mark.parametrize("name", ["A", "any"])
def test_the_p_value_is_that_of_all_permutations(name):
    # Six items in a ring, each with the next as neighbour; two of them are A, side by side. Of
    # the 15 places of two items 6 are side by side: p is 0.4 for many random permutations.
    nearest = (np.arange(6)[:, None] + 1) % 6
    genres = pd.DataFrame({"A": [1, 1, 0, 0, 0, 0]})
    p = genre_lift(nearest, genres, num_permutations=4000).loc[name, "p_value"]
    assert abs(p - 0.4) < 4 * math.sqrt(0.4 * 0.6 / 4000)


def test_structureless_data_give_chance():
    frames = [
        genre_lift(*random_items(seed, num_items=80), num_permutations=49, seed=seed)
        for seed in range(200)
    ]
    values = pd.DataFrame([frame["p_value"] for frame in frames])
    lifts = pd.DataFrame([frame["lift"] for frame in frames])
    # p-values of a permutation test are uniform, or a little higher because of ties
    for level in (0.1, 0.5):
        shares, error = (values <= level).mean(), math.sqrt(level * (1 - level) / 200)
        assert (shares < level + 4 * error).all()
        assert (shares > level - 5 * error).all()
    assert ((lifts.mean() - 1).abs() < 4 * lifts.std() / math.sqrt(200)).all()


def test_planted_genres_are_found():
    # Ten tight groups of eight; the genre A is one group, B is dealt at random.
    rng = np.random.default_rng(0)
    items = np.repeat(rng.normal(size=(10, 6)), 8, axis=0) + 0.01 * rng.normal(size=(80, 6))
    genres = pd.DataFrame({"A": np.arange(80) < 8, "B": rng.permutation(80) < 20}).astype(int)
    frame = genre_lift(nearest_items(items, 7), genres)
    assert frame.loc["A", "agreement"] == 1
    assert frame.loc["A", "lift"] == pytest.approx(79 / 7)
    assert frame.loc["A", "p_value"] == 1 / 1001  # 1,000 permutations unless said otherwise
    assert frame.loc["B", "p_value"] > 0.05


def test_genre_lift_is_repeatable_and_refuses_bad_input():
    nearest, genres = random_items(0)
    usual, first, other = (
        genre_lift(nearest, genres, num_permutations=20, **seed)
        for seed in ({}, {"seed": 0}, {"seed": 1})
    )
    pd.testing.assert_frame_equal(usual, first)
    assert (usual["p_value"] != other["p_value"]).any()
    for wrong, message in (
        (nearest[1:], r"nearest should be .* integers, \[60, any\]. Received: ndarray, \[59, 5\]"),
        (nearest[:, 0], r"integers, \[60, any\]. Received: ndarray, \[60\]"),
        (nearest[:, :0], r"integers, \[60, any\]. Received: ndarray, \[60, 0\]"),
        (np.arange(60)[:, None], "other items than that of the row. Received: 0"),
        (nearest + 0.5, "nearest should be an array of integers.* float64"),
        (nearest - 1, "rows from 0 to 59. Received: -1"),
        (nearest + 1, "rows from 0 to 59. Received: 60"),
    ):
        with pytest.raises(ValueError, match=message):
            genre_lift(wrong, genres)
    with pytest.raises(ValueError, match=r"indicators, 0 or 1. Received: 2"):
        genre_lift(nearest, genres + 1)
    for wrong in (genres.to_numpy(), genres["g0"], genres[[]], None):
        with pytest.raises(ValueError, match="genres should be a frame .* data.genre_table"):
            genre_lift(nearest, wrong)
    for option in ({"num_permutations": 0}, {"num_permutations": True}, {"seed": -1}):
        with pytest.raises(ValueError, match=f"{next(iter(option))} should be an integer"):
            genre_lift(nearest, genres, **option)


@pytest.mark.parametrize(
    "table", [None, "abc", 3.0, np.ones(5), [[1, 2], [3]], [["a"]] * 5, [[math.nan]] * 5]
)
def test_what_is_no_table_of_embeddings_is_refused(table):
    good = np.eye(5)
    for function in (
        lambda: nearest_items(table, 1),
        lambda: norm_popularity(table, np.arange(5)),
        lambda: norm_persistence(good, table, np.arange(5)),
        lambda: folding(table, good, observed(np.eye(5))),
        lambda: tsne_map(table),
        lambda: map_quality(table, good[:, :2], num_neighbors=2),
    ):
        with pytest.raises(ValueError, match=r"should be an array of finite numbers.* Received: "):
            function()


# Norms --------------------------------------------------------------------------------------------


def test_norm_and_popularity_by_hand():
    # norms 5, 1, 2, 3 have ranks 4, 1, 2, 3; popularity has ranks 3, 1, 2, 4: differences
    # 1, 0, 0, -1, so Spearman's rho is 1 - 6 * 2 / (4 * 15) = 0.8
    items = np.array([[3, 4], [1, 0], [0, 2], [3, 0]])
    assert norm_popularity(items, [10, 1, 2, 30]) == pytest.approx(0.8)
    assert math.isnan(norm_popularity(items, [7, 7, 7, 7]))
    assert math.isnan(norm_popularity(np.ones((4, 2)), [1, 2, 3, 4]))


def test_persistence_by_bucket():
    # Bucket 0 is untouched, in bucket 1-4 the order is reversed, 5-19 holds two items only.
    initial = np.array([1.0, 2, 9, 1, 2, 3, 1, 2])[:, None]
    final = np.array([1.0, 2, 9, 9, 8, 1, 5, 6])[:, None]
    frame = norm_persistence(initial, final, [0, 0, 0, 1, 4, 2, 5, 19])
    assert frame.index.tolist() == ["0", "1-4", "5-19", "20-99", "100 or more"]
    np.testing.assert_allclose(frame["spearman"], [1, -1, np.nan, np.nan, np.nan])
    assert frame["num_items"].tolist() == [3, 3, 2, 0, 0]
    np.testing.assert_allclose(frame["initial_norm"], [2, 2, 1.5, np.nan, np.nan])
    np.testing.assert_allclose(frame["final_norm"], [2, 8, 5.5, np.nan, np.nan])
    frame = norm_persistence(initial, final, [20, 99, 100, 9999, 20, 20, 20, 20])
    assert frame["num_items"].tolist() == [0, 0, 0, 6, 2]
    for odd in (-1, np.nan):
        with pytest.raises(ValueError, match=rf"popularity should be .* Received: {odd}"):
            norm_persistence(initial, final, [odd] + [1] * 7)
    with pytest.raises(
        ValueError, match=r"initial should be .*\[8, any\]. Received: ndarray, \[7, 1\]"
    ):
        norm_persistence(initial[1:], final, np.arange(8))


# Folding ------------------------------------------------------------------------------------------


def observed(pattern):
    """A Dataset whose ratings are where the pattern [N, M] is true, all of them 0."""
    users, items = np.nonzero(pattern)
    ids = [[str(n) for n in range(count)] for count in np.shape(pattern)]
    return Dataset(
        pd.DataFrame({"user_id": ids[0]}),
        pd.DataFrame({"item_id": ids[1], "title": ids[1]}),
        pd.DataFrame({"user_num": users, "item_num": items, "rating": 0.0}),
    )


def test_folding_by_hand():
    # Scores [[1, 2, 0], [3, 6, 0]]; (0, 0) and the last column are observed.
    users, items = [[1.0], [3.0]], [[1.0], [2.0], [0.0]]
    train = observed([[1, 0, 1], [0, 0, 1]])
    # above 2.5: 0, 0.5, 3.5
    series = folding(users, items, train, relatedness=2.5)
    assert series["mean_excess"] == pytest.approx((0 + 0.5 + 3.5) / 3)
    assert series["share_above"] == pytest.approx(2 / 3)
    # relatedness [[0, 1, 9], [0, 10, 90]]: excesses 1, 3, 0
    series = folding(users, items, train, relatedness=[[[1.0], [10]], [[0.0], [1], [9]]])
    assert series["mean_excess"] == pytest.approx((1 + 3 + 0) / 3)
    # Two users and two items that share no rating. Embedded on one line, all ratings are met and
    # each is told to like the other's item; on two axes none is.
    ones, eye = np.ones((2, 1)), np.eye(2)
    assert folding(ones, 5 * ones, observed(eye)).tolist() == [5, 1]
    assert folding(eye, 5 * eye, observed(eye)).tolist() == [0, 0]


def test_folding_in_blocks_equals_the_whole(monkeypatch):
    rng = np.random.default_rng(0)
    shapes = (50, 3), (20, 3), (50, 2), (20, 2)
    users, items, related, by = (rng.normal(size=shape) for shape in shapes)
    pattern = rng.random((50, 20)) < 0.3
    monkeypatch.setattr("cfutils.inspection._BLOCK", 7)
    for relatedness, expected in ((0.5, 0.5), ((related, by), related @ by.T)):
        series = folding(users, items, observed(pattern), relatedness=relatedness)
        excess = (users @ items.T - expected)[~pattern]
        assert series["mean_excess"] == pytest.approx(np.maximum(excess, 0).mean(), rel=1e-5)
        assert series["share_above"] == pytest.approx((excess > 0).mean())


def test_folding_refuses_tables_of_other_data():
    users, items, train = np.ones((3, 1)), np.ones((2, 1)), observed(np.eye(3, 2))
    for tables, relatedness, received in (
        ((items, users), 0.0, r"user_embeddings should be .*\[3, any\]. Received: .*\[2, 1\]"),
        ((users, items), (users, users), r"relatedness\[1\] should be .*\[2, 1\]. .*\[3, 1\]"),
        ((users, items), (users,), "relatedness should be a number or two arrays. .* 1 parts"),
    ):
        with pytest.raises(ValueError, match=received):
            folding(*tables, train, relatedness=relatedness)
    with pytest.raises(ValueError, match=r"leave a pair out. Received: ratings of all pairs"):
        folding([[1]], [[1]], observed([[1]]))


# Maps ---------------------------------------------------------------------------------------------


def test_a_faithful_map_and_a_random_one():
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(200, 2))
    turned = flat @ np.linalg.qr(rng.normal(size=(5, 5)))[0][:2]  # a plane in five dimensions
    assert map_quality(turned, 3 * flat).tolist() == [pytest.approx(1), pytest.approx(1)]
    random = rng.normal(size=(200, 2))
    quality = map_quality(turned, random)
    assert quality.tolist() == map_quality(turned, random, num_neighbors=10).tolist()
    assert quality["trustworthiness"] == pytest.approx(0.5, abs=0.06)
    assert abs(quality["distance_correlation"]) < 0.1


def test_trustworthiness_and_distance_correlation_differ():
    # The four clusters keep their members and change places: neighbours stay, distances don't.
    points = np.random.default_rng(1).normal(size=(120, 2))
    line, shuffled = (np.repeat(x, 30)[:, None] * [100, 0] for x in ([0, 1, 2, 3], [0, 3, 1, 2]))
    near, far = (map_quality(points + line, points + shuffled, num_neighbors=n) for n in (5, 50))
    assert near["trustworthiness"] == pytest.approx(1)
    assert near["distance_correlation"] < 0.8
    assert far["trustworthiness"] < 0.95  # 29 others in a cluster


def test_map_quality_knows_cosines_and_refuses_bad_input():
    # On the unit circle the order of cosine distances is that of chords: both figures are 1.
    angles = np.random.default_rng(0).random(50)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    lengths = np.random.default_rng(1).uniform(1, 9, (50, 1))
    quality = map_quality(circle * lengths, circle, metric="cosine")
    assert quality.tolist() == [pytest.approx(1), pytest.approx(1)]
    with pytest.raises(
        ValueError, match=r"coordinates should be .*\[50, 2\]. Received: ndarray, \[49, 2\]"
    ):
        map_quality(circle, circle[1:])
    for number, message in (
        (25, "more than twice as many rows as num_neighbors"),
        (0, "1 or more"),
    ):
        with pytest.raises(ValueError, match=message):
            map_quality(circle, circle, num_neighbors=number)
    circle[0] = 0  # at a distance of 1 from all others: its cosine with them is 0
    assert np.isfinite(map_quality(circle, circle, metric="cosine")).all()
    with pytest.raises(ValueError, match="metric should be 'euclidean' or 'cosine'. .*'cosin'"):
        map_quality(circle, circle, metric="cosin")


def test_tsne_map_keeps_separate_groups_apart_and_follows_its_seed():
    rng = np.random.default_rng(0)
    groups = np.repeat([0, 1], 40)
    points = rng.normal(size=(80, 5)) + 30 * groups[:, None]
    for perplexity, message in ((80, "less than the 80 embeddings"), (0, "above 0")):
        with pytest.raises(ValueError, match=f"perplexity should be .*{message}"):
            tsne_map(points, perplexity=perplexity)
    one, again, reseeded, narrower = (
        tsne_map(points, **options)
        for options in ({}, {"perplexity": 30, "seed": 0}, {"seed": 1}, {"perplexity": 10})
    )
    np.testing.assert_array_equal(one, again)
    for other in (reseeded, narrower):
        assert abs(one - other).max() > 0
    # the nearest neighbour of every point on the map is of its own group
    distances = np.linalg.norm(one[:, None] - one[None], axis=2) + 1e9 * np.eye(80)
    assert (groups[distances.argmin(axis=1)] == groups).all()
