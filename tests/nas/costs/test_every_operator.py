"""All costs can be estimated for every operator, in every slot, with every parameter value, under all conditions."""

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import pytest

from nas.costs import MEASURES, Conditions, CostModel
from nas.operators import OPERATORS
from search_spaces import OPTIONS, Architecture, choose
from search_spaces.options import Param, resolve
from search_spaces.skeletons.resnet import ResNet

Row = Mapping[str, Any]

SKELETON = ResNet(depth=8, image_size=16, num_classes=4)
BLOCK = SKELETON.blocks()[1]  # its first convolution strides
KINDS: Mapping[str, Sequence[Any]] = {
    "device": ("cpu", "cuda"),
    "dtype": ("float32", "bfloat16"),
    "channels_last": (True, False),
    "optimizer": ("sgd", "adamw"),
}
KEPT_NUMBER = 8
"""Bytes of the tensor in which autograd keeps a Python number that a tensor is divided by. The pass does not see it."""


@pytest.mark.parametrize("option", OPERATORS)
def test_every_variant(option: str) -> None:
    """All pairs of values of slot, parameters and conditions."""
    rows = list(pairwise(variants_of(option) | KINDS, lambda row: fits(option, row)))
    for row in rows:
        check(option, row)
    for name, known in variants_of(option).items():
        if not isinstance(known[0], (int, float)) or isinstance(known[0], bool):  # not every number fits the site
            assert {row[name] for row in rows} == set(known)


@pytest.mark.slow
@pytest.mark.repeated
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("option", OPERATORS)
def test_every_variant_under_all_conditions(option: str) -> None:
    """All pairs of values of slot and parameters, with every combination of the conditions."""
    variants = pairwise(variants_of(option, bounds=True), lambda row: fits(option, row))
    for variant, kind in itertools.product(variants, itertools.product(*KINDS.values())):
        check(option, {**variant, **dict(zip(KINDS, kind, strict=True))})


def check(option: str, row: Row) -> None:
    """All measures can be estimated without running; on a CPU, the estimated memory is what the allocator reports."""
    architecture = Architecture(SKELETON, {BLOCK.name: {row["slot"]: choose(option, parameters(option, row))}})
    costs = cost_model(**{name: row[name] for name in KINDS})
    for measure in MEASURES:
        if costs.must_measure(architecture, measure):
            continue
        estimate = costs.estimate(architecture, measure)
        assert estimate.value > 0, (row, measure)
        if row["device"] == "cpu" and estimate.unit == "bytes":
            allocated = CostModel(costs.conditions).measure(architecture, measure).value
            assert 0 <= allocated - estimate.value <= KEPT_NUMBER, (row, measure)


@cache
def cost_model(**kind: Any) -> CostModel:  # a conditions' own
    return CostModel(Conditions(batch_size=4, train_batch_size=4, **kind))


def parameters(option: str, row: Row) -> Row:
    return {name: row[name] for name in OPTIONS[option].params}


def fits(option: str, row: Row) -> bool:
    try:
        resolve(OPTIONS[option], parameters(option, row), BLOCK.sites[row["slot"]])
    except ValueError:
        return False
    return True


def variants_of(option: str, *, bounds: bool = False) -> dict[str, Sequence[Any]]:
    """Slot and parameters with their values; for numbers the default, twice the default and, if wanted, the bounds."""
    slots = tuple(slot for slot in BLOCK.sites if slot in OPTIONS[option].slots)
    return {"slot": slots, **{name: values(param, bounds) for name, param in OPTIONS[option].params.items()}}


def values(param: Param, bounds: bool) -> Sequence[Any]:
    if isinstance(param.default, bool):
        return (False, True)
    if isinstance(param.default, str):
        return param.choices
    numbers = (param.default, 2 * param.default, *(bounds * (param.low, param.high)))
    allowed = (type(param.default)(number) for number in numbers if number is not None and param.allows(number))
    return tuple(dict.fromkeys(allowed))


def pairwise(factors: Mapping[str, Sequence[Any]], possible: Callable[[Row], bool]) -> Iterator[Row]:
    """Rows that contain every pair of values of two factors, if a possible row has it.

    With a single factor, there is one row per value.
    """
    rng = random.Random(0)
    names = list(factors)
    size = min(2, len(names))
    pairs = [
        tuple(zip(chosen, values, strict=True))
        for chosen in itertools.combinations(names, size)
        for values in itertools.product(*(factors[name] for name in chosen))
    ]
    left = set(pairs)
    for pair in pairs:
        if pair in left:
            tried = [{name: rng.choice(factors[name]) for name in names} | dict(pair) for _ in range(60)]
            covering = [(row, left & set(itertools.combinations(row.items(), size))) for row in tried if possible(row)]
            if covering:
                row, covered = max(covering, key=lambda found: len(found[1]))
                left -= covered
                yield row
