"""Writes the API reference of the package, made from its docstrings, into site/api."""

import pathlib
import pkgutil

import pdoc

import cfutils

SITE = pathlib.Path(__file__).resolve().parents[1] / "site"


def main():
    names = {module.name for module in pkgutil.iter_modules(cfutils.__path__)}
    behind = sorted(name for name in names - set(cfutils.__all__) if not name.startswith("_"))
    pdoc.render.configure(docformat="google")
    pdoc.pdoc("cfutils", *(f"cfutils.{name}" for name in behind), output_directory=SITE / "api")
    print(f"API reference: {SITE / 'api' / 'index.html'}")


if __name__ == "__main__":
    main()
