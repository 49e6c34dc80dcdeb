"""The options: for each the slots it fits, its parameters with their ranges, and the integers that they resolve to.

One row per operator, without torch. `nas.operators` has the module and the cost of each; a test compares both tables.
"""

import functools
import logging
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import NamedTuple, Protocol

from search_spaces.errors import printable
from search_spaces.sites import Site, Slot, Value

_log = logging.getLogger(__name__)

_PATIENCE_S = 10.0
"""An import of a plug-in that takes longer is told."""

ENTRY_POINTS = "nas.operators"
"""Group of the entry points that add operators. Each loads an object with ``option`` (an `Option`) and ``operator``."""


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter of an option.

    ``default`` also sets the type. A number lies in ``[low, high]``, or in ``(low, high]`` with ``above_low``. A string
    is one of ``choices``.
    """

    default: Value
    low: float | None = None
    high: float | None = None
    above_low: bool = False
    choices: tuple[str, ...] = ()
    doc: str = ""

    @property
    def allowed(self) -> str:
        """The allowed values, in words."""
        if isinstance(self.default, bool):
            return "true or false"
        if isinstance(self.default, str):
            return "one of " + ", ".join(self.choices)
        bounds = [] if self.low is None else [f"{'above' if self.above_low else 'at least'} {self.low:g}"]
        bounds += [] if self.high is None else [f"at most {self.high:g}"]
        return f"{'an integer' if isinstance(self.default, int) else 'a number'} {' and '.join(bounds)}".rstrip()

    def allows(self, value: object) -> bool:
        """Whether ``value`` is allowed. An integer counts as a float; a bool never counts as a number."""
        if isinstance(self.default, bool) or isinstance(value, bool):
            return isinstance(self.default, bool) and isinstance(value, bool)
        if isinstance(self.default, str):
            return value in self.choices
        if not isinstance(value, int if isinstance(self.default, int) else int | float):
            return False
        above = self.low is None or (value > self.low if self.above_low else value >= self.low)
        return above and (self.high is None or value <= self.high)


@dataclass(frozen=True, slots=True)
class Option:
    """An option of one or more slots.

    ``resolve(params, site)`` turns complete parameters into the integers that define the operator at that site (d_k,
    d_v, hidden channels ...). Equal resolved values mean equal networks: fingerprints are computed from them. It raises
    ValueError where the operator is not possible; the message names the values that conflict and the remedy.
    """

    name: str
    slots: frozenset[Slot]
    summary: str
    resolve: Callable[[Mapping[str, Value], Site], Mapping[str, Value]]
    params: Mapping[str, Param] = field(default_factory=dict)


def resolve(option: Option, params: Mapping[str, Value], site: Site) -> Mapping[str, Value]:
    """Check ``params``, fill in the defaults and resolve them at ``site``.

    Raises ValueError for a slot that the option does not fit, an unknown parameter, and a value out of range; also
    where ``option.resolve`` raises it.
    """
    if site.slot not in option.slots:
        raise ValueError(f"{option.name} does not fit slot {site.slot}: it fits {', '.join(sorted(option.slots))}")
    for name, value in params.items():
        if name not in option.params:
            known = ", ".join(option.params) or "none"
            raise ValueError(f"{option.name} has no parameter {name!r}: it has {known}")
        if not option.params[name].allows(value):
            raise ValueError(f"{option.name}: {name} is {value!r}, but must be {option.params[name].allowed}")
    return option.resolve({name: params.get(name, param.default) for name, param in option.params.items()}, site)


class Plugin(Protocol):
    """The object that an entry point of the group `ENTRY_POINTS` loads.

    ``operator`` is a `nas.operators.Operator`, or a string ``"module:attribute"`` that names one. With the string the
    plug-in's option can be read without torch.
    """

    option: Option
    operator: object


class Installed(NamedTuple):
    """The plug-ins of this environment.

    ``usable``: by the name of their option. ``broken``: name of the entry point -> its distribution, and why it cannot
    be used.
    """

    usable: Mapping[str, Plugin]
    broken: Mapping[str, str]


@functools.cache
def installed() -> Installed:
    """Loads the plug-ins, once. A broken plug-in is left out with one line of warning."""
    usable: dict[str, Plugin] = {}
    broken: dict[str, str] = {}
    for entry in entry_points(group=ENTRY_POINTS):
        package = f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else entry.value
        try:
            with _importing(package):
                plugin = entry.load()
            option = _option_of(plugin, {*OPTIONS, *usable})
        except (Exception, SystemExit) as error:  # a plug-in is foreign code and may raise anything
            why = str(error) if isinstance(error, _PluginError) else f"{type(error).__name__}: {error}"
            broken[entry.name] = printable(f"{package} (entry point {entry.name} = {entry.value}): {why}")
            _log.warning("warning: a plug-in is left out; correct or uninstall %s", broken[entry.name])
        else:
            usable[option.name] = plugin
    return Installed(MappingProxyType(usable), MappingProxyType(broken))


@contextmanager
def _importing(package: str) -> Iterator[None]:
    """Names a plug-in whose import takes long, and keeps what it prints out of the standard output of a command."""
    message = "warning: the plug-in %s is still being imported after %g s; if it hangs, interrupt and uninstall it"
    timer = threading.Timer(_PATIENCE_S, _log.warning, (message, printable(package), _PATIENCE_S))
    timer.daemon = True
    timer.start()
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        timer.cancel()


class _PluginError(ValueError):
    """A plug-in does not have what it must have; the message says what."""


def _option_of(plugin: object, taken: Set[str]) -> Option:
    option = getattr(plugin, "option", None)
    if not isinstance(option, Option) or not hasattr(plugin, "operator"):
        raise _PluginError("it must load an object with `option` (a search_spaces.Option) and `operator`")
    if option.name in taken:
        raise _PluginError(f"it adds {option.name!r}, which already exists: rename its option")
    return option


def options() -> Mapping[str, Option]:
    """`OPTIONS` and the options of installed plug-ins (entry point group `ENTRY_POINTS`) that can be used."""
    return MappingProxyType(dict(OPTIONS) | {name: plugin.option for name, plugin in installed().usable.items()})


# ---------------------------------------------------------------------------------------------------------------------


def _nothing(_params: Mapping[str, Value], _site: Site) -> Mapping[str, Value]:
    return {}


def _divided(channels: int, reduction: Value, what: str = "channels", name: str = "reduction") -> int:
    """Width of a bottleneck: ``channels // reduction``. Raises ValueError if it would be 0."""
    reduction = int(reduction)
    if reduction > channels:
        raise ValueError(f"{name} {reduction} is larger than the {channels} {what}: choose at most {channels}")
    return channels // reduction


