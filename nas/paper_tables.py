"""The papers' tables, row by row: printed parameters, GFLOPs and accuracies, beside the counts of the zoo's networks.

Every paper counts operations in its own way. Each way is a rule here, which is a function of an architecture. Only
``nas zoo --table`` uses the rules; the cost model (`nas.costs`) reports true multiply-adds.

    SE      Hu et al., CVPR 2018, https://arxiv.org/abs/1709.01507 (tables 2 and 16)
    BAM     Park et al., BMVC 2018, https://arxiv.org/abs/1807.06514 (CIFAR-100)
    CBAM    Woo et al., ECCV 2018, https://arxiv.org/abs/1807.06521 (table 4)
    AA      Bello et al., ICCV 2019, https://arxiv.org/abs/1904.09925 (tables 1 to 8)
    AW      Zhu et al., 2021, https://arxiv.org/abs/2108.08205 (tables 1 to 3)
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from nas.costs.counting import count
from nas.operators import Cost, conv_cost, norm_cost
from search_spaces import Architecture, Site, load_architecture
from search_spaces.grammar import ResolvedChoice
from search_spaces.sites import Slot
from search_spaces.skeletons import (
    InceptionResNetV2,
    MnasNet,
    MobileNetV1,
    PreResNet,
    ResNet,
    WideResNet,
    inception_resnet_v2,
    mnasnet,
)

Rule: TypeAlias = Callable[[Architecture], Cost]
"""Returns the parameters, and in ``macs`` the operations that the table counts for one image."""


@dataclass(frozen=True, slots=True)
class PaperRow:
    """A row of a table: parameters in millions, GFLOPs as the table counts them.

    A figure that the table does not print is None, and so is its match. Without printed GFLOPs, ours are None too, as
    the way of counting is unknown. ``*_match``: our figure, rounded like the printed one, equals it. ``convention``
    says how the table counts and what was fitted; ``reason`` says why a figure does not match. ``results``: the printed
    accuracies, errors or average precisions in percent, by the paper's column, from the authors' own training.
    """

    table: str
    row: str
    zoo: str
    printed_params_m: float | None
    params_m: float | None
    printed_gflops: float | None
    gflops: float | None
    params_match: bool | None
    gflops_match: bool | None
    convention: str
    reason: str
    results: Mapping[str, float]


def tables() -> tuple[str, ...]:
    """The names that `rows` takes."""
    return tuple(_TABLES)


def rows(table: str) -> list[PaperRow]:
    """The rows of a table in the paper's order.

    Raises:
        ValueError: there is no such table.
    """
    if table not in _TABLES:
        raise ValueError(f"no table {table!r}; the tables are {', '.join(_TABLES)}")
    columns, lines = _RESULTS[table]
    return [
        _compare(table, entry, dict(zip(columns, map(float, line.split()), strict=True)))
        for entry, line in zip(_TABLES[table], lines, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Entry:
    """A printed row (empty strings: not printed), and the rule that counts its network."""

    row: str
    zoo: str
    params: str
    gflops: str
    rule: Rule | None  # None: the network itself is not in the zoo
    convention: str
    reason: str = ""


def _compare(table: str, entry: _Entry, results: Mapping[str, float]) -> PaperRow:
    counted = Cost() if entry.rule is None else entry.rule(load_architecture(entry.zoo))
    params_m, gflops = counted.params / 1e6, counted.macs / 1e9
    return PaperRow(
        table=table,
        row=entry.row,
        zoo=entry.zoo,
        printed_params_m=float(entry.params) if entry.params else None,
        params_m=None if entry.rule is None else params_m,
        printed_gflops=float(entry.gflops) if entry.gflops else None,
        gflops=gflops if entry.gflops else None,
        params_match=_matches(entry.params, params_m),
        gflops_match=_matches(entry.gflops, gflops),
        convention=entry.convention,
        reason=entry.reason,
        results=results,
    )


def _matches(printed: str, own: float) -> bool | None:
    """Whether ``own``, rounded like ``printed``, equals it; None if nothing is printed."""
    if not printed:
        return None
    decimals = len(printed.partition(".")[2])
    return f"{own:.{decimals}f}" == printed


# --- the rules --------------------------------------------------------------------------------------------------------


def _placed(architecture: Architecture, slot: Slot) -> Iterator[tuple[str, Site, ResolvedChoice]]:
    """(block, site, (option, resolved)) for every block in which the slot is not empty."""
    for block in architecture.blocks:
        slots = architecture.resolved.get(block.name, {})
        if slot in slots:
            yield block.name, block.sites[slot], slots[slot]


def _elements(site: Site) -> int:
    """Number of elements of a site's output map."""
    return site.out_channels * site.out_size**2


def _added(architecture: Architecture) -> int:
    """Number of elements in all sums of a branch and a shortcut."""
    match architecture.skeleton:
        case ResNet() | WideResNet() | PreResNet() as skeleton:
            return sum(unit.out_channels * unit.out_size**2 for unit in skeleton.units())
        case MnasNet() as skeleton:
            return sum(unit.out_channels * unit.out_size**2 for unit in skeleton.units() if unit.has_shortcut)
        case _:
            return 0


