"""From embeddings to scores, lists of movies and neighbours.

Works on the embeddings of any model, or on plain arrays: [num_users, d] and [num_items, d].
"""

import collections
import concurrent.futures
import difflib
import math
import numbers
import os
import re
import threading
import warnings

import numpy as np
import pandas as pd
import scipy.sparse
from threadpoolctl import threadpool_limits

from cfutils import _checks, _progress

MEASURES = ("dot", "cosine")

_CELLS = 2**23  # scores that one worker holds at once: 32 MiB
_ROWS = 128  # users per block, at most
_COLUMNS = 512  # items per tile, at least
_WORKERS = 8  # at most; each has its own scores


# Scores -------------------------------------------------------------------------------------------


def compute_scores(queries, item_embeddings, measure="dot", *, alpha=None):
    """Scores every item for each query.

    With u a query and v an item,

      dot:              <u, v>
      dot with alpha:   <u, v> / |v|^alpha,  from the dot product (0) to the order of cosine (1)
      cosine:           <u, v> / (|u| |v|)

    A zero vector scores 0 by every measure.

    Args:
        queries: array [n, d], or one query [d]; users' or items' embeddings.
        item_embeddings: array [num_items, d].
        measure: "dot" or "cosine".
        alpha: power of the item's norm to divide by, 0 or more; with "dot" only.

    Returns:
        Float32 array [n, num_items], or [num_items] for one query.

    Raises:
        ValueError: if a shape, the measure or alpha is wrong, or the scores would not be finite.

    Cost: O(n num_items d) time and O(n num_items) memory; `top_k` needs far less memory.
    """
    queries = np.asarray(queries)
    single = queries.ndim == 1
    queries, items = _prepare(queries[None] if single else queries, item_embeddings, measure, alpha)
    scores = queries @ items.T
    return scores[0] if single else scores


