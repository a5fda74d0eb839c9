"""Which row is which: ids and titles that people write, rows of data, rows of models."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfutils.data import Dataset
from cfutils.ids import align, describe, find_item, find_user, match_item, texts


def library(ids, titles=None, users=("ann",)):
    """A data set with a rating of the first user for each item in turn."""
    count = len(ids)
    return Dataset(
        users=pd.DataFrame({"user_id": list(users)}),
        items=pd.DataFrame({"item_id": list(ids), "title": titles or [str(i) for i in ids]}),
        ratings=pd.DataFrame({"user_num": 0, "item_num": np.arange(count), "rating": 1.0}),
    )


@dataclasses.dataclass
class Model:
    user_ids: object = None
    item_ids: object = None
    num_users: object = None
    num_items: object = None


@given(
    st.lists(st.integers(0, 30), unique=True, min_size=1),
    st.lists(st.integers(0, 30), unique=True, min_size=1),
)
def test_align_finds_each_id(of_data, of_model):
    model = Model(user_ids=texts(["ann"]), item_ids=texts(of_model))
    data = library(of_data)
    if not set(of_data) & set(of_model):
        with pytest.raises(ValueError, match="data should have items of the model"):
            align(model, data)
        return
    rows = align(model, data).items
    assert [of_model[row] if row >= 0 else None for row in rows] == [
        id_ if id_ in of_model else None for id_ in of_data
    ]


def test_align_without_ids_takes_rows_as_they_are():
    data = library([7, 5], users=["ann", "bob", "cleo"])
    for model in (Model(num_users=3, num_items=2), (np.ones((3, 4)), np.ones((2, 4)))):
        found = align(model, data)
        assert (found.users.tolist(), found.items.tolist()) == ([0, 1, 2], [0, 1])
    for model in (Model(num_users=2, num_items=2), (np.ones((3, 4)), np.ones((3, 4)))):
        with pytest.raises(ValueError, match=r"data should have the model's \d (users|items)"):
            align(model, data)
    assert align(Model(num_items=2), data).users.tolist() == [-1, -1, -1]  # no table of users


def test_what_a_model_lacks_is_named():
    found = align(Model(user_ids=texts(["x"]), item_ids=texts([1])), library([1, 2, 3]))
    with pytest.raises(ValueError, match=r"items of the model only. Received: 2 of 3 .*: 2, 3\."):
        found.require(library([1, 2, 3]), "item")
    with pytest.raises(ValueError, match=r"users of the model only. Received: 1 of 1 .*: 'ann'"):
        found.require(library([1, 2, 3]), "user")


@pytest.mark.parametrize("ids", [[3, 17, 170], ["3", "17", "170"]])
@pytest.mark.parametrize("user", [17, "17", np.int64(17)])
def test_a_number_and_its_text_are_the_same_user(ids, user):
    assert find_user(library([1], users=ids), user) == 1


@pytest.mark.parametrize("user", [1, "170 ", "", None, True, 17.5, ["17"]])
def test_who_is_no_user_is_refused(user):
    with pytest.raises(ValueError, match="an id of data.users, no row number. Received: "):
        find_user(library([2], users=[3, 17]), user)


def test_ids_of_other_kinds_are_found_by_the_text_that_models_keep():
    days = pd.to_datetime(["2026-01-01", "2026-01-02"])
    data = library(days, users=days)
    assert find_user(data, texts(days)[1]) == 1
    assert match_item(data, texts(days)[1]) == 1


def test_arguments_in_another_order_are_refused():
    for call in (
        lambda: align(FILMS, 17),
        lambda: find_user(17, FILMS),
        lambda: find_item("a", "b"),
    ):
        with pytest.raises(ValueError, match="data should be a Dataset. Received: "):
            call()


def test_the_closest_user_is_named():
    with pytest.raises(ValueError, match="Received: 'anne'. Closest: ann"):
        find_user(library([1], users=["bob", "ann"]), "anne")


TITLES = ["Star Wars (1977)", "Fargo (1996)", "Grifters, The (1990)", "187 (1997)", "Fargo (1952)"]
FILMS = library([187, 20, 30, 40, 50], TITLES)


@pytest.mark.parametrize(
    ("item", "row"),
    [
        (20, 1),
        ("20", 1),
        ("Fargo (1996)", 1),
        ("  fargo (1996) ", 1),
        ("star wars", 0),
        ("The Grifters", 2),
        ("grifters", 2),
        ("the grifters (1990)", 2),
        (187, 0),
        ("187 (1997)", 3),
    ],
)
def test_an_id_or_a_whole_title_names_an_item(item, row):
    assert match_item(FILMS, item) == row


@pytest.mark.parametrize(
    ("item", "error", "message"),
    [
        ("Fargo", ValueError, r"'Fargo \(1996\)' \(id 20\), 'Fargo \(1952\)' \(id 50\)"),
        ("187", ValueError, r"'Star Wars \(1977\)' \(id 187\), '187 \(1997\)' \(id 40\)"),
        ("star", LookupError, r"Titles that hold it: 'Star Wars \(1977\)' \(id 187\)"),
        ("Star Wars (1978)", LookupError, r"Closest: Star Wars \(1977\)"),
        (1, LookupError, "item should be an id of data.items, no row number. Received: 1"),
        (True, ValueError, "an id .* or a title. Received: True"),
        (20.5, LookupError, "no row number. Received: 20.5"),
        (None, ValueError, "an id .* or a title. Received: None"),
    ],
)
def test_what_names_no_item_or_several_is_refused(item, error, message):
    with pytest.raises(error, match=message):
        match_item(FILMS, item)


def test_find_item_lists_all_that_hold_a_text_most_rated_first():
    data = library([1, 2, 3], ["Alien (1979)", "Aliens (1986)", "Heat"], users=["a", "b", "c"])
    ratings = pd.DataFrame({"user_num": [0, 1, 0], "item_num": [1, 1, 0], "rating": 1.0})
    found = find_item(dataclasses.replace(data, ratings=ratings), " ALIEN ")
    assert found["item_id"].tolist() == [2, 1]
    assert found["num_ratings"].tolist() == [2, 1]
    assert found.index.tolist() == [1, 0]
    assert len(find_item(data, "(19")) == 2  # literal, no regular expression
    with pytest.raises(LookupError, match=r"Closest: Alien \(1979\); Aliens"):
        find_item(data, "alein")
    with pytest.raises(ValueError, match="text should be part of a title"):
        find_item(data, " ")


def test_describe_says_what_the_data_has(movielens):
    row = describe(movielens, [49]).iloc[0]
    assert row.tolist() == [
        50,
        "Star Wars (1977)",
        "Action, Adventure, Romance, Sci-Fi, War",
        1977,
        583,
    ]
    assert list(describe(FILMS, [0])) == ["item_id", "title", "num_ratings"]
