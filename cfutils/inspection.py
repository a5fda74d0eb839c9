"""What embeddings know: genres among neighbours, norms against popularity, folding, maps."""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy.sparse
import scipy.stats
from numpy.typing import ArrayLike
from scipy.spatial.distance import pdist
from sklearn.manifold import TSNE, trustworthiness
from threadpoolctl import threadpool_limits

from cfutils import _checks
from cfutils.data import Dataset, as_array, check_dataset
from cfutils.scores import compute_scores, top_k

_BLOCK = 1024
_BUCKETS = {"0": 0, "1-4": 1, "5-19": 5, "20-99": 20, "100 or more": 100}
_MIN_GROUP = 3  # a rank correlation of two values is always 1 or -1


def nearest_items(
    item_embeddings: ArrayLike, k: int = 10, *, measure: str = "cosine"
) -> np.ndarray:
    """Finds the k < M nearest items of every item, itself left out: rows [M, k], nearest first.

    Takes an array [M, d]; `measure` as for `compute_scores`.
    """
    items = as_array("item_embeddings", item_embeddings, None, None)
    if _checks.positive_integer("k", k) >= len(items):
        raise ValueError(f"k should be less than the {len(items)} items. Received: {k}")
    itself = scipy.sparse.eye_array(len(items), format="csr")
    return top_k(items, items, k, measure=measure, exclude=itself)[0]