def top_k(queries, item_embeddings, k, *, measure="dot", alpha=None, exclude=None, progress=None):
    """Finds the k items with the highest scores for each query, exactly, in bounded memory.

    Equal scores stand in the order of the ids. (To evaluate a model use
    `cfutils.metrics.rank_candidates`, which puts them in a random order.)

    Args:
        queries: array [n, d].
        item_embeddings: array [num_items, d].
        k: length of a list.
        measure: as for `compute_scores`.
        alpha: as for `compute_scores`.
        exclude: SciPy sparse matrix [n, num_items]; its stored entries are left out.
        progress: whether to show a bar on standard error; None if that is a terminal.

    Returns:
        `(ids [n, k], scores [n, k])`, integers and float32, best first; id -1 and score NaN where
        fewer than k items remain.

    Raises:
        ValueError: as for `compute_scores`, or if k or the shape of `exclude` is wrong.

    Cost: O(n num_items d) time, in threads. Beyond inputs and result, the memory is a float32 copy
    of the embeddings and up to 8 threads' blocks of scores: 32 MiB each, or one row if that is
    more.
    """
    # Item j stands in tile j // width and group j % width. The k best items lie in the k groups
    # with the highest maxima, so only k groups per query are searched: one comparison per score.
    queries, items = _prepare(queries, item_embeddings, measure, alpha)
    k = _positive("k", k)
    exclude = _excluded(exclude, len(queries), len(items))
    ids = np.full((len(queries), k), -1)
    best = np.full((len(queries), k), np.nan, np.float32)
    if not len(queries) or not len(items):
        return ids, best
    wanted = min(k, len(items))
    width = min(len(items), max(_COLUMNS, math.isqrt(wanted * len(items)) + 1))
    num_tiles = -(-len(items) // width)
    rows = min(len(queries), max(1, min(_ROWS, _CELLS // (num_tiles * width))))
    memory = threading.local()

    def block(start):
        if not hasattr(memory, "scores"):
            memory.scores = np.full((num_tiles, rows, width), -np.inf, np.float32)
            memory.maxima = np.empty((rows, width), np.float32)
        chosen = queries[start : start + rows]
        scores, maxima = memory.scores[:, : len(chosen)], memory.maxima[: len(chosen)]
        left_out = _by_tile(exclude, start, len(chosen), width, num_tiles)
        for tile in range(num_tiles):  # each tile is compared while it is in the cache
            part = items[tile * width : (tile + 1) * width]
            out = scores[tile, :, : len(part)]
            np.matmul(chosen, part.T, out=out)
            if left_out is not None:
                out[left_out[tile]] = -np.inf
            if tile:
                np.maximum(maxima[:, : len(part)], out, out=maxima[:, : len(part)])
            else:
                maxima[:] = out
        columns, values = _select(scores, maxima, wanted)
        remain = values > -np.inf
        ids[start : start + rows, :wanted] = np.where(remain, columns, -1)
        best[start : start + rows, :wanted] = np.where(remain, values, np.nan)
        return len(chosen)

    starts = range(0, len(queries), rows)
    workers = min(len(starts), _WORKERS, _processors())
    with _progress.bar(len(queries), "query", progress) as bar:
        if workers == 1:
            for start in starts:
                bar.update(block(start))
            return ids, best
        # Our threads take the place of the BLAS library's.
        with (
            threadpool_limits(1, "blas"),
            concurrent.futures.ThreadPoolExecutor(workers) as executor,
        ):
            pending = collections.deque()
            for start in starts:
                pending.append(executor.submit(block, start))
                if len(pending) > 2 * workers:
                    bar.update(pending.popleft().result())
            for future in pending:
                bar.update(future.result())
    return ids, best


def best_columns(scores, k):
    """Finds the columns of the k highest values in each row of an array.

    Args:
        scores: array [n, m] without NaN; -inf marks what is left out.
        k: how many.

    Returns:
        Columns [n, k], highest value first and equal values in the order of the columns; -1 where
        fewer than k values are left.

    Cost: O(n m + n k log k) time, O(n m) memory.
    """
    found = np.full((len(scores), k), -1)
    wanted = min(k, scores.shape[1])
    if not wanted or not len(scores):
        return found
    columns = np.argpartition(scores, scores.shape[1] - wanted, axis=1)[:, -wanted:]
    lowest = np.take_along_axis(scores, columns, axis=1).min(axis=1)
    at_least = (scores >= lowest[:, None]).sum(axis=1)
    for row in np.flatnonzero((at_least > wanted) & (lowest > -np.inf)):
        above = np.flatnonzero(scores[row] > lowest[row])
        equal = np.flatnonzero(scores[row] == lowest[row])
        columns[row] = np.concatenate([above, equal[: wanted - len(above)]])
    values = np.take_along_axis(scores, columns, axis=1)
    order = np.lexsort((columns, -values), axis=1)
    columns, values = (np.take_along_axis(part, order, axis=1) for part in (columns, values))
    found[:, :wanted] = np.where(values > -np.inf, columns, -1)
    return found


# Lists of movies ----------------------------------------------------------------------------------


def recommend(model, user, data, *, ratings=None, k=10, measure="dot", alpha=None, rated="exclude"):
    """Lists the k movies with the highest scores for a user.

    Args:
        model: anything with `user_embeddings` [N, d] and `item_embeddings` [M, d], or a pair of
            such arrays.
        user: a user of `data.users`, by row (an integer, `user_id`) or by `original_id` (text), or
            the embedding [d] of a new user.
        data: a `MovieLens`; see `cfutils.data`. Where the model knows its ids (`ids` of the
            models' constructors) users and movies are found by them; a user who is not in the
            model is folded in (`model.fold_in`) from their ratings, and a movie that is not is left
            out, with a warning. Otherwise it has to be the data that the model was trained on,
            which only its size can show.
        ratings: frame of the ratings that count as the user's: `movie_id`, `rating` and, if `user`
            is no embedding, `user_id`. None for `data.ratings`, or for no ratings if `user` is an
            embedding.
        k: length of the list.
        measure: as for `compute_scores`.
        alpha: as for `compute_scores`.
        rated: "exclude" leaves the user's movies out, "mark" keeps them and adds their ratings.

    Returns:
        A frame, best first, by `rank` 1..k: `movie_id`, `title`, `genres` (text), `year`,
        `num_ratings` in `data.ratings`, `score`; if marked `rating`, NaN for movies not rated.
        `genres` and `year` are there if `data.movies` has them. Fewer rows where fewer movies
        remain.

    Raises:
        ValueError: if a shape or an option is wrong, the model is untrained, the user is none of
            `data`, or neither in the model nor with ratings to fold in, or no movie of `data` is in
            the model.

    Cost: O(M d + number of ratings) time and memory, with ids O(N).
    """
    if rated not in ("exclude", "mark"):
        raise ValueError(f"rated should be 'exclude' or 'mark'. Received: {rated!r}")
    items, rows = _item_embeddings(model, data)
    by_id = isinstance(user, (numbers.Integral, str)) and not isinstance(user, bool)
    if by_id:
        user = _user_row(user, data)
        ratings = _of_user(user, data, ratings)
    else:
        query = np.asarray(user)
        if query.shape != items.shape[1:] or query.dtype.kind not in "iuf":
            raise ValueError(
                "user should be the row of a user (an integer), an original id (text) or an "
                f"embedding of {items.shape[1]} numbers. Received: {user!r}"
            )
    if ratings is None:
        ratings = pd.DataFrame({"movie_id": np.empty(0, "int64"), "rating": np.empty(0)})
    remedy = "It is a row of data.movies; original ids stand there beside it."
    own = _checks.ids("ratings.movie_id", ratings["movie_id"], len(items), "num_items", remedy)
    twice = pd.Series(own).duplicated()
    if twice.any():
        raise ValueError(
            "ratings should hold each movie of the user once. Received: movie "
            f"{own[twice.argmax()]} again. Keep one: drop_duplicates("
            f"{['user_id', 'movie_id'] if by_id else 'movie_id'!r})."
        )
    if by_id:
        query = _user_embedding(model, user, data, own, ratings, rows)
    left_out = np.flatnonzero(rows < 0)
    exclude = _entries(np.union1d(own, left_out) if rated == "exclude" else left_out, len(items))
    frame = _listed(query, items, data, k, measure, alpha, exclude)
    if rated == "mark":
        stars = ratings.set_index("movie_id")["rating"].astype("float64")
        frame["rating"] = frame["movie_id"].map(stars)
    return frame


def neighbours(model, movie, data, *, k=10, measure="cosine", alpha=None):
    """Lists the k movies nearest to a movie, itself left out.

    Args:
        model: anything with `item_embeddings` [M, d], or a pair of arrays [N, d] and [M, d].
        movie: a movie id, or text for `find_movie`; of several matches the whole title is taken, or
            else the most rated. A number has to be the whole title.
        data: a `MovieLens`; see `cfutils.data`.
        k: length of the list.
        measure: as for `compute_scores`.
        alpha: as for `compute_scores`.

    Returns:
        A frame as that of `recommend`. The heading of its columns says which movie was taken and
        how many others matched; `frame.attrs` has its `movie_id` and all `other_matches`, a dict
        of titles by movie id.

    Raises:
        LookupError: if no title matches.
        ValueError: if an id, a shape or an option is wrong, the model is untrained, or the movie
            is not in it.

    Cost: O(M d + number of ratings) time and memory.
    """
    items, rows = _item_embeddings(model, data)
    others = {}
    if isinstance(movie, str):
        matches = find_movie(movie, data)
        titles, wanted = matches["title"].str.strip(), movie.strip()
        order = [(title != wanted, title.casefold() != wanted.casefold()) for title in titles]
        if wanted.isdecimal() and order and min(order) == (True, True):
            raise LookupError(
                f"movie should be a title. Received: {movie!r}, which is only a part of "
                f"{titles.iloc[0]!r}. Write all of it."
            )
        matches = matches.iloc[sorted(range(len(order)), key=order.__getitem__)]
        movie, *rest = matches["movie_id"].tolist()
        others = dict(zip(rest, matches["title"].tolist()[1:], strict=True))
    movie = _row("movie", movie, len(items))
    if rows[movie] < 0:
        raise ValueError(
            f"movie should be in the model. Received: {data.movies['title'].iloc[movie]!r}, which "
            "is not. Train a new model to have it."
        )
    exclude = _entries(np.union1d(movie, np.flatnonzero(rows < 0)), len(items))
    frame = _listed(items[movie], items, data, k, measure, alpha, exclude)
    heading = f"nearest to {data.movies['title'].iloc[movie]}"
    if others:
        heading += f" ({len(others)} more matched)"
    frame.attrs = {"movie_id": movie, "other_matches": others}
    return frame.rename_axis(columns=heading)


def find_movie(text, data):
    """Finds the movies whose title contains a text, whatever the case.

    Args:
        text: taken literally; blanks around it do not count.
        data: a `MovieLens`; see `cfutils.data`.

    Returns:
        A frame of all matches, most rated first: `movie_id`, `title`, `genres` (text), `year`,
        `num_ratings`; `genres` and `year` if `data.movies` has them.

    Raises:
        LookupError: if there is none; the message names the closest titles.
        ValueError: if the text is empty.

    Cost: O(length of all titles + number of ratings) time, O(M) memory.
    """
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"text should be part of a title. Received: {text!r}")
    wanted = text.strip().casefold()
    titles = data.movies["title"].tolist()
    found = [row for row, title in enumerate(titles) if wanted in title.casefold()]
    if not found:
        names = {}
        for title in titles:
            names.setdefault(_plain(title), title)
        close = difflib.get_close_matches(_plain(text), names, n=3, cutoff=0.5)
        close = "; ".join(names[name] for name in close) or "none; try a shorter part of the title"
        raise LookupError(f"text should be part of a title. Received: {text!r}. Closest: {close}")
    frame = _describe(np.array(found), data)
    frame = frame.sort_values(["num_ratings", "movie_id"], ascending=[False, True])
    return frame.reset_index(drop=True)


# Details ------------------------------------------------------------------------------------------


def _prepare(queries, item_embeddings, measure, alpha):
    """Float32 queries and items whose dot products are the scores."""
    if measure not in MEASURES:
        raise ValueError(f"measure should be one of {', '.join(MEASURES)}. Received: {measure!r}")
    if alpha is not None:
        if measure != "dot":
            raise ValueError(
                f"alpha should be None with measure={measure!r}. Received: {alpha!r}. "
                "It is for measure='dot'."
            )
        if isinstance(alpha, bool) or not isinstance(alpha, numbers.Real) or not 0 <= alpha < 1e3:
            raise ValueError(f"alpha should be a finite number, 0 or more. Received: {alpha!r}")
    queries = _matrix("queries", queries)
    items = _matrix("item_embeddings", item_embeddings)
    if queries.shape[1] != items.shape[1]:
        raise ValueError(
            f"queries should have as many columns as item_embeddings, {items.shape[1]}. "
            f"Received: {queries.shape[1]}"
        )
    power = 1.0 if measure == "cosine" else float(alpha or 0)
    items = _scaled(items, power)
    if measure == "cosine":
        queries = _scaled(queries, 1.0)
    # Cauchy and Schwarz: no score can be larger than this.
    if not _norms(queries).max(initial=0) * _norms(items).max(initial=0) < 1e38:
        raise ValueError(
            "queries and item_embeddings should give scores below 1e38. Received: norms up to "
            f"{_norms(queries).max():.3g} and, after division, {_norms(items).max():.3g}. "
            "Has the training diverged?"
        )
    return queries, items


def _scaled(vectors, power):
    if power == 0:
        return vectors
    norms = _norms(vectors)[:, None]
    with np.errstate(over="ignore"):
        factors = np.where(norms > 0, np.where(norms > 0, norms, 1.0) ** -power, 0.0)
        return (vectors * factors).astype(np.float32)


def _norms(vectors):
    return np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))


def _matrix(name, values):
    values = np.asarray(values)
    if values.ndim != 2 or values.dtype.kind not in "iuf":
        raise ValueError(
            f"{name} should be a table of numbers, [rows, d]. "
            f"Received: shape {list(values.shape)}, {values.dtype}"
        )
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(values, dtype=np.float32)
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values).all(axis=1)))
        raise ValueError(
            f"{name} should be finite in float32. Received: {values[row].tolist()} in row {row}. "
            "Has the training diverged?"
        )
    return values


