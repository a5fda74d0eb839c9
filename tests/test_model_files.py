"""Models as files: whole at every moment, loaded without running what is in them."""

import ast
import contextlib
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import zipfile

import numpy as np
import pandas as pd
import pytest

from cfutils._tensorflow import keras, tf
from cfutils.factorization import CFModel, load_model
from cfutils.softmax import SoftmaxModel
from cfutils.tables import load_ratings

# Keras itself still converts tensors the way that NumPy 2.4 warns of, when it saves.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

MODELS = {
    "factorization": lambda data=(7, 5), **options: CFModel(data, 3, **options),
    "softmax": lambda data=(7, 5), **options: SoftmaxModel(
        data, input_dims=3, hidden_dims=(4,), **options
    ),
}
WAYS = {"a.keras": "save", "a.weights.h5": "save_weights"}
PACKAGE = pathlib.Path(__file__).resolve().parents[1] / "cfutils"


@pytest.fixture(params=MODELS)
def kind(request):
    return request.param


def state(model):
    return [variable.numpy() for variable in model.variables]


def assert_state(model, expected):
    for variable, values in zip(model.variables, expected, strict=True):
        np.testing.assert_array_equal(variable.numpy(), values)


def filled(model, number):
    """The model with one number in all tables, so that a mixture of two states is seen."""
    for variable in model.weights:
        variable.assign(tf.cast(tf.fill(variable.shape, number), variable.dtype))
    return model


def numbers_in(path):
    return {float(x) for values in state(load_model(path)) for x in values.ravel()}


# The ids of the rows


@pytest.fixture
def books():
    ids = ["№1", "a,b", '"c"', "d\n", "é"]
    rows = [(3 * (row % 7), ids[row % 5], 1) for row in range(10)]
    return load_ratings(pd.DataFrame(rows, columns=["user_id", "item_id", "rating"]))


