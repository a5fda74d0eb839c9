"""MovieLens: the facts of 100K, all releases, and where they come from, with a local internet."""

import contextlib
import hashlib
import http.server
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile

import pandas as pd
import pytest
import vl_convert
from layouts import write_grouplens, write_recbole, write_wheel, zip_folder
from pandas.testing import assert_frame_equal

import cfutils as cf
import cfutils.movielens as source
from cfutils.movielens import DataError, load_movielens

# What it is ---------------------------------------------------------------------------------------


def test_facts_of_the_ratings(movielens):
    ratings = movielens.ratings
    assert (movielens.num_users, movielens.num_items, len(ratings)) == (943, 1682, 100_000)
    assert sorted(ratings["rating"].unique()) == [1, 2, 3, 4, 5]
    per_user = movielens.user_stats()["num_ratings"]
    assert (per_user.min(), per_user.median(), per_user.max()) == (20, 65, 737)
    assert ratings["timestamp"].min() > pd.Timestamp("1997-09-19")
    assert ratings["timestamp"].max() < pd.Timestamp("1998-04-23 12:00")
    stats, titles = movielens.item_stats(), movielens.items["title"]
    counts, means = stats["num_ratings"], stats["mean_rating"]
    assert (titles[counts.idxmax()], counts.max()) == ("Star Wars (1977)", 583)
    assert ((counts == 1).sum(), (counts < 20).sum()) == (141, 743)
    assert titles[means[counts > 20].idxmax()] == "Close Shave, A (1995)"
    assert round(means[counts > 20].max(), 3) == 4.491


def test_facts_of_the_users(movielens):
    users = movielens.users
    assert (round(users["age"].mean(), 2), round(users["age"].std(), 2)) == (34.05, 12.19)
    assert users["gender"].value_counts().to_dict() == {"M": 670, "F": 273}
    occupations = users["occupation"].value_counts()
    assert (len(occupations), occupations.index[0], occupations.iloc[0]) == (21, "student", 196)
    assert (~users["zip_code"].str.isdigit()).sum() == 18
    assert users["user_id"].tolist() == list(range(1, 944))  # row i is id i, counted from 1


def test_facts_of_the_movies(movielens):
    items, genres = movielens.items, movielens.genre_table()
    assert items["item_id"].tolist() == list(range(1, 1683))
    counts = genres.sum()
    assert (counts["Drama"], counts["Comedy"], counts["unknown"]) == (725, 505, 2)
    # Two names with a hyphen, which splitting on "-" would lose.
    assert (genres["Sci-Fi"] + genres["Film-Noir"] > 0).sum() == 123
    assert items.loc[items["year"].isna(), "title"].tolist() == ["unknown"]
    assert items["year"].min() == 1922
    assert "Misérables, Les (1995)" in set(items["title"])
    for movie in items.itertuples():  # the genre for colouring is the rarest
        assert movie.genre in movie.genres
        assert counts[movie.genre] == min(counts[genre] for genre in movie.genres)


# All releases -------------------------------------------------------------------------------------

SMALL = ["latest-small", "latest", "20m", "25m", "32m"]


def write_release(release, folder, num_users=12):
    """A small release in the layout that its README describes; movie 7 has no rating.

    Titles hold commas, quotes, colons and letters beyond ASCII; users and movies have gaps.
    """
    folder.mkdir(parents=True, exist_ok=True)
    titles = {
        1: "Toy Story (1995)",
        3: 'Dog: "The, Movie" (1997) ',
        5: "Misérables, Les (1998)",
        7: "Nobody's Own",
        **{30 + n: f"Film {n} (20{n:02d})" for n in range(10)},
    }
    genres = dict.fromkeys(titles, "Drama|Sci-Fi") | {1: "Animation|Children's", 3: "Comedy"}
    dat = release in ("1m", "10m")
    genres[5] = "Drama" if dat else "(no genres listed)"
    step = 1 if release == "1m" else 0.5
    rows = [
        (
            3 * user,
            movie,
            5 - step * ((user + movie) % 9 if step < 1 else (user + movie) % 5),
            10**9 + user,
        )
        for user in range(1, num_users + 1)
        for movie in titles
        if movie != 7 and (user * movie) % 7
    ]
    if dat:
        encoding = "latin-1" if release == "1m" else "utf-8"
        text = "".join(f"{u}::{m}::{r:g}::{t}\n" for u, m, r, t in rows)
        (folder / "ratings.dat").write_text(text)
        text = "".join(f"{m}::{title}::{genres[m]}\n" for m, title in titles.items())
        (folder / "movies.dat").write_bytes(text.encode(encoding))
        if release == "1m":
            text = "".join(f"{3 * u}::F::25::12::0{u:04d}\n" for u in range(1, num_users + 1))
            (folder / "users.dat").write_text(text)
    else:
        names = ["userId", "movieId", "rating", "timestamp"]
        pd.DataFrame(rows, columns=names).to_csv(folder / "ratings.csv", index=False)
        movies = pd.DataFrame({"movieId": titles.keys(), "title": titles.values()})
        movies["genres"] = movies["movieId"].map(genres)
        movies.to_csv(folder / "movies.csv", index=False)
        (folder / "tags.csv").write_text("userId,movieId,tag,timestamp\n")
    return rows


