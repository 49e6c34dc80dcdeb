"""The contract of operators as check functions, and cases to run them on; use both to test your own operator.

    import pytest
    from nas.operators.testing import CHECKS, cases

    @pytest.mark.parametrize("case", cases(OPTION), ids=str)
    @pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
    def test_contract(case, check):
        check(OPERATOR, case.site, case.resolved)

A check takes the operator, a site and the option's resolved values there. It raises AssertionError if the operator
breaks the contract. It takes well under a second, or a few seconds if it compiles or exports. `cases` makes sites and
values from the option's declaration.
"""

import io
import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nas.operators.base import Operator, Replaced, Resolved, conv
from nas.operators.gating import Merging
from nas.operators.shown import Attention, ChannelGates, Shown
from search_spaces.options import Option, Param, resolve
from search_spaces.sites import SLOTS, Site, Slot, Value

_SEED = 7

# Cases ---------------------------------------------------------------------------------------------------------------

_CONVOLUTIONS = (
    Site("conv", 6, 16, size=5, kernel_size=3),
    Site("conv", 6, 16, size=5, kernel_size=3, stride=2, bias=True),
    Site("conv", 20, 16, size=3, kernel_size=3),  # more channels than positions
    Site("conv", 8, 16, size=4, kernel_size=3, groups=4),
    Site("conv", 3, 16, size=17),
    Site("conv", 6, 16, size=1, kernel_size=3, bias=True),
)
_MAPS = (Site("refine", 16, 16, size=5), Site("refine", 16, 16, size=2), Site("refine", 16, 16, size=1))
_SITES: Mapping[Slot, tuple[Site, ...]] = {
    slot: tuple(replace(site, slot=slot) for site in (_CONVOLUTIONS if slot in {"conv", "conv2"} else _MAPS))
    for slot in SLOTS
}
"""Small sites of every kind for each slot; the first one is typical."""

_MIXTURES = 3
"""Number of cases in which all parameters are random."""


@dataclass(frozen=True, slots=True)
class Case:
    """A site, and the resolved values of an option with ``params`` there.

    ``name`` is ``defaults``, the difference from them (``position=sine``, ``site 2``, ``slot after``) or ``mixture 1``.
    """

    name: str
    site: Site
    params: Mapping[str, Value]
    resolved: Resolved

    def __str__(self) -> str:
        return self.name


def cases(option: Option) -> list[Case]:
    """One case for every slot of the option, every site in `_SITES`, and every value of its parameters (`values`).

    Leaves out repetitions, and cases that the option refuses (`ValueError`).

    Raises:
        ValueError: the option refuses its defaults at every site.
    """
    found: dict[object, Case] = {}
    for case in _cases(option):
        found.setdefault((case.site, tuple(sorted(case.resolved.items()))), case)
    return list(found.values())


def _cases(option: Option) -> Iterator[Case]:
    slots = [slot for slot in SLOTS if slot in option.slots]
    sites = _SITES[slots[0]]
    usual = next((site for site in sites if _resolved(option, {}, site) is not None), None)
    if usual is None:
        resolve(option, {}, sites[0])  # raises, and says why
    assert usual is not None
    yield _case("defaults", option, usual, {})
    for name, param in option.params.items():
        for value in values(param):
            found = None if value == param.default else _telling(option, usual, {name: value})
            if found is None:
                continue
            yield found
            pixel = replace(usual, size=1)  # where a map and its mean have the same shape
            if isinstance(value, bool | str) and _resolved(option, found.params, pixel) is not None:
                yield _case(f"{found.name}, one pixel", option, pixel, found.params)
    for number, site in enumerate(sites):
        if _resolved(option, {}, site) is not None:
            yield _case(f"site {number}", option, site, {})
    for slot in slots[1:]:
        yield _case(f"slot {slot}", option, replace(usual, slot=slot), {})
    rng, mixtures = random.Random(option.name), 0
    for _ in range(50 * bool(option.params)):
        params, site = {name: rng.choice(values(param)) for name, param in option.params.items()}, rng.choice(sites)
        if mixtures < _MIXTURES and _resolved(option, params, site) is not None:
            mixtures += 1
            yield _case(f"mixture {mixtures}", option, site, params)


