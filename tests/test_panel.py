import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cfutils.data import MovieLens
from cfutils.panel import RatingPanel, read_ratings, recommend_for, save_ratings

TITLES = [
    'Amélie, or "Le Fabuleux" (2001)',
    "Twice (1990)",
    "Twice (1990)",
    "Star Wars (1977)",
    "Star Wars Holiday (1978)",
    "<b>Bold</b> & $x$ (1999)",
    "A.*B (1980)",
    "Über\nAlles (1970)",
    "Ninth (1971)",
    "Tenth (1972)",
]


class TwoTastes:
    """A folding model by its formula: H = V_S^T V_S + 0.5 I, u = H^-1 V_S^T a."""

    def __init__(self, num_items=10, seed=0):
        # even movies lie along one axis, odd ones along the other, not quite
        embeddings = np.random.default_rng(seed).normal(0, 0.1, (num_items, 2))
        embeddings[np.arange(num_items), np.arange(num_items) % 2] += 1
        self.item_embeddings = embeddings.astype(np.float32)
        self.user_embeddings = np.zeros((3, 2), np.float32)

    def solve(self, ids, right):
        rated = self.item_embeddings[ids].astype(float)
        return np.linalg.solve(rated.T @ rated + 0.5 * np.eye(2), rated.T @ right)

    def fold_in_parts(self, ids, ratings):
        return np.stack([self.solve(ids, np.diag(ratings)[j]) for j in range(len(ids))])

    def fold_in(self, ids, ratings):
        return self.solve(ids, ratings)


