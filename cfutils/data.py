"""The one noun of the package: users, items and ratings as checked frames.

`cfutils.tables.load_ratings` makes a `Dataset` of any table of (user, item, rating),
`cfutils.movielens.load_movielens` of MovieLens 100K. Everything downstream relies on one promise
made here: `user_num` and `item_num` are 0-based rows, the ids of the source stand beside them as
`user_id` and `item_id`, and each pair is rated once, by a finite number.
"""

from __future__ import annotations

import dataclasses
import numbers
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse

from cfutils import _checks

__all__ = ["Dataset", "as_array", "as_floats", "check_dataset", "check_pairs", "refuse_rows"]


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Users, items and ratings; the index of users and items is the row number of all arrays.

    Attributes:
        users: one row per user, index `user_num` (0..N-1): `user_id`, and whatever else is known.
        items: one row per item, index `item_num` (0..M-1): `item_id`, `title`; where the source
            has them `year` (missing where unknown) and `genres` (lists of texts).
        ratings: one row per rating, in the order of the source: `user_num`, `item_num`, `rating`
            and, where the source has one, `timestamp`. Ratings of the same users and items are
            exchanged by `dataclasses.replace(data, ratings=...)`.

    Raises:
        ValueError: if a column is missing or of another kind, a row number is out of range, an id
            stands twice, a rating is not finite, or a pair is rated twice.

    Cost: O(n log n) time for n ratings.
    """

    users: pd.DataFrame
    items: pd.DataFrame
    ratings: pd.DataFrame

    def __post_init__(self) -> None:
        for name, kind, columns in (
            ("users", "user", ["user_id"]),
            ("items", "item", ["item_id", "title"]),
        ):
            frame = getattr(self, name)
            _check_columns(name, frame, columns)
            if not np.array_equal(frame.index, np.arange(len(frame))):
                raise ValueError(
                    f"{name} should have the index 0..{len(frame) - 1} in order. Received: "
                    f"{_checks.shown(frame.index)}. Call reset_index, or make it by load_ratings."
                )
            ids = frame[f"{kind}_id"]
            refuse_rows(ids.isna(), ids, f"{name}.{kind}_id should not be missing")
            texts = ids.astype(str)
            if texts.duplicated().any():
                raise ValueError(
                    f"{name}.{kind}_id should hold each id once. Received: "
                    f"{texts[texts.duplicated()].iloc[0]!r} twice. Drop one of the rows."
                )
            if frame.index.name != f"{kind}_num":
                object.__setattr__(self, name, frame.rename_axis(f"{kind}_num"))
        _check_items(self.items)
        _check_columns("ratings", self.ratings, ["user_num", "item_num", "rating"])
        users, items = (_whole(self.ratings, name) for name in ("user_num", "item_num"))
        ratings = as_floats(self.ratings["rating"])
        check_pairs(users, items, ratings, (self.num_users, self.num_items))

    @classmethod
    def _of_checked(cls, users, items, ratings) -> Dataset:
        """A Dataset of frames that have passed the check: no second sort of many ratings."""
        made = object.__new__(cls)
        for name, frame in (("users", users), ("items", items), ("ratings", ratings)):
            object.__setattr__(made, name, frame)
        return made

    @property
    def num_users(self) -> int:
        """N, the number of users, with or without ratings."""
        return len(self.users)

    @property
    def num_items(self) -> int:
        """M, the number of items, with or without ratings."""
        return len(self.items)

    def split(self, *, test_fraction: float = 0.1, seed: int) -> tuple[Dataset, Dataset]:
        """Splits the ratings at random, row by row: can a model fill the gaps?

        Args:
            test_fraction: share of the ratings that go to the test, above 0 and below 1; rounded to
                the nearest whole number of ratings.
            seed: an integer; the same seed gives the same split.

        Returns:
            `(train, test)`, two Datasets of the same users and items whose ratings are disjoint and
            together complete, in the order of `ratings` with a new index.

        Raises:
            ValueError: if `test_fraction` leaves no rating on one of the two sides.
        """
        count = len(self.ratings)
        return self._parts(_sample(np.arange(count), test_fraction, seed, "ratings"))

    def split_by_time(self, *, test_fraction: float = 0.1, seed: int) -> tuple[Dataset, Dataset]:
        """Splits the ratings in time, the latest are the test: what comes next, for everybody?

        Arguments and result are those of `split`; ratings of the same time are drawn by the seed.
        Many users are in the test alone: of them a model knows nothing.

        Raises:
            ValueError: as for `split`, or without a time for each rating.
        """
        order = self._in_time(seed)
        return self._parts(order[-_share_of(test_fraction, len(order), "ratings") :])

    def split_last(self, *, seed: int) -> tuple[Dataset, Dataset]:
        """Takes the last rating of each user for the test: what comes next, for each of them?

        Who has rated once stays in the training part. The result is that of `split`; ratings of the
        same time are drawn by the seed.

        Raises:
            ValueError: if no user has two ratings, or without a time for each rating.
        """
        order = self._in_time(seed)
        users = self.ratings["user_num"].iloc[order]
        test = order[users.duplicated() & ~users.duplicated(keep="last")]
        if not len(test):
            raise ValueError(
                f"ratings should have a user with two or more. Received: {len(order)} ratings of "
                "as many users. Split at random: data.split(seed=...)."
            )
        return self._parts(test)

    def split_users(self, *, test_fraction: float = 0.1, seed: int) -> tuple[Dataset, Dataset]:
        """Takes all ratings of some users for the test: what of people never seen in training?

        Arguments and result are those of `split`, but `test_fraction` is a share of the users who
        have ratings.

        Raises:
            ValueError: if `test_fraction` leaves no user on one of the two sides.
        """
        users = self.ratings["user_num"].to_numpy()
        rated = np.flatnonzero(np.bincount(users))
        return self._parts(np.isin(users, _sample(rated, test_fraction, seed, "users")))

    def _in_time(self, seed: int) -> np.ndarray:
        """The rows of `ratings` by time, those of the same time in random order."""
        remedy = "Name it where you load: load_ratings(..., timestamp=column)."
        _check_columns("ratings", self.ratings, ["timestamp"], remedy)
        times = self.ratings["timestamp"]
        if times.dtype.kind not in "iufM":
            raise ValueError(
                f"ratings.timestamp should hold numbers or dates. Received: {times.dtype}. Convert "
                "it: pd.to_datetime(ratings['timestamp'])."
            )
        bad = times.isna().to_numpy()
        refuse_rows(bad, times.array, "ratings.timestamp should not be missing")
        rng = np.random.default_rng(_checks.integer("seed", seed, 0))
        drawn = rng.permutation(len(times))
        return drawn[times.iloc[drawn].argsort(kind="stable")]

    def _parts(self, test: np.ndarray) -> tuple[Dataset, Dataset]:
        """Training and test, from the places of the test's rows or a truth value for each row."""
        is_test = np.zeros(len(self.ratings), dtype=bool)
        is_test[test] = True
        train, held_out = (
            self._of_checked(self.users, self.items, self.ratings[part].reset_index(drop=True))
            for part in (~is_test, is_test)
        )
        return train, held_out

    def user_stats(self) -> pd.DataFrame:
        """`num_ratings` and `mean_rating` (NaN without ratings) of each user, by `user_num`."""
        return self._stats("user_num", self.num_users)

    def item_stats(self) -> pd.DataFrame:
        """`num_ratings` and `mean_rating` (NaN without ratings) of each item, by `item_num`."""
        return self._stats("item_num", self.num_items)

    def _stats(self, by: str, count: int) -> pd.DataFrame:
        rows, ratings = self.ratings[by].to_numpy(), self.ratings["rating"].to_numpy(float)
        counts = np.bincount(rows, minlength=count)
        totals = np.bincount(rows, ratings, minlength=count)
        means = np.divide(totals, counts, out=np.full(count, np.nan), where=counts > 0)
        index = pd.RangeIndex(count, name=by)
        return pd.DataFrame({"num_ratings": counts, "mean_rating": means}, index=index)

    def interactions(self, *, binary: bool = True) -> scipy.sparse.csr_array:
        """The ratings as a SciPy matrix [N, M], float32: 1 for each, or the rating itself."""
        rows, columns = (self.ratings[name].to_numpy() for name in ("user_num", "item_num"))
        values = np.ones(len(rows), "float32")
        if not binary:
            values = self.ratings["rating"].to_numpy("float32")
        shape = self.num_users, self.num_items
        return scipy.sparse.csr_array((values, (rows, columns)), shape=shape)

    def genre_table(self) -> pd.DataFrame:
        """Which item has which genre: 0 or 1 [M, genres], by `item_num`, genres in their order.

        Raises:
            ValueError: if no item has genres.
        """
        genres = self.items.get("genres", pd.Series(dtype=object)).explode().dropna()
        if genres.empty:
            raise ValueError(
                "items should have the column genres (lists of texts, not all empty). Received: "
                f"{list(self.items.columns)}. Add it to items."
            )
        codes, names = pd.factorize(genres, sort=True)
        table = np.zeros((self.num_items, len(names)), "int64")
        table[genres.index, codes] = 1
        return pd.DataFrame(table, self.items.index, list(names))

    def item_features(self) -> dict[str, np.ndarray]:
        """What items are made up of, for models that embed genres and years beside the item itself.

        Returns:
            A dict of float32 arrays with one row per item: `genres` [M, number of genres], in
            alphabetical order and 1/n for each of an item's n; `decade` [M, number of decades], the
            earliest first and 1 for the item's. A row of zeros where it is missing; what no item
            has is left out.

        Raises:
            ValueError: if the items have neither genres nor year.
        """
        features = {}
        if self.items.get("genres", pd.Series(dtype=object)).map(len).any():
            table = self.genre_table().to_numpy("float64")
            shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
            features["genres"] = shares.astype("float32")
        decades = as_floats(self.items.get("year", pd.Series(dtype=float)), "items.year") // 10
        if np.isfinite(decades).any():
            known = np.arange(np.nanmin(decades), np.nanmax(decades) + 1)
            features["decade"] = np.equal.outer(decades, known).astype("float32")
        if not features:
            raise ValueError(
                "items should have the column genres (lists) or year (numbers), not all missing. "
                f"Received: {list(self.items.columns)}. Without them, train on the items alone."
            )
        return features