def _hidden(params: Mapping[str, Value], site: Site) -> Mapping[str, Value]:
    """Replaces ``reduction`` by ``hidden``, the number of hidden channels; keeps the other parameters."""
    rest = {name: value for name, value in params.items() if name != "reduction"}
    return {"hidden": _divided(site.out_channels, params["reduction"]), **rest}


def _ge(params: Mapping[str, Value], site: Site) -> Mapping[str, Value]:
    if params["variant"] != "theta_plus":
        return {"variant": params["variant"]}
    return {"hidden": _divided(site.out_channels, params["reduction"]), "variant": params["variant"]}


def _non_local(params: Mapping[str, Value], site: Site) -> Mapping[str, Value]:
    if params["sub_sample"] and site.size == 1:
        raise ValueError("sub_sample halves the map, but it is 1x1: set sub_sample to false here")
    inner = _divided(site.out_channels, params["reduction"])
    return {"inner": inner, "pairwise": params["pairwise"], "sub_sample": params["sub_sample"]}


def _aw(params: Mapping[str, Value], site: Site) -> Mapping[str, Value]:
    if site.groups != 1:
        raise ValueError(
            f"aw shares its attention over all {site.in_channels} input channels, but the convolution has "
            f"{site.groups} groups: place it on a convolution with groups 1"
        )
    return {"hidden": _divided(site.out_channels, params["reduction"])}


