"""Learn, measure and use embedding-based recommendation.

`import cfutils as cf` is enough: every name below is loaded when it is first used, TensorFlow too.

    data = cf.load_movielens()                      # a Dataset: users, items, ratings
    train, test = data.split(seed=42)               # two of them, with the same users and items
    model = cf.CFModel(data, 32, l2_coeff=0.4, gravity_coeff=5.0, seed=42)
    model.train_als(train, test, num_iterations=10)
    cf.ranking_metrics(model, train, test)          # one row per user
    cf.recommend(model, data, user=17)
    cf.recommend(model, data, ratings={"Toy Story": 5, "Fargo": 2})    # somebody new
    cf.neighbours(model, data, "Star Wars")
    model.save("movies.keras")
    model = cf.load_model("movies.keras")

The package is a house with one way through it; a module imports from those above it only:

| module | subject |
| --- | --- |
| `data`, `tables`, `movielens` | the `Dataset`; any table of ratings as one; MovieLens |
| `ids` | which row is which: ids and titles that people write, rows of data and of models |
| `scores` | embeddings to scores and exact top-k; arrays only |
| `recommendation` | lists of recommendations and neighbours, with ids and titles |
| `metrics`, `baselines`, `inspection` | how well a model ranks, and beside what; what it knows |
| `charts`, `panel`, `export` | interactive charts, rating in the notebook, files for viewers |
| `losses` | the losses as pure functions of tensors |
| `factorization`, `softmax` | `CFModel` and `SoftmaxModel`, both Keras models |
| `distributed` | training on several machines |
| `course` | what only the notebooks use: exercises, claims, figures |

`user_num` and `item_num` are rows of arrays, counted from 0; `user_id` and `item_id` are the ids of
the table, whatever they are. A person is named by an id, an item by an id or a title.
"""

import importlib

import lazy_loader
import wrapt

__version__ = "0.2.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


@wrapt.when_imported("keras")
def _announce_models(keras):
    """Lets keras.saving.load_model find our models although their modules are not loaded yet."""
    for module, name in (("factorization", "CFModel"), ("softmax", "SoftmaxModel")):

        def from_config(cls, config, module=module, name=name):
            model = getattr(importlib.import_module(f"{__name__}.{module}"), name)
            return model.from_config(config)

        late = type(name, (), {"from_config": classmethod(from_config)})
        keras.saving.get_custom_objects().setdefault(f"{__name__}>{name}", late)