def genre_lift(
    nearest: ArrayLike, genres: pd.DataFrame, *, num_permutations: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Compares how often neighbours share a genre with how often random items do.

    For a genre g of n items among M, with k neighbours per item,

      agreement = share of the n k neighbours of g's items that are of g as well,
      chance = (n - 1) / (M - 1),   lift = agreement / chance.

    The p-value is that of a permutation test: the genres are dealt anew to the items, all genres of
    an item together, P = `num_permutations` times, and p = (1 + how often the agreement is as
    high) / (P + 1).

    Args:
        nearest: rows of items [M, k], as from `nearest_items`.
        genres: frame of 0 and 1, a row per item and a column per genre: `data.genre_table()`.

    Returns: a frame by `genre`: `num_items`, `agreement`, `chance`, `lift`, `p_value`; NaN for a
    genre of fewer than two items. The first row "any" is about neighbours that share at least one
    genre with the item. Of 19 genres about one has p <= 0.05 where there is nothing.
    Raises: ValueError if the shapes differ, a row is out of range or that of the item itself, or an
    indicator is not 0 or 1.
    Source: Phipson and Smyth, Permutation p-values should never be zero, 2010 (the added 1).
    """
    nearest, table = _neighbours(nearest, genres)
    num_permutations = _checks.positive_integer("num_permutations", num_permutations)
    count = len(table)
    rows, columns = np.repeat(np.arange(count), nearest.shape[1]), nearest.ravel()
    links = scipy.sparse.csr_array((np.ones(len(rows), "float32"), (rows, columns)), (count, count))
    kinds, kind, of_kind = np.unique(table, axis=0, return_inverse=True, return_counts=True)
    share = kinds @ kinds.T > 0  # whether items of two kinds have a genre in common

    def agreements(order: np.ndarray) -> np.ndarray:
        dealt, any_genre = table[order], share[kind[order[rows]], kind[order[columns]]].sum()
        return np.concatenate([[any_genre], (dealt * (links @ dealt)).sum(0, dtype="float64")])

    observed = agreements(np.arange(count))
    rng = np.random.default_rng(_checks.integer("seed", seed, 0))
    as_high = np.zeros(len(observed))
    for _ in range(num_permutations):
        as_high += agreements(rng.permutation(count)) >= observed
    sizes = np.concatenate([[count], table.sum(axis=0, dtype="float64")])
    chance = (sizes - 1) / (count - 1)
    pairs = of_kind @ share @ of_kind - of_kind[np.diag(share)].sum()  # none with itself
    chance[0] = pairs / (count * (count - 1))
    agreement = observed / np.where(sizes > 0, sizes * nearest.shape[1], np.nan)
    lift = agreement / np.where(chance > 0, chance, np.nan)
    shares = {"agreement": agreement, "chance": chance, "lift": lift}
    index = pd.Index(["any", *genres.columns], name="genre")
    frame = pd.DataFrame({"num_items": sizes.astype("int64"), **shares}, index)
    frame["p_value"] = (1 + as_high) / (1 + num_permutations)
    frame.loc[frame["num_items"] < 2, "agreement":] = np.nan
    return frame


def norm_popularity(item_embeddings: ArrayLike, popularity: ArrayLike) -> float:
    """Measures whether popular items have long embeddings: Spearman of |V_j| and popularity.

    Takes arrays [M, d] and [M]. From -1 to 1; NaN if one of the two is the same everywhere.
    """
    items = as_array("item_embeddings", item_embeddings, None, None)
    return _spearman(np.linalg.norm(items, axis=1), as_array("popularity", popularity, len(items)))


def norm_persistence(initial: ArrayLike, final: ArrayLike, popularity: ArrayLike) -> pd.DataFrame:
    """Measures, by popularity, how much of the initial norms is left after training.

    Takes item embeddings [M, d] before and after, and the number of training ratings [M].

    Returns: a frame by `popularity` (text such as "5-19"): `num_items`, `spearman` of initial and
    final norm, `initial_norm` and `final_norm`, medians. NaN where a bucket is too small, or all
    norms in it are the same.
    Raises: ValueError if lengths differ, or a popularity is negative or missing.
    """
    popularity = as_array("popularity", popularity, None)
    initial = as_array("initial", initial, len(popularity), None)
    tables = {"initial": initial, "final": as_array("final", final, *initial.shape)}
    if (popularity < 0).any():
        raise ValueError(f"popularity should be 0 or more. Received: {popularity.min()}")
    norms = pd.DataFrame({name: np.linalg.norm(v, axis=1) for name, v in tables.items()})
    buckets = pd.cut(popularity, [*_BUCKETS.values(), np.inf], right=False, labels=list(_BUCKETS))
    groups = norms.groupby(buckets, observed=False)
    frame = groups.size().to_frame("num_items")
    frame["spearman"] = [_spearman(*norms[buckets == name].to_numpy().T) for name in _BUCKETS]
    return frame.join(groups.median().add_suffix("_norm")).rename_axis("popularity")


def folding(
    user_embeddings: ArrayLike,
    item_embeddings: ArrayLike,
    train: Dataset,
    *,
    relatedness: float | tuple[ArrayLike, ArrayLike] = 0.0,
) -> pd.Series:
    """Measures spuriously high scores: how far those of unobserved pairs exceed relatedness.

      mean_excess = mean over the pairs (i, j) not in Omega of max(0, <U_i, V_j> - r_ij)
      share_above = share of those pairs with <U_i, V_j> > r_ij

    r_ij says how related user and item are. Xin et al. estimate it, by a truncated SVD or weighted
    ALS, and average over all pairs; we leave the observed ones out, whose scores are what was asked
    for. One number r, on the scale of the ratings, stands for a good rating where nobody gave one.

    Args:
        user_embeddings, item_embeddings: U [N, d] and V [M, d].
        train: its ratings are Omega.
        relatedness: the number r, or a pair of arrays ([N, e], [M, e]) whose products are r_ij.

    Returns: a series `mean_excess`, `share_above`.
    Raises: ValueError if a table has other users or items than `train`, or all pairs are rated.
    Source: Xin et al., Folding: Why Good Models Sometimes Make Spurious Recommendations, 2017.
    """
    check_dataset("train", train)
    shape = train.num_users, train.num_items
    if not isinstance(relatedness, (tuple, list)):
        relatedness = np.full((shape[0], 1), relatedness), np.ones((shape[1], 1))
    if len(relatedness) != 2:
        raise ValueError(
            f"relatedness should be a number or two arrays. Received: {len(relatedness)} parts."
        )
    users = as_array("user_embeddings", user_embeddings, shape[0], None)
    items = as_array("item_embeddings", item_embeddings, shape[1], users.shape[1])
    of_users = as_array("relatedness[0]", relatedness[0], shape[0], None)
    of_items = as_array("relatedness[1]", relatedness[1], shape[1], of_users.shape[1])
    # <U_i, V_j> - r_ij as one dot product
    users, items = np.hstack([users, of_users]), np.hstack([items, -of_items])
    observed = train.interactions()
    excess, above, pairs = 0.0, 0, 0
    for start in range(0, shape[0], _BLOCK):
        rows = slice(start, start + _BLOCK)
        kept = compute_scores(users[rows], items)[observed[rows].toarray() == 0]
        excess += np.maximum(kept, 0).sum(dtype="float64")
        above += int(np.count_nonzero(kept > 0))
        pairs += len(kept)
    if not pairs:
        raise ValueError("train should leave a pair out. Received: ratings of all pairs")
    return pd.Series({"mean_excess": excess / pairs, "share_above": above / pairs})


def tsne_map(embeddings: ArrayLike, *, perplexity: float = 30.0, seed: int = 0) -> np.ndarray:
    """Lays embeddings [M, d] out in two dimensions [M, 2] by t-SNE, from a random start.

    `perplexity`, below M, is about how many neighbours of each point the map tries to keep near.
    The coordinates are the same on one machine, not on every machine.

    Source: van der Maaten and Hinton, Visualizing Data using t-SNE, 2008; scikit-learn.
    Cost: a few seconds for thousands of points.
    """
    points = as_array("embeddings", embeddings, None, None).astype("float32")
    if _checks.finite("perplexity", perplexity, positive=True) >= len(points):
        raise ValueError(
            f"perplexity should be less than the {len(points)} embeddings. Received: {perplexity}"
        )
    seed = _checks.integer("seed", seed, 0)
    # A random start: from the PCA, scikit-learn's usual one, all seeds give the same map.
    layout = TSNE(
        2, perplexity=perplexity, init="random", random_state=seed, max_iter=500, n_jobs=1
    )
    with threadpool_limits(1):  # with more threads it is several times slower on a busy machine
        return layout.fit_transform(points)


def map_quality(
    embeddings: ArrayLike,
    coordinates: ArrayLike,
    *,
    num_neighbors: int = 10,
    metric: str = "euclidean",
) -> pd.Series:
    """Measures what a map keeps of the embeddings' neighbourhoods and distances, as a series.

      trustworthiness: 1 if the nearest neighbours on the map are near in the embedding space; a
          false neighbour costs by how far down the embedding space ranks it; 0.5 is about chance
      distance_correlation: Spearman of the distances of all pairs, before and after

    Takes arrays [M, d] and [M, 2]; trustworthiness looks at `num_neighbors` < M / 2. `metric` is
    that of the embeddings, "euclidean" or "cosine"; on the map distances are Euclidean.

    Source: Venna and Kaski, Neighborhood Preservation in Nonlinear Projection Methods, 2001.
    Cost: O(M^2 (d + log M)) time, O(M^2) memory: for thousands of points.
    """
    embeddings = as_array("embeddings", embeddings, None, None)
    coordinates = as_array("coordinates", coordinates, len(embeddings), 2)
    if metric not in ("euclidean", "cosine"):
        raise ValueError(f"metric should be 'euclidean' or 'cosine'. Received: {metric!r}.")
    if _checks.positive_integer("num_neighbors", num_neighbors) >= len(embeddings) / 2:
        raise ValueError(
            "embeddings should have more than twice as many rows as num_neighbors="
            f"{num_neighbors}. Received: {len(embeddings)}."
        )
    trust = trustworthiness(embeddings, coordinates, n_neighbors=num_neighbors, metric=metric)
    # the cosine of a vector of zeros is 0
    distances = np.nan_to_num(pdist(embeddings, metric), nan=1.0), pdist(coordinates)
    return pd.Series({"trustworthiness": trust, "distance_correlation": _spearman(*distances)})


def _neighbours(nearest: ArrayLike, genres: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(genres, pd.DataFrame) or not genres.size:
        raise ValueError(
            "genres should be a frame with a row per item and a column per genre. Received: "
            f"{type(genres).__name__}. data.genre_table() makes it."
        )
    table, count = genres.to_numpy(), len(genres)
    nearest = as_array("nearest", nearest, count, None, kinds="iu")
    itself = nearest == np.arange(count)[:, None]
    for name, values, bad, rule in (
        ("nearest", nearest, (nearest < 0) | (nearest >= count), f"rows from 0 to {count - 1}"),
        ("nearest", nearest, itself, "other items than that of the row"),
        ("genres", table, ~np.isin(table, (0, 1)), "indicators, 0 or 1"),
    ):
        if bad.any() or not values.size:
            raise ValueError(
                f"{name} should hold {rule}. Received: {_checks.shown(values[bad].tolist(), 1)}"
            )
    return nearest, table.astype("float32")


def _spearman(first: ArrayLike, second: ArrayLike) -> float:
    first, second = np.asarray(first), np.asarray(second)
    if len(first) < _MIN_GROUP or np.ptp(first) == 0 or np.ptp(second) == 0:
        return np.nan
    return float(scipy.stats.spearmanr(first, second).statistic)
