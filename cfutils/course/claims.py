"""The claims of the course as data, and the rules that read figures as verdicts.

Nothing is measured here; the notebooks do that. A new claim is a new entry of `CLAIMS`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd

from cfutils.metrics import verdict as read

__all__ = ["CLAIMS", "Claim", "ledger", "to_markdown", "verdict"]

SIGMAS = {"init 0.5": 0.5, "init 0.05": 0.05}
STARTS = {start: start for start in SIGMAS}
MAPS = {"neighbourhoods": "trustworthiness", "distances": "distance_correlation"}
TERMS = ("l2", "gravity", "both")
SOLVERS = ("descent", "momentum", "Adam", "SGD", "ALS")
MEMORY_MIB = 16 * 1024  # of an ordinary machine
TOLERANCE = 0.02  # relative distance that still counts as "about"
KEEPS_UP = 2  # times the seconds of ALS


def verdict(number: str, **figures: Any) -> pd.Series:
    """What figures say of a claim, as in `verdict("V3", dot=..., cosine=...)`.

    The figures have the names of the claim's `compare`: one per seed, or a dict (or frame) of such
    arrays by start, variant, solver or coefficient. Returns a row of the ledger: `claim`,
    `measure`, `figure` (means with their 95 % intervals), `seeds`, `verdict`.

    Raises: ValueError if there is no such claim, or keys or lengths are not what it needs.
    """
    if number not in CLAIMS:
        raise ValueError(f"number should be one of {', '.join(CLAIMS)}. Received: {number!r}")
    claim = CLAIMS[number]
    found = claim.compare(**figures)
    if not found:
        raise ValueError(f"{number} needs a figure at least. Received: {figures}")
    gaps = {part: read(value) for part, value in found.items() if isinstance(value, np.ndarray)}
    interval = "{mean:.Nf} [{low:.Nf}, {high:.Nf}]".replace("N", str(claim.digits))
    texts = {part: interval.format(**gap) for part, gap in gaps.items()}
    words = {**found, **texts, "parts": "; ".join(map(" ".join, texts.items()))}
    reading = found.get("holds", claim.rule({part: gap["verdict"] for part, gap in gaps.items()}))
    row = {
        "claim": f"{number}: {claim.text}",
        "measure": claim.measure.format(**words),
        "figure": claim.figure.format(**words) if claim.figure else "; ".join(texts.values()),
        "seeds": max((int(gap["n"]) for gap in gaps.values()), default=1),
        "verdict": {True: "holds", False: "does not hold"}.get(reading, reading),
    }
    return pd.Series(row)


def ledger(rows: Iterable[pd.Series]) -> pd.DataFrame:
    """The rows of several claims, as `verdict` returns them, in one frame by number ("V1")."""
    frame = pd.DataFrame(list(rows))
    numbers, texts = zip(*(text.split(": ", 1) for text in frame["claim"]), strict=True)
    return frame.assign(claim=texts).set_axis(pd.Index(numbers, name=""))


def to_markdown(frame: pd.DataFrame) -> str:
    """A frame of text and numbers as a Markdown table, its index as the first column."""
    frame = frame.reset_index()
    lines = [list(map(str, frame.columns)), ["---"] * frame.shape[1]]
    lines += [[str(value).replace("|", "\\|") for value in row] for row in frame.to_numpy()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _first(readings: dict[str, str]) -> str:
    return next(iter(readings.values()), "undecided")


def _every(readings: dict[str, str]) -> str:
    found = set(readings.values())
    return "does not hold" if "does not hold" in found else max(found)  # "undecided" over "holds"


def _none(readings: dict[str, str]) -> str:
    above = {reading == "holds" for reading in readings.values()}
    return "undecided" if len(above) == 2 else "does not hold" if above == {True} else "holds"


def _by_part(readings: dict[str, str]) -> str:
    held = [part for part, reading in readings.items() if reading == "holds"]
    if not held or len(held) == len(readings):
        return _first(readings) if len(set(readings.values())) == 1 else "undecided"
    words = {"undecided": "undecided for", "does not hold": "not for"}
    rest = [f"{words[readings[part]]} {part}" for part in readings if part not in held]
    return f"holds only for {' and '.join(held)}; {', '.join(sorted(rest))}"


def _by_start(readings: dict[str, str]) -> str:
    large, small = (readings[start] for start in STARTS)
    if large == small:
        return large
    if "holds" not in (large, small):
        return f"undecided; start 0.5: {large}, 0.05: {small}"
    start, rest = ("0.5", "0.05") if large == "holds" else ("0.05", "0.5")
    other = "undecided" if "undecided" in (large, small) else "reversed"
    return f"holds only if the start is {start}; {other} with {rest}"


def _by_term(readings: dict[str, str]) -> str:
    raise_both = [t for t in TERMS if readings[t] == readings[f"{t}, test"] == "holds"]
    if "both" not in raise_both:
        return "does not hold"
    verdict = "holds" if len(raise_both) == 3 else f"holds only if {raise_both[0]} is used"
    verdict = "holds only if both are used" if len(raise_both) == 1 else verdict
    lower = readings["l2, test"] == "does not hold"
    return f"{verdict}; l2 alone lowers the test error" if lower else verdict


def _at(values: Any, key: Any) -> np.ndarray:
    if key not in values:
        raise ValueError(f"A figure should have the key {key!r}. Received: {list(values)}")
    return np.asarray(values[key], float)


def _minus(one: Any, other: Any) -> np.ndarray:
    one, other = np.atleast_1d(np.asarray(one, float)), np.atleast_1d(np.asarray(other, float))
    if one.shape != other.shape:
        raise ValueError(
            "Both should have one figure per seed, on the same seeds. Received: shapes "
            f"{list(one.shape)} and {list(other.shape)}"
        )
    return one - other


def _each(one: Any, other: Any, keys: dict[str, Any]) -> dict[str, Any]:
    """The differences at the keys of each part."""
    return {part: _minus(_at(one, key), _at(other, key)) for part, key in keys.items()}


def _over(one: Any, others: dict[str, Any]) -> dict[str, Any]:
    return {part: _minus(one, other) for part, other in others.items()}


def _growth(sizes: Any, full_mib: Any, gather_mib: Any, full_mib_at_scale: float) -> dict[str, Any]:
    """In words, for memory is measured and differs from run to run."""
    sizes, full, gather = (np.asarray(values, float) for values in (sizes, full_mib, gather_mib))
    if not (sizes == 1).any() or len(sizes) < 3 or (np.diff(sizes) <= 0).any():
        raise ValueError(f"sizes should rise, with 1 among them. Received: {sizes.tolist()}")
    alike = 1 / 3 < float((full / gather)[sizes == 1][0]) < 3
    upper = slice(len(sizes) // 2, None)
    powers = [np.polyfit(np.log(sizes[upper]), np.log(y[upper]), 1)[0] for y in (full, gather)]
    sides = ["above" if power > 1.5 else "below" for power in powers]
    return {
        "text": f"{'within' if alike else 'beyond'} a factor of 3; {sides[0]} 1.5 and {sides[1]}; "
        f"{full_mib_at_scale / 1024:.0f} GiB",
        "holds": alike and sides == ["above", "below"] and full_mib_at_scale > MEMORY_MIB,
    }


def _norms(mean_norms: Any, embedding_dim: int) -> dict[str, Any]:
    ratios = {s: _at(mean_norms, s) / (SIGMAS[s] * embedding_dim**0.5) for s in STARTS}
    return ratios | {"holds": all(np.abs(r - 1).max() < TOLERANCE for r in ratios.values())}


def _errors(train_mse: Any, test_mse: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for side, mse in (("", train_mse), (", test", test_mse)):
        found |= {f"{term}{side}": _minus(_at(mse, term), _at(mse, "neither")) for term in TERMS}
    return found


def _best_gravity(ndcg: Any, test_mse: Any) -> dict[str, Any]:
    best = max(ndcg, key=lambda coefficient: np.mean(ndcg[coefficient]))
    pairs = {"ndcg": ndcg, "mse": test_mse}
    return {"best": best} | {n: _minus(_at(y, best), _at(y, 0)) for n, y in pairs.items()}


def _seconds(small: Any, large: Any) -> dict[str, Any]:
    small, large = ({name: float(_at(y, name)) for name in SOLVERS} for y in (small, large))
    reached = [name for name in SOLVERS if np.isfinite(large[name])]
    keeps_up = any(large[name] <= KEEPS_UP * large["ALS"] for name in SOLVERS[:-1])
    holds = "ALS" in reached and any(small[name] < 10 for name in SOLVERS[:-1])
    only = "holds only for plain descent; another gradient method keeps up with ALS"
    text = f"{', '.join(reached) or 'none'}; {'yes' if keeps_up else 'no'}"
    plain = holds and keeps_up and "descent" not in reached
    return {"text": text, "holds": only if plain else holds and not keeps_up}


def _along_alpha(alphas: Any, ndcg: Any, popularity: Any, coverage: Any) -> dict[str, Any]:
    ndcg, many, wide = (np.asarray(values, float) for values in (ndcg, popularity, coverage))
    shapes = [values.shape for values in (ndcg, many, wide)]
    if {shape[1:] for shape in shapes} != {(len(alphas),)}:
        raise ValueError(f"Figures should be arrays [seeds, {len(alphas)}]. Received: {shapes}")
    facts = {"from": alphas[0], "to": alphas[-1], "best": alphas[ndcg.mean(axis=0).argmax()]}
    return facts | {"lost": many[:, 0] - many[:, -1], "won": wide[:, -1] - wide[:, 0]}


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim: what it says, what is compared, and how that is read."""

    text: str
    measure: str  # what is compared, in words; what `compare` returns may stand in braces
    compare: Callable[..., dict[str, Any]]  # figures -> arrays (above 0: holds), words, `holds`
    rule: Callable[[dict[str, str]], str] = _first  # reading of each array -> verdict
    figure: str = ""  # a template; without one, the intervals of all arrays
    digits: int = 3  # of the intervals


