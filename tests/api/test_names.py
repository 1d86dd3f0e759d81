"""The public names of `biomask.api`."""

import inspect
from types import ModuleType

import pytest

from biomask import api


def test_the_list_is_sorted_and_complete():
    assert api.__all__ == sorted(api.__all__)
    public = {name for name, value in vars(api).items() if not name.startswith("_") and not isinstance(value, ModuleType)}
    assert public == set(api.__all__)


@pytest.mark.parametrize("name", api.__all__)
def test_each_has_a_docstring_and_types(name):
    thing = getattr(api, name)
    assert inspect.getdoc(thing)
    if inspect.isfunction(thing):
        signature = inspect.signature(thing)
        assert signature.return_annotation is not inspect.Signature.empty
        assert all(p.annotation is not inspect.Parameter.empty for p in signature.parameters.values())


def test_a_verb_is_a_function_though_its_module_has_the_same_name():
    for name in ("check", "convert", "doctor", "evaluate", "predict", "train"):
        assert inspect.isfunction(getattr(api, name)), name
