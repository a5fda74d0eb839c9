"""What embeddings know: genres among neighbours, norms against popularity, folding, maps."""

import itertools

import numpy as np
import pandas as pd
import scipy.sparse
import scipy.stats
from scipy.spatial.distance import pdist
from sklearn.manifold import TSNE, trustworthiness
from threadpoolctl import threadpool_limits

from cfutils.scores import compute_scores, top_k

_BLOCK = 1024
_MIN_GROUP = 3  # a rank correlation of two values is always 1 or -1


def nearest_items(item_embeddings, k=10, *, measure="cosine"):
    """Finds the k nearest items of every item, itself left out.

    Args:
        item_embeddings: array [M, d], M > k.
        k: how many.
        measure: as for `cfutils.scores.compute_scores`.

    Returns:
        Ids [M, k], nearest first.

    Raises:
        ValueError: if there are not k other items.

    Cost: O(M^2 d) time, memory as for `cfutils.scores.top_k`.
    """
    count = len(item_embeddings)
    if not 0 < k < count:
        raise ValueError(f"k should be at least 1 and less than the {count} items. Received: {k}")
    itself = scipy.sparse.eye_array(count, format="csr")
    ids, _ = top_k(item_embeddings, item_embeddings, k, measure=measure, exclude=itself)
    return ids


def genre_lift(nearest, genres, *, num_permutations=1000, seed=0):
    """Compares how often neighbours share a genre with how often random movies do.

    For a genre g of n movies among M, with k neighbours per movie,

      agreement = share of the n k neighbours of g's movies that are of g as well,
      chance = (n - 1) / (M - 1),   lift = agreement / chance.

    The p-value is that of a permutation test: the genres are dealt anew to the movies, all genres
    of a movie together, P times, and p = (1 + how often the agreement is as high) / (P + 1). The
    row "any" is about neighbours that share at least one genre with the movie; its chance is the
    share of all pairs of movies that do.

    Args:
        nearest: ids [M, k], row i for movie i, as from `nearest_items`.
        genres: frame of indicators, 0 or 1, with a row per movie and a column per genre.
        num_permutations: P.
        seed: of the permutations.

    Returns:
        A frame by `genre`, "any" first: `num_movies`, `agreement`, `chance`, `lift`, `p_value`.
        Agreement, lift and p-value are NaN for a genre of fewer than two movies. With 19 genres,
        one p-value of about 0.05 is to be expected where there is nothing.

    Raises:
        ValueError: if the shapes differ, an id is out of range, or an indicator is not 0 or 1.

    Source: Phipson and Smyth, Permutation p-values should never be zero, 2010 (the added 1).
    Cost: O(P M k G) time and O(M (k + G)) memory for G genres.
    """
    nearest, table = np.asarray(nearest), genres.to_numpy()
    count = len(table)
    if nearest.ndim != 2 or len(nearest) != count or not nearest.size:
        raise ValueError(
            f"nearest should have a row for each of the {count} movies of genres. "
            f"Received: shape {list(nearest.shape)}"
        )
    wrong = nearest[(nearest < 0) | (nearest >= count)]
    if len(wrong):
        raise ValueError(f"nearest should hold ids from 0 to {count - 1}. Received: {wrong[0]}")
    if not np.isin(table, (0, 1)).all():
        odd = table[~np.isin(table, (0, 1))][0]
        raise ValueError(f"genres should hold indicators, 0 or 1. Received: {odd}")
    table = table.astype("float32")
    rows = np.repeat(np.arange(count), nearest.shape[1])
    links = scipy.sparse.csr_array(
        (np.ones(nearest.size, "float32"), (rows, nearest.ravel())), shape=(count, count)
    )
    packed = np.packbits(table.astype(bool), axis=1)

    def agreements(dealt):
        shared = (packed[dealt][rows] & packed[dealt][nearest.ravel()]).any(axis=1).sum()
        dealt = table[dealt]
        return np.concatenate([[shared], (dealt * (links @ dealt)).sum(axis=0, dtype="float64")])

    observed = agreements(np.arange(count))
    rng = np.random.default_rng(seed)
    as_high = np.zeros(len(observed))
    for _ in range(num_permutations):
        as_high += agreements(rng.permutation(count)) >= observed
    sizes = table.sum(axis=0, dtype="float64")
    frame = pd.DataFrame(
        {
            "num_movies": np.concatenate([[count], sizes]).astype("int64"),
            "agreement": observed / nearest.shape[1],
            "chance": np.concatenate([[_chance_of_sharing(packed)], (sizes - 1) / (count - 1)]),
            "p_value": (1 + as_high) / (1 + num_permutations),
        },
        index=pd.Index(["any", *genres.columns], name="genre"),
    )
    frame["agreement"] /= frame["num_movies"].where(frame["num_movies"] > 0)
    frame.loc[frame["num_movies"] < 2, ["agreement", "chance", "p_value"]] = np.nan
    frame.insert(3, "lift", frame["agreement"] / frame["chance"].where(frame["chance"] > 0))
    return frame


