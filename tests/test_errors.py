"""The errors themselves, and the page that lists them with messages that are really given."""

import importlib
import importlib.util
import pkgutil
import sys
from pathlib import Path

import pytest

import biomask
from biomask import errors
from biomask.errors import BiomaskError, DiskFullError, InputError, ManyErrors, OutOfMemoryError, ReadError, ResourceError

SCRIPT = Path(__file__).parents[1] / "docs" / "errors.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("docs_errors", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["docs_errors"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def every_class() -> set[type[BiomaskError]]:
    for module in pkgutil.walk_packages(biomask.__path__, "biomask."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)

    def below(error):
        return {error}.union(*(below(e) for e in error.__subclasses__()))

    return {e for e in below(BiomaskError) if e.__module__.startswith("biomask.")}


def test_the_page_has_every_class_and_is_what_the_calls_give(script):
    assert {e.error for e in script.EXAMPLES} == every_class()
    assert script.PAGE.read_text(encoding="utf-8") == script.page(), "run python docs/errors.py"


def test_an_example_of_another_class_is_refused(script):
    with script.in_a_folder_of_its_own(), pytest.raises(RuntimeError, match="raised MissingPathError, not ReadError"):
        script.section(script.Example(ReadError, "", "", "biomask train nowhere -o new"))


def test_the_tree_in_the_docstring_names_every_class_of_the_module():
    """With the exit code of its branch."""
    for name, error in vars(errors).items():
        if isinstance(error, type) and issubclass(error, BiomaskError):
            assert name in errors.__doc__
            assert error.exit_code == (3 if issubclass(error, ResourceError) else 2 if name == "UsageError" else 1)
            assert error.usual_fix


@pytest.mark.parametrize(("where", "fix", "text"), [
    (None, None, "broken"), ("a.png", None, "a.png: broken"), (None, "mend it", "broken\n  → mend it"),
    (Path("b") / "a.png", "mend it", f"{Path('b') / 'a.png'}: broken\n  → mend it")])
def test_what_it_says(where, fix, text):
    assert str(InputError("broken", where=where, fix=fix)) == text


def test_many_are_listed_with_their_fixes():
    error = ManyErrors("2 of 3 are bad", [ReadError("no", where="a", fix="x"), ReadError("no", where="b")], fix="mend them")
    assert str(error).splitlines() == ["2 of 3 are bad", "  - a: no", "      → x", "  - b: no", "  → mend them"]
    assert error.exit_code == 1


def test_many_are_the_machines_fault_only_where_all_are():
    assert ManyErrors("x", [DiskFullError("full"), OutOfMemoryError("out")]).exit_code == 3
    assert ManyErrors("x", [DiskFullError("full"), ReadError("bad")]).exit_code == 1
    assert ManyErrors("x", []).exit_code == 1