def _pooled(architecture: Architecture) -> tuple[int, int]:
    """Channels and side of the map that the classifier pools."""
    match architecture.skeleton:
        case ResNet() | WideResNet() as skeleton:
            return skeleton.units()[-1].out_channels, skeleton.units()[-1].out_size
        case MnasNet() as skeleton:
            return mnasnet.HEAD_CHANNELS, skeleton.units()[-1].out_size
        case InceptionResNetV2() as skeleton:
            return inception_resnet_v2.HEAD_CHANNELS, skeleton.units()[-1].size
        case skeleton:
            raise NotImplementedError(f"no rule asks for the pooled map of {skeleton.family}")


def _plus(cost: Cost, operations: int) -> Cost:
    return cost + Cost(0, operations)


def _macs(architecture: Architecture) -> Cost:
    return count(architecture)


_MACS = "multiply-adds of convolutions and linear layers"


def _se(architecture: Architecture) -> Cost:
    # VGG has no residual add, so SE's scale counts as an operation. Elsewhere it counts together with the add.
    squeezed = sum(_elements(site) for _, site, _ in _placed(architecture, "refine"))
    added = _added(architecture)
    return _plus(count(architecture), squeezed + (added or squeezed))


_SE = "multiply-adds, one an element for the residual add, two an element for SE (mean; scale, which takes in the add)"


def _se_pooled(architecture: Architecture) -> Cost:
    squeezed = [site for _, site, (option, _) in _placed(architecture, "refine") if option == "se"]
    if not squeezed:
        return count(architecture)
    channels, size = _pooled(architecture)
    return _plus(count(architecture), 2 * sum(_elements(site) for site in squeezed) + channels * size**2)


_SE_POOLED = "multiply-adds; with SE, two an element (mean and scale) and one an element for the classifier's mean"


def _aw(architecture: Architecture) -> Cost:
    total = count(Architecture(architecture.skeleton)).macs
    for _, site, (_, resolved) in _placed(architecture, "conv"):
        hidden = int(resolved["hidden"])
        total += site.in_channels * site.size**2  # the pool
        total += hidden * (site.in_channels + site.out_channels)  # the two 1x1, counted at one position
        total += site.in_channels * site.out_channels * site.kernel_size**2  # A * K
    for block, site, (option, resolved) in _placed(architecture, "refine"):
        variant = "se" if option == "se" else str(resolved["variant"])
        an_element, a_layer, an_entry, a_pixel = _AW_REFINE[variant]
        pixels = _refined_size(architecture, block, site) ** 2
        channels = site.out_channels
        total += an_element * channels * pixels + a_layer * 2 * channels * int(resolved["hidden"])
        total += an_entry * channels + a_pixel * pixels
    return Cost(count(architecture).params, total)


def _refined_size(architecture: Architecture, block: str, site: Site) -> int:
    """The side of the map for which refinement is counted; in MobileNet's depthwise blocks, that of the input."""
    if isinstance(architecture.skeleton, MobileNetV1):
        return next(unit.size for unit in architecture.skeleton.units() if unit.name == block)
    return site.size


_AW_REFINE: Mapping[str, tuple[int, int, int, int]] = {
    # Operations per element, uses of the two-layer transform, operations per channel, and per pixel. The last two are
    # fitted; they are small, but needed for the fifth digit.
    "se": (2, 1, 1, 0),
    "max_pool": (3, 2, 1, 0),
    "spatial": (4, 1, 2, 49 + 2),
    "full": (6, 2, 2, 98 + 2),
}

_AW = (
    "multiply-adds of the skeleton; AW: C1 C2 k k for A * K, one an input element for the pool, the 1x1 at one "
    "position; SE, CBAM: their linear layers, the 7x7, one an element for every pool and scale"
)
_AW_MOBILE = _AW + "; the refinement of a depthwise convolution at the size of its input"


def _aw_aa(architecture: Architecture) -> Cost:
    total = count(architecture)
    for slot in ("conv", "conv2"):
        for _, site, (option, resolved) in _placed(architecture, slot):
            if option == "aw":
                total = _plus(total, site.in_channels * site.out_channels * site.kernel_size**2)
                continue
            d_k, d_v, kernel_size = (int(resolved[name]) for name in ("d_k", "d_v", "qkv_kernel"))
            total = _plus(
                total,
                {
                    "none": 0,
                    "conv": site.in_channels * (site.out_channels - d_v) * site.kernel_size**2,
                    "qkv": site.in_channels * (2 * d_k + d_v) * kernel_size**2,
                    "projection": d_v * d_v,
                }[str(resolved["aw"])],
            )
    return total


_AW_AA = "multiply-adds, attention's products included, and C1 C2 k k for A * K"