@pytest.mark.parametrize("release", ["1m", "10m", *SMALL])
def test_a_release_in_its_layout(release, tmp_path, monkeypatch):
    rows = write_release(release, tmp_path / f"ml-{release}")
    monkeypatch.setenv("CFUTILS_DATA", str(tmp_path))
    data = load_movielens(release)
    users, items = data.users["user_id"].to_numpy(), data.items["item_id"].to_numpy()
    seconds = data.ratings["timestamp"].astype("datetime64[s]").astype("int64")
    columns = users[data.ratings["user_num"]], items[data.ratings["item_num"]]
    assert [*zip(*columns, data.ratings["rating"], seconds, strict=True)] == rows
    assert items.tolist() == [1, 3, 5, 7, *range(30, 40)]
    assert data.items["title"].tolist()[:4] == [
        "Toy Story (1995)",
        'Dog: "The, Movie" (1997)',
        "Misérables, Les (1998)",
        "Nobody's Own",
    ]
    assert data.items["year"].astype(object).tolist()[:5] == [1995, 1997, 1998, pd.NA, 2000]
    lists = [["Animation", "Children's"], ["Comedy"], ["Drama"] if release in ("1m", "10m") else []]
    assert data.items["genres"].tolist()[:3] == lists
    assert data.items["genre"].astype(object).tolist()[1] == "Comedy"
    if release == "1m":
        user = {"user_id": 3, "age": 25, "gender": "F", "occupation": 12, "zip_code": "00001"}
        assert data.users.iloc[0].to_dict() == user
    assert_same(load_movielens(release, path=tmp_path), data)
    assert_same(load_movielens(release, path=tmp_path / f"ml-{release}"), data)
    zip_folder(tmp_path / f"ml-{release}", tmp_path / "mine.zip", "ml-10M100K/")
    assert_same(load_movielens(release, path=tmp_path / "mine.zip"), data)


def test_a_release_is_fetched_and_checked(tmp_path, monkeypatch, server, capsys):
    write_release("1m", tmp_path / "made")
    content = zip_folder(tmp_path / "made", tmp_path / "ml-1m.zip", "ml-1m/").read_bytes()
    server.files = {"ml-1m.zip": content, "ml-latest.zip": content}
    folder = tmp_path / "data"
    monkeypatch.setenv("CFUTILS_DATA", str(folder))
    monkeypatch.setattr(source, "URLS", (f"{server.url}/ml-{{}}.zip", f"{server.url}/good"))
    with pytest.raises(DataError, match="(?s)MovieLens 1M could not be .*ml-1m.zip: .*hash") as bad:
        load_movielens("1m")
    assert "recbole" not in str(bad.value)
    assert contents(folder) == [".lock"]
    monkeypatch.setitem(source.MD5, "1m", hashlib.md5(content).hexdigest())
    data = load_movielens("1m")
    assert contents(folder) == [".lock", "ml-1m"]
    assert contents(folder / "ml-1m") == ["movies.dat", "ratings.dat", "users.dat"]
    with pytest.raises(
        DataError, match="MovieLens latest .*(?s:.)*should hold the files ratings.csv"
    ):
        load_movielens("latest")  # another release in the place of the one that was asked for
    (folder / "ml-1m" / "ratings.dat").write_bytes(b"")
    with pytest.warns(UserWarning, match="altered-1; a fresh copy is in its place"):
        assert_same(load_movielens("1m"), data)
    shutil.rmtree(folder / "ml-1m")
    shutil.copy(tmp_path / "ml-1m.zip", folder)  # by hand
    server.files.clear()
    assert_same(load_movielens("1m"), data)


