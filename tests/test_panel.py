"""Own ratings: what is kept, what is refused and left alone, what the panel shows."""

import json
import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cfutils.data import Dataset
from cfutils.ids import texts
from cfutils.panel import RatingPanel, read_own_ratings
from cfutils.recommendation import recommend
from cfutils.tables import load_ratings

TITLES = ['Amélie, or "Le Fabuleux" (2001)', "Twice (1990)", "Twice (1990)", "Star Wars (1977)"]
TITLES += ["Star Wars Holiday (1978)", "<b>Bold</b> & $x$ (1999)", "A.*B (1980)"]
TITLES += ["Über\nAlles (1970)", "Ninth (1971)", "Tenth (1972)"]


class TwoTastes:
    """A folding model by its formula: H = V_S^T V_S + 0.5 I, u = H^-1 V_S^T a."""

    def __init__(self, num_items=10):
        # even items lie along one axis, odd ones along the other, not quite
        embeddings = np.random.default_rng(0).normal(0, 0.1, (num_items, 2))
        embeddings[np.arange(num_items), np.arange(num_items) % 2] += 1
        self.item_embeddings = embeddings.astype(np.float32)
        self.item_ids = texts(range(101, 101 + num_items))

    def fold_in_parts(self, item_nums, ratings):
        rated = self.item_embeddings[item_nums].astype(float)
        return ratings[:, None] * np.linalg.solve(rated.T @ rated + 0.5 * np.eye(2), rated.T).T

    def fold_in(self, A):
        return self.fold_in_parts(A.indices, A.data).sum(axis=0, keepdims=True)


@pytest.fixture(scope="module")
def data():
    """Items 101 to 110."""
    items = pd.DataFrame({"item_id": range(101, 111), "title": TITLES})
    ratings = {"user_num": 0, "item_num": range(6), "rating": [1.0, 2.0, 3.0, 4.0, 5.0, 5.0]}
    return Dataset(
        pd.DataFrame({"user_id": [5]}), items.assign(genres=[["<i>"]] * 10), pd.DataFrame(ratings)
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mine.json"


@pytest.fixture
def panel(data, path):
    return RatingPanel(TwoTastes(), data, path)


# The file


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.integers(101, 110), st.floats(1, 5) | st.sampled_from([1.0, 5.0])))
def test_what_is_saved_is_read_again(data, path, ratings):
    path.unlink(missing_ok=True)
    panel = RatingPanel(None, data, path)
    panel._ratings = ratings
    panel._save()
    assert read_own_ratings(str(path), data) == ratings
    assert [*read_own_ratings(path, data)] == [*ratings]  # in their order
    assert os.listdir(path.parent) == [path.name]


def test_the_file_is_a_small_list_for_people_and_for_recommend(data, path, panel):
    panel.rate(TITLES[0], 5)
    panel.rate("108", 2.5)
    assert json.loads(path.read_text(encoding="utf-8")) == [
        {"item_id": 101, "title": TITLES[0], "rating": 5},
        {"item_id": 108, "title": TITLES[7], "rating": 2.5},
    ]
    assert '"title": "Amélie' in path.read_text(encoding="utf-8")
    frame = recommend(TwoTastes(), data, ratings=read_own_ratings(path, data))
    pd.testing.assert_frame_equal(frame, panel.recommendations)


def test_ids_that_are_neither_integers_nor_texts_are_kept_as_texts(path):
    data = load_ratings(pd.DataFrame({"user_id": 1, "item_id": [0.5, 1.5], "rating": [1.0, 2.0]}))
    model = TwoTastes(2)
    model.item_ids = texts([0.5, 1.5])
    RatingPanel(model, data, path).rate("1.5", 1)
    assert read_own_ratings(path, data) == {"1.5": 1}
    assert len(RatingPanel(model, data, path).recommendations) == 1


def entry(item_id=109, title="Ninth (1971)", rating=4, **more):
    return {"item_id": item_id, "title": title, "rating": rating, **more}