def test_ids_are_saved_with_the_model(tmp_path, kind, books):
    model, path = MODELS[kind](books), tmp_path / "a.keras"
    model.train(books, num_iterations=1, learning_rate=0.1)
    model.save(path)
    for loaded in (load_model(path), keras.saving.load_model(path)):
        assert loaded.get_config() == model.get_config()
        assert loaded.item_ids.tolist() == books.items["item_id"].tolist()
        np.testing.assert_array_equal(loaded.fold_in(books), model.fold_in(books))
    if kind == "factorization":
        assert loaded.user_ids.tolist() == ["0", "3", "6", "9", "12", "15", "18"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "load",
    [
        "import cfutils, keras; load = keras.saving.load_model",
        "import keras, cfutils; load = keras.saving.load_model",
        "import cfutils as cf; load = cf.load_model",
        "import cfutils as cf; load = cf.keras.saving.load_model",
    ],
)
def test_models_are_loaded_after_the_import_of_the_package_alone(tmp_path, load):
    for kind, made in MODELS.items():
        made().save(tmp_path / f"{kind}.keras")
    code = (
        f"{load}\nfor path in ('factorization', 'softmax'): print(load(path + '.keras').num_items)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.split() == ["5", "5"], done.stderr


# Whole at every moment


STOPPING = """
    import os, signal, sys, warnings
    warnings.simplefilter("ignore")
    import h5py
    from cfutils.factorization import load_model
    model = load_model(sys.argv[1])
    for variable in model.weights:
        variable.assign(variable + 1)

    def kill(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    moment = sys.argv[2]
    if moment == "replace":
        os.replace = kill
    elif moment == "fsync":
        os.fsync = kill
    else:  # the first half of the tables is written
        model.save_own_variables = lambda store: kill(store.__setitem__("0", model.weights[0]))
    model.save(sys.argv[1])
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["tables", "fsync", "replace"])
def test_a_kill_at_each_step_of_saving_leaves_the_old_model(tmp_path, moment):
    path = tmp_path / "model.keras"
    filled(MODELS["factorization"](), 4).save(path)
    before = path.read_bytes()
    command = [sys.executable, "-c", textwrap.dedent(STOPPING), str(path), moment]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert path.read_bytes() == before
    assert numbers_in(path) == {4.0}
    assert len(os.listdir(tmp_path)) == 2  # it died after it had begun to write


@pytest.mark.parametrize("name", WAYS)
def test_a_full_disk_leaves_the_old_model_and_no_other_file(tmp_path, monkeypatch, kind, name):
    path, model = tmp_path / name, MODELS[kind]()
    getattr(model, WAYS[name])(path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    # In the midst of writing the tables, or at the end.
    moments = (type(model), "save_own_variables"), (os, "fsync"), (os, "replace")
    for place, function in moments:
        with monkeypatch.context() as patched:
            patched.setattr(place, function, full)
            with pytest.raises(OSError, match="No space left"):
                getattr(filled(model, 9), WAYS[name])(path)
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", WAYS)
def test_a_folder_that_can_not_be_written_is_named(tmp_path, name):
    save = getattr(MODELS["factorization"](), WAYS[name])
    with pytest.raises(FileNotFoundError, match=rf"No such file.*nowhere/{name}'$"):
        save(tmp_path / "nowhere" / name)
    if os.geteuid():  # root may write everywhere
        tmp_path.chmod(0o500)
        with pytest.raises(PermissionError, match=rf"denied.*/{name}'$"):
            save(tmp_path / name)
        tmp_path.chmod(0o700)
    assert os.listdir(tmp_path) == []


def test_a_callback_saves_in_the_same_way(tmp_path, monkeypatch):
    replaced, replace = [], os.replace

    def watched(source, target):
        assert pathlib.Path(source).parent == tmp_path
        replaced.append(pathlib.Path(target).name)
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    model, other = (MODELS["factorization"](seed=seed) for seed in (0, 1))
    model.compile("sgd")
    weights = tmp_path / "best.weights.h5"
    callbacks = [
        keras.callbacks.ModelCheckpoint(tmp_path / "best.keras"),
        keras.callbacks.ModelCheckpoint(weights, save_weights_only=True),
    ]
    A = tf.SparseTensor([[0, 0], [1, 2]], [1.0, 2.0], (7, 5))
    model.fit(A, epochs=2, verbose=0, callbacks=callbacks)
    assert replaced == 2 * ["best.keras", "best.weights.h5"]
    assert sorted(os.listdir(tmp_path)) == ["best.keras", "best.weights.h5"]
    other.load_weights(weights)
    assert_state(other, state(model))


@pytest.mark.parametrize(("right", "way"), WAYS.items())
def test_no_save_costs_the_file_that_was_there(tmp_path, kind, right, way):
    """Other formats, folders and addresses are refused before anything is touched."""
    model = MODELS[kind]()
    save, (other,) = getattr(model, way), set(WAYS) - {right}
    names = ["a.h5", "a.weights.json", "a.tf", "a", "a.keras.zip", other]
    for name in names:
        (tmp_path / name).write_text("kept")
    (tmp_path / "folder").mkdir()
    for path in (*(tmp_path / name for name in [*names, "folder"]), f"gs://bucket/{right}"):
        with pytest.raises(ValueError, match=r"file that ends in .*Nothing was written"):
            save(path)
    assert sorted(os.listdir(tmp_path)) == sorted([*names, "folder"])
    assert {(tmp_path / name).read_text() for name in names} == {"kept"}
    path = tmp_path / right
    with pytest.raises(TypeError, match="zipped"):
        save(path, zipped=False)
    save(path)
    before = path.read_bytes()
    filled(model, 8)
    with pytest.raises(FileExistsError, match="should be new if overwrite is False"):
        save(path, overwrite=False)
    assert path.read_bytes() == before


def test_rights_and_links_stay(tmp_path):
    model, path, link = MODELS["factorization"](), tmp_path / "a.keras", tmp_path / "link.keras"
    model.save(path)
    path.chmod(0o600)
    link.symlink_to(path)
    filled(model, 3).save(link)
    assert link.is_symlink()
    assert numbers_in(path) == {3.0}
    assert path.stat().st_mode & 0o777 == 0o600


# Loaded without running what is in them


def rewritten(source, target, change):
    """A copy of a saved model with another configuration."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                config = json.loads(content)
                change(config)
                content = json.dumps(config)
            new.writestr(name, content)
    return target


def code_of(marker):
    """A function as Keras writes it with its code; it leaves a file when called."""
    function = lambda _=None, file=str(marker): open(file, "w").close()  # noqa: E731
    with pytest.warns(UserWarning, match="lambda"):
        serialized = keras.saving.serialize_keras_object(function)
    assert serialized["class_name"] == "__lambda__"
    return serialized


def as_seed(config, code):
    config["config"]["seed"] = code


def as_rate(config, code):
    config["compile_config"]["optimizer"]["config"]["learning_rate"] = code


def as_model(config, code):
    config.clear()
    config.update(code)


def as_layer(config, code):
    layer = {"module": "keras.layers", "class_name": "Lambda", "registered_name": None}
    layer["config"] = {"name": "x", "function": code, "arguments": {}}
    config.update(module="keras", class_name="Sequential", registered_name="Sequential")
    config["config"] = {"name": "x", "layers": [layer], "build_input_shape": [1, 1]}


def as_command(config, code):
    """The name of a function of the standard library in place of a class."""
    config.update(module="os", class_name="system", registered_name="system")
    config["config"] = {"command": f"touch {code['marker']}"}


DISALLOWED = r"risk of arbitrary code execution and thus it is disallowed"


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (as_seed, "seed should be an integer"),
        (as_rate, DISALLOWED),
        (as_model, DISALLOWED),
        (as_layer, DISALLOWED),
        (as_command, "Could not locate class 'system'"),
    ],
)
def test_code_in_a_file_is_refused_and_does_not_run(tmp_path, place, message):
    marker, path = tmp_path / "it_ran", tmp_path / "a.keras"
    model = MODELS["factorization"]()
    model.compile(keras.optimizers.SGD(0.1))
    model.optimizer.build(model.trainable_variables)
    model.save(path)
    code = code_of(marker) | {"marker": str(marker)}
    altered = rewritten(path, tmp_path / "b.keras", lambda config: place(config, code))
    with pytest.raises(ValueError, match=message):
        load_model(altered)
    assert not marker.exists()
    # The configuration of the file is not read at all where weights are loaded.
    other = MODELS["factorization"](seed=1)
    other.load_weights(altered)
    assert not marker.exists()
    np.testing.assert_array_equal(other.user_embeddings, model.user_embeddings)


