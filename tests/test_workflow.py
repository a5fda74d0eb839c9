"""The workflow of the code host: it runs what the README gives, on what the package supports."""

import pathlib
import re
import tomllib

import yaml  # comes with JupyterLab

ROOT = pathlib.Path(__file__).resolve().parents[1]


def test_the_workflow_runs_the_commands_of_the_readme_on_each_supported_python():
    text = (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    commands = {
        name: [step["run"] for step in job["steps"] if "run" in step] for name, job in jobs.items()
    }
    assert commands["test"][-1] == "make test PYTHON=python${{ matrix.python }}"
    assert commands["site"] == ["make run PYTHON=python3.12"]
    versions = jobs["test"]["strategy"]["matrix"]["python"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    first, beyond = re.findall(r"3\.(\d+)", project["requires-python"])
    assert versions == [f"3.{minor}" for minor in range(int(first), int(beyond))]
    assert all(job["timeout-minutes"] <= 60 for job in jobs.values())
