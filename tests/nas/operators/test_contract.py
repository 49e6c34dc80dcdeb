"""Every operator passes every check of `nas.operators.testing`, at every site that its option allows."""

import pytest

from nas.operators import OPERATORS
from nas.operators.testing import CHECKS, Case, cases, values
from search_spaces.options import OPTIONS, Option, Param
from search_spaces.sites import Site

CASES = [(name, case) for name, option in OPTIONS.items() for case in cases(option)]

# These checks take seconds each, so they run only for the defaults and each named alternative. `compile` also runs at
# other sites, because compiled code takes other paths there; recorded programs do not. `make test` compiles the
# defaults, and `make test-kills` the other cases.
_SLOW = {"compile", "export", "trace"}


def _runs(option: Option, case: Case, check: str) -> bool:
    if check not in _SLOW or case.name == "defaults":
        return True
    if case.name.startswith("site"):
        return check == "compile"
    first = next(iter(case.params), None)
    named = first is not None and isinstance(option.params[first].default, bool | str)
    return named and case.site.size > 1 and not case.name.startswith("mixture")


PAIRS = [
    pytest.param(
        name,
        case,
        check,
        id=f"{name} {case}-{check}",
        marks=[pytest.mark.slow, pytest.mark.repeated] if check == "compile" and case.name != "defaults" else [],
    )
    for name, case in CASES
    for check in CHECKS
    if _runs(OPTIONS[name], case, check)
]


@pytest.mark.parametrize(("name", "case", "check"), PAIRS)
def test_contract(name: str, case: Case, check: str) -> None:
    CHECKS[check](OPERATORS[name], case.site, case.resolved)


@pytest.mark.parametrize("option", OPTIONS.values(), ids=OPTIONS)
def test_cases_cover_what_an_option_declares(option: Option) -> None:
    found = cases(option)
    assert {case.site.slot for case in found} == option.slots
    for name, param in option.params.items():
        if isinstance(param.default, bool | str):
            assert {case.params.get(name, param.default) for case in found} == set(values(param)), name


def test_values_of_a_parameter() -> None:
    assert values(Param(True)) == [False, True]
    assert values(Param("b", choices=("a", "b"))) == ["a", "b"]
    assert values(Param(16, low=1, high=4096)) == [1, 2, 16, 4096]
    assert values(Param(1, low=1, high=3)) == [1, 2, 3]
    assert values(Param(0.25, low=0, high=1, above_low=True)) == [0.25, 0.5, 1]
    assert values(Param(2.0, low=0)) == [0, 2.0, 4.0]


def test_an_option_that_fits_nowhere_says_why() -> None:
    def refuse(params: object, site: Site) -> dict[str, int]:
        raise ValueError("never")

    with pytest.raises(ValueError, match="never"):
        cases(Option("refused", frozenset({"refine"}), "", refuse))
