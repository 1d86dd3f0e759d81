"""docs/explanation/papers.md, its plots and the tables of the border weights say what benchmarks/results hold."""

import importlib
from pathlib import Path

import pytest
from PIL import Image

from biomask import recipes
from biomask.models import MODELS
from biomask.recipes.catalogue import CATALOGUE

ROOT = Path(__file__).parents[2]
DOCS, IMAGES = ROOT / "docs", ROOT / "docs" / "images" / "papers"
PAGE, WEIGHTS = DOCS / "explanation" / "papers.md", DOCS / "explanation" / "weights.md"

#: What each result names, so that it can be made again.
FACTS = ("command", "commit", "date", "machine", "versions", "seed", "data_sha256")

pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="needs the repository")


@pytest.fixture(scope="module")
def modules():
    """Imports of docs/, and of benchmarks/ what docs/ has not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        patch.syspath_prepend(str(DOCS))
        yield importlib.import_module


@pytest.fixture(scope="module")
def papers(modules):
    return modules("papers")


@pytest.fixture(scope="module")
def results(papers):
    return papers.load()


class TestTheRows:
    def test_each_says_how_it_was_made(self, results):
        assert results
        for r in results:
            assert all(r[fact] not in (None, "") for fact in FACTS), r["row"]
            assert r["row"]["size"] in ("reduced", "full")
            assert r["row"]["seed"] == r["seed"]

    def test_each_is_one_that_is_asked_for(self, modules, results):
        named = {(r.table, r.recipe, r.images) for r in modules("paper_rows").ROWS}
        assert {(r["row"]["table"], r["row"]["recipe"], r["row"]["training_images"]) for r in results} <= named

    def test_isbi_has_every_recipe_for_images(self, modules):
        asked = {r.recipe for r in modules("paper_rows").ROWS if r.table == "isbi2012"}
        assert {n for n, entry in CATALOGUE.items() if entry.spatial_dims == 2 and recipes.get(n).network.name in MODELS} == asked

    def test_names_are_those_that_files_have(self, modules):
        rows = modules("paper_rows").ROWS
        assert len({r.name for r in rows}) == len(rows)
        assert {r.begin for r in rows} - {None} <= {r.name for r in rows}


class TestThePage:
    def test_it_is_up_to_date(self, papers, results):
        assert papers.page(results) == PAGE.read_text(encoding="utf-8"), "run: python docs/papers.py"

    def test_it_names_the_rows_that_are_not_there(self, modules, papers, results):
        """By another way: from the names of the files."""
        there = {p.stem.partition("-seed-")[0] for p in modules("paper_numbers").RESULTS.glob("papers/*.json")}
        left = [r.name for r in modules("paper_rows").ROWS if r.name not in there]
        assert papers.missing(results) == left
        assert papers.missing(results[1:]) != left

    def test_a_score_that_differs_is_seen(self, papers, results):
        other = [r if r["row"]["table"] != "curve" else {**r, "steps": r["steps"] + 1} for r in results]
        assert papers.page(other) != papers.page(results)

    def test_every_row_is_in_its_table(self, papers, results):
        text = PAGE.read_text(encoding="utf-8")
        for r in results:
            assert f"| {r['minutes_training']:.1f} |" in text
            assert r["row"]["table"] == "curve" or f"| {papers.called(r)} | {r['parameters'] / 1e6:.2f} M |" in text

    def test_its_plots_are_drawn_from_these_results(self, papers, results):
        drawn = [name for name, draw in papers.FIGURES.items() if draw(results, papers.PUBLISHED) is not None]
        assert sorted(p.stem for p in IMAGES.glob("*.png")) == sorted([*drawn, "drishti"])
        for name in drawn:
            with Image.open(IMAGES / f"{name}.png") as picture:
                assert picture.text["Description"] == papers.digest(results, papers.PUBLISHED), "run: python docs/papers.py"


class TestBorderWeights:
    def test_they_are_up_to_date(self, modules):
        text = WEIGHTS.read_text(encoding="utf-8")
        assert modules("weights_page").page(text) == text, "run: python docs/weights_page.py"

    @pytest.mark.parametrize(("difference", "said"), [
        ({"mean": -0.5, "low": -0.8, "high": -0.1, "by_seed": [-0.4, -0.6], "kind": "bootstrap 95 %"},
         "merges an image -0.50 (better with the weights)"),
        ({"mean": 0.5, "low": 0.1, "high": 0.8, "by_seed": [0.4, 0.6], "kind": "bootstrap 95 %"},
         "merges an image +0.50 (worse with the weights)"),
        ({"mean": -0.5, "low": -0.8, "high": 0.1, "by_seed": [-0.4, -0.6], "kind": "bootstrap 95 %"}, None),
        ({"mean": -0.5, "low": -0.8, "high": -0.1, "by_seed": [0.1, -1.1], "kind": "bootstrap 95 %"}, None),
        ({"mean": -0.5, "low": -0.8, "high": -0.1, "by_seed": [-0.4, -0.6], "kind": "range over 5 groups"}, None)])
    def test_only_what_is_more_than_chance_is_called_so(self, modules, difference, said):
        assert modules("weights_page").verdict(difference, "merges") == said