@pytest.mark.parametrize("release", ["latest-small", "1m"])
@pytest.mark.slow
def test_everything_works_on_other_releases(release, tmp_path):
    write_release(release, tmp_path, num_users=60)
    data = load_movielens(release, path=tmp_path)
    train, test = data.split(seed=42)
    model = cf.CFModel(data, 4, l2_coeff=0.1, gravity_coeff=1.0, seed=0)
    model.train_als(train, num_iterations=3)
    assert cf.ranking_metrics(model, train, test)["ndcg"].between(0, 1).all()
    frame = cf.recommend(model, data, ratings={"Toy Story": 5})
    assert {"title", "genres", "year"} <= set(frame)
    assert (
        cf.neighbours(model, data, "Film 3", k=2)["title"]
        .str.startswith(("F", "D", "M", "N", "T"))
        .all()
    )
    places = cf.tsne_map(model.item_embeddings, perplexity=3)
    mapped = data.items.join(data.item_stats()).assign(x=places[:, 0], y=places[:, 1])
    chart = cf.charts.embedding_map(mapped, title="M", trust="t", highlight=["Comedy"])
    assert vl_convert.vegalite_to_svg(chart.to_dict(), vl_version="5.8").count("Dog:") >= 1
    softmax = cf.SoftmaxModel(data, data.item_features(), {"item": 8, "genres": 4, "decade": 2})
    softmax.train(train, num_iterations=3, learning_rate=0.05)
    assert len(cf.recommend(softmax, data, user=3)) > 0


@pytest.mark.parametrize("release", ["2m", "ml-1m", 100, None, "/a/folder"])
def test_what_is_no_release_is_refused(release):
    with pytest.raises(ValueError, match="release should be one of 100k, 1m, .* named by path="):
        load_movielens(release)


def test_more_than_any_release_is_not_unpacked(tmp_path, monkeypatch):
    write_release("25m", tmp_path / "made")
    zip_folder(tmp_path / "made", tmp_path / "bomb.zip", "ml-25m/")
    monkeypatch.setattr(source, "LIMIT", 999)
    with pytest.raises(DataError, match="should unpack to 999 bytes at most"):
        load_movielens("25m", path=tmp_path / "bomb.zip")


def test_a_home_folder_that_does_not_exist_is_named(monkeypatch):
    monkeypatch.setenv("CFUTILS_DATA", "~nobody-of-this-name/data")
    with pytest.raises(DataError, match="CFUTILS_DATA should be a folder. Received: '~nobody-of"):
        load_movielens()


# Where it comes from ------------------------------------------------------------------------------


def assert_same(received, expected):
    for name in ("users", "items", "ratings"):
        assert_frame_equal(getattr(received, name), getattr(expected, name))