def _positive(name, value):
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"{name} should be an integer, 1 or more. Received: {value!r}")
    return int(value)


def _row(name, value, count):
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not 0 <= value < count:
        raise ValueError(f"{name} should be an integer from 0 to {count - 1}. Received: {value!r}")
    return int(value)


def _excluded(exclude, num_rows, num_items):
    if exclude is None:
        return None
    if not scipy.sparse.issparse(exclude) or exclude.shape != (num_rows, num_items):
        received = getattr(exclude, "shape", type(exclude).__name__)
        raise ValueError(
            f"exclude should be a SciPy sparse matrix [{num_rows}, {num_items}], a row per query. "
            f"Received: {type(exclude).__name__} {received}. For ratings: "
            "cfutils.metrics.interactions(ratings, num_users, num_items)."
        )
    return exclude.tocsr()


def _by_tile(exclude, start, num_rows, width, num_tiles):
    """What a block leaves out, for each tile: rows and columns within it."""
    if exclude is None:
        return None
    bounds = exclude.indptr[start : start + num_rows + 1]
    columns = exclude.indices[bounds[0] : bounds[-1]]
    rows = np.repeat(np.arange(num_rows), np.diff(bounds))
    tiles, columns = np.divmod(columns, width)
    order = np.argsort(tiles, kind="stable")
    ends = np.searchsorted(tiles[order], np.arange(1, num_tiles))
    return list(zip(np.split(rows[order], ends), np.split(columns[order], ends), strict=True))