CLAIMS = {
    "V1": Claim(
        "full product and gathered rows cost alike here; at scale the former is infeasible",
        "memory, full / gathered; powers of growth; one table at 25M",
        _growth,  # sizes relative to this data, MiB of both at each, MiB of one full table at scale
        figure="{text}",
    ),
    "V2": Claim(
        "the quality of the plain embeddings may not be very good",
        "NDCG@10, popularity - best plain model",
        lambda best_plain_ndcg, popularity_ndcg: {"gap": _minus(popularity_ndcg, best_plain_ndcg)},
    ),
    "V3": Claim(
        "the dot product recommends popular movies, cosine less so",
        "median ratings of the top 10, dot - cosine, starts 0.5; 0.05",
        lambda dot, cosine: _each(dot, cosine, STARTS),
        _by_start,
        digits=1,
    ),
    "V4": Claim(
        "the norm goes with popularity",
        "Spearman of norm and number of ratings, starts 0.5; 0.05",
        lambda spearman: {start: _at(spearman, start) for start in STARTS},
        _by_start,
    ),
    "V5": Claim(
        "niche movies keep the norm of their initialisation",
        "Spearman of initial and final norm, 1-4 ratings - 100 or more, starts 0.5; 0.05",
        lambda rare, popular: _each(rare, popular, STARTS),
        _by_start,
    ),
    "V6": Claim(
        "the expected initial norm is about sigma sqrt(d)",
        "mean norm / sigma sqrt(d), starts 0.5; 0.05",
        _norms,
    ),
    "V7": Claim(
        "t-SNE preserves distances, with care",
        "t-SNE - PCA: trustworthiness; distance correlation",
        lambda tsne, pca: _each(tsne, pca, MAPS),
        _by_part,
        digits=2,  # maps differ a little between machines
    ),
    "V8": Claim(
        "no notable structure in the plain embeddings",
        "lift of a shared genre among neighbours - 1, starts 0.5; 0.05",
        lambda lift: {start: _at(lift, start) - 1 for start in STARTS},  # 1 is chance
        _none,
    ),
    "V9": Claim(
        "regularization raises the error on training and test ratings",
        "MSE, both terms - neither: training; test",
        _errors,
        _by_term,
        "{both}; {both, test}",
    ),
    "V10": Claim(
        "with regularization the recommendations improve",
        "NDCG@10, both terms - neither; both terms - popularity",
        lambda ndcg: _over(_at(ndcg, "both"), {x: _at(ndcg, x) for x in ("neither", "popularity")}),
    ),
    "V11": Claim(
        "a good embedding must also learn low similarity",
        "gravity {best:g} - gravity 0: NDCG@10; test MSE",
        _best_gravity,  # both by gravity coefficient, 0 among them
        _every,
    ),
    "V12": Claim(
        "with regularization far more structure; genres cluster",
        "lift of the genre among neighbours, both terms - neither",
        lambda lift: {genre: _minus(after, before) for genre, (before, after) in lift.items()},
        _by_part,
        "{parts}",
    ),
    "V13": Claim(
        "SGD is fine here, larger problems need ALS",
        "solvers within 2 % of the lowest loss on 500,000 made-up ratings; the best gradient "
        f"method within {KEEPS_UP} times the seconds of ALS",
        _seconds,  # to within 2 % of the lowest loss by solver, NaN for not reached
        figure="{text}",
    ),
    "V14": Claim(
        "the softmax model predicts what a user has rated",
        "NDCG@10 for new users, softmax - popularity; softmax - EASE",
        lambda softmax, popularity, ease: _over(softmax, {"popularity": popularity, "EASE": ease}),
    ),
    "V15": Claim(
        "one table of movies serves as input and output",
        "row j in is row j out; NDCG@10, one table - two",
        lambda same_rows, tied, untied: {
            "gap": _minus(tied, untied),
            "rows": "all rows" if same_rows else "not all rows",
            "holds": bool(same_rows),
        },
        figure="{rows}; {gap}",
    ),
    "V16": Claim(
        "dividing by a power of the norm leads from popular movies to less popular ones",
        "alpha {from:g} to {to:g}: median ratings lost; coverage gained; best NDCG",
        _along_alpha,
        _every,
        "{lost}; {won}; at alpha {best:g}",
    ),
}