@pytest.fixture(scope="module")
def data():
    return MovieLens(
        users=pd.DataFrame({"user_id": [0, 1, 2]}),
        movies=pd.DataFrame({"movie_id": range(10), "title": TITLES}),
        ratings=pd.DataFrame(
            {"user_id": 0, "movie_id": range(6), "rating": [1.0, 2.0, 3.0, 4.0, 5.0, 5.0]}
        ),
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mine.csv"


def write(path, *lines):
    path.write_text("\n".join(["movie_id,title,rating", *lines]) + "\n", encoding="utf-8")
    return path


# The plain function


def test_recommendations_are_of_the_taste_that_was_rated(data):
    frame = recommend_for({0: 5, 3: 1}, TwoTastes(), data, k=8)
    assert set(frame["movie_id"]) == set(range(10)) - {0, 3}
    assert (frame["movie_id"].head(4) % 2 == 0).all()
    assert (frame["because"].head(4) == TITLES[0]).all()


def test_the_reason_is_the_rating_whose_absence_costs_most():
    """Against brute force: solve without one rating's right-hand side, for every rating."""
    from cfutils.factorization import CFModel, ratings_tensor

    rng = np.random.default_rng(3)
    pairs = rng.permutation(20 * 30)[:200]
    ratings = pd.DataFrame(
        {"user_id": pairs // 30, "movie_id": pairs % 30, "rating": rng.integers(1, 6, 200) * 1.0}
    )
    own = MovieLens(
        users=pd.DataFrame({"user_id": range(20)}),
        movies=pd.DataFrame({"movie_id": range(30), "title": [f"Movie {i}" for i in range(30)]}),
        ratings=ratings,
    )
    model = CFModel(20, 30, 4, l2_coeff=0.1, gravity_coeff=0.3, seed=1)
    model.train_als(ratings_tensor(ratings, 20, 30), num_iterations=5)
    rated = {2: 5, 7: 1, 11: 3, 29: 4}
    frame = recommend_for(rated, model, own, k=26)

    ids, values = np.array(list(rated)), np.array(list(rated.values()), float)
    V = model.item_embeddings.astype(float)
    # alpha = gravity_coeff |Omega| / (N M), lambda = l2_coeff |Omega| / N
    H = V[ids].T @ V[ids] + 0.3 * 200 / 600 * V.T @ V + 0.1 * 200 / 20 * np.eye(4)
    full = V @ np.linalg.solve(H, V[ids].T @ values)
    loss = np.stack(
        [full - V @ np.linalg.solve(H, V[ids].T @ np.where(ids == gone, 0, values)) for gone in ids]
    )
    for movie in frame.itertuples():
        costs = loss[:, movie.movie_id]
        np.testing.assert_allclose(movie.score, full[movie.movie_id], rtol=1e-4, atol=1e-5)
        if costs.max() > 0:
            assert movie.because == f"Movie {ids[costs.argmax()]}"
        else:
            assert pd.isna(movie.because)
    assert frame["because"].nunique() > 1
    np.testing.assert_allclose(
        model.fold_in_parts(ids, values).sum(axis=0), model.fold_in(ids, values), rtol=1e-5
    )
    assert model.fold_in_parts([], []).shape == (0, 4)


def test_no_reason_where_every_rating_speaks_against(data):
    model = TwoTastes()
    model.item_embeddings[9] = [-1, -1]
    frame = recommend_for({0: 5}, model, data, k=9)
    assert frame["because"].isna().iloc[-1]
    assert frame["movie_id"].iloc[-1] == 9


@pytest.mark.parametrize(
    ("key", "movie_id"),
    [
        ("star wars (1977)", 3),
        ("Star Wars", 3),  # without the year, though another title holds the text
        ("star wars holiday", 4),
        ("a.*b", 6),
        ("ninth", 8),
        (f"{TITLES[0]}", 0),
        (2, 2),
        (np.int64(2), 2),
    ],
)
def test_movies_are_named_by_id_or_title(data, key, movie_id):
    frame = recommend_for({key: 5}, TwoTastes(), data, k=9)
    assert set(range(10)) - set(frame["movie_id"]) == {movie_id}


@pytest.mark.parametrize("title", ["Shining, The (1980)", "The Shining (1980)", "The Shining"])
def test_an_article_may_stand_in_front_behind_or_nowhere(title):
    movies = pd.DataFrame({"movie_id": [0, 1, 2], "title": [title, "A Shining", "Shine"]})
    ratings = pd.DataFrame({"user_id": [0], "movie_id": [0], "rating": [5.0]})
    data = MovieLens(pd.DataFrame({"user_id": [0]}), movies, ratings)
    for text in (title, "the shining"):
        assert set(recommend_for({text: 5}, TwoTastes(3), data)["movie_id"]) == {1, 2}
    with pytest.raises(ValueError, match=r"fits .*\(id 0\), 'A Shining' \(id 1\)"):
        recommend_for({"shining": 5}, TwoTastes(3), data)
    for text in ("An Shining", "The Shining (1999)"):
        with pytest.raises(LookupError):
            recommend_for({text: 5}, TwoTastes(3), data)


@pytest.mark.parametrize(
    ("ratings", "error", "message"),
    [
        ({}, ValueError, "at least one rating"),
        ({"star": 5}, LookupError, r"whole title. Received: 'star'. .*\(id 3\).*\(id 4\)"),
        ({"Ninth (1972)": 5}, LookupError, "Received: 'Ninth .1972.'"),  # a year that is another
        ({"The Ninth": 5}, LookupError, "Received: 'The Ninth'"),
        ({"inth": 5}, LookupError, r"Titles that hold it: 'Ninth \(1971\)' \(id 8\)\. Write"),
        ({"Tenht": 5}, LookupError, r"Received: 'Tenht'. Closest: Tenth"),
        ({"Twice (1990)": 5}, ValueError, r"\(id 1\), 'Twice \(1990\)' \(id 2\). Write"),
        ({"Star Wars": 5, 3: 4}, ValueError, r"each movie once. Received: 'Star Wars \(1977\)'"),
        ({"Nosuch": 5}, LookupError, "Nosuch"),
        ({10: 5}, ValueError, "from 0 to 9. Received: 10"),
        ({-1: 5}, ValueError, "Received: -1"),
        ({True: 5}, ValueError, "Received: True"),
        ({1: 6}, ValueError, "from 1 to 5, the range of data.ratings. Received: 6"),
        ({1: float("nan")}, ValueError, "Received: nan"),
        ({1: "good"}, ValueError, "Received: 'good'"),
    ],
)
def test_what_is_not_a_rating_is_refused(data, ratings, error, message):
    with pytest.raises(error, match=message):
        recommend_for(ratings, TwoTastes(), data)


# The file


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.dictionaries(st.integers(0, 9), st.floats(1, 5) | st.integers(1, 5).map(float), max_size=10)
)
def test_what_is_saved_is_read_again(data, path, ratings):
    save_ratings(path, ratings, data)
    assert read_ratings(path, data) == ratings
    assert list(read_ratings(path, data)) == list(ratings)  # in their order
    assert os.listdir(path.parent) == [path.name]


def test_pandas_reads_the_same_file(data, path):
    save_ratings(path, {0: 5, 7: 2.5}, data)
    frame = pd.read_csv(path)
    assert frame.to_dict("list") == {
        "movie_id": [0, 7],
        "title": [TITLES[0], TITLES[7]],
        "rating": [5, 2.5],
    }


def test_other_columns_blank_lines_and_a_byte_order_mark_are_fine(data, path):
    text = "rating,note,movie_id,title\r\n\r\n4,mine,3,Star Wars (1977)\r\n"
    path.write_text("\ufeff" + text, encoding="utf-8", newline="")
    assert read_ratings(path, data) == {3: 4}
    assert 3 not in set(recommend_for(path, TwoTastes(), data)["movie_id"])
    assert 3 not in set(recommend_for(str(path), TwoTastes(), data)["movie_id"])


GOOD = "3,Star Wars (1977),4"
BROKEN = {
    "bad number": ([GOOD, "8,Ninth (1971),x"], "line 3: A rating should be .* Received: 'x'"),
    "comma for a point": ([GOOD, "8,Ninth (1971),3,5"], "line 3: there should be 3 fields"),
    "infinite": (["8,Ninth (1971),inf"], "line 2: .* Received: 'inf'"),
    "out of range": (["8,Ninth (1971),0"], "line 2: .* from 1 to 5, .* Received: '0'"),
    "unknown movie": ([GOOD, "10,New,4"], "line 3: A movie id .* Received: 10"),
    "no id": (["x,Ninth (1971),4"], "line 2: A movie id .* Received: 'x'"),
    "another title": (["8,Tenth (1972),4"], r"line 2: movie 8 .* 'Ninth \(1971\)'. Received"),
    "duplicate": ([GOOD, "8,Ninth (1971),4", GOOD], r"line 4: a movie should stand once"),
    "open quote": ([GOOD, '8,"Ninth (1971),4'], "line 3: it should be a line of a CSV file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_with_its_line_and_kept(data, path, name):
    lines, message = BROKEN[name]
    before = write(path, *lines).read_bytes()
    with pytest.raises(ValueError, match=message):
        read_ratings(path, data)
    panel = RatingPanel(TwoTastes(), data, path)
    assert f"{path}, line" in panel._status.value
    assert panel.ratings == {}
    panel.rate(8, 5)  # works, in memory
    assert panel.ratings == {8: 5}
    assert len(panel.recommendations) == 9
    assert "Not saved" in panel._status.value
    assert path.read_bytes() == before
    path.rename(path.with_suffix(".old"))  # moved away: the panel saves again
    panel.rate(9, 1)
    assert read_ratings(path, data) == {8: 5, 9: 1}
    assert path.with_suffix(".old").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1: the columns should be .* Received: none"),
        (b"movie_id,title\n3,Star Wars (1977)\n", "line 1: .* Received: movie_id, title"),
        (b"movie_id;title;rating\n", "Received: movie_id;title;rating"),
        (b"movie_id,title,rating,rating\n", "line 1"),
        (b"movie_id,title,rating\n0,Am\xe9lie,4\n", "UTF-8. Received: other bytes in line 2"),
    ],
)
def test_a_file_without_its_columns_is_refused_and_kept(data, path, content, message):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_ratings(path, data)
    RatingPanel(TwoTastes(), data, path).rate(3, 5)
    assert path.read_bytes() == content


def test_a_file_that_is_not_there_is_no_panel_error_but_a_function_error(data, path):
    assert RatingPanel(TwoTastes(), data, path).ratings == {}
    assert not path.exists()
    with pytest.raises(FileNotFoundError):
        recommend_for(path, TwoTastes(), data)


def test_a_kill_in_the_middle_of_saving_leaves_a_whole_file(data, path):
    """A process that saves without end is killed at random moments."""
    code = """
        import sys
        import pandas as pd
        from cfutils.data import MovieLens
        from cfutils.panel import save_ratings
        titles = [f"Movie {i} " + "x" * 500 for i in range(2000)]
        data = MovieLens(pd.DataFrame({"user_id": [0]}),
                         pd.DataFrame({"movie_id": range(2000), "title": titles}),
                         pd.DataFrame({"user_id": [0], "movie_id": [0], "rating": [5.0]}))
        while True:
            for rating in (1, 2, 3):
                save_ratings(sys.argv[1], dict.fromkeys(range(2000), rating), data)
                print("saved", flush=True)
    """
    rng = np.random.default_rng(0)
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), str(path)], stdout=subprocess.PIPE
        ) as saving:
            saving.stdout.readline()
            time.sleep(rng.uniform(0.005, 0.1))
            saving.send_signal(signal.SIGKILL)
        frame = pd.read_csv(path)
        assert len(frame) == 2000
        assert frame["rating"].nunique() == 1


