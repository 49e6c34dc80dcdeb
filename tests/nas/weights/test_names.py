import pytest

from nas.weights.names import translator, within


def test_stars_and_braces_correspond_by_their_order() -> None:
    named = translator({"a.{x,y}.*.{0,1}": "{p,q}*.b.{conv,norm}", "last": "fc"})
    assert named("a.y.12.0") == "q12.b.conv"
    assert named("a.x.3.1") == "p3.b.norm"
    assert named("last") == "fc"
    for other in ("a.z.1.0", "a.x.1.2", "a.x.y.0", "last.0", "", "xlast"):
        assert named(other) is None


def test_the_first_row_that_matches_decides() -> None:
    named = translator(within("stages.9", "end", {"0": "conv"}) | within("stages.*", "block.*", {"0": "conv"}))
    assert (named("stages.8.0"), named("stages.9.0")) == ("block.8.conv", "end.conv")


@pytest.mark.parametrize("row", [{"a.*": "b"}, {"a.{1,2}": "b.{1}"}, {"a.{1,2}": "b"}])
def test_sides_that_do_not_correspond_are_refused(row: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"stars|zip"):
        translator(row)
