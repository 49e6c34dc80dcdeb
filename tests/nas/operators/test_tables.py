"""The two tables of operators, initialisation, the papers' printed parameters, and plug-ins."""

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import nas.operators
from nas import build_model
from nas.costs import count
from nas.operators import OPERATORS, PluginError, operators
from nas.operators.testing import CHECKS, cases
from search_spaces import SpaceError, load_space
from search_spaces.grammar import known_options
from search_spaces.options import ENTRY_POINTS, OPTIONS, options, resolve
from search_spaces.options import installed as plug_ins
from search_spaces.sites import Site, Value

# (stage: blocks, width, side of the map) of ResNet-50's bottlenecks; the output is four times as wide.
STAGES = ((3, 64, 56), (4, 128, 28), (6, 256, 14), (3, 512, 7))


def params(name: str, site: Site, **values: Value) -> int:
    return OPERATORS[name].cost(site, resolve(OPTIONS[name], values, site)).params


def refined(name: str, **values: Value) -> int:
    """Parameters that an operator in every block of ResNet-50 adds."""
    return sum(n * params(name, Site("refine", 4 * c, 4 * c, size), **values) for n, c, size in STAGES)


def exchanged(name: str, attended: tuple[tuple[int, int, int, bool], ...], **values: Value) -> int:
    """Parameters that replacing the 3x3 convolutions of ``attended`` (blocks, width, side, downsample) adds."""
    total = 0
    for n, c, size, downsample in attended:
        site = Site("conv", c, c, size, kernel_size=3)
        extra = {"downsample": downsample} if name == "aa" else {}
        total += n * (params(name, site, **values, **extra) - params("plain", site))
    return total


IMAGENET = ((4, 128, 28, True), (6, 256, 14, False), (3, 512, 7, False))


def test_the_tables_name_the_same_operators() -> None:
    assert list(OPERATORS) == list(OPTIONS)


def test_options_of_convolutions_do_not_refine() -> None:
    for option in OPTIONS.values():
        assert option.slots in ({"conv", "conv2"}, {"refine", "after"}), option.name


@pytest.mark.parametrize(
    ("added", "printed"),
    [
        (refined("se"), 28.08802 - 25.55703),
        (refined("se", bias=False), 28.07198 - 25.55703),
        (refined("no_squeeze"), 28.08802 - 25.55703),
        (refined("cbam"), 28.08962 - 25.55703),
        (refined("cbam", variant="max_pool"), 28.25323 - 25.72224),
        (refined("cbam", variant="spatial"), 28.25405 - 25.72224),
        (refined("gala"), 29.37761 - 25.55703),
        (refined("bam"), 28.98013 - 23.70525),
        (refined("bam", form="code"), 28.9197 - 23.70525),
        (sum(params("bam", Site("after", c, c, 8)) for c in (256, 512, 1024)), 25.91510 - 25.55703 + 4 * 1792e-6),
        (refined("ge", variant="theta_minus"), 0.0),
        (exchanged("aw", tuple((n, c, size, False) for n, c, size in STAGES)), 25.72224 - 25.55703),
        (exchanged("aa", IMAGENET), 25.80939 - 25.55703),
        (exchanged("aa", IMAGENET, kappa=0.25, upsilon=0.25), 24.30373 - 25.55703),
        (exchanged("aa", IMAGENET, kappa=1.0, upsilon=1.0), 19.38356 - 25.55703),
    ],
)
def test_parameters_that_the_papers_print_for_resnet50(added: int, printed: float) -> None:
    assert added / 1e6 == pytest.approx(printed, abs=2e-5 + 1e-4 * (printed == 28.9197 - 23.70525))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("gc", {}),
        ("snl", {}),
        *(("non_local", {"pairwise": p}) for p in OPTIONS["non_local"].params["pairwise"].choices),
    ],
)
def test_starts_as_identity(name: str, values: dict[str, Value]) -> None:
    site = Site("refine", 16, 16, size=4)
    module = OPERATORS[name].build(site, resolve(OPTIONS[name], values, site))
    x = torch.randn(2, 16, 4, 4)
    assert torch.equal(module(x), x)


# Plug-ins ------------------------------------------------------------------------------------------------------------

OPTION_HALF = """
from search_spaces.options import Option, Param

def resolve(params, site):
    return {"factor": params["factor"]}

option = Option(NAME, frozenset({"refine"}), "scale by a number", resolve, {"factor": Param(2.0, low=0)})
operator = OPERATOR
"""

OPERATOR_HALF = """
from torch import nn
from nas.operators import Cost, Operator

class Scale(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor

SCALE = Operator(lambda site, resolved: Scale(resolved["factor"]), lambda site, resolved: Cost())
"""