def _select(scores, maxima, k):
    """Item ids and scores [n, k] from scores [tiles, n, width] and their maxima over the tiles."""
    num_tiles, n, width = scores.shape
    # In the order of the ids, so that the order of the candidates is that of the ids too.
    groups = np.sort(np.argpartition(maxima, width - k, axis=1)[:, -k:], axis=1)
    candidates = scores[:, np.arange(n)[:, None], groups]  # [tiles, n, k]
    candidates = candidates.transpose(1, 0, 2).reshape(n, num_tiles * k)
    columns = best_columns(candidates, k)
    values = np.take_along_axis(candidates, columns, axis=1)
    values[columns < 0] = -np.inf
    ids = columns // k * width + np.take_along_axis(groups, columns % k, axis=1)
    # Where the k-th score is that of a group left aside, an item there may have a lower id.
    lowest = values[:, -1]
    tied = ((maxima >= lowest[:, None]).sum(axis=1) > k) & (lowest > -np.inf)
    for row in np.flatnonzero(tied):
        whole = scores[:, row].reshape(1, -1)
        ids[row] = best_columns(whole, k)[0]
        values[row] = whole[0, ids[row]]
    return ids, values


def _processors():
    available = getattr(os, "sched_getaffinity", None)
    return len(available(0)) if available else os.cpu_count() or 1