def check_pairs(
    users: np.ndarray,
    items: np.ndarray,
    ratings: np.ndarray,
    shape: tuple[int, int],
    *,
    columns: tuple[str, str, str] = ("user_num", "item_num", "rating"),
    ids: tuple[Any, Any] | None = None,
    remedy: str = "Keep one of its ratings, or their mean.",
) -> np.ndarray | None:
    """The check of a ratings table: in range, finite, each pair once.

    Args:
        users: integers [n], rows of the matrix.
        items: integers [n], its columns.
        ratings: numbers [n].
        shape: (N, M).
        columns: what the three are called in a message.
        ids: what users [N] and items [M] are called in a message; None for their numbers.
        remedy: what to do about a pair that is there twice.

    Returns:
        The order of rows [n] that sorts by user and then item; None if they are in that order.

    Raises:
        ValueError: on the first rating that breaks a rule, with its row, counted from 0. Or if
            there is none, or N M is 2**63 or more.
    """
    if not len(ratings):
        raise ValueError("ratings should hold at least one rating. Received: none.")
    if shape[0] * shape[1] >= 2**63:
        raise ValueError(f"ratings should have fewer than 2**63 cells. Received: {list(shape)}.")
    for name, values, count in zip(columns, (users, items), shape, strict=False):
        if values.min() < 0 or values.max() >= count:
            row = int(np.argmax((values < 0) | (values >= count)))
            raise ValueError(
                f"{name} should be from 0 to {count - 1}. Received: {values[row]} in row {row} "
                "(counted from 0). It is a row number; load_ratings makes them of any ids."
            )
    refuse_rows(~np.isfinite(ratings), ratings, f"{columns[2]} should be a finite number")
    keys = users.astype(np.int64) * shape[1] + items
    if (keys[1:] > keys[:-1]).all():
        return None
    order = np.argsort(keys)
    ordered = keys[order]
    if (ordered[1:] == ordered[:-1]).any():
        row = int(np.argmax(pd.Series(keys).duplicated()))
        pair = users[row], items[row]
        if ids is not None:
            pair = ids[0][pair[0]], ids[1][pair[1]]
        raise ValueError(
            f"Each pair ({columns[0]}, {columns[1]}) should be there once. Received: ({pair[0]}, "
            f"{pair[1]}) again in row {row} (counted from 0). {remedy}"
        )
    return order