def _tf_trunk(architecture: Architecture) -> Cost:
    """The cost of everything before the global pool."""
    skeleton = architecture.skeleton
    channels, _ = _pooled(architecture)
    cost = count(architecture)
    macs, operations = cost.macs - channels * skeleton.num_classes, _added(architecture)
    if isinstance(skeleton, ResNet):
        operations += 9 * skeleton.width * skeleton.stem_size**2  # the max-pool
    if isinstance(skeleton, WideResNet) and skeleton.shortcut == "pool":
        strided = [unit for unit in skeleton.units() if unit.stride > 1]
        operations += sum(unit.stride**2 * unit.in_channels * unit.out_size**2 for unit in strided)
    if isinstance(skeleton, MnasNet):
        squeezed = [unit for unit in skeleton.units() if unit.squeezed]
        operations += sum(_tf_se(unit.expanded, unit.out_size, unit.squeezed, bias=True) for unit in squeezed)
    for _, site, (option, resolved) in _placed(architecture, "refine"):
        if option == "se":
            operations += _tf_se(site.out_channels, site.size, int(resolved["hidden"]), bias=bool(resolved["bias"]))
    for _, site, (_, resolved) in _placed(architecture, "conv"):
        d_k, d_v, heads, poolings = (int(resolved[name]) for name in ("d_k", "d_v", "heads", "poolings"))
        side = site.out_size
        if site.stride > 1:
            operations += 9 * site.in_channels * side**2
        for _ in range(poolings):
            side = -(-side // 2)
            operations += 9 * site.in_channels * side**2
        macs -= (d_k + d_v) * side**4
        operations += d_k * side**2 + (2 + 5) * heads * side**4  # scaled queries; logits added twice, softmax
    return Cost(cost.params - (channels + 1) * skeleton.num_classes, 2 * macs + operations)


def _tf_se(channels: int, size: int, hidden: int, *, bias: bool) -> int:
    return 2 * channels * size**2 + bias * (channels + hidden)


def _tf(architecture: Architecture) -> Cost:
    channels, size = _pooled(architecture)
    classes = architecture.skeleton.num_classes
    classifier = Cost((channels + 1) * classes, channels * size**2 + 2 * channels * classes + classes)
    return _tf_trunk(architecture) + classifier


_TF = (
    "TensorFlow's profiler: two a multiply-add of convolutions, linear layers and relative logits, five a softmax "
    "logit, one an element of sums, products, biases and means, one a pixel of a pooling window; attention's two "
    "products, BN, ReLU, sigmoid and resizing are not counted"
)
_TF_WIDE = _TF + "; fits half of the text's depths: kappa 0.1, upsilon 0.05, at least 10 keys a head"
_TF_MNAS = _TF + "; fits at least 4 keys a head, depths rounded down to the heads, attention pooled once from 28x28 on"


def _retinanet(architecture: Architecture) -> Cost:
    """RetinaNet on the architecture at 640x640: FPN of 256 channels, P3 to P7 (P6 from P5); heads with BN per level."""
    skeleton = architecture.skeleton.model_copy(update={"image_size": _DETECTED_SIZE})
    resized = Architecture(skeleton, architecture.placements)
    assert isinstance(skeleton, ResNet)
    stages = {unit.stage: (unit.out_channels, unit.out_size) for unit in skeleton.units()}
    width, levels = 256, [_DETECTED_SIZE // 2**level for level in range(3, 8)]

    def biased(in_channels: int, out_channels: int, kernel_size: int, sizes: Iterable[int]) -> Cost:
        """One convolution on maps of several sizes."""
        each = [conv_cost(in_channels, out_channels, kernel_size, size, bias=True) for size in sizes]
        return Cost(each[0].params, sum(2 * cost.macs for cost in each) + sum(out_channels * size**2 for size in sizes))

    total = _tf_trunk(resized)
    for stage in ("layer2", "layer3", "layer4"):
        channels, size = stages[stage]
        total += biased(channels, width, 1, [size])
    for size in levels:
        total += biased(width, width, 3, [size]) + Cost(norm_cost(width).params)
    total = _plus(total, 2 * width * (levels[0] ** 2 + levels[1] ** 2))  # upsampled, then added
    for outputs in (90 * 6, 4 * 6):
        for _ in range(4):
            total += biased(width, width, 3, levels) + Cost(len(levels) * norm_cost(width).params)
        total += biased(width, outputs, 3, levels)
    return total


_DETECTED_SIZE = 640
_RETINANET = (
    _TF + "; the zoo's network as the backbone, at 640x640, 90 classes, 6 anchors, FPN with BN, heads with BN a level"
)
_RETINANET_AA = _RETINANET + "; fits at least 5 keys a head, rounded up, attention at 20, 40, 10"

_ABLATION = "the table prints only accuracies; the network is that of table 3 with other positions"
_IN_THE_FPN = (
    "the table prints only precisions of Faster R-CNN; the zoo has the backbone: AW, SE and CBAM are in the FPN"
)

# --- the tables -------------------------------------------------------------------------------------------------------

_BAM = _MACS + "; the printed parameters fit BN behind both of BAM's branches, which the authors' code has not"
_LAST_DIGIT = "last digit: no way of counting that fits the table's other rows rounds to the printed one"
_VARIANT = "the paper does not say which variant; this one, of slim at 299x299, is larger than the printed figure"
_COPIED = "GFLOPs: the printed increments of the ResNet-101 rows are those of the ResNet-50 rows"
_LONGER = (
    "parameters: the printed increment of AW, 0.40 M, is that of 33 blocks in layer3 (0.401 M), where there are 23 "
    "(0.314 M) and 33 in all; " + _COPIED
)
_AS_CBAM = "the printed cost of AW is, to the digit, what CBAM's row adds to the baseline"
_SMALLER = "the printed parameters match only this network, whose cost is far below the printed one"

_TABLES: Mapping[str, tuple[_Entry, ...]] = {
    "SE T2": (
        _Entry("ResNet-50 (re-implementation)", "resnet50", "", "3.86", _se, _SE),
        _Entry("SE-ResNet-50", "se_resnet50", "", "3.87", _se, _SE),
        _Entry("ResNet-101 (re-implementation)", "resnet101", "", "7.58", _se, _SE),
        _Entry("SE-ResNet-101", "se_resnet101", "", "7.60", _se, _SE, _LAST_DIGIT),
        _Entry("ResNet-152 (re-implementation)", "resnet152", "", "11.30", _se, _SE),
        _Entry("SE-ResNet-152", "se_resnet152", "", "11.32", _se, _SE),
        _Entry("ResNeXt-50 (re-implementation)", "resnext50_32x4d_v1.5", "", "4.24", _se, _SE),
        _Entry("SE-ResNeXt-50", "se_resnext50_32x4d_v1.5", "", "4.25", _se, _SE, _LAST_DIGIT),
        _Entry("ResNeXt-101 (re-implementation)", "resnext101_32x4d_v1.5", "", "7.99", _se, _SE, _LAST_DIGIT),
        _Entry("SE-ResNeXt-101", "se_resnext101_32x4d_v1.5", "", "8.00", _se, _SE, _LAST_DIGIT),
        _Entry("BN-Inception (re-implementation)", "bn_inception", "", "2.03", _se, _SE),
        _Entry("SE-BN-Inception", "se_bn_inception", "", "2.04", _se, _SE),
        _Entry("VGG-16 (re-implementation)", "vgg16", "", "15.47", _se, _SE),
        _Entry("SE-VGG-16", "se_vgg16", "", "15.48", _se, _SE),
        _Entry(
            "Inception-ResNet-v2 (re-implementation)",
            "inception_resnet_v2",
            "",
            "11.75",
            _se_pooled,
            _SE_POOLED,
            _VARIANT,
        ),
        _Entry("SE-Inception-ResNet-v2", "se_inception_resnet_v2", "", "11.76", _se_pooled, _SE_POOLED, _VARIANT),
    ),
    "BAM CIFAR-100": (
        _Entry("ResNet50", "resnet50_cifar100", "23.71", "1.22", _macs, _MACS),
        _Entry("ResNet50 + BAM-C", "bam_c_resnet50_cifar100", "28.98", "1.37", _macs, _BAM),
        _Entry("ResNet50 + BAM", "bam_resnet50_cifar100", "24.07", "1.25", _macs, _BAM),
        _Entry("PreResNet110", "preresnet110_cifar100", "1.73", "0.245", _macs, _MACS),
        _Entry("PreResNet110 + BAM-C", "bam_c_preresnet110_cifar100", "2.17", "0.275", _macs, _BAM),
        _Entry("PreResNet110 + BAM", "bam_preresnet110_cifar100", "1.73", "0.246", _macs, _BAM),
        _Entry("WideResNet28 w=8", "wide_resnet28_8_cifar100", "23.40", "3.36", _macs, _MACS),
        _Entry("WideResNet28 w=8 + BAM-C", "bam_c_wide_resnet28_8_cifar100", "23.78", "3.39", _macs, _BAM),
        _Entry("WideResNet28 w=8 + BAM", "bam_wide_resnet28_8_cifar100", "23.42", "3.37", _macs, _BAM, _LAST_DIGIT),
        _Entry("ResNeXt29 8x64d", "resnext29_8x64d_cifar100", "34.52", "4.99", _macs, _MACS, _LAST_DIGIT),
        _Entry("ResNeXt29 8x64d + BAM-C", "bam_c_resnext29_8x64d_cifar100", "35.60", "5.07", _macs, _BAM, _LAST_DIGIT),
        _Entry("ResNeXt29 8x64d + BAM", "bam_resnext29_8x64d_cifar100", "34.61", "5.00", _macs, _BAM),
    ),
    "CBAM T4": (
        _Entry("ResNet18", "resnet18", "11.69", "1.814", _macs, _MACS),
        _Entry("ResNet18 + SE", "se_resnet18", "11.78", "1.814", _macs, _MACS),
        _Entry("ResNet18 + CBAM", "cbam_resnet18", "11.78", "1.815", _macs, _MACS),
        _Entry("ResNet34", "resnet34", "21.80", "3.664", _macs, _MACS),
        _Entry("ResNet34 + SE", "se_resnet34", "21.96", "3.664", _macs, _MACS),
        _Entry("ResNet34 + CBAM", "cbam_resnet34", "21.96", "3.665", _macs, _MACS),
        _Entry("ResNet50", "resnet50", "25.56", "3.858", _macs, _MACS),
        _Entry("ResNet50 + SE", "se_resnet50", "28.09", "3.860", _macs, _MACS),
        _Entry("ResNet50 + CBAM", "cbam_resnet50", "28.09", "3.864", _macs, _MACS),
        _Entry("ResNet101", "resnet101", "44.55", "7.570", _macs, _MACS),
        _Entry("ResNet101 + SE", "se_resnet101", "49.33", "7.575", _macs, _MACS),
        _Entry("ResNet101 + CBAM", "cbam_resnet101", "49.33", "7.581", _macs, _MACS),
        _Entry("WideResNet18 x1.5", "wide_resnet18_1.5", "25.88", "3.866", _macs, _MACS),
        _Entry("WideResNet18 x1.5 + SE", "se_wide_resnet18_1.5", "26.07", "3.867", _macs, _MACS),
        _Entry("WideResNet18 x1.5 + CBAM", "cbam_wide_resnet18_1.5", "26.08", "3.868", _macs, _MACS),
        _Entry("WideResNet18 x2.0", "wide_resnet18_2.0", "45.62", "6.696", _macs, _MACS),
        _Entry("WideResNet18 x2.0 + SE", "se_wide_resnet18_2.0", "45.97", "6.696", _macs, _MACS),
        _Entry("WideResNet18 x2.0 + CBAM", "cbam_wide_resnet18_2.0", "45.97", "6.697", _macs, _MACS),
        _Entry("ResNeXt50 32x4d", "resnext50_32x4d", "25.03", "3.768", _macs, _MACS),
        _Entry("ResNeXt50 32x4d + SE", "se_resnext50_32x4d", "27.56", "3.771", _macs, _MACS),
        _Entry("ResNeXt50 32x4d + CBAM", "cbam_resnext50_32x4d", "27.56", "3.774", _macs, _MACS),
        _Entry("ResNeXt101 32x4d", "resnext101_32x4d", "44.18", "7.508", _macs, _MACS),
        _Entry("ResNeXt101 32x4d + SE", "se_resnext101_32x4d", "48.96", "7.512", _macs, _MACS),
        _Entry("ResNeXt101 32x4d + CBAM", "cbam_resnext101_32x4d", "48.96", "7.519", _macs, _MACS),
    ),
    "AA T1": (
        _Entry("Wide-ResNet-28-10", "wide_resnet28_10_cifar100", "36.3", "10.4", _tf, _TF),
        _Entry("GE-Wide-ResNet", "ge_wide_resnet28_10_cifar100", "36.3", "10.4", _tf, _TF),
        _Entry("SE-Wide-ResNet", "se_wide_resnet28_10_cifar100", "36.5", "10.4", _tf, _TF),
        _Entry("AA-Wide-ResNet", "aa_wide_resnet28_10_cifar100_half", "36.2", "10.9", _tf, _TF_WIDE),
    ),
    "AA T2": (
        _Entry("ResNet-50", "resnet50_v1.5", "25.6", "", _tf, _TF),
        _Entry("SE", "se_resnet50_v1.5", "28.1", "", _tf, _TF),
        _Entry("BAM", "bam_resnet50_v1.5", "25.9", "", _tf, _TF),
        _Entry("CBAM", "cbam_resnet50_v1.5", "28.1", "", _tf, _TF),
        _Entry("GALA", "gala_resnet50_v1.5", "29.4", "", _tf, _TF),
        _Entry("AA (v=0.25)", "aa_resnet50_0.25", "24.3", "", _tf, _TF),
    ),
    "AA T3": (
        _Entry("ResNet-34", "resnet34_v1.5", "21.8", "7.4", _tf, _TF),
        _Entry("SE-ResNet-34", "se_resnet34_v1.5", "22.0", "7.4", _tf, _TF),
        _Entry("AA-ResNet-34", "aa_resnet34", "20.7", "7.1", _tf, _TF),
        _Entry("ResNet-50", "resnet50_v1.5", "25.6", "8.2", _tf, _TF),
        _Entry("SE-ResNet-50", "se_resnet50_v1.5", "28.1", "8.2", _tf, _TF),
        _Entry("AA-ResNet-50", "aa_resnet50", "25.8", "8.3", _tf, _TF),
        _Entry("ResNet-101", "resnet101_v1.5", "44.5", "15.6", _tf, _TF),
        _Entry("SE-ResNet-101", "se_resnet101_v1.5", "49.3", "15.6", _tf, _TF),
        _Entry("AA-ResNet-101", "aa_resnet101", "45.4", "16.1", _tf, _TF),
        _Entry("ResNet-152", "resnet152_v1.5", "60.2", "23.0", _tf, _TF),
        _Entry("SE-ResNet-152", "se_resnet152_v1.5", "66.8", "23.1", _tf, _TF),
        _Entry("AA-ResNet-152", "aa_resnet152", "61.6", "23.8", _tf, _TF),
    ),
    "AA T4": (
        _Entry("MnasNet-0.75", "mnasnet_0.75", "2.91", "0.45", _tf, _TF),
        _Entry("AA-MnasNet-0.75", "aa_mnasnet_0.75", "3.02", "0.51", _tf, _TF_MNAS),
        _Entry("MnasNet-1.0", "mnasnet_1.0", "3.89", "0.63", _tf, _TF, _LAST_DIGIT),
        _Entry("AA-MnasNet-1.0", "aa_mnasnet_1.0", "4.06", "0.70", _tf, _TF_MNAS),
        _Entry("MnasNet-1.25", "mnasnet_1.25", "5.26", "1.01", _tf, _TF),
        _Entry("AA-MnasNet-1.25", "aa_mnasnet_1.25", "5.53", "1.11", _tf, _TF_MNAS),
        _Entry("MnasNet-1.4", "mnasnet_1.4", "6.10", "1.17", _tf, _TF, _LAST_DIGIT),
        _Entry("AA-MnasNet-1.4", "aa_mnasnet_1.4", "6.44", "1.29", _tf, _TF_MNAS),
    ),
    "AA T5": (
        _Entry("RetinaNet ResNet-50", "resnet50_v1.5", "33.4", "182", _retinanet, _RETINANET),
        _Entry("RetinaNet SE-ResNet-50", "se_resnet50_v1.5", "35.9", "183", _retinanet, _RETINANET),
        _Entry("RetinaNet AA-ResNet-50", "aa_resnet50_640", "33.1", "182", _retinanet, _RETINANET_AA),
        _Entry("RetinaNet ResNet-101", "resnet101_v1.5", "52.4", "243", _retinanet, _RETINANET),
        _Entry("RetinaNet SE-ResNet-101", "se_resnet101_v1.5", "57.2", "243", _retinanet, _RETINANET),
        _Entry("RetinaNet AA-ResNet-101", "aa_resnet101_640", "51.7", "245", _retinanet, _RETINANET_AA),
    ),
    "AA T6": (
        _Entry("ResNet-34", "resnet34_v1.5", "21.8", "7.4", _tf, _TF),
        _Entry("ResNet-50", "resnet50_v1.5", "25.6", "8.2", _tf, _TF),
        _Entry("AA-ResNet-50 k=v=0.25", "aa_resnet50_0.25", "24.3", "7.9", _tf, _TF),
        _Entry("AA-ResNet-50 k=v=0.5", "aa_resnet50_0.5", "22.3", "7.3", _tf, _TF),
        _Entry("AA-ResNet-50 k=v=0.75", "aa_resnet50_0.75", "20.7", "6.8", _tf, _TF, _LAST_DIGIT),
        _Entry("AA-ResNet-50 k=v=1.0", "aa_resnet50_full", "19.4", "6.3", _tf, _TF),
    ),
    "AA T7": (
        _Entry("AA-ResNet-34 None", "aa_resnet34_none", "", "", _tf, _ABLATION),
        _Entry("AA-ResNet-34 2d Sine", "aa_resnet34_sine", "", "", _tf, _ABLATION),
        _Entry("AA-ResNet-34 CoordConv", "aa_resnet34_coordconv", "", "", _tf, _ABLATION),
        _Entry("AA-ResNet-34 Relative", "aa_resnet34", "", "", _tf, _ABLATION),
        _Entry("AA-ResNet-50 None", "aa_resnet50_none", "", "", _tf, _ABLATION),
        _Entry("AA-ResNet-50 2d Sine", "aa_resnet50_sine", "", "", _tf, _ABLATION),
        _Entry("AA-ResNet-50 CoordConv", "aa_resnet50_coordconv", "", "", _tf, _ABLATION),
        _Entry("AA-ResNet-50 Relative", "aa_resnet50", "", "", _tf, _ABLATION),
    ),
    "AA T8": (
        _Entry("None", "aa_resnet50_640_none", "", "", _retinanet, _RETINANET_AA),
        _Entry("CoordConv", "aa_resnet50_640_coordconv", "", "", _retinanet, _RETINANET_AA),
        _Entry("Relative", "aa_resnet50_640", "", "", _retinanet, _RETINANET_AA),
    ),
    "AW T1": (
        _Entry("Baseline-ResNet50", "resnet50", "25.56", "3.86", _aw, _AW),
        _Entry("AW-ResNet50", "aw_resnet50", "25.72", "3.87", _aw, _AW),
        _Entry("SE-ResNet50", "se_resnet50", "28.09", "3.87", _aw, _AW),
        _Entry("AW-SE-ResNet50", "aw_se_resnet50", "28.25", "3.88", _aw, _AW),
        _Entry("AW-CBAM(MaxPool)-ResNet50", "aw_cbam_max_pool_resnet50", "28.25", "3.89", _aw, _AW),
        _Entry("AW-CBAM(Spatial)-ResNet50", "aw_cbam_spatial_resnet50", "28.25", "3.90", _aw, _AW),
        _Entry("Baseline-ResNet101", "resnet101", "44.55", "7.57", _aw, _AW),
        _Entry("AW-ResNet101", "aw_resnet101", "44.95", "7.58", _aw, _AW, _LONGER),
        _Entry("SE-ResNet101", "se_resnet101", "49.33", "7.58", _aw, _AW, _COPIED),
        _Entry("AW-SE-ResNet101", "aw_se_resnet101", "49.73", "7.59", _aw, _AW, _LONGER),
        _Entry("AW-CBAM(MaxPool)-ResNet101", "aw_cbam_max_pool_resnet101", "49.73", "7.60", _aw, _AW, _LONGER),
        _Entry("AW-CBAM(Spatial)-ResNet101", "aw_cbam_spatial_resnet101", "49.73", "7.61", _aw, _AW, _LONGER),
        _Entry("MobileNet Baseline", "mobilenet_v1", "4.23", "0.569", _aw, _AW_MOBILE),
        _Entry("SE-MobileNet", "se_mobilenet_v1", "5.07", "0.581", _aw, _AW_MOBILE),
        _Entry("AW-SE-MobileNet", "aw_se_mobilenet_v1", "5.52", "0.623", _aw, _AW_MOBILE, _AS_CBAM),
        _Entry("CBAM-MobileNet", "cbam_mobilenet_v1", "5.07", "0.611", _aw, _AW_MOBILE),
        _Entry(
            "AW-CBAM-MobileNet(Spatial)", "aw_cbam_spatial_mobilenet_v1", "5.52", "0.652", _aw, _AW_MOBILE, _AS_CBAM
        ),
    ),
    "AW T2": (
        _Entry("AA-Wide-ResNet Baseline", "aa_wide_resnet10_10_cifar100", "8.43", "3.89", _aw_aa, _AW_AA, _SMALLER),
        _Entry("AW-AA-Wide-ResNet-0", "aw_aa0_wide_resnet10_10_cifar100", "8.50", "3.90", _aw_aa, _AW_AA, _SMALLER),
        _Entry("AW-AA-Wide-ResNet-1", "aw_aa1_wide_resnet10_10_cifar100", "8.48", "3.89", _aw_aa, _AW_AA, _SMALLER),
        _Entry("AW-AA-Wide-ResNet-2", "aw_aa2_wide_resnet10_10_cifar100", "8.45", "3.89", _aw_aa, _AW_AA, _SMALLER),
        _Entry("AW-AA-Wide-ResNet-3", "aw_aa3_wide_resnet10_10_cifar100", "8.44", "3.89", _aw_aa, _AW_AA, _SMALLER),
        _Entry("Baseline-ResNet50 (CIFAR-100)", "resnet50_cifar100", "23.71", "1.22", _aw, _AW),
        _Entry("AW-ResNet50 (CIFAR-100)", "aw_resnet50_cifar100", "23.87", "1.23", _aw, _AW),
        _Entry("SE-ResNet50 (CIFAR-100)", "se_resnet50_cifar100", "26.24", "1.23", _aw, _AW),
        _Entry("AW-SE-ResNet50 (CIFAR-100)", "aw_se_resnet50_cifar100", "26.40", "1.24", _aw, _AW),
        _Entry("CBAM-ResNet50 (CIFAR-100)", "cbam_resnet50_cifar100", "26.24", "1.24", _aw, _AW),
        _Entry("AW-CBAM-ResNet50 (CIFAR-100)", "aw_cbam_resnet50_cifar100", "26.40", "1.25", _aw, _AW),
    ),
    "AW T3": (
        _Entry("ResNet101-FPN", "resnet101", "", "", None, _IN_THE_FPN),
        _Entry("ResNet101-AW-FPN", "resnet101", "", "", None, _IN_THE_FPN),
        _Entry("ResNet101-SE-FPN", "resnet101", "", "", None, _IN_THE_FPN),
        _Entry("ResNet101-AW-SE-FPN", "resnet101", "", "", None, _IN_THE_FPN),
        _Entry("ResNet101-CBAM-FPN", "resnet101", "", "", None, _IN_THE_FPN),
        _Entry("ResNet101-AW-CBAM-FPN", "resnet101", "", "", None, _IN_THE_FPN),
    ),
    "SE T16": (
        _Entry("ResNet-50", "resnet50", "25.6", "3.86", _se_pooled, _SE_POOLED),
        _Entry("NoSqueeze", "no_squeeze_resnet50", "28.1", "4.27", _se_pooled, _SE_POOLED),
        _Entry("SE", "se_resnet50", "28.1", "3.87", _se_pooled, _SE_POOLED),
    ),
}

_ERRORS = ("top-1 error, %", "top-5 error, %")
_ACCURACIES = ("top-1, %", "top-5, %")

_RESULTS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "SE T2": (
        _ERRORS,
        (
            "24.80 7.48", "23.29 6.62", "23.17 6.52", "22.38 6.07", "22.42 6.34", "21.57 5.73", "22.11 5.90",
            "21.10 5.49", "21.18 5.57", "20.70 5.01", "25.38 7.89", "24.23 7.14", "27.02 8.81", "25.22 7.70",
            "20.37 5.21", "19.80 4.79",
        ),
    ),
    "BAM CIFAR-100": (
        ("error, %",),
        ("21.49", "20.88", "20.00", "22.22", "21.29", "21.96", "20.40", "20.06", "19.06", "18.18", "18.15", "16.71"),
    ),
    "CBAM T4": (
        _ERRORS,
        (
            "29.60 10.55", "29.41 10.22", "29.27 10.09", "26.69 8.60", "26.13 8.35", "25.99 8.24", "24.56 7.50",
            "23.14 6.70", "22.66 6.31", "23.38 6.88", "22.35 6.19", "21.51 5.69", "26.85 8.88", "26.21 8.47",
            "26.10 8.43", "25.63 8.20", "24.93 7.65", "24.84 7.63", "22.85 6.48", "21.91 6.04", "21.92 5.91",
            "21.54 5.75", "21.17 5.66", "21.07 5.59",
        ),
    ),
    "AA T1": (_ACCURACIES, ("80.3 95.0", "79.8 95.0", "81.0 95.3", "81.6 95.2")),
    "AA T2": (("top-1, %",), ("76.4", "77.5", "77.3", "77.4", "77.5", "77.7")),
    "AA T3": (
        _ACCURACIES,
        (
            "73.6 91.5", "74.3 91.8", "74.7 92.0", "76.4 93.1", "77.5 93.7", "77.7 93.8", "77.9 94.0", "78.4 94.2",
            "78.7 94.4", "78.4 94.2", "78.9 94.5", "79.1 94.6",
        ),
    ),
    "AA T4": (
        _ACCURACIES,
        (
            "73.3 91.3", "73.9 91.6", "75.2 92.4", "75.7 92.6", "76.7 93.2", "77.2 93.6", "77.2 93.5", "77.7 93.8",
        ),
    ),
    "AA T5": (
        ("mAP COCO", "mAP 50", "mAP 75"),
        (
            "36.8 54.5 39.5", "36.5 54.0 39.1", "38.2 56.5 40.7", "38.5 56.4 41.2", "37.4 55.0 39.9", "39.2 57.8 41.9",
        ),
    ),
    "AA T6": (_ACCURACIES, ("73.6 91.5", "76.4 93.1", "77.7 93.8", "77.3 93.6", "76.7 93.2", "73.9 91.5")),
    "AA T7": (
        _ACCURACIES,
        (
            "74.4 91.9", "74.4 92.0", "74.4 92.0", "74.7 92.0", "77.5 93.7", "77.5 93.7", "77.5 93.8", "77.7 93.8",
        ),
    ),
    "AA T8": (("mAP COCO", "mAP 50", "mAP 75"), ("37.7 56.0 40.2", "37.4 55.5 40.1", "38.2 56.5 40.7")),
    "AW T1": (
        _ERRORS,
        (
            "24.56 7.50", "23.38 6.79", "23.14 6.70", "22.72 6.47", "22.82 6.41", "23.20 6.58", "23.38 6.88",
            "22.38 6.21", "22.35 6.19", "21.78 5.74", "21.64 5.76", "22.32 6.18", "31.39 11.51", "29.97 10.63",
            "29.41 10.59", "29.01 9.99", "28.82 9.98",
        ),
    ),
    "AW T2": (
        _ERRORS,
        (
            "28.01 7.92", "26.14 7.43", "27.17 7.49", "27.09 8.00", "28.11 8.24", "22.33 5.83", "19.87 4.76",
            "20.43 5.01", "19.00 4.51", "19.46 4.56", "18.94 4.76",
        ),
    ),
    "AW T3": (
        ("mAP 50-95", "mAP 50", "mAP 75"),
        (
            "37.13 58.28 40.29", "37.76 59.17 40.91", "38.11 59.41 41.33", "38.45 59.70 41.86", "37.74 58.84 40.77",
            "38.19 59.52 41.43",
        ),
    ),
    "SE T16": (_ERRORS, ("23.30 6.55", "22.93 6.39", "22.28 6.03")),
}  # fmt: skip
"""The printed accuracies of each table: the columns, and the values in every row of `_TABLES`."""
