"""Writes MovieLens 100K in the layouts of its sources, from the frames, to test the readers."""

import hashlib
import zipfile

from cfutils.movielens import _GENRES as GENRES


def rating_lines(data):
    """The lines of u.data: 1-based ids, stars and seconds since 1970 between tabs."""
    ratings = data.ratings
    columns = (
        data.users["user_id"].to_numpy()[ratings["user_num"]],
        data.items["item_id"].to_numpy()[ratings["item_num"]],
        ratings["rating"].astype(int),
        ratings["timestamp"].astype("datetime64[s]").astype("int64"),
    )
    return ["\t".join(map(str, row)) for row in zip(*columns, strict=True)]


def user_lines(data, separator):
    columns = data.users[["user_id", "age", "gender", "occupation", "zip_code"]]
    return [separator.join(map(str, row)) for row in columns.itertuples(index=False)]


def write_grouplens(data, folder):
    """u.data, u.item, u.user, as GroupLens publishes them: latin-1, bars between the fields."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join(rating_lines(data)) + "\n"
    # The digest of GroupLens' own u.data: the frames hold all of it, in its order.
    assert hashlib.md5(text.encode()).hexdigest() == "6e47046882bad158b0efbb84cd5cb987"
    (folder / "u.data").write_text(text)
    (folder / "u.user").write_text("\n".join(user_lines(data, "|")) + "\n")
    items = []
    for movie in data.items.itertuples():
        blank = " " if movie.title.startswith("Two Friends") else ""
        flags = "|".join(str(int(genre in movie.genres)) for genre in GENRES)
        items.append(f"{movie.item_id}|{movie.title}{blank}|01-Jan-1995||http://x|{flags}")
    (folder / "u.item").write_bytes(("\n".join(items) + "\n").encode("latin-1"))
    return folder


def write_recbole(data, folder):
    """The three files of the package index's copy: UTF-8, tabs, title and year apart."""
    folder.mkdir(parents=True, exist_ok=True)
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    (folder / "ml-100k.inter").write_text("\n".join([header, *rating_lines(data)]) + "\n")
    header = "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token"
    (folder / "ml-100k.user").write_text("\n".join([header, *user_lines(data, "\t")]) + "\n")
    lines = ["item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"]
    for movie in data.items.itertuples():
        title, year = "unkonwn", "unkonwn"
        if movie.title != "unknown":
            title, _, year = movie.title.rpartition(" (")
        genres = " ".join(movie.genres)
        lines.append(f"{movie.item_id}\t{title}\t{year.rstrip(')')}\t{genres}")
    (folder / "ml-100k.item").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def zip_folder(folder, path, prefix):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for file in sorted(folder.iterdir()):
            zipped.write(file, prefix + file.name)
    return path


def write_wheel(data, folder):
    """A wheel by the name of the one that carries the data, for pip to find in `folder`."""
    files = write_recbole(data, folder / "files")
    path = zip_folder(
        files, folder / "recbole-1.2.1-py3-none-any.whl", "recbole/dataset_example/ml-100k/"
    )
    info = "recbole-1.2.1.dist-info/"
    with zipfile.ZipFile(path, "a") as wheel:
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: recbole\nVersion: 1.2.1\n")
        wheel.writestr(
            info + "WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(info + "RECORD", "")
    return path