def norm_popularity(item_embeddings, popularity):
    """Measures whether popular items have long embeddings: Spearman of |V_j| and popularity.

    Args:
        item_embeddings: array [M, d].
        popularity: array [M].

    Returns:
        The rank correlation, from -1 to 1; NaN if one of the two is the same everywhere.

    Cost: O(M d + M log M) time, O(M) memory beside a float64 copy.
    """
    return _spearman(np.linalg.norm(item_embeddings, axis=1), popularity)


def norm_persistence(initial, final, popularity, *, edges=(0, 1, 5, 20, 100, np.inf)):
    """Measures, by popularity, how much of the initial norms is left after training.

    Args:
        initial: item embeddings [M, d] before training.
        final: item embeddings [M, d] after training.
        popularity: array [M], the number of training ratings.
        edges: a bucket holds the items with edge <= popularity < next edge; ascending.

    Returns:
        A frame by `popularity` (text such as "5-19"): `num_items`, `spearman` of initial and final
        norm, `initial_norm` and `final_norm`, medians. NaN where a bucket is too small, or all
        norms in it are the same.

    Raises:
        ValueError: if lengths differ, or an item lies in no bucket.

    Cost: O(M d + M log M) time, O(M) memory beside a float64 copy.
    """
    if not np.shape(initial) == np.shape(final) == (len(popularity), np.shape(final)[-1]):
        raise ValueError(
            "initial and final should have the same shape, a row per value of popularity. "
            f"Received: {list(np.shape(initial))}, {list(np.shape(final))}, {len(popularity)}"
        )
    norms = pd.DataFrame(
        {name: np.linalg.norm(v, axis=1) for name, v in (("initial", initial), ("final", final))}
    )
    names = [_interval_name(low, high) for low, high in itertools.pairwise(edges)]
    buckets = pd.cut(np.asarray(popularity), edges, right=False, labels=names)
    if buckets.isna().any():
        odd = np.asarray(popularity)[buckets.isna()][0]
        raise ValueError(f"edges should hold all of popularity. Received: {odd}, edges {edges}")
    groups = norms.groupby(buckets, observed=False)
    parts = [norms[buckets == name] for name in names]
    return pd.DataFrame(
        {
            "num_items": groups.size(),
            "spearman": [_spearman(*of.to_numpy().T) for of in parts],
            "initial_norm": groups["initial"].median(),
            "final_norm": groups["final"].median(),
        }
    ).rename_axis("popularity")


def folding(user_embeddings, item_embeddings, observed, *, relatedness=0.0):
    """Measures spuriously high scores: how far those of unobserved pairs exceed relatedness.

      mean_excess = mean over the pairs (i, j) not in Omega of max(0, <U_i, V_j> - r_ij)
      share_above = share of those pairs with <U_i, V_j> > r_ij

    r_ij says how likely user and item are to have to do with each other. Xin et al. estimate it
    per pair, by a truncated SVD of the observations or weighted ALS, and average over all pairs.
    We leave the observed ones out: their scores are what was asked for. With one number r for all
    pairs, on the scale of the ratings, this measures how much the model expects a good rating
    where nobody gave one.

    Args:
        user_embeddings: U [N, d].
        item_embeddings: V [M, d].
        observed: SciPy sparse matrix [N, M]; its stored entries are Omega.
        relatedness: the number r, or a pair of arrays ([N, e], [M, e]) whose products are r_ij.

    Returns:
        A series `mean_excess`, `share_above`.

    Raises:
        ValueError: if a shape is wrong, or all pairs are observed.

    Source: Xin et al., Folding: Why Good Models Sometimes Make Spurious Recommendations, 2017.
    Cost: O(N M d) time, O(1,024 M) memory.
    """
    shape = len(user_embeddings), len(item_embeddings)
    if observed.shape != shape:
        raise ValueError(
            f"observed should have shape {list(shape)}. Received: {list(observed.shape)}"
        )
    observed = observed.tocsr()
    excess, above, pairs = 0.0, 0, 0
    for start in range(0, shape[0], _BLOCK):
        rows = slice(start, start + _BLOCK)
        scores = compute_scores(user_embeddings[rows], item_embeddings)
        if np.ndim(relatedness):
            scores -= compute_scores(relatedness[0][rows], relatedness[1])
        else:
            scores -= np.float32(relatedness)
        unobserved = np.ones(scores.shape, bool)
        unobserved[_pattern(observed[rows])] = False
        kept = scores[unobserved]
        excess += np.maximum(kept, 0).sum(dtype="float64")
        above += np.count_nonzero(kept > 0)
        pairs += len(kept)
    if not pairs:
        raise ValueError(f"observed should leave a pair out. Received: all of {list(shape)}")
    return pd.Series({"mean_excess": excess / pairs, "share_above": above / pairs})


