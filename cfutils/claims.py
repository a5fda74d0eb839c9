"""The claims of the course, each with its measure and the rule that turns figures into a verdict.

One function per claim. It takes what was measured, one figure per seed, and returns a row of the
ledger: `claim`, `measure`, `figure` (means with their 95 % intervals), `seeds`, `verdict`. Nothing
is measured here; the notebooks do that.
"""

import numpy as np
import pandas as pd

from cfutils.metrics import verdict as read

__all__ = ["ledger", "to_markdown", *(f"v{number}" for number in range(1, 17))]

COLUMNS = ("claim", "measure", "figure", "seeds", "verdict")
STARTS = ("init 0.5", "init 0.05")
VARIANTS = ("neither", "l2", "gravity", "both")
SOLVERS = ("descent", "momentum", "Adam", "SGD", "ALS")


def v1(sizes, full_mib, gather_mib, full_mib_at_scale, *, limit_mib=16 * 1024):
    """V1: the full product and gathered rows cost alike here; the former is infeasible at scale.

    Args:
        sizes: array [n] of sizes relative to this data, rising; 1 among them.
        full_mib: memory of the full product at each size.
        gather_mib: memory of gathered rows at each size.
        full_mib_at_scale: one table of the full product at the size of MovieLens 25M.
        limit_mib: memory of an ordinary machine.

    Returns:
        A row of the ledger. It holds if the two are within a factor of 3 at size 1, the full
        product grows with a power above 1.5 and gathered rows with one below 1.5 over the upper
        half of the sizes, and the limit is passed at scale.

    Cost: O(number of figures) time and memory.
    """
    sizes, full, gather = (np.asarray(values, float) for values in (sizes, full_mib, gather_mib))
    if not (sizes == 1).any() or len(sizes) < 3 or (np.diff(sizes) <= 0).any():
        raise ValueError(f"sizes should rise, with 1 among them. Received: {sizes.tolist()}")
    ratio = float((full / gather)[sizes == 1][0])
    upper = slice(len(sizes) // 2, None)
    powers = [np.polyfit(np.log(sizes[upper]), np.log(y[upper]), 1)[0] for y in (full, gather)]
    holds = 1 / 3 < ratio < 3 and powers[1] < 1.5 < powers[0] and full_mib_at_scale > limit_mib
    sides = ["above" if power > 1.5 else "below" for power in powers]
    return _row(
        "V1: full product and gathered rows cost alike here; at scale the former is infeasible",
        "memory, full / gathered; powers of growth; one table at 25M",
        # In words: memory is measured, and differs from run to run.
        f"{'within' if 1 / 3 < ratio < 3 else 'beyond'} a factor of 3; {sides[0]} 1.5 and "
        f"{sides[1]}; {full_mib_at_scale / 1024:.0f} GiB",
        1,
        "holds" if holds else "does not hold",
    )


def v2(best_plain_ndcg, popularity_ndcg):
    """V2: the embeddings of the plain factorization may not be very good.

    Args:
        best_plain_ndcg: NDCG@10 of the best plain model, one per seed.
        popularity_ndcg: of popularity on the same splits.

    Returns:
        A row of the ledger: it holds if plain popularity ranks better.

    Cost: O(number of figures) time and memory.
    """
    gap = read(_difference(popularity_ndcg, best_plain_ndcg))
    return _from(
        "V2: the quality of the plain embeddings may not be very good",
        "NDCG@10, popularity - best plain model",
        gap,
    )


def v3(dot, cosine):
    """V3: the dot product recommends popular movies, cosine less so.

    Args:
        dot: median number of ratings of the movies recommended by dot product; a dict by start of
            arrays, one figure per seed.
        cosine: the same by cosine.

    Returns:
        A row of the ledger, with a reading for each start.

    Cost: O(number of figures) time and memory.
    """
    _keys("dot", dot, STARTS)
    _keys("cosine", cosine, STARTS)
    gaps = {name: read(_difference(dot[name], cosine[name])) for name in STARTS}
    return _by_start(
        "V3: the dot product recommends popular movies, cosine less so",
        "median ratings of the top 10, dot - cosine",
        gaps,
        1,
    )


def v4(spearman):
    """V4: the norm of an embedding goes with popularity.

    Args:
        spearman: of norm and number of ratings; a dict by start of arrays.

    Returns:
        A row of the ledger, with a reading for each start.

    Cost: O(number of figures) time and memory.
    """
    _keys("spearman", spearman, STARTS)
    return _by_start(
        "V4: the norm goes with popularity",
        "Spearman of norm and number of ratings",
        {name: read(spearman[name]) for name in STARTS},
    )


def v5(rare, popular):
    """V5: movies with few ratings keep the norm that they were initialised with.

    Args:
        rare: Spearman of initial and final norm among movies with 1 to 4 ratings; a dict by start
            of arrays.
        popular: the same among those with 100 ratings or more.

    Returns:
        A row of the ledger: it holds where the former is higher.

    Cost: O(number of figures) time and memory.
    """
    _keys("rare", rare, STARTS)
    _keys("popular", popular, STARTS)
    gaps = {name: read(_difference(rare[name], popular[name])) for name in STARTS}
    return _by_start(
        "V5: niche movies keep the norm of their initialisation",
        "Spearman of initial and final norm, 1-4 ratings - 100 or more",
        gaps,
    )


def v6(mean_norms, embedding_dim, *, tolerance=0.02):
    """V6: the expected initial norm is about sigma sqrt(d).

    Args:
        mean_norms: mean initial norm of the movies; a dict by start of arrays. The start "init 0.5"
            has sigma 0.5.
        embedding_dim: d.
        tolerance: relative distance that still counts as about.

    Returns:
        A row of the ledger: it holds if no mean norm is further away.

    Cost: O(number of figures) time and memory.
    """
    _keys("mean_norms", mean_norms, STARTS)
    expected = {"init 0.5": 0.5 * embedding_dim**0.5, "init 0.05": 0.05 * embedding_dim**0.5}
    ratios = {name: np.asarray(mean_norms[name], float) / expected[name] for name in STARTS}
    holds = all((np.abs(values - 1) < tolerance).all() for values in ratios.values())
    return _row(
        "V6: the expected initial norm is about sigma sqrt(d)",
        "mean norm / sigma sqrt(d), starts 0.5; 0.05",
        "; ".join(_text(read(values)) for values in ratios.values()),
        len(ratios[STARTS[0]]),
        "holds" if holds else "does not hold",
    )


def v7(tsne, pca):
    """V7: t-SNE attempts to preserve distances, to be used with care.

    Args:
        tsne: a dict of arrays, `trustworthiness` and `distance_correlation` of t-SNE maps.
        pca: the same of maps by principal components of the same embeddings.

    Returns:
        A row of the ledger, with a reading for neighbourhoods and one for distances.

    Cost: O(number of figures) time and memory.
    """
    measures = ("trustworthiness", "distance_correlation")
    _keys("tsne", tsne, measures)
    _keys("pca", pca, measures)
    near, far = (read(_difference(tsne[name], pca[name])) for name in measures)
    return _row(
        "V7: t-SNE preserves distances, with care",
        "t-SNE - PCA: trustworthiness; distance correlation",
        f"{_text(near, 2)}; {_text(far, 2)}",  # maps differ a little between machines
        int(near["n"]),
        _parts({"neighbourhoods": near["verdict"], "distances": far["verdict"]}),
    )


def v8(lift):
    """V8: the plain embeddings show no notable structure yet.

    Args:
        lift: how much more often neighbours share a genre than chance would have it; a dict by
            start of arrays; 1 is chance.

    Returns:
        A row of the ledger: it holds unless the lift is above 1.

    Cost: O(number of figures) time and memory.
    """
    _keys("lift", lift, STARTS)
    gaps = {name: read(np.asarray(lift[name], float) - 1) for name in STARTS}
    found = [gap["verdict"] == "holds" for gap in gaps.values()]
    return _row(
        "V8: no notable structure in the plain embeddings",
        "lift of a shared genre among neighbours - 1, starts 0.5; 0.05",
        "; ".join(_text(gap) for gap in gaps.values()),
        int(gaps[STARTS[0]]["n"]),
        "does not hold" if all(found) else "undecided" if any(found) else "holds",
    )


def v9(train_mse, test_mse):
    """V9: regularization gives a higher error on training and test ratings.

    Args:
        train_mse: a dict of arrays for the variants neither, l2, gravity, both.
        test_mse: the same on test ratings.

    Returns:
        A row of the ledger; the verdict says which term raises the errors.

    Cost: O(number of figures) time and memory.
    """
    _keys("train_mse", train_mse, VARIANTS)
    _keys("test_mse", test_mse, VARIANTS)
    gaps = {
        name: [read(_difference(mse[name], mse["neither"])) for mse in (train_mse, test_mse)]
        for name in VARIANTS[1:]
    }
    raised = {name: all(g["verdict"] == "holds" for g in pair) for name, pair in gaps.items()}
    if raised["both"]:
        terms = [name for name in ("l2", "gravity") if raised[name]]
        verdict = "holds" if len(terms) == 2 else f"holds only if {terms[0]} is used"
        if gaps["l2"][1]["verdict"] == "does not hold":
            verdict += "; l2 alone lowers the test error"
    else:
        verdict = "does not hold"
    return _row(
        "V9: regularization raises the error on training and test ratings",
        "MSE, both terms - neither: training; test",
        "; ".join(_text(gap) for gap in gaps["both"]),
        int(gaps["both"][0]["n"]),
        verdict,
    )


def v10(ndcg):
    """V10: yet with regularization the recommendations improve.

    Args:
        ndcg: NDCG@10; a dict of arrays for neither, l2, gravity, both and popularity.

    Returns:
        A row of the ledger: it holds if both terms rank above neither.

    Cost: O(number of figures) time and memory.
    """
    _keys("ndcg", ndcg, (*VARIANTS, "popularity"))
    gap = read(_difference(ndcg["both"], ndcg["neither"]))
    above = read(_difference(ndcg["both"], ndcg["popularity"]))
    return _row(
        "V10: with regularization the recommendations improve",
        "NDCG@10, both terms - neither; both terms - popularity",
        f"{_text(gap)}; {_text(above)}",
        int(gap["n"]),
        gap["verdict"],
    )


def v11(ndcg, test_mse):
    """V11: fitting observed ratings is not enough, low similarity has to be learned too.

    Args:
        ndcg: NDCG@10; a dict by gravity coefficient, 0 among them, of arrays.
        test_mse: the error on test ratings likewise.

    Returns:
        A row of the ledger: it holds if the gravity that ranks best ranks better than none and at
        the same time has a higher error.

    Cost: O(number of figures) time and memory.
    """
    if 0 not in ndcg or set(ndcg) != set(test_mse) or len(ndcg) < 2:
        raise ValueError(
            "ndcg and test_mse should have the same coefficients, 0 among them. Received: "
            f"{list(ndcg)} and {list(test_mse)}"
        )
    best = max(ndcg, key=lambda coefficient: np.mean(ndcg[coefficient]))
    gained = read(_difference(ndcg[best], ndcg[0]))
    added = read(_difference(test_mse[best], test_mse[0]))
    return _row(
        "V11: a good embedding must also learn low similarity",
        f"gravity {best:g} - gravity 0: NDCG@10; test MSE",
        f"{_text(gained)}; {_text(added)}",
        int(gained["n"]),
        _all([gained["verdict"], added["verdict"]]),
    )


def v12(lift):
    """V12: regularized embeddings have far more structure; some genres cluster.

    Args:
        lift: a dict by genre of pairs of arrays: the lift without and with both terms.

    Returns:
        A row of the ledger, with a reading for each genre.

    Cost: O(number of figures) time and memory.
    """
    if not lift:
        raise ValueError("lift should hold a genre at least. Received: none")
    gaps = {genre: read(_difference(after, before)) for genre, (before, after) in lift.items()}
    return _row(
        "V12: with regularization far more structure; genres cluster",
        "lift of the genre among neighbours, both terms - neither",
        "; ".join(f"{genre} {_text(gap)}" for genre, gap in gaps.items()),
        int(next(iter(gaps.values()))["n"]),
        _parts({genre: gap["verdict"] for genre, gap in gaps.items()}),
    )


def v13(small, large, *, factor=2.0):
    """V13: SGD is fine here; larger problems need ALS.

    Args:
        small: seconds to within 2 % of the lowest loss on this data, a dict by solver, NaN for not
            reached.
        large: the same on larger data.
        factor: how many times the seconds of ALS another solver may take and still keeps up.

    Returns:
        A row of the ledger. The seconds differ from run to run and are not in it: it holds if some
        gradient method takes less than 10 seconds on the small data and none keeps up on the large.

    Cost: O(number of figures) time and memory.
    """
    _keys("small", small, SOLVERS)
    _keys("large", large, SOLVERS)
    gradient = SOLVERS[:-1]
    reached = [name for name in SOLVERS if np.isfinite(large[name])]
    keeps_up = any(large[name] <= factor * large["ALS"] for name in gradient)
    if not any(small[name] < 10 for name in gradient) or "ALS" not in reached:
        verdict = "does not hold"
    elif not keeps_up:
        verdict = "holds"
    elif "descent" in reached:
        verdict = "does not hold"
    else:
        verdict = "holds only for plain descent; another gradient method keeps up with ALS"
    return _row(
        "V13: SGD is fine here, larger problems need ALS",
        "solvers within 2 % of the lowest loss on 500,000 made-up ratings; the best gradient "
        f"method within {factor:g} times the seconds of ALS",
        f"{', '.join(reached) or 'none'}; {'yes' if keeps_up else 'no'}",
        1,
        verdict,
    )


def v14(softmax, popularity, ease):
    """V14: the softmax model predicts what a user has rated.

    Args:
        softmax: NDCG@10 for users never seen in training, one per seed.
        popularity: of popularity.
        ease: of EASE on the same histories.

    Returns:
        A row of the ledger: it holds if the model ranks above popularity.

    Cost: O(number of figures) time and memory.
    """
    gap, distance = read(_difference(softmax, popularity)), read(_difference(softmax, ease))
    return _row(
        "V14: the softmax model predicts what a user has rated",
        "NDCG@10 for new users, softmax - popularity; softmax - EASE",
        f"{_text(gap)}; {_text(distance)}",
        int(gap["n"]),
        gap["verdict"],
    )


def v15(same_rows, tied, untied):
    """V15: one table of movies serves as input and as softmax weights.

    Args:
        same_rows: whether row j of the input is row j of the output, for all movies.
        tied: NDCG@10 of the model with one table.
        untied: of the model with two.

    Returns:
        A row of the ledger: it holds if the rows are the same; the figure tells what tying brings.

    Cost: O(number of figures) time and memory.
    """
    gap = read(_difference(tied, untied))
    return _row(
        "V15: one table of movies serves as input and output",
        "row j in is row j out; NDCG@10, one table - two",
        f"{'all rows' if same_rows else 'not all rows'}; {_text(gap)}",
        int(gap["n"]),
        "holds" if same_rows else "does not hold",
    )


def v16(alphas, ndcg, popularity, coverage):
    """V16: transforming the norm changes the recommendations, from popular to rare.

    Args:
        alphas: powers of the movie's norm that scores are divided by, array [a], rising from 0.
        ndcg: NDCG@10, array [seeds, a].
        popularity: median number of ratings of what is recommended, array [seeds, a].
        coverage: share of the movies that are recommended to somebody, array [seeds, a].

    Returns:
        A row of the ledger: it holds if from the first alpha to the last popularity falls and
        coverage grows.

    Cost: O(number of figures) time and memory.
    """
    alphas = np.asarray(alphas, float)
    arrays = [np.asarray(values, float) for values in (ndcg, popularity, coverage)]
    if any(values.ndim != 2 or values.shape[1] != len(alphas) for values in arrays):
        raise ValueError(
            f"ndcg, popularity and coverage should be arrays [seeds, {len(alphas)}]. Received: "
            f"{[list(values.shape) for values in arrays]}"
        )
    ndcg, popularity, coverage = arrays
    falls = read(popularity[:, 0] - popularity[:, -1])
    grows = read(coverage[:, -1] - coverage[:, 0])
    best = alphas[ndcg.mean(axis=0).argmax()]
    return _row(
        "V16: dividing by a power of the norm leads from popular movies to less popular ones",
        f"alpha {alphas[0]:g} to {alphas[-1]:g}: median ratings lost; coverage gained; best NDCG",
        f"{_text(falls)}; {_text(grows)}; at alpha {best:g}",
        int(falls["n"]),
        _all([falls["verdict"], grows["verdict"]]),
    )


def ledger(rows):
    """The rows of several claims as one table.

    Args:
        rows: what the functions of this module return.

    Returns:
        A frame by the number of the claim ("V1") with `claim`, `measure`, `figure`, `seeds` and
        `verdict`.

    Cost: O(rows) time and memory.
    """
    frame = pd.DataFrame([row[list(COLUMNS)] for row in rows])
    numbers, texts = zip(*(text.split(": ", 1) for text in frame["claim"]), strict=True)
    return frame.assign(claim=texts).set_axis(pd.Index(numbers, name=""))


def to_markdown(frame):
    """A frame of text and numbers as a Markdown table, its index as the first column.

    Cost: O(cells) time and memory.
    """
    frame = frame.reset_index()
    lines = [list(map(str, frame.columns)), ["---"] * frame.shape[1]]
    lines += [[str(value).replace("|", "\\|") for value in row] for row in frame.to_numpy()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _row(*values):
    return pd.Series(dict(zip(COLUMNS, values, strict=True)))


def _from(claim, measure, gap):
    return _row(claim, measure, _text(gap), int(gap["n"]), gap["verdict"])


def _by_start(claim, measure, gaps, digits=3):
    """A row whose verdict may depend on how small the first embeddings are."""
    large, small = (gaps[name]["verdict"] for name in STARTS)
    words = {"does not hold": "reversed"}
    if large == small:
        verdict = large
    elif "holds" in (large, small):
        start, other = ("0.5", small) if large == "holds" else ("0.05", large)
        rest = "0.05" if start == "0.5" else "0.5"
        verdict = f"holds only if the start is {start}; {words.get(other, other)} with {rest}"
    else:
        verdict = f"undecided; start 0.5: {large}, 0.05: {small}"
    return _row(
        claim,
        f"{measure}, starts 0.5; 0.05",
        "; ".join(_text(gaps[name], digits) for name in STARTS),
        int(gaps[STARTS[0]]["n"]),
        verdict,
    )


def _text(gap, digits=3):
    return f"{gap['mean']:.{digits}f} [{gap['low']:.{digits}f}, {gap['high']:.{digits}f}]"


def _parts(readings):
    """One verdict from those of several parts."""
    if len(set(readings.values())) == 1:
        return next(iter(readings.values()))
    held = [name for name, reading in readings.items() if reading == "holds"]
    if not held:
        return "undecided"
    words = {"does not hold": "not"}
    rest = [
        f"{words.get(readings[name], 'undecided')} for {name}" for name in readings.keys() - held
    ]
    return f"holds only for {' and '.join(held)}; {', '.join(sorted(rest))}"


def _all(readings):
    if all(reading == "holds" for reading in readings):
        return "holds"
    return "does not hold" if "does not hold" in readings else "undecided"


def _difference(one, other):
    one, other = np.asarray(one, float), np.asarray(other, float)
    if one.shape != other.shape:
        raise ValueError(
            "Both should have one figure per seed, on the same seeds. Received: shapes "
            f"{list(one.shape)} and {list(other.shape)}"
        )
    return one - other


def _keys(name, values, wanted):
    missing = [key for key in wanted if key not in values]
    if missing:
        raise ValueError(f"{name} should have {list(wanted)}. Received: {list(values)}")