class Installed:
    """A distribution on ``sys.path`` that adds one operator."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, *, name: str = "'scale'", operator: str = "'scale_operator:SCALE'") -> None:
        (self.folder / "scale_option.py").write_text(OPTION_HALF.replace("NAME", name).replace("OPERATOR", operator))
        (self.folder / "scale_operator.py").write_text(OPERATOR_HALF)
        info = self.folder / "scale_plugin-1.0.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: scale-plugin\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{ENTRY_POINTS}]\nscale = scale_option\n")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installed]:
    def forget() -> None:
        for cached in (plug_ins, operators, known_options):
            cached.cache_clear()
        for module in ("scale_option", "scale_operator"):
            sys.modules.pop(module, None)

    monkeypatch.syspath_prepend(str(tmp_path))
    forget()
    yield Installed(tmp_path)
    forget()


def test_a_plug_in_adds_both_halves_and_meets_the_contract(installed: Installed) -> None:
    installed.write()
    option = options()["scale"]
    assert "scale_operator" not in sys.modules, "the option's half must not import the operator's"
    operator = operators()["scale"]
    assert set(options()) - set(OPTIONS) == set(operators()) - set(OPERATORS) == {"scale"}
    site = Site("refine", 4, 4, size=3)
    resolved = resolve(option, {"factor": 3.0}, site)
    assert resolved == {"factor": 3.0}
    for case in cases(option):
        for name in CHECKS.keys() - {"compile", "export", "trace"}:
            CHECKS[name](operator, case.site, case.resolved)


SCALED = """
schema: 1
skeleton: {family: resnet, depth: 8, width: 4, image_size: 8, num_classes: 3}
placements: {"*": {refine: [none, {scale: {factor: [2.0, 0.5]}}]}}
"""


def test_a_plug_in_is_searched_counted_and_built_like_our_own(installed: Installed, tmp_path: Path) -> None:
    installed.write()
    (tmp_path / "scaled.yaml").write_text(SCALED)
    space = load_space(tmp_path / "scaled.yaml")
    assert space.size == 3**3
    rng = random.Random(0)
    found = next(a for a in (space.sample(rng) for _ in range(100)) if len(a.placements) == 3)
    assert count(found) == count(space.plain())
    scales = [module.factor for module in build_model(found).modules() if type(module).__name__ == "Scale"]
    assert len(scales) == 3
    assert set(scales) <= {2.0, 0.5}


def test_what_a_plug_in_prints_is_not_the_output_of_a_command(
    installed: Installed, capsys: pytest.CaptureFixture[str]
) -> None:
    installed.write()
    half = installed.folder / "scale_option.py"
    half.write_text(f"print('hello')\n{half.read_text()}")
    assert "scale" in options()
    assert capsys.readouterr() == ("", "hello\n")


WAITING = """
import threading
for thread in threading.enumerate():
    if isinstance(thread, threading.Timer):
        thread.join(60)
"""


def test_a_plug_in_whose_import_takes_long_is_named(
    installed: Installed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The module waits until the warning is there."""
    installed.write()
    monkeypatch.setattr(sys.modules["search_spaces.options"], "_PATIENCE_S", 0.0)
    half = installed.folder / "scale_option.py"
    half.write_text(f"{WAITING}{half.read_text()}")
    assert "scale" in options()
    (told,) = caplog.messages
    assert told.startswith("warning: the plug-in scale-plugin 1.0 is still being imported after 0 s; if it hangs,")


@pytest.mark.parametrize(
    ("half", "why"),
    [
        (
            OPTION_HALF.replace("NAME", "'se'").replace("OPERATOR", "3"),
            "it adds 'se', which already exists: rename its option",
        ),
        ("", "it must load an object with `option` (a search_spaces.Option) and `operator`"),
        ("import not_installed", "ModuleNotFoundError: No module named 'not_installed'"),
        ("raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_a_broken_plug_in_does_not_affect_others(
    half: str, why: str, installed: Installed, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    installed.write()
    (installed.folder / "scale_option.py").write_text(half)
    what = f"scale-plugin 1.0 (entry point scale = scale_option): {why}"
    assert set(options()) == set(OPTIONS)
    assert operators() == OPERATORS
    assert load_space("shapes").size > 1
    assert caplog.messages == [f"warning: a plug-in is left out; correct or uninstall {what}"]
    (tmp_path / "scaled.yaml").write_text(SCALED)
    with pytest.raises(SpaceError) as caught:
        load_space(tmp_path / "scaled.yaml")
    assert str(caught.value).endswith(f"'scale' is of a plug-in that cannot be used: {what}")


@pytest.mark.parametrize(
    ("operator", "why"),
    [
        ("'scale_operator:MISSING'", "must be a nas.operators.Operator or 'module:attribute'"),
        ("3", "3 must be a nas.operators.Operator"),
        ("'not_there:X'", "importing not_there raised ModuleNotFoundError"),
    ],
)
def test_a_plug_in_without_a_valid_operator_is_refused_at_its_use(
    operator: str, why: str, installed: Installed, tmp_path: Path
) -> None:
    installed.write(operator=operator)
    (tmp_path / "scaled.yaml").write_text(SCALED)
    space = load_space(tmp_path / "scaled.yaml")
    assert count(space.plain()).params
    found = next(a for a in space.architectures() if a.placements)
    for use in (count, build_model):
        with pytest.raises(PluginError) as caught:
            use(found)
        assert why in str(caught.value)


def test_tables_without_plug_ins() -> None:
    assert nas.operators.operators() == OPERATORS
    assert options() == OPTIONS
