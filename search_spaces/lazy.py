"""Packages whose names are imported when they are first used, so that importing the package is cheap."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module


def lazily(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """A package's `__getattr__` and `__dir__`.

    Args:
        package: The package's `__name__`.
        homes: Module within the package -> the names that it defines, with spaces between them. No name may also be a
            module of the package, because importing that module would set the name.
    """
    home = {name: module for module, names in homes.items() for name in names.split()}
    defined = vars(sys.modules[package])

    def getattribute(name: str) -> object:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value: object = getattr(import_module(f"{package}.{home[name]}"), name)
        defined[name] = value
        return value

    def names() -> list[str]:
        return sorted({*defined, *home})

    return getattribute, names
