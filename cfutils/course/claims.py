"""The claims of the course as data, and the rule that reads figures as verdicts.

Nothing is measured here: `cfutils.course.study` does that. Each claim has measures, and each
measure the size that would matter to somebody. A new claim is a new entry of `CLAIMS`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import pandas as pd

from cfutils.metrics import mean_interval

__all__ = ["CLAIMS", "Claim", "Measure", "ledger", "sizes", "to_markdown", "verdict"]

MIN_SPLITS = 4  # an interval over fewer is no ground for a verdict


@dataclasses.dataclass(frozen=True)
class Measure:
    """What is measured for a claim, and from where on a figure bears it out.

    Attributes:
        text: what the figure is, with its unit.
        size: the figure from which it would matter to somebody.
        reason: why, in a sentence.
        below: whether the claim is borne out below the size, and not above.
        exact: whether it is computed rather than measured, so that one figure is enough.
        digits: decimals of the figure.
    """

    text: str
    size: float
    reason: str
    below: bool = False
    exact: bool = False
    digits: int = 3


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim: what the course says, where the series shows it, and how it is measured."""

    text: str
    notebook: str
    measures: Mapping[str, Measure]
    needs_genres: bool = False


_LIST = "one user in a hundred gets a perfect list in the place of one without a hit"
_GAIN = Measure("NDCG@10 gained", 0.01, _LIST)
_NO_LOSS = Measure("NDCG@10 gained", -0.01, f"a loss below it is less than that {_LIST[:-3]}hit")
_TIMES = "a list whose movies are rated a quarter more often is plainly more of the mainstream"
_POPULAR = Measure("median ratings of the recommended, ratio", 1.25, _TIMES, digits=2)
_ERROR = Measure(
    "MSE, difference", 0.02, "at an error near one star that is a hundredth of a star", digits=2
)
_MEMORY = Measure(
    "MiB by which the two differ, loss and gradient",
    256.0,
    "so much more or less changes nothing on a machine with gigabytes",
    below=True,
    digits=0,
)
_MACHINE = "an ordinary machine has that much memory, in GiB"
_GENRE = "the genre is met among neighbours once more often than chance has it"

CLAIMS = {
    "V1": Claim(
        "full product and gathered rows cost alike here; at scale the former is infeasible",
        "02",
        {
            "formula": dataclasses.replace(_MEMORY, exact=True),
            "memory": _MEMORY,
            "scale": Measure("GiB of one full product", 16.0, _MACHINE, exact=True, digits=0),
        },
    ),
    "V2": Claim(
        "the quality of the plain embeddings may not be very good",
        "03",
        {"gap": dataclasses.replace(_GAIN, text="NDCG@10, popularity - plain model")},
    ),
    "V3": Claim(
        "the dot product recommends popular movies, cosine less so",
        "03",
        {"ratio": dataclasses.replace(_POPULAR, text=f"{_POPULAR.text} dot / cosine")},
    ),
    "V4": Claim(
        "the norm goes with popularity",
        "03",
        {
            "spearman": Measure(
                "Spearman of norm and number of ratings",
                0.5,
                "then a quarter of the one's order is explained by the other",
            )
        },
    ),
    "V5": Claim(
        "niche movies keep the norm of their initialisation",
        "03",
        {
            "spearman": Measure(
                "Spearman of initial and final norm, movies with 1 to 4 ratings",
                0.7,
                "then half of the order of the norms is still that of the start",
            )
        },
    ),
    "V6": Claim(
        "the expected initial norm is about sigma sqrt(d)",
        "03",
        {
            "off": Measure(
                "mean norm, relative distance from sigma sqrt(d)",
                0.05,
                "nobody sees one part in twenty on a chart of norms",
                below=True,
            )
        },
    ),
    "V7": Claim(
        "t-SNE preserves distances, with care",
        "03",
        {
            "distances": Measure(
                "Spearman of distances in the embeddings and on the map",
                0.7,
                "below it less than half of the order of the distances is right",
                digits=2,
            ),
            "neighbourhoods": Measure(
                "trustworthiness of the map's neighbourhoods",
                0.75,
                "halfway from chance, 0.5, to a map without a false neighbour, 1",
                digits=2,
            ),
        },
    ),
    "V8": Claim(
        "no notable structure in the plain embeddings",
        "03",
        {
            "lift": Measure(
                "lift of a shared genre among the ten nearest neighbours",
                1.5,
                "notable is half as often again as by chance; below, no reader finds the genres",
                below=True,
                digits=2,
            )
        },
        needs_genres=True,
    ),
    "V9": Claim(
        "regularization raises the error on training and test ratings", "04", {"mse": _ERROR}
    ),
    "V10": Claim("with regularization the recommendations improve", "04", {"ndcg": _GAIN}),
    "V11": Claim(
        "a good embedding must also learn low similarity",
        "04",
        {
            "ndcg": dataclasses.replace(_GAIN, text="NDCG@10 gained by gravity"),
            "mse": dataclasses.replace(_ERROR, text="test MSE added by gravity"),
        },
    ),
    "V12": Claim(
        "with regularization far more structure; genres cluster",
        "04",
        {
            "lift": Measure(
                "lift of the genre among neighbours, added by regularization", 1.0, _GENRE, digits=2
            )
        },
        needs_genres=True,
    ),
    "V13": Claim(
        "SGD is fine here, larger problems need ALS",
        "04",
        {
            "seconds": Measure(
                "seconds of the best gradient method to within 2 % of the lowest loss",
                10.0,
                "so long anybody waits for a model",
                below=True,
                digits=1,
            ),
            "ratio": Measure(
                "seconds of the best gradient method / of ALS",
                2.0,
                "below a factor of two nobody changes the solver",
                digits=1,
            ),
            "work": Measure(
                "multiplications of the best gradient method / of ALS",
                2.0,
                "below a factor of two nobody changes the solver",
                digits=1,
            ),
        },
    ),
    "V14": Claim(
        "the softmax model predicts what a user has rated",
        "05",
        {
            "ndcg": dataclasses.replace(_GAIN, text="NDCG@10 for new users, softmax - popularity"),
            "ease": dataclasses.replace(_NO_LOSS, text="NDCG@10 for new users, softmax - EASE"),
        },
    ),
    "V15": Claim(
        "one table of movies serves as input and output",
        "05",
        {
            "rows": Measure(
                "share of rows of the input that are rows of the output",
                1.0,
                "one table is one table",
                exact=True,
            ),
            "ndcg": dataclasses.replace(_NO_LOSS, text="NDCG@10, one table - two"),
        },
    ),
    "V16": Claim(
        "dividing by a power of the norm leads from popular movies to less popular ones",
        "06",
        {
            "ratio": dataclasses.replace(_POPULAR, text=f"{_POPULAR.text} alpha 0 / alpha 1"),
            "coverage": Measure(
                "share of all movies recommended to somebody, alpha 1 - alpha 0",
                0.05,
                "one movie in twenty more is seen by somebody",
            ),
        },
    ),
}