def tsne_map(embeddings, *, perplexity=30.0, seed=0):
    """Lays embeddings out in two dimensions by t-SNE, from a random start.

    Args:
        embeddings: array [M, d].
        perplexity: about how many neighbours of each point the map tries to keep near, below M.
        seed: of the layout.

    Returns:
        Coordinates [M, 2]. They are the same on one machine, not on every machine.

    Source: van der Maaten and Hinton, Visualizing Data using t-SNE, 2008; scikit-learn.
    Cost: O(M log M) time per iteration, 500 iterations; a few seconds for thousands of points.
    """
    # A random start: from the PCA, scikit-learn's usual one, all seeds give the same map.
    layout = TSNE(
        2, perplexity=perplexity, init="random", random_state=seed, max_iter=500, n_jobs=1
    )
    with threadpool_limits(1):  # with more threads it is several times slower on a busy machine
        return layout.fit_transform(np.asarray(embeddings, dtype="float32"))


def map_quality(embeddings, coordinates, *, num_neighbors=10, metric="euclidean"):
    """Measures what a map keeps of the embeddings' neighbourhoods and distances.

      trustworthiness: 1 if the nearest neighbours on the map are near in the embedding space; a
          false neighbour costs by how far down the embedding space ranks it; 0.5 is about chance
      distance_correlation: Spearman of the distances of all pairs, before and after

    Args:
        embeddings: array [M, d].
        coordinates: array [M, 2], the map.
        num_neighbors: neighbours that trustworthiness looks at, less than M / 2.
        metric: of distances between embeddings, "euclidean" or "cosine"; on the map they are
            Euclidean.

    Returns:
        A series `trustworthiness`, `distance_correlation`.

    Raises:
        ValueError: if the tables have different lengths, or `num_neighbors` is too large.

    Source: Venna and Kaski, Neighborhood Preservation in Nonlinear Projection Methods, 2001.
    Cost: O(M^2 (d + log M)) time and O(M^2) memory: for maps, so for thousands of points.
    """
    embeddings, coordinates = np.asarray(embeddings), np.asarray(coordinates)
    if len(embeddings) != len(coordinates):
        raise ValueError(
            "embeddings and coordinates should have the same number of rows. "
            f"Received: {len(embeddings)} and {len(coordinates)}"
        )
    if not 0 < num_neighbors < len(embeddings) / 2:
        raise ValueError(
            f"num_neighbors should be at least 1 and less than half of the {len(embeddings)} "
            f"points. Received: {num_neighbors}"
        )
    return pd.Series(
        {
            "trustworthiness": float(
                trustworthiness(embeddings, coordinates, n_neighbors=num_neighbors, metric=metric)
            ),
            "distance_correlation": _spearman(pdist(embeddings, metric), pdist(coordinates)),
        }
    )


def _chance_of_sharing(packed):
    """The share of ordered pairs of different movies with a genre in common."""
    kinds, counts = np.unique(packed, axis=0, return_counts=True)
    share = (kinds[:, None] & kinds[None]).any(axis=2)
    alone = counts[np.diag(share)].sum()  # a movie with any genre shares it with itself
    total = packed.shape[0]
    return (counts @ share @ counts - alone) / (total * (total - 1))


def _spearman(first, second):
    first, second = np.asarray(first), np.asarray(second)
    if len(first) < _MIN_GROUP or np.ptp(first) == 0 or np.ptp(second) == 0:
        return np.nan
    return float(scipy.stats.spearmanr(first, second).statistic)


def _interval_name(low, high):
    if np.isinf(high):
        return f"{low:g} or more"
    return f"{low:g}" if high == low + 1 else f"{low:g}-{high - 1:g}"


def _pattern(matrix):
    """Rows and columns of the stored entries of a CSR matrix, zeros included."""
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr)), matrix.indices
