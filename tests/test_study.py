"""The study on ratings of which we know what is in them, and what it does with other tables."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest

import cfutils as cf
from cfutils.course import claims, study

pytestmark = pytest.mark.slow
KINDS = ["Horror", "Animation", "Children's", "Drama", "War", "Crime", "Comedy", "Western"]


def made(planted, seed=0, num_users=240, num_items=240, per_user=40):
    """Ratings in which popularity explains everything, or in which everybody rates one genre."""
    rng = np.random.default_rng(seed)
    genre = rng.permutation(np.arange(num_items) % 8)
    chance = 1 / (np.arange(num_items) + 5.0)
    rows = []
    for user in range(num_users):
        liked = genre == user % 8
        weights = np.where(liked, 12.0, 1.0) if planted else chance
        for item in rng.choice(num_items, per_user, replace=False, p=weights / weights.sum()):
            high = rng.random() < 0.6
            rows.append((user, item, int(rng.integers(4, 6) if high else rng.integers(1, 4))))
    items = pd.DataFrame({"item_id": range(num_items), "genres": [[KINDS[g]] for g in genre]})
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "rating"])
    return cf.load_ratings(frame, items=items, title=None)


@pytest.fixture(scope="module", params=[False, True], ids=["structureless", "planted"])
def measured(request):
    numbers = ["V8", "V10", "V12", "V14"]
    return request.param, study.run(made(request.param), seeds=range(4), numbers=numbers, jobs=2)


def test_the_ledger_says_what_was_planted(measured):
    planted, found = measured
    ledger = found.ledger()
    assert set(ledger.index) == {"V8", "V10", "V12", "V14"}
    verdicts = {
        number: set(part["verdict"]) for number, part in ledger.groupby(level=0, sort=False)
    }
    gains = ledger[ledger["variant"].str.contains("popularity") | (ledger.index == "V14")]
    gains = set(gains[~gains["measure"].str.contains("EASE")]["verdict"])
    if planted:
        assert "does not hold" in verdicts["V8"]
        assert verdicts["V12"] == {"holds"}
        assert gains == {"holds"}
    else:
        assert verdicts["V8"] == {"holds"}
        assert verdicts["V12"] == {"does not hold"}
        assert "holds" not in gains  # nothing ranks better than popularity


def test_each_model_stands_in_the_table_once_a_split(measured):
    _, found = measured
    counts = found.models.groupby(["model", "measure"]).size()
    assert set(counts) == {4}
    assert "early-stopped" in " ".join(found.table().index)
    assert len(found.settings) == found.settings.groupby(["model", "seed"]).ngroups


def test_a_figure_does_not_depend_on_what_runs_beside_it():
    data = made(True)
    alone = study.run(data, seeds=[1], numbers=["V9"], jobs=1)
    beside = study.run(data, seeds=[0, 1], numbers=["V9", "V2"], jobs=2)
    both = beside.facts[beside.facts["seed"].eq(1) & beside.facts["claim"].eq("V9")]
    pd.testing.assert_frame_equal(alone.facts, both.reset_index(drop=True))


def test_the_command_measures_a_file(tmp_path, capsys):
    data = made(False)
    table = data.ratings.rename(columns={"user_num": "u", "item_num": "i", "rating": "stars"})
    table.assign(stars=2 * table["stars"]).to_csv(tmp_path / "r.csv", index=False)
    words = [str(tmp_path / "r.csv"), "--user=u", "--item=i", "--rating=stars"]
    words += ["--seeds=1", "--claims", "V8", "V10", "--json", str(tmp_path / "a.json")]
    with pytest.raises(ValueError, match="relevant_rating"):  # 2 to 10 stars: what is a hit?
        study.main(words)
    study.main([*words, "--relevant-rating", "8", "--markdown", str(tmp_path / "a.md")])
    printed = capsys.readouterr().out
    assert "Left out, since the items have no genres: V8" in printed
    assert (tmp_path / "a.md").read_text("utf-8").strip() == printed.strip()
    figures = json.loads((tmp_path / "a.json").read_text())
    assert {row["claim"] for row in figures["facts"]} == {"V10"}
    assert "| V10 | with regularization the recommendations improve |" in printed


def test_what_can_not_be_measured_is_refused():
    data = made(False)
    with pytest.raises(ValueError, match=r"numbers should be among V1, .*V16. Received: \['V17'\]"):
        study.run(data, numbers=["V3", "V17"])
    with pytest.raises(ValueError, match="seeds should hold one seed at least"):
        study.run(data, seeds=[])
    with pytest.raises(ValueError, match="jobs should be an integer, 1 or more. Received: -1"):
        study.run(data, jobs=-1)


def test_every_claim_is_measured_by_one_part():
    numbers = itertools.chain.from_iterable(of_part for _, of_part in study.PARTS.values())
    assert sorted(numbers) == sorted(claims.CLAIMS)


def test_memory_is_computed_and_measured():
    split = study._Split(made(True), 0, None)
    study._memory(split)
    values = {variant: value for _, variant, _, _, value in split.facts}
    # 240 users, 240 items, 8,640 training ratings, d = 30: 2 * 4 * 240 * 240 and 16 * 8640 * 30
    assert values["by formula"] == pytest.approx((16 * 8640 * 30 - 8 * 240 * 240) / 2**20)
    assert values["25 million ratings, by formula"] == pytest.approx(35.6, abs=0.1)
    assert 0 <= values["measured"] < 100