def contents(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_fetched(folder, expected, *aside):
    """The data are there, in their folder and nothing but what was set aside beside it."""
    assert_same(load_movielens(), expected)
    assert contents(folder) == [".lock", "ml-100k", *aside]


@pytest.fixture(scope="session")
def sources(movielens, tmp_path_factory):
    """A folder with the data in each layout: grouplens/, recbole/, good.zip and the wheel."""
    folder = tmp_path_factory.mktemp("sources")
    write_recbole(movielens, folder / "recbole")
    zip_folder(write_grouplens(movielens, folder / "grouplens"), folder / "good.zip", "ml-100k/")
    write_wheel(movielens, folder)
    return folder


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves good.zip, in the way that the first part of the path says."""

    def do_GET(self):
        manner, content = self.path.strip("/"), self.server.content
        content = self.server.files.get(manner, content)
        self.server.asked.append(manner)
        if manner == "missing":
            self.send_error(404)
            return
        if manner == "wrong":
            content = b"<html>Sign in to this network</html>"
        half = len(content) // 2
        self.send_response(200)
        self.send_header("Content-Length", str(half if manner == "understated" else len(content)))
        self.end_headers()
        with contextlib.suppress(OSError):  # the client gave up, as it should
            # "short" ends before the length it announced
            self.wfile.write(content[:half])
            self.wfile.flush()
            time.sleep({"stall": 30, "slow": 1}.get(manner, 0))
            if manner not in ("short", "stall"):
                self.wfile.write(content[half:])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(sources):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        running.block_on_close = False
        running.content, running.asked = (sources / "good.zip").read_bytes(), []
        running.files = {}  # others, by name
        threading.Thread(target=running.serve_forever, daemon=True).start()
        running.url = f"http://127.0.0.1:{running.server_port}"
        yield running
        running.shutdown()


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty CFUTILS_DATA, no source but what a test adds, and pip cut off from any index."""
    folder = tmp_path / "data"
    monkeypatch.setenv("CFUTILS_DATA", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setattr(source, "URLS", ())
    monkeypatch.setattr(source, "TIMEOUT", (1, 1))
    return folder


@pytest.fixture
def good(empty, server, monkeypatch):
    """As `empty`, with a server that has a good copy."""
    monkeypatch.setattr(source, "URLS", (f"{server.url}/good",))
    return empty


@pytest.mark.parametrize("layout", ["grouplens", "recbole", "good.zip"])
def test_every_layout_gives_equal_frames(sources, movielens, layout):
    assert_same(load_movielens(path=sources / layout), movielens)


def test_the_folder_that_holds_the_data_folder_will_do(tmp_path, sources, movielens, monkeypatch):
    shutil.copytree(sources / "grouplens", tmp_path / "ml-100k")
    monkeypatch.setenv("CFUTILS_DATA", str(tmp_path))
    assert_same(load_movielens(), movielens)
    monkeypatch.setenv("CFUTILS_DATA", str(tmp_path / "ml-100k"))
    assert_same(load_movielens(), movielens)
    assert contents(tmp_path) == ["ml-100k"]  # nothing is written beside a good copy


def test_an_empty_folder_is_filled_from_a_server(good, server, movielens):
    assert_fetched(good, movielens)
    load_movielens()
    assert server.asked == ["good"]  # the second time nothing is fetched


@pytest.mark.slow
def test_the_package_index_serves_when_the_servers_do_not(
    empty, server, sources, monkeypatch, movielens
):
    monkeypatch.setattr(source, "URLS", (f"{server.url}/missing",))
    monkeypatch.setenv("PIP_FIND_LINKS", str(sources))
    assert_fetched(empty, movielens)


def test_a_zip_put_there_by_hand_is_used_first(good, server, sources, movielens):
    good.mkdir()
    shutil.copy(sources / "good.zip", good / "ml-100k.zip")
    assert_same(load_movielens(), movielens)
    assert server.asked == []


@pytest.mark.slow
@pytest.mark.parametrize("manner", ["missing", "wrong", "short", "understated", "stall"])
def test_a_bad_server_is_reported_and_the_next_one_serves(
    empty, server, monkeypatch, movielens, manner
):
    url = f"{server.url}/{manner}"
    monkeypatch.setattr(source, "URLS", (url,))
    with pytest.raises(DataError, match=rf"(?s){url}.*recbole.*put it into {empty}"):
        load_movielens()
    assert contents(empty) == [".lock"]
    monkeypatch.setattr(source, "URLS", (url, f"{server.url}/good"))
    assert_fetched(empty, movielens)


def alter(path):
    text = path.read_text()
    stars = text.index("\t3\t")
    path.write_text(text[:stars] + "\t4\t" + text[stars + 3 :])


def truncate(path):
    path.write_bytes(path.read_bytes()[:60_000])


DAMAGES = {
    "altered": (alter, "u.data", "ml-100k.inter"),
    "garbled": (lambda path: path.write_bytes(b"\x00\x01\xff" * 1000), "u.data", "ml-100k.inter"),
    "truncated": (truncate, "u.item", "ml-100k.item"),
    "removed": (pathlib.Path.unlink, "u.user", "ml-100k.user"),
    "emptied": (lambda path: path.write_bytes(b""), "u.user", "ml-100k.item"),
}


@pytest.mark.parametrize(
    ("layout", "place"), [("grouplens", "ml-100k"), ("recbole", "ml-100k"), ("grouplens", ".")]
)
@pytest.mark.parametrize("name", DAMAGES)
@pytest.mark.slow
def test_a_damaged_cached_copy_is_set_aside(good, sources, movielens, name, place, layout):
    located = shutil.copytree(sources / layout, good / place)
    change, *names = DAMAGES[name]
    change(next(path for path in located.iterdir() if path.name in names))
    damaged = {p.name: p.read_bytes() for p in located.iterdir() if p.is_file()}
    with pytest.raises(DataError, match=str(located)):  # named, it is an error, and only read
        load_movielens(path=located)
    assert {p.name: p.read_bytes() for p in located.iterdir() if p.is_file()} == damaged
    with pytest.warns(UserWarning, match=r"now lies in .*ml-100k\.altered-1"):
        assert_same(load_movielens(), movielens)
    aside = (good / "ml-100k.altered-1").rglob("*.*")
    assert {path.name: path.read_bytes() for path in aside if path.is_file()} == damaged
    assert_fetched(good, movielens, "ml-100k.altered-1")  # and without a warning


def test_a_stray_file_does_not_keep_the_data_out(good, movielens):
    (good / "ml-100k").mkdir(parents=True)
    (good / "ml-100k" / ".DS_Store").write_text("")
    with pytest.warns(UserWarning, match=r"now lies in .*ml-100k\.altered-1"):
        assert_fetched(good, movielens, "ml-100k.altered-1")


def test_a_good_sub_folder_serves_beside_altered_files(empty, sources, movielens):
    shutil.copytree(sources / "grouplens", empty)
    shutil.copytree(sources / "recbole", empty / "ml-100k")
    alter(empty / "u.data")
    assert_same(load_movielens(), movielens)


def test_a_damaged_copy_stays_where_no_source_answers(empty, sources):
    shutil.copytree(sources / "grouplens", empty / "ml-100k")
    alter(empty / "ml-100k" / "u.data")
    with pytest.raises(DataError, match="differs from MovieLens 100K"):
        load_movielens()
    assert contents(empty) == [".lock", "ml-100k"]


@pytest.mark.parametrize("name", ["../u.data", "/etc/u.data", "a/../../u.data", "C:\\u.data"])
def test_a_zip_that_points_outside_is_refused(tmp_path, name):
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr(name, "1\t1\t1\t1\n")
    with pytest.raises(DataError, match="points outside"):
        load_movielens(path=path)
    assert contents(tmp_path) == ["evil.zip"]


def test_explicit_path_is_only_read(tmp_path):
    with pytest.raises(DataError, match="Received: a folder without them"):
        load_movielens(path=tmp_path)
    with pytest.raises(DataError, match="no such folder or file"):
        load_movielens(path=tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def test_a_truncated_zip_is_refused(tmp_path, sources):
    path = tmp_path / "half.zip"
    content = (sources / "good.zip").read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="not a whole zip file"):
        load_movielens(path=path)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("file", "CFUTILS_DATA should be a folder"),
        ("file/data", "Set CFUTILS_DATA to a folder that can be written"),
    ],
)
def test_a_folder_that_cannot_be_made_is_reported(tmp_path, monkeypatch, place, message):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CFUTILS_DATA", str(tmp_path / place))
    with pytest.raises(DataError, match=message):
        load_movielens()