def test_the_code_would_run_if_it_were_let(tmp_path):
    """What the test above forbids is possible: otherwise it could not fail."""
    marker = tmp_path / "it_ran"
    function = keras.saving.deserialize_keras_object(code_of(marker), safe_mode=False)
    function()
    assert marker.exists()


def test_nothing_in_the_package_unpickles_or_evaluates():
    """Neither pickle nor a reader that unpickles, nor eval or exec, is named in the package."""
    forbidden = {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve", "cloudpickle"}
    forbidden |= {"eval", "exec", "read_pickle", "to_pickle", "enable_unsafe_deserialization"}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [getattr(node, field, None) for field in ("id", "attr", "module", "name")]
            found = forbidden & {name.split(".")[0] for name in names if isinstance(name, str)}
            assert not found, (path.name, getattr(node, "lineno", 0), found)
            for keyword in getattr(node, "keywords", []):
                if keyword.arg in ("allow_pickle", "safe_mode"):
                    wanted = keyword.arg == "safe_mode"
                    assert getattr(keyword.value, "value", None) is wanted, path.name


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_truncated_file_is_refused(tmp_path, kind, name, share):
    path, other = tmp_path / name, MODELS[kind](seed=1)
    getattr(MODELS[kind](), WAYS[name])(path)
    content, before = path.read_bytes(), state(other)
    path.write_bytes(content[: int(share * len(content))])
    for load in (other.load_weights, load_model):
        with pytest.raises(ValueError, match=rf"path should be a file .*{name}'.*another copy"):
            load(path)
    assert_state(other, before)


def test_other_files_are_refused_by_name(tmp_path):
    inputs = keras.Input((2,))
    keras.Model(inputs, keras.layers.Dense(1)(inputs)).save(tmp_path / "other.keras")
    with pytest.raises(ValueError, match=r"other.keras': it holds a Functional"):
        load_model(tmp_path / "other.keras")
    with zipfile.ZipFile(tmp_path / "zip.keras", "w") as archive:
        archive.writestr("a.txt", "a")
    (tmp_path / "text.keras").write_text("not a zip file")
    (tmp_path / "a.h5").write_text("of another kind")
    for load in (load_model, MODELS["factorization"]().load_weights):
        for name in ("zip.keras", "text.keras", "a.h5"):
            with pytest.raises(ValueError, match=f"path should be a file .*{name}'"):
                load(tmp_path / name)
        with pytest.raises(FileNotFoundError, match=r"missing.keras"):
            load(tmp_path / "missing.keras")


def test_a_changed_byte_is_noticed_or_changes_nothing(tmp_path):
    model, path = MODELS["factorization"](), tmp_path / "a.keras"
    model.save(path)
    content, noticed = path.read_bytes(), 0
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        first = archive.getinfo("model.weights.h5").header_offset + 60
    for place in np.random.default_rng(0).integers(first, len(content), 24):
        altered = bytearray(content)
        altered[place] ^= 0xFF
        path.write_bytes(altered)
        other = MODELS["factorization"](seed=1)
        before = state(other)
        try:
            other.load_weights(path)
        except ValueError as error:
            noticed += 1
            assert "whole and unaltered" in str(error)
            assert_state(other, before)
        else:
            assert_state(other, state(model))
        with contextlib.suppress(ValueError):
            assert_state(load_model(path), state(model))
    assert noticed > 18


OTHERS = {
    "users": (lambda: CFModel((8, 5), 3), r"\(7, 3\), Received: value.shape=\(8, 3\).*user_emb"),
    "items": (lambda: CFModel((7, 6), 3), r"\(5, 3\), Received: value.shape=\(6, 3\).*item_emb"),
    "width": (lambda: CFModel((7, 5), 2), r"\(7, 3\), Received: value.shape=\(7, 2\).*user_emb"),
    "kind": (MODELS["softmax"], ""),
}


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("other", OTHERS)
def test_another_shape_is_named_and_changes_nothing(tmp_path, name, other):
    make, message = OTHERS[other]
    getattr(make(), WAYS[name])(tmp_path / name)
    model = MODELS["factorization"]()
    before = state(model)
    with pytest.raises(ValueError, match=f"(?s)a model of this kind.*{message}"):
        model.load_weights(tmp_path / name)
    assert_state(model, before)


def test_a_missing_optimizer_state_changes_nothing(tmp_path):
    """Keras fills the tables before it finds that the optimizer's state is not there."""
    MODELS["factorization"](seed=1).save(tmp_path / "a.keras")
    model = MODELS["factorization"]()
    model.compile("adam")
    model.optimizer.build(model.trainable_variables)
    before = state(model)
    with pytest.raises(ValueError, match="optimizer"):
        model.load_weights(tmp_path / "a.keras")
    assert_state(model, before)