def verdict(values: pd.Series | np.ndarray, measure: Measure) -> pd.Series:
    """Reads the figures of several splits by the size that matters.

    "holds" if the whole 95 % interval lies beyond `measure.size` on the side of the claim, "does
    not hold" if all of it lies on the other side, else "undecided", as are fewer than four splits.

    Returns: a series `figure` (the mean with its interval, as text), `splits`, `verdict`.
    Raises: ValueError if there is no figure, or one is not finite.
    """
    values = np.asarray(values, float)
    if not len(values) or not np.isfinite(values).all():
        raise ValueError(f"values should be finite figures, one a split. Received: {values}.")
    mean = low = high = float(values.mean())
    if len(values) > 1:
        mean, low, high = mean_interval(values)[["mean", "low", "high"]]
    mean_text, *ends = (f"{each:.{measure.digits}f}" for each in (mean, low, high))
    figure = mean_text if low == high else f"{mean_text} [{', '.join(ends)}]"
    beyond, short = low >= measure.size, high < measure.size
    if measure.below:
        beyond, short = high < measure.size, low >= measure.size
    reading = "holds" if beyond else "does not hold" if short else "undecided"
    if len(values) < MIN_SPLITS and not measure.exact:
        reading = "undecided: too few splits"
    return pd.Series({"figure": figure, "splits": len(values), "verdict": reading})


def ledger(facts: pd.DataFrame) -> pd.DataFrame:
    """One line for each claim, measure and variant of the facts of a study.

    The first line of a claim says what it is.

    Args:
        facts: `claim`, `variant`, `measure` (a key of the claim's), `seed`, `value`.

    Returns: a frame by number ("V1"): `claim`, `variant`, `measure`, `figure`, `matters` (from
    where on), `splits`, `verdict`; in the order of `CLAIMS` and of the facts.
    """
    rows: list[dict[str, object]] = []
    for number, claim in CLAIMS.items():
        of_claim = facts[facts["claim"] == number]
        for (measure, variant), part in of_claim.groupby(["measure", "variant"], sort=False):
            rule = claim.measures[measure]
            side = "below" if rule.below else "from"
            text = "" if rows and rows[-1][""] == number else claim.text
            words = {"claim": text, "variant": variant, "measure": rule.text}
            read = verdict(part["value"], rule)
            words |= {"figure": read["figure"], "matters": f"{side} {rule.size:g}"}
            rows.append({"": number} | words | dict(read[["splits", "verdict"]]))
    columns = ["", "claim", "variant", "measure", "figure", "matters", "splits", "verdict"]
    return pd.DataFrame(rows, columns=columns).set_index("")


def sizes(numbers: list[str] | None = None) -> pd.DataFrame:
    """What would matter, and why: one line for each measure of the claims, by number."""
    rows = [
        {"": number, "measure": rule.text, "matters": rule.size, "reason": rule.reason}
        for number, claim in CLAIMS.items()
        for rule in claim.measures.values()
        if numbers is None or number in numbers
    ]
    return pd.DataFrame(rows).drop_duplicates().set_index("")


def to_markdown(frame: pd.DataFrame) -> str:
    """A frame of text and numbers as a Markdown table, its index as the first column."""
    frame = frame.reset_index()
    lines = [list(map(str, frame.columns)), ["---"] * frame.shape[1]]
    lines += [[str(value).replace("|", "\\|") for value in row] for row in frame.to_numpy()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