BROKEN = {
    "not JSON": "item_id,title,rating\n109,Ninth (1971),4\n",
    "cut off": json.dumps([entry()])[:-9],
    "nothing": "",
    "another kind of list": "[1, 2]",
    "one entry": json.dumps(entry()),
    "too deep": "[" * 100_000,
    "other bytes": b'[{"item_id": 109, "title": "Am\xe9lie", "rating": 4}]',
    "a field missing": '[{"item_id": 109, "rating": 4}]',
    "a field that would be lost": json.dumps([entry(note="with Ann")]),
    "no number": json.dumps([entry(rating="4")]),
    "infinite": json.dumps([entry(rating=float("inf"))]),
    "out of range": json.dumps([entry(), entry(110, "Tenth (1972)", rating=0)]),
    "an unknown item": json.dumps([entry(111, "New")]),
    "an id of another kind": json.dumps([entry([109])]),
    "another title": json.dumps([entry(title="Tenth (1972)")]),
    "twice": json.dumps([entry(), entry(rating=3)]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_is_no_list_of_own_ratings_is_refused_and_kept(data, path, name):
    before = BROKEN[name] if isinstance(BROKEN[name], bytes) else BROKEN[name].encode()
    path.write_bytes(before)
    with pytest.raises(ValueError, match=r"mine.json should be a list of .* Received: .+"):
        read_own_ratings(path, data)
    panel = RatingPanel(TwoTastes(), data, path)
    assert "left as it is" in panel._status.value
    assert panel.ratings == {}
    panel.rate(109, 5)  # works, in memory
    assert panel.ratings == {109: 5}
    assert len(panel.recommendations) == 9
    assert "Not saved" in panel._status.value
    assert path.read_bytes() == before
    path.rename(path.with_suffix(".old"))  # moved away: the panel saves again
    panel.rate(110, 1)
    assert read_own_ratings(path, data) == {109: 5, 110: 1}
    assert path.with_suffix(".old").read_bytes() == before


def test_a_save_that_fails_leaves_the_old_file_and_no_other(data, path, panel, monkeypatch):
    panel.rate("star wars", 4)
    path.chmod(0o600)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    panel.rate(109, 5)
    assert "Not saved: [Errno 28]" in panel._status.value
    assert panel.ratings == {104: 4, 109: 5}
    monkeypatch.undo()
    assert read_own_ratings(path, data) == {104: 4}
    assert os.listdir(path.parent) == [path.name]
    panel.remove("star wars")
    assert read_own_ratings(path, data) == {109: 5}
    assert path.stat().st_mode & 0o777 == 0o600  # a private file stays private


def test_two_panels_do_not_overwrite_each_other(data, path, panel):
    second = RatingPanel(TwoTastes(), data, path)
    panel.rate(104, 5)
    second.rate(105, 1)
    assert "changed by somebody else" in second._status.value
    assert read_own_ratings(path, data) == {104: 5}


def test_a_path_that_can_not_be_written_is_told(data, tmp_path):
    for path in (tmp_path / "none" / "mine.json", tmp_path):
        panel = RatingPanel(TwoTastes(), data, path)
        panel.rate(104, 5)
        assert "Not saved" in panel._status.value
        assert panel.ratings == {104: 5}


def test_the_panel_stays_with_its_file_when_the_folder_changes(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    panel = RatingPanel(TwoTastes(), data)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    panel.rate(104, 5)
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["my_ratings.json"]


# The panel


def search(panel, text):
    """The rows that are shown for a text, and the buttons of each."""
    panel._search.value = text
    rows = [row for row in panel._matches if row.layout.display == "flex"]
    return rows, [[*row._buttons.values()] for row in rows]


def test_the_panel_searches_rates_recommends_and_saves(data, path):
    panel = RatingPanel(TwoTastes(), data, path, k=4)
    assert not path.exists()
    with pytest.raises(FileNotFoundError):
        read_own_ratings(path, data)
    _, (buttons,) = search(panel, "holiday")
    assert [button.description for button in buttons] == ["1", "2", "3", "4", "5"]
    buttons[4].click()
    assert panel.ratings == read_own_ratings(path, data) == {105: 5}
    assert buttons[4].button_style == "primary"
    assert (panel.recommendations["item_id"] % 2 == 1).all()
    assert (panel.recommendations["because"] == TITLES[4]).all()
    buttons[0].click()  # changed, not added
    assert panel.ratings == read_own_ratings(path, data) == {105: 1}
    again = RatingPanel(TwoTastes(), data, path, k=4)
    assert "1 rating read from" in again._status.value
    pd.testing.assert_frame_equal(again.recommendations, panel.recommendations)
    again._own.children[0].children[1].click()
    assert again.ratings == read_own_ratings(path, data) == {}
    assert again.recommendations is None
    assert "to begin" in again._list.value
    assert "0 ratings saved in" in again._status.value


def test_rate_and_remove_refuse_what_is_no_item_or_rating(panel):
    panel.rate(101, 5)
    panel.remove("Tenth")  # not rated
    for item, error in (("Nosuch", LookupError), (0, LookupError), ("Twice", ValueError)):
        with pytest.raises(error):
            panel.rate(item, 5)
        with pytest.raises(error):
            panel.remove(item)
    with pytest.raises(ValueError, match="from 1 to 5"):
        panel.rate(101, 6)
    panel.ratings.clear()  # a copy
    assert panel.ratings == {101: 5}


def test_two_items_of_one_title_are_rated_apart(data, path, panel):
    _, (first, second) = search(panel, "twice")
    first[0].click()
    second[4].click()
    assert panel.ratings == read_own_ratings(path, data)
    assert sorted(panel.ratings.items()) == [(102, 1), (103, 5)]


def test_whatever_the_data_or_the_user_holds_is_text_and_never_markup(data, tmp_path):
    path = tmp_path / "<u>mine.json"
    panel = RatingPanel(TwoTastes(), data, path)
    (row,), (buttons,) = search(panel, "bold")
    buttons[4].click()
    shown = [row._title, panel._own.children[0].children[0], panel._list, panel._status]
    shown = [widget.value for widget in shown]
    search(panel, "<s>nosuch")
    shown.append(panel._hint.value)
    assert not any(tag in each for tag in ("<b>B", "<u>", "<i>", "<s>") for each in shown)
    for each, text in zip(shown, ("<b>B", "<b>B", "<b>B", "<u>", "<s>"), strict=True):
        assert text.replace("<", "&lt;").replace(">", "&gt;") in each
    assert "&lt;i&gt;" in panel._list.value  # a genre; the title above was that of a reason
    path.write_text('["<em>"]')
    status = RatingPanel(TwoTastes(), data, path)._status.value
    assert "<em>" not in status
    assert "<u>" not in status


def test_the_search_says_what_it_left_out(panel):
    assert len(search(panel, "(19")[0]) == panel.MATCHES
    assert "and 3 more" in panel._hint.value  # nine titles are of the last century
    assert search(panel, "nosuchmovie")[0] == []
    assert "nosuchmovie" in panel._hint.value
    assert search(panel, "  ")[0] == []


def test_ratings_on_another_scale_have_their_own_buttons(data, path):
    users = pd.DataFrame({"user_id": range(21)})
    many = {"user_num": range(21), "item_num": 0, "rating": np.linspace(0, 100.001, 21)}
    panel = RatingPanel(TwoTastes(), Dataset(users, data.items, pd.DataFrame(many)), path)
    _, (buttons,) = search(panel, "ninth")
    captions = [button.description for button in buttons]
    assert (captions[0], captions[-1], len(captions)) == ("0", "100", 10)
    buttons[-1].click()
    assert panel.ratings == {109: 100}


def test_what_the_model_says_is_shown_in_the_panel(data, path):
    model = TwoTastes()
    model.iteration = 0
    panel = RatingPanel(model, data, path)
    panel.rate(104, 5)
    assert "should be trained" in panel._list.value
    assert read_own_ratings(path, data) == {104: 5}
    smaller = RatingPanel(TwoTastes(8), data, path)  # lacks the last two
    assert "2 of the 10 items of data are not in the model" in smaller._list.value
    assert len(smaller.recommendations) == 7