def _case(name: str, option: Option, site: Site, params: Mapping[str, Value]) -> Case:
    return Case(name, site, params, resolve(option, params, site))


def _telling(option: Option, site: Site, params: dict[str, Value]) -> Case | None:
    """The case of one value. A second value is added if the first is refused or has no effect without it."""
    plain = _resolved(option, {}, site)
    seconds = [{name: value} for name, param in option.params.items() for value in values(param) if name not in params]
    for chosen in (params, *(params | second for second in seconds)):
        if _resolved(option, chosen, site) not in (None, plain):
            return _case(", ".join(f"{name}={value}" for name, value in chosen.items()), option, site, chosen)
    return None


def _resolved(option: Option, params: Mapping[str, Value], site: Site) -> Resolved | None:
    try:
        return resolve(option, params, site)
    except ValueError:
        return None


def values(param: Param) -> list[Value]:
    """All values of a bool or string parameter; for a number the default, the bounds and a value between them."""
    if isinstance(param.default, bool):
        return [False, True]
    if isinstance(param.default, str):
        return list(param.choices)
    low, high = param.low, param.high
    candidates: set[Value] = {param.default}
    if isinstance(param.default, int):
        candidates |= {int(value) for bound in (low, high) if bound is not None for value in (bound, bound + 1)}
    else:
        candidates |= {bound for bound in (low, high) if bound is not None}
        candidates |= {(low + high) / 2} if low is not None and high is not None else {2 * param.default}
    return sorted((value for value in candidates if param.allows(value)), key=float)


# Checks --------------------------------------------------------------------------------------------------------------


def _built(operator: Operator, site: Site, resolved: Resolved) -> nn.Module:
    """The module in evaluation mode and float64; random changes to parameters and statistics, as zeros hide errors."""
    torch.manual_seed(_SEED)
    module = operator.build(site, resolved).double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
        for name, buffer in module.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
            elif buffer.is_floating_point():
                buffer.normal_(std=0.1)
    return module