def _table(model, name, position):
    if isinstance(model, (tuple, list)):
        if len(model) != 2:
            raise ValueError(
                "model should be a model or a pair (user_embeddings, item_embeddings). "
                f"Received: {len(model)} parts"
            )
        return model[position]
    if not hasattr(model, name):
        raise ValueError(
            f"model should have {name}, or be a pair (user_embeddings, item_embeddings). "
            f"Received: {type(model).__name__}"
        )
    return getattr(model, name)


def _user_row(user, data):
    """The row in `data.users` of a row or an original id."""
    if not isinstance(user, str):
        return _row("user", user, data.num_users)
    found = np.flatnonzero(_checks.texts(data.users["original_id"]) == user)
    if not len(found):
        raise ValueError(
            f"user should be a row or an original id of data.users. Received: {user!r}, which is "
            'none. Look for it in data.users["original_id"].'
        )
    return int(found[0])


def _of_user(row, data, ratings):
    """The ratings of the user in a row of `data.users`."""
    if ratings is None:
        return data.ratings[data.ratings["user_id"] == row]
    missing = [name for name in ("user_id", "movie_id") if name not in ratings]
    if missing:
        raise ValueError(
            f"ratings should have the columns user_id and movie_id. Received: {list(ratings)}. "
            "Give them, or pass the user's embedding."
        )
    remedy = "It is a row of data.users; original ids stand there beside it."
    users = _checks.ids("ratings.user_id", ratings["user_id"], data.num_users, "num_users", remedy)
    return ratings[users == row]