def _round(value: float, multiple: int, *, up: bool = False) -> int:
    # The fraction of a binary float must not decide: 0.7 * 40 is 27.999999999999996.
    whole = round(value * 1e6)
    return (-(-whole // (multiple * 10**6)) if up else whole // (multiple * 10**6)) * multiple


def _aa(params: Mapping[str, Value], site: Site) -> Mapping[str, Value]:
    filters, heads, multiple = site.out_channels, int(params["heads"]), int(params["multiple"])
    keys = _round(float(params["kappa"]) * filters, multiple, up=params["key_rounding"] == "up")
    d_k = max(heads * int(params["min_key_width"]), keys)
    d_v = max(multiple, _round(float(params["upsilon"]) * filters, multiple))
    for name, width, ratio in (("d_k", d_k, "kappa"), ("d_v", d_v, "upsilon")):
        if width % heads:
            raise ValueError(
                f"{heads} heads do not divide {name} = {width} ({ratio} {params[ratio]} of {filters} filters, rounded "
                f"to a multiple of {multiple}): choose heads that divide {multiple}, or set multiple to {heads}"
            )
    if d_v > filters:
        raise ValueError(
            f"d_v = {d_v} is more than the {filters} filters of the convolution: set multiple to {filters} or less"
        )
    if (filters - d_v) % site.groups:
        raise ValueError(
            f"the convolution keeps {filters} - {d_v} = {filters - d_v} filters, which its {site.groups} groups do not "
            "divide: choose an upsilon that leaves a multiple of the groups, or a convolution with groups 1"
        )
    resolved: dict[str, Value] = {"d_k": d_k, "d_v": d_v, "heads": heads, "position": params["position"]}
    resolved["poolings"] = int(params["downsample_steps"]) if params["downsample"] else 0
    size = site.out_size
    for _ in range(int(resolved["poolings"])):
        if size == 1:
            raise ValueError(
                f"downsample pools {resolved['poolings']} times, but the map is {site.out_size}x{site.out_size} and "
                "a map of one pixel cannot be pooled: set downsample to false here"
            )
        size = -(-size // 2)
    resolved["qkv_kernel"] = int(params["qkv_kernel"])
    if resolved["qkv_kernel"] == 2:
        raise ValueError("qkv_kernel is 2, but an even kernel would change the map's size: choose 1 or 3")
    resolved["aw"] = params["aw"]
    if params["aw"] != "none":
        widths = {"conv": filters - d_v, "qkv": 2 * d_k + d_v, "projection": d_v}
        width = widths[str(params["aw"])]
        if params["aw"] == "conv" and (width == 0 or site.groups != 1):
            raise ValueError(
                f"aw: conv needs a convolution without groups, but upsilon {params['upsilon']} leaves {width} filters "
                f"and the convolution has {site.groups} groups: choose aw: qkv or a smaller upsilon"
            )
        what = f"filters of the {params['aw']} convolution"
        resolved["aw_hidden"] = _divided(width, params["aw_reduction"], what, "aw_reduction")
    return resolved


# ---------------------------------------------------------------------------------------------------------------------

_CONV: frozenset[Slot] = frozenset({"conv", "conv2"})
_MAP: frozenset[Slot] = frozenset({"refine", "after"})


def _reduction(default: int = 16) -> Param:
    return Param(default, low=1, high=4096, doc="channels over hidden channels")


OPTIONS: Mapping[str, Option] = MappingProxyType(
    {
        option.name: option
        for option in (
            Option("plain", _CONV, "the skeleton's own convolution", _nothing),
            Option("none", _MAP, "nothing", _nothing),
            Option(
                "se",
                _MAP,
                "squeeze-and-excitation: scale channels by a two-layer function of their means",
                _hidden,
                {"reduction": _reduction(), "bias": Param(True, doc="biases of the two linear layers")},
            ),
            Option(
                "no_squeeze",
                _MAP,
                "se without the mean: scale every position by a function of its own channels",
                _hidden,
                {"reduction": _reduction()},
            ),
            Option(
                "ge",
                _MAP,
                "gather-excite: scale channels by a summary of the whole map",
                _ge,
                {
                    "variant": Param(
                        "theta_plus",
                        choices=("theta_minus", "theta", "theta_plus"),
                        doc="theta_minus: means; theta: a global depthwise convolution; theta_plus: plus se's layers",
                    ),
                    "reduction": Param(16, low=1, high=4096, doc="with theta_plus: channels over hidden channels"),
                },
            ),
            Option(
                "bam",
                _MAP,
                "scale by 1 + sigmoid of a channel and a position map; in after: BAM, in refine: BAM-C",
                _hidden,
                {
                    "reduction": _reduction(),
                    "dilation": Param(4, low=1, high=16, doc="dilation of the two 3x3 convolutions"),
                    "form": Param(
                        "paper", choices=("paper", "code"), doc="as printed in the paper, or as in the authors' code"
                    ),
                },
            ),
            Option(
                "cbam",
                _MAP,
                "scale channels, then positions, by functions of their means and maxima",
                _hidden,
                {
                    "reduction": _reduction(),
                    "variant": Param(
                        "full",
                        choices=("full", "max_pool", "spatial"),
                        doc="max_pool: without the spatial part; spatial: with means only (both from the AW paper)",
                    ),
                },
            ),
            Option("gala", _MAP, "scale by a gate of a global and a local map", _hidden, {"reduction": _reduction()}),
            Option(
                "gc", _MAP, "global context: add a function of a weighted mean", _hidden, {"reduction": _reduction()}
            ),
            Option("snl", _MAP, "simplified non-local: add a linear map of a weighted mean", _nothing),
            Option(
                "non_local",
                _MAP,
                "non-local block: add to every position a weighted sum over all positions",
                _non_local,
                {
                    "pairwise": Param(
                        "embedded_gaussian",
                        choices=("gaussian", "embedded_gaussian", "dot_product", "concatenation"),
                        doc="how two positions are compared",
                    ),
                    "sub_sample": Param(False, doc="compare with a map max-pooled to half its side"),
                    "reduction": _reduction(2),
                },
            ),
            Option(
                "aa",
                _CONV,
                "attention augmented convolution: some filters become multi-head self-attention over the map",
                _aa,
                {
                    "kappa": Param(0.2, low=0, high=1, above_low=True, doc="key depth d_k over filters"),
                    "upsilon": Param(
                        0.1, low=0, high=1, above_low=True, doc="value depth d_v over filters; 1: no convolution"
                    ),
                    "heads": Param(8, low=1, high=64, doc="attention heads; must divide d_k and d_v"),
                    "position": Param(
                        "relative",
                        choices=("none", "sine", "coordconv", "relative"),
                        doc="how queries and keys see positions",
                    ),
                    "downsample": Param(False, doc="attend on a map pooled to half its side, then upsample"),
                    "downsample_steps": Param(1, low=1, high=4, doc="with downsample: how many halvings of the side"),
                    "min_key_width": Param(20, low=1, high=256, doc="d_k is at least this times heads"),
                    "multiple": Param(8, low=1, high=64, doc="d_k and d_v are rounded to a multiple of this"),
                    "key_rounding": Param("down", choices=("down", "up"), doc="direction in which d_k is rounded"),
                    "qkv_kernel": Param(1, low=1, high=3, doc="kernel of the query, key and value convolution: 1 or 3"),
                    "aw": Param(
                        "none",
                        choices=("none", "conv", "qkv", "projection"),
                        doc="which of its convolutions has attentional weights (AW-AA 1, 2, 3)",
                    ),
                    "aw_reduction": Param(16, low=1, high=4096, doc="with aw: filters over hidden channels"),
                },
            ),
            Option(
                "aw",
                _CONV,
                "attentional weights: the kernel is scaled for each image by a function of the pooled input",
                _aw,
                {"reduction": _reduction()},
            ),
        )
    }
)