def test_a_lock_that_is_never_released_is_reported(empty, monkeypatch):
    import filelock

    monkeypatch.setattr(source, "LOCK_TIMEOUT", 0.2)
    empty.mkdir()
    with (
        filelock.FileLock(empty / ".lock"),
        pytest.raises(DataError, match="locked by another process"),
    ):
        load_movielens()


LOAD = """
import sys
import cfutils.movielens as source
source.URLS = (sys.argv[1],)
print(len(source.load_movielens().ratings))
"""


def start_loading(url):
    return subprocess.Popen(
        [sys.executable, "-c", LOAD, url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_two_processes_end_with_one_good_copy(empty, server, movielens):
    both = [start_loading(f"{server.url}/slow") for _ in range(2)]
    for process in both:
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, output) == (0, "100000\n"), errors
    assert server.asked == ["slow"]
    assert_fetched(empty, movielens)


@pytest.mark.slow
def test_a_killed_download_trips_nobody_over(good, server, movielens):
    process = start_loading(f"{server.url}/stall")
    deadline = time.monotonic() + 60
    while not list(good.glob(".fetch-*/*")) or "stall" not in server.asked:
        assert time.monotonic() < deadline, "the download never started"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert any(name.startswith(".fetch-") for name in contents(good))
    assert_fetched(good, movielens)


@pytest.mark.slow
def test_command_says_where_the_data_lie(sources):
    done = subprocess.run(
        [sys.executable, "-m", "cfutils.movielens"],
        env={**os.environ, "CFUTILS_DATA": str(sources / "grouplens")},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout == (
        f"MovieLens 100K lies in {sources / 'grouplens'}: 943 users, 1682 items, 100000 ratings.\n"
    )