def _user_embedding(model, user, data, own, ratings, rows):
    """The embedding [d] of the user in a row of `data.users`: the model's, or folded in."""
    table, known = _table(model, "user_embeddings", 0), getattr(model, "user_ids", None)
    if not callable(table):  # a softmax model has none
        users = _matrix("user_embeddings", table)
        if known is None:
            if len(users) != data.num_users:
                raise ValueError(
                    f"user_embeddings should have a row for each of the {data.num_users} users of "
                    f"data. Received: {len(users)} rows. Load the data that the model was trained "
                    "on."
                )
            return users[user]
        ids = data.users["original_id"]
        found = known.get_indexer(_checks.texts(ids.iloc[[user]]))[0]
        if found >= 0:
            return users[found]
        if not known.isin(_checks.texts(ids)).any():
            warnings.warn(
                f"None of the users of data is in the model, which has {known[0]!r} and others: "
                "they are folded in. Are their ids written as before?",
                stacklevel=3,
            )
    places = rows[own]
    if not (places >= 0).any() or not hasattr(model, "fold_in"):
        name = str(data.users["original_id"].iloc[user])
        raise ValueError(
            f"user should be in the model or have rated movies that are. Received: {name!r}, who "
            "is not and has not. Pass ratings that hold theirs."
        )
    return model.fold_in(places[places >= 0], ratings["rating"].to_numpy()[places >= 0])


def _item_embeddings(model, data):
    """Embeddings [M, d] of the movies of the data; the model's rows of them [M], -1 for none.

    What has none is not to be looked at: callers leave it out.
    """
    rows = _checks.item_rows(model, data)
    items = _matrix("item_embeddings", _table(model, "item_embeddings", 1))
    if getattr(model, "item_ids", None) is not None:
        return items[rows], rows
    if len(items) != data.num_items:
        raise ValueError(
            f"item_embeddings should have a row for each of the {data.num_items} movies of data. "
            f"Received: {len(items)} rows"
        )
    return items, rows


def _entries(columns, num_items):
    ones = np.ones(len(columns), bool)
    return scipy.sparse.csr_array(
        (ones, (np.zeros(len(columns), int), columns)), shape=(1, num_items)
    )


def _listed(query, items, data, k, measure, alpha, exclude):
    ids, scores = top_k(
        query[None], items, k, measure=measure, alpha=alpha, exclude=exclude, progress=False
    )
    remain = ids[0] >= 0
    frame = _describe(ids[0][remain], data)
    frame["score"] = scores[0][remain]
    frame.index = pd.RangeIndex(1, len(frame) + 1, name="rank")
    return frame


def _describe(movie_ids, data):
    movies = data.movies.iloc[movie_ids]
    frame = movies[[name for name in ("movie_id", "title", "genres", "year") if name in movies]]
    if "genres" in frame:
        frame = frame.assign(genres=[", ".join(genres) for genres in frame["genres"]])
    counts = np.bincount(data.ratings["movie_id"], minlength=data.num_items)
    return frame.assign(num_ratings=counts[movie_ids]).reset_index(drop=True)


def _plain(title):
    """A title as one would type it: no year, the article in front, lower case."""
    title = re.sub(r"\s*\(\d{4}\)\s*$", "", title.strip())
    title = re.sub(r"^(.*), (the|a|an)$", r"\2 \1", title, flags=re.IGNORECASE)
    return title.casefold()