def refuse_rows(bad: np.ndarray, values: Any, rule: str, remedy: str = "Drop the row.") -> None:
    """Raises on the first bad row, and says how many there are."""
    if bad.any():
        row, count = int(np.argmax(bad)), int(bad.sum())
        more = f", the first of {count} such rows" if count > 1 else ""
        raise ValueError(
            f"{rule}. Received: {values[row]} in row {row} (counted from 0){more}. {remedy}"
        )


def check_dataset(name: str, data: Any) -> None:
    """Raises where a function that takes a Dataset is given something else."""
    if not isinstance(data, Dataset):
        raise ValueError(
            f"{name} should be a Dataset. Received: {type(data).__name__}. Take a part of "
            "data.split(seed=...), or dataclasses.replace(data, ratings=frame)."
        )


def as_array(name: str, values: Any, *shape: int | None, kinds: str = "iuf") -> np.ndarray:
    """Values as an array of finite numbers in a shape; None stands for any length of 1 or more.

    Raises:
        ValueError: if they are something else; integers alone are wanted by `kinds="iu"`.
    """
    try:
        array = np.asarray(values)
    except ValueError:  # lists of several lengths
        array = np.asarray(None)
    what = "finite numbers" if "f" in kinds else "integers"
    fits = array.size and array.ndim == len(shape)
    fits = fits and all(n in (None, m) for n, m in zip(shape, array.shape, strict=True))
    if array.dtype.kind not in kinds or not fits:
        form = ", ".join("any" if wanted is None else str(wanted) for wanted in shape)
        raise ValueError(
            f"{name} should be an array of {what}, [{form}]. Received: {type(values).__name__}, "
            f"{list(array.shape)}, {array.dtype}."
        )
    if not np.isfinite(array).all():
        raise ValueError(
            f"{name} should be an array of {what}. Received: {array[~np.isfinite(array)][0]} in "
            f"row {np.argwhere(~np.isfinite(array))[0, 0]}."
        )
    return array