def test_a_save_that_fails_leaves_the_old_file_and_no_other(data, path, monkeypatch):
    save_ratings(path, {3: 4}, data)
    panel = RatingPanel(TwoTastes(), data, path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    panel.rate(8, 5)
    assert "Not saved: [Errno 28]" in panel._status.value
    assert panel.ratings == {3: 4, 8: 5}
    monkeypatch.undo()
    assert read_ratings(path, data) == {3: 4}
    assert os.listdir(path.parent) == [path.name]
    panel.remove(3)
    assert read_ratings(path, data) == {8: 5}


def test_a_private_file_stays_private(data, path):
    save_ratings(path, {3: 4}, data)
    path.chmod(0o600)
    save_ratings(path, {3: 5}, data)
    assert path.stat().st_mode & 0o777 == 0o600


# The panel


def shown(panel):
    return [row for row in panel._matches if row.layout.display == "flex"]


def search(panel, text):
    panel._search.value = text
    return shown(panel)


def test_the_panel_searches_rates_recommends_and_saves(data, path):
    panel = RatingPanel(TwoTastes(), data, path, k=4)
    (row,) = search(panel, "holiday")
    assert [button.description for button in row._buttons] == ["1", "2", "3", "4", "5"]
    row._buttons[4].click()
    assert panel.ratings == read_ratings(path, data) == {4: 5}
    assert row._buttons[4].button_style == "primary"
    assert (panel.recommendations["movie_id"] % 2 == 0).sum() == 4
    assert (panel.recommendations["because"] == TITLES[4]).all()
    row._buttons[0].click()  # changed, not added
    assert panel.ratings == read_ratings(path, data) == {4: 1}
    again = RatingPanel(TwoTastes(), data, path, k=4)
    assert again.ratings == {4: 1}
    pd.testing.assert_frame_equal(again.recommendations, panel.recommendations)
    again._own.children[0]._button.click()
    assert again.ratings == read_ratings(path, data) == {}
    assert again.recommendations is None
    assert "Rate a movie to begin" in again._list.value


def test_two_movies_of_one_title_are_rated_apart(data, path):
    panel = RatingPanel(TwoTastes(), data, path)
    rows = search(panel, "twice")
    assert len(rows) == 2
    for row, number in zip(rows, (0, 4), strict=True):
        row._buttons[number].click()
    assert sorted(panel.ratings.items()) in ([(1, 1), (2, 5)], [(1, 5), (2, 1)])
    assert read_ratings(path, data) == panel.ratings


def test_titles_are_text_and_never_markup(data, path):
    panel = RatingPanel(TwoTastes(), data, path)
    (row,) = search(panel, "bold")
    row._buttons[4].click()
    html = row._title.value + panel._own.children[0]._label.value + panel._list.value
    assert "<b>Bold" not in html
    assert html.count("&lt;b&gt;Bold") >= 3  # the reason as well


def test_the_search_says_what_it_left_out(data, path):
    panel = RatingPanel(TwoTastes(), data, path)
    assert len(search(panel, "(19")) == panel.MATCHES
    assert "and 3 more" in panel._hint.value  # nine titles are of the last century
    assert search(panel, "nosuchmovie") == []
    assert "nosuchmovie" in panel._hint.value
    assert search(panel, "  ") == []


def test_two_panels_do_not_overwrite_each_other(data, path):
    first, second = (RatingPanel(TwoTastes(), data, path) for _ in range(2))
    first.rate(3, 5)
    second.rate(4, 1)
    assert "changed by somebody else" in second._status.value
    assert read_ratings(path, data) == {3: 5}


def test_a_path_that_can_not_be_written_is_told(data, tmp_path):
    panel = RatingPanel(TwoTastes(), data, tmp_path / "none" / "mine.csv")
    panel.rate(3, 5)
    assert "Not saved" in panel._status.value
    assert panel.ratings == {3: 5}


def test_the_panel_stays_with_its_file_when_the_folder_changes(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    panel = RatingPanel(TwoTastes(), data)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    panel.rate(3, 5)
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["my_ratings.csv"]


def test_ratings_on_another_scale_have_their_own_buttons(data, path):
    many = data.ratings.loc[[0] * 21].assign(movie_id=0, rating=np.linspace(0, 100, 21))
    panel = RatingPanel(TwoTastes(), MovieLens(data.users, data.movies, many), path)
    captions = [button.description for button in panel._matches[0]._buttons]
    assert (captions[0], captions[-1], len(captions)) == ("0", "100", 10)


def test_an_untrained_model_is_told_in_the_panel(data, path):
    class Untrained(TwoTastes):
        def fold_in_parts(self, ids, ratings):
            raise ValueError("fold_in should be called on a trained model.")

    panel = RatingPanel(Untrained(), data, path)
    panel.rate(3, 5)
    assert "trained model" in panel._list.value
    assert read_ratings(path, data) == {3: 5}


def test_the_panel_imports_no_tensorflow():
    code = "import sys, cfutils.panel; assert 'tensorflow' not in sys.modules"
    root = pathlib.Path(__file__).resolve().parents[1]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
