"""docs/reference/file-formats.md names every key and column that is written."""

import csv
import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from biomask import api
from biomask.checkpoint import ModelHeader

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "file-formats.md"

pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="needs the repository")


def section(title: str) -> str:
    """The text of a section and of those below it."""
    text = PAGE.read_text(encoding="utf-8")
    level = text[: text.index(f" {title}\n")].rpartition("\n")[2]
    rest = text[text.index(f"{level} {title}\n") + len(title) + len(level):]
    return rest.partition(f"\n{level} ")[0]


def undocumented(names: Iterable[str], title: str) -> list[str]:
    text = section(title)
    return [n for n in names if f"`{n}`" not in text and f'"{n}"' not in text]


def columns(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8") as file:
        return next(csv.reader(file))


def test_the_header_of_a_model():
    assert undocumented(ModelHeader.model_fields, "MODEL") == []


def test_the_record_and_the_log_of_a_training(prepared):
    assert undocumented(json.loads((prepared / "MODEL" / "run.json").read_text(encoding="utf-8")), "MODEL") == []
    assert undocumented(columns(prepared / "MODEL" / "log.csv"), "MODEL") == []


@pytest.mark.parametrize("folder", ["MODEL", "OUT"])
def test_what_lies_in_a_folder(prepared, folder):
    text = section(folder)
    for path in (prepared / folder).iterdir():
        assert f"`{path.name}`" in text or f"`{path.name}/" in text, path.name


def test_the_record_of_predictions(prepared):
    record = json.loads((prepared / "OUT" / "run.json").read_text(encoding="utf-8"))
    assert undocumented([*record, *next(iter(record["images"].values()))], "run.json") == []


def test_the_columns_of_tables(prepared):
    found = [c for c in columns(prepared / "OUT" / "images.csv") if not c.startswith("share_")]
    assert undocumented(found, "images.csv") == []
    known = {"_y_", "_x_"}
    found = [c for c in columns(prepared / "OUT" / "objects.csv") if not known & {f"_{p}_" for p in c.split("_")}]
    assert undocumented([c for c in found if not c.startswith("mean_intensity")], "objects.csv") == []


def test_the_keys_of_an_evaluation_and_of_a_check(prepared):
    evaluation = api.evaluate(prepared / "OUT", prepared / "TRUTH")
    assert undocumented([*evaluation.scores, *evaluation.mean, *evaluation.per_image[0]], "Evaluation") == []
    checked = api.check(prepared / "DATA").to_json()
    assert undocumented([*checked, *checked["images"][0]], "Check") == []
