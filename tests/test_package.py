"""What goes to PyPI, and what cites the method, say the same as the package."""

import re
import tomllib
from pathlib import Path

import yaml
from packaging.metadata import Metadata
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_metadata_are_what_pypi_takes():
    Metadata.from_raw(
        {
            "metadata_version": "2.4",
            "name": PROJECT["name"],
            "version": PROJECT["version"],
            "summary": PROJECT["description"],
            "description": (ROOT / PROJECT["readme"]).read_text(),
            "description_content_type": "text/markdown",
            "license_expression": PROJECT["license"],
            "requires_python": PROJECT["requires-python"],
            "requires_dist": PROJECT["dependencies"],
            "classifiers": PROJECT["classifiers"],
            "project_urls": PROJECT["urls"],
        },
        validate=True,
    )


def test_the_classifiers_name_the_versions_of_python_that_are_taken():
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert named == ["3.11", "3.12", "3.13"] and all(v in SpecifierSet(PROJECT["requires-python"]) for v in named)
    assert "3.10" not in SpecifierSet(PROJECT["requires-python"])


def test_everything_that_is_installed_is_pinned():
    """Extras included: a new dependency needs a line in constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = {normal(line.split("==")[0]) for line in lines if "==" in line}
    wanted = [
        *PROJECT["dependencies"],
        *(each for extra in PROJECT["optional-dependencies"].values() for each in extra),
    ]
    names = {normal(re.match(r"[\w.-]+", each)[0]) for each in wanted} - {"celeb-basis"}
    assert names <= pins


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_citation_is_that_of_the_readme():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    paper = citation["preferred-citation"]
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    readme = (ROOT / "README.md").read_text()
    authors = " and ".join(f"{each['family-names']}, {each['given-names']}" for each in paper["authors"])
    for fact in (authors, paper["title"], paper["collection-title"], str(paper["year"])):
        assert f"{{{fact}}}" in readme
    assert paper["url"] == PROJECT["urls"]["Paper"] and paper["url"] in readme


def test_a_release_is_published_without_a_password():
    """Only the job that uploads may ask for an identity, and it runs none of our code."""
    jobs = yaml.safe_load((ROOT / ".github/workflows/publish.yml").read_text())["jobs"]
    assert jobs["publish"]["permissions"] == {"id-token": "write"} and jobs["publish"]["needs"] == "build"
    assert "id-token" not in jobs["build"]["permissions"]
    assert not any(
        "run" in step or ("with" in step and "password" in step["with"]) for step in jobs["publish"]["steps"]
    )
    assert any("twine check --strict" in step.get("run", "") for step in jobs["build"]["steps"])