def _images(site: Site, *, batch: int = 2, size: tuple[int, int] | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(_SEED)
    shape = (batch, site.in_channels, *(size or (site.size, site.size)))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _function(module: nn.Module) -> Callable[..., Tensor]:
    """The module as a function of its maps, followed by all its parameters."""
    names = [name for name, _ in module.named_parameters()]

    def call(*args: Tensor) -> Tensor:
        maps = args[: len(args) - len(names)]
        values = dict(zip(names, args[len(maps) :], strict=True))
        out: Tensor = torch.func.functional_call(module, values, maps)
        return out

    return call


def _gradients(call: Callable[..., Tensor], inputs: Sequence[Tensor], weights: Tensor) -> tuple[Tensor, ...]:
    """Gradients of a weighted sum of ``call``'s result; differentiable if the inputs require a gradient."""
    leaves = [x if x.requires_grad else x.detach().requires_grad_() for x in inputs]
    total = (call(*leaves).sin() * weights).sum()
    return torch.autograd.grad(total, leaves, create_graph=inputs[0].requires_grad)


def check_shapes(operator: Operator, site: Site, resolved: Resolved) -> None:
    """The output has the right shape at the site's size and at others, square and not, and for one image."""
    module = _built(operator, site, resolved)
    for batch, h, w in ((2, site.size, site.size), (1, site.size, site.size), (2, site.size + 3, site.size + 2)):
        out = module(_images(site, batch=batch, size=(h, w)))
        expected = (batch, site.out_channels, -(-h // site.stride), -(-w // site.stride))
        assert out.shape == expected, f"{tuple(out.shape)} from a {h}x{w} map, expected {expected}"


def check_cost(operator: Operator, site: Site, resolved: Resolved) -> None:
    """``cost`` has the number of parameters, and half of the operations that the FLOP counter counts per image."""
    module, cost = _built(operator, site, resolved), operator.cost(site, resolved)
    params = sum(parameter.numel() for parameter in module.parameters())
    assert cost.params == params, f"cost says {cost.params} parameters, the module has {params}"
    for batch in (1, 3):
        with FlopCounterMode(display=False) as counter:
            module(_images(site, batch=batch))
        flops = counter.get_total_flops()
        assert 2 * cost.macs * batch == flops, f"cost says {cost.macs} MACs an image, the counter {flops / 2 / batch}"


def check_independence(operator: Operator, site: Site, resolved: Resolved) -> None:
    """In evaluation an image's output does not depend on the other images of its batch."""
    module, images = _built(operator, site, resolved), _images(site, batch=3)
    together, alone = module(images), torch.cat([module(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-10)


def check_layouts(operator: Operator, site: Site, resolved: Resolved) -> None:
    """channels_last and non-contiguous images give the same output and gradients."""
    module, images = _built(operator, site, resolved), _images(site)
    strided = torch.stack([images, images], -1)[..., 0]
    views = images, images.contiguous(memory_format=torch.channels_last), strided
    results = []
    for view in views:
        leaf = view.detach().requires_grad_()
        out = module(leaf)
        results.append((out, *torch.autograd.grad(out.square().sum(), [leaf, *module.parameters()], allow_unused=True)))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=1e-9, atol=1e-9)


def check_gradients(operator: Operator, site: Site, resolved: Resolved) -> None:
    """Gradients of the input, a shortcut and all parameters equal finite differences, without warnings.

    Checks one image and two, both memory formats, maps of the site's size and of two rows, with and without a shortcut
    if the operator accepts one. Also use a site of one pixel, where a map and its mean have the same shape.
    """
    module = _built(operator, site, resolved)
    call = _function(module)
    square, low = (site.size, site.size), (min(2, site.size), site.size)
    for batch, size, memory_format, merges in (
        (2, square, torch.contiguous_format, False),
        (1, square, torch.channels_last, True),
        (2, low, torch.channels_last, False),
        (1, low, torch.contiguous_format, True),
    ):
        maps = [_images(site, batch=batch, size=size).contiguous(memory_format=memory_format)]
        if merges and isinstance(module, Merging):
            maps.append(torch.randn_like(maps[0]))
        inputs = [tensor.detach().requires_grad_() for tensor in (*maps, *module.parameters())]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert torch.autograd.gradcheck(call, inputs, fast_mode=True)


def check_derivatives(operator: Operator, site: Site, resolved: Resolved) -> None:
    """Forward mode, second derivatives and `torch.func` are right for the input and all parameters."""
    module = _built(operator, site, resolved)
    call = _function(module)
    inputs = [x.detach() for x in (_images(site), *module.parameters())]
    directions = [torch.randn_like(x) for x in inputs]
    weights = torch.randn_like(call(*inputs))
    step = 1e-6

    def differences(function: Callable[..., tuple[Tensor, ...]]) -> list[Tensor]:
        ahead, behind = (
            function(*(x + sign * step * by for x, by in zip(inputs, directions, strict=True))) for sign in (1, -1)
        )
        return [(a - b) / (2 * step) for a, b in zip(ahead, behind, strict=True)]

    def close(found: Sequence[Tensor | None], wanted: Sequence[Tensor], what: str) -> None:
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(
                torch.zeros_like(other) if one is None else one, other, rtol=1e-5, atol=1e-6,
                msg=lambda message: f"{what}: {message}",
            )  # fmt: skip

    with warnings.catch_warnings():  # PyTorch itself raises it at the first use of forward mode
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
        tangent = torch.func.jvp(call, tuple(inputs), tuple(directions))[1]
    close([tangent], differences(lambda *args: (call(*args),)), "torch.func.jvp")

    leaves = [x.clone().requires_grad_() for x in inputs]
    first = _gradients(call, leaves, weights)
    turned = [(gradient * by).sum() for gradient, by in zip(first, directions, strict=True)]
    second = torch.autograd.grad(torch.stack(turned).sum(), leaves, allow_unused=True)
    close(second, differences(lambda *args: _gradients(call, args, weights)), "second derivative")

    wanted = _gradients(call, inputs, weights)
    every = tuple(range(len(inputs)))
    found = torch.func.grad(lambda *args: (call(*args).sin() * weights).sum(), every)(*inputs)
    close(found, wanted, "torch.func.grad")
    rows = torch.func.jacrev(lambda x: torch.stack([module(x).sum(), (module(x).sin() * weights).sum()]))(inputs[0])
    close([rows[1]], wanted[:1], "torch.func.jacrev")

    several = torch.stack([inputs[0], directions[0]])
    close([torch.func.vmap(module)(several)], [torch.stack([module(x) for x in several])], "torch.func.vmap")
    out, many = call(*leaves), torch.stack([weights, torch.ones_like(weights)])
    found = torch.autograd.grad(out, leaves, many, is_grads_batched=True, retain_graph=True)
    each = [torch.autograd.grad(out, leaves, one, retain_graph=True) for one in many]
    close(found, [torch.stack(parts) for parts in zip(*each, strict=True)], "is_grads_batched")


def check_in_place(operator: Operator, site: Site, resolved: Resolved) -> None:
    """An in-place operation on the output gives the right results and gradients."""
    module = _built(operator, site, resolved)
    results = []
    for write in (torch.relu, torch.relu_):
        leaves = [_images(site).requires_grad_(), *module.parameters()]
        out = write(module(leaves[0] * 1))  # a copy, because an identity returns its input
        results.append((out.detach().clone(), *torch.autograd.grad(out.square().sum(), leaves)))
    torch.testing.assert_close(results[1], results[0], rtol=1e-12, atol=1e-12)


def check_training(operator: Operator, site: Site, resolved: Resolved) -> None:
    """In training every parameter gets a finite gradient; a seed determines parameters, output and gradients."""

    def step() -> list[Tensor]:
        torch.manual_seed(_SEED)
        module = operator.build(site, resolved)
        assert module.training, "build must return a module in training mode"
        images = _images(site).float().requires_grad_()
        out = module(images)
        out.square().sum().backward()
        gradients = {"input": images.grad} | {name: value.grad for name, value in module.named_parameters()}
        missing = [name for name, gradient in gradients.items() if gradient is None or not gradient.isfinite().all()]
        assert not missing, f"no finite gradient: {', '.join(missing)}"
        return [out, *(gradient for gradient in gradients.values() if gradient is not None)]

    for first, second in zip(step(), step(), strict=True):
        assert torch.equal(first, second), "two runs from one seed differ"


def check_start(operator: Operator, site: Site, resolved: Resolved) -> None:
    """Inserted into a trained network, the operator is what was there times its constant.

    Every parameter that gets a gradient in the first step of a training from nothing gets one within two steps. An
    operator without ``start``, or for which it returns None, need not be what was there.
    """
    if operator.start is None:
        return
    torch.manual_seed(_SEED)
    usual, module = (operator.build(site, resolved).double() for _ in range(2))
    images, convolution = _images(site, batch=6), None
    if site.slot in {"conv", "conv2"}:
        sizes = site.in_channels, site.out_channels, site.kernel_size, site.stride, site.groups
        convolution = conv(*sizes, bias=site.bias).double()
    constant = operator.start(module, Replaced(convolution))
    if constant is not None:
        assert constant > 0, f"the constant is {constant}"
        assert convolution is None or constant == 1, f"{constant} times the convolution, but it must be 1"
        before = images if convolution is None else convolution(images)
        for training in (False, True):
            torch.testing.assert_close(module.train(training)(images), constant * before, rtol=1e-12, atol=1e-12)
    still = _learnt(usual, images, steps=1) - _learnt(module, images, steps=2)
    assert not still, f"no gradient within two steps: {', '.join(sorted(still))}"


def _learnt(module: nn.Module, images: Tensor, *, steps: int) -> set[str]:
    """The parameters that get a gradient in the first steps of a training."""
    parameters = dict(module.named_parameters())
    weights, learnt = torch.randn_like(module(images)), set[str]()
    for _ in range(steps if parameters else 0):
        gradients = torch.autograd.grad((module(images) * weights).sum(), list(parameters.values()))
        for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
            if gradient.abs().max() > 1e-9:  # behind a bias and a norm, a gradient is rounding alone
                learnt.add(name)
            parameter.data.sub_(gradient, alpha=0.1)
    return learnt


def check_autocast(operator: Operator, site: Site, resolved: Resolved) -> None:
    """Under bfloat16 autocast, outputs and gradients are finite for large activations, and outputs close for small."""
    module = _built(operator, site, resolved).float()
    for scale in (1.0, 1e3):
        images = (scale * _images(site).float()).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            out = module(images)
        out.float().sum().backward()
        assert out.isfinite().all(), f"not finite at activations of {scale:g}"
        assert images.grad is not None
        assert images.grad.isfinite().all(), f"gradient not finite at activations of {scale:g}"
        if scale == 1:
            exact = module(images)
            error = (out - exact).norm()
            assert error <= 0.05 * exact.norm(), f"relative error {error / exact.norm():.3f} in bfloat16"


def check_few_images(operator: Operator, site: Site, resolved: Resolved) -> None:
    """An empty batch gives an empty output and gradients; one image trains, or a ValueError names the remedy."""
    for training in (False, True):
        module = operator.build(site, resolved).train(training)
        images = _images(site, batch=0).float().requires_grad_()
        out = module(images)
        assert out.shape == (0, site.out_channels, site.out_size, site.out_size), f"{tuple(out.shape)} from no image"
        out.sum().backward()
        gradients = [images.grad, *(value.grad for value in module.parameters())]
        assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
        assert all(value.isfinite().all() for value in module.buffers()), (
            "an empty batch makes the statistics not finite"
        )
    try:
        out = operator.build(site, resolved)(_images(site, batch=1).float())
    except ValueError as error:
        if "2 images or more" not in str(error):
            raise AssertionError(f"training with one image names no remedy: {error}") from error
    else:
        assert out.isfinite().all(), "training with one image gives numbers that are not finite"


def check_state(operator: Operator, site: Site, resolved: Resolved) -> None:
    """A saved state dict gives another module the same output."""
    module, images = _built(operator, site, resolved), _images(site)
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    other = operator.build(site, resolved).double().eval()
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(images), module(images)), "the loaded module's output differs"


def check_meta(operator: Operator, site: Site, resolved: Resolved) -> None:
    """The operator can be built and run, forward and backward, on the meta device, which computes nothing."""
    with torch.device("meta"):
        module = operator.build(site, resolved)
    shape = (2, site.in_channels, site.size, site.size)
    out = module(torch.empty(shape, device="meta", requires_grad=True))
    assert out.shape == (2, site.out_channels, site.out_size, site.out_size)
    out.sum().backward()


def check_compile(operator: Operator, site: Site, resolved: Resolved) -> None:
    """`torch.compile` compiles it into one graph (``fullgraph``), forward and backward."""
    module, images = _built(operator, site, resolved), _images(site).requires_grad_()
    torch.compiler.reset()
    results = []
    for run in (module, torch.compile(module, fullgraph=True, backend="aot_eager")):
        out = run(images)
        results.append((out, *torch.autograd.grad(out.square().sum(), images)))
    torch.testing.assert_close(results[1], results[0], rtol=1e-9, atol=1e-9)


def check_export(operator: Operator, site: Site, resolved: Resolved) -> None:
    """`torch.export` succeeds with only ATen operators and a dynamic batch size."""
    module, images = _built(operator, site, resolved), _images(site)
    program = torch.export.export(module, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    foreign = {
        str(node.target)
        for node in program.graph.nodes
        if isinstance(node.target, torch._ops.OpOverload) and node.target.namespace != "aten"
    }
    assert not foreign, f"an exported program would need {', '.join(sorted(foreign))}"
    exported = program.module()
    for batch in (2, 3, 1, 0):
        images = _images(site, batch=batch)
        torch.testing.assert_close(exported(images), module(images), rtol=1e-9, atol=1e-9)


def check_trace(operator: Operator, site: Site, resolved: Resolved) -> None:
    """`torch.jit.trace` succeeds; the result can be saved and accepts another batch size."""
    module = _built(operator, site, resolved)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation, and fixed sizes of parameters
        torch.jit.save(torch.jit.trace(module, _images(site), check_trace=False), file)  # type: ignore[no-untyped-call]
        file.seek(0)
        traced = torch.jit.load(file)  # type: ignore[no-untyped-call]
    images = _images(site, batch=3)
    torch.testing.assert_close(traced(images), module(images), rtol=1e-9, atol=1e-9)


def check_shows(operator: Operator, site: Site, resolved: Resolved) -> None:
    """What the operator shows has the stated shapes and ranges, is finite, and leaves module, input and output as is.

    An operator without ``shows`` passes: it has nothing to show.
    """
    if operator.shows is None:
        return
    module = _built(operator, site, resolved)
    for size in ((site.size, site.size), (site.size + 3, site.size + 2)):
        images = _images(site, size=size)
        with torch.no_grad():
            before, state = module(images), {name: value.clone() for name, value in module.state_dict().items()}
            given = images.clone()
            shown = operator.shows(module, images)
            assert torch.equal(images, given), "showing changes the input"
            assert torch.equal(module(images), before), "showing changes the output"
        for name, value in module.state_dict().items():
            assert torch.equal(value, state[name]), f"showing changes {name}"
        hooked = [name for name, part in module.named_modules() if part._forward_hooks or part._forward_pre_hooks]
        assert not hooked, f"showing leaves hooks behind: {hooked}"
        for name, value in shown.items():
            _check_shown(name, value, images=len(images))


def _check_shown(name: str, shown: Shown, *, images: int) -> None:
    if isinstance(shown, Attention):
        queries, keys = (rows * columns for rows, columns in (shown.queries, shown.keys))
        heads, width = shown.query.shape[1], shown.query.shape[3]
        assert shown.query.shape == (images, heads, queries, width), f"{name}: query {tuple(shown.query.shape)}"
        assert shown.key.shape == (images, heads, keys, width), f"{name}: key {tuple(shown.key.shape)}"
        weights = shown.weights(torch.arange(queries))
        assert weights.shape == (images, heads, queries, keys), f"{name}: weights {tuple(weights.shape)}"
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
        torch.testing.assert_close(shown.received(), weights.mean(2))
        return
    values = shown.values
    expected = 2 if isinstance(shown, ChannelGates) else 4
    assert values.dim() == expected, f"{name}: {tuple(values.shape)} has {values.dim()} dimensions, not {expected}"
    assert values.shape[0] == images, f"{name}: {values.shape[0]} rows of {images} images"
    assert expected == 2 or values.shape[1] == 1, f"{name}: a gate of positions has one channel, not {values.shape[1]}"
    inside = (values >= shown.low - 1e-9) & (values <= shown.high + 1e-9)
    assert inside.all(), f"{name}: values from {values.min():g} to {values.max():g} leave {shown.low:g}-{shown.high:g}"


CHECKS: Mapping[str, Callable[[Operator, Site, Resolved], None]] = MappingProxyType(
    {
        check.__name__.removeprefix("check_"): check
        for check in (
            check_shapes,
            check_cost,
            check_independence,
            check_layouts,
            check_gradients,
            check_derivatives,
            check_in_place,
            check_training,
            check_start,
            check_autocast,
            check_few_images,
            check_state,
            check_meta,
            check_compile,
            check_export,
            check_trace,
            check_shows,
        )
    }
)
"""All checks, by name."""