def _sample(values: np.ndarray, fraction: float, seed: int, what: str) -> np.ndarray:
    count = _share_of(fraction, len(values), what)
    seed = _checks.integer("seed", seed, 0)
    return pd.Series(values).sample(count, random_state=seed).to_numpy()


def _share_of(test_fraction: float, count: int, what: str) -> int:
    """How many of `count` go to the test, to the nearest: one at least, and not all."""
    num_test = round(_checks.share("test_fraction", test_fraction) * count)
    if not 0 < num_test < count:
        raise ValueError(
            f"test_fraction should leave {what} on both sides. Received: {test_fraction} of "
            f"{count} {what}."
        )
    return num_test


def _check_items(items: pd.DataFrame) -> None:
    for name, is_right, rule, remedy in (
        (
            "title",
            lambda value: isinstance(value, str),
            "texts",
            "Fill it: items['title'].fillna(items['item_id']).astype(str).",
        ),
        (
            "genres",
            _are_texts,
            "lists of texts, [] where there are none",
            "Split texts: items['genres'].fillna('').str.split('|').",
        ),
        (
            "year",
            _may_be_year,
            "numbers below 10,000, or be missing",
            "Convert it: pd.to_numeric(items['year'], errors='coerce').",
        ),
    ):
        if name in items:
            bad = np.array([not is_right(value) for value in items[name]], dtype=bool)
            refuse_rows(bad, items[name], f"items.{name} should hold {rule}", remedy)


def _are_texts(values: Any) -> bool:
    lists = (list, tuple, set, np.ndarray)
    return isinstance(values, lists) and all(isinstance(value, str) for value in values)


def _may_be_year(value: Any) -> bool:
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return value is None or value is pd.NA or (number and not abs(value) >= 10_000)


def _check_columns(
    name: str,
    frame: pd.DataFrame,
    wanted: list[str],
    remedy: str = "load_ratings makes such frames of any table.",
) -> None:
    if not isinstance(frame, pd.DataFrame):
        raise ValueError(
            f"{name} should be a DataFrame. Received: {type(frame).__name__}. {remedy}"
        )
    missing = [column for column in wanted if column not in frame.columns]
    if missing:
        raise ValueError(
            f"{name} should have the columns {', '.join(wanted)}. Received: {list(frame.columns)}, "
            f"without {missing}. {remedy}"
        )


def _whole(frame: pd.DataFrame, name: str) -> np.ndarray:
    if not pd.api.types.is_integer_dtype(frame[name]) or frame[name].isna().any():
        raise ValueError(
            f"ratings.{name} should be integers. Received: {frame[name].dtype}. They are row "
            "numbers; load_ratings makes them of any ids."
        )
    return frame[name].to_numpy(np.int64)


def as_floats(column: pd.Series, name: str = "rating") -> np.ndarray:
    """Ratings as float64 [n]; what is no number is NaN."""
    values = pd.to_numeric(column, errors="coerce")
    for kind in (column.dtype, values.dtype):
        if kind.kind in "mMc":
            raise ValueError(f"{name} should hold real numbers. Received: {kind}.")
    return values.to_numpy("float64", na_value=np.nan)
