"""What can be chosen: the option `eca`. No torch here, so that files are read without it.

Efficient Channel Attention (Wang, Wu, Zhu, Li, Zuo, Hu; CVPR 2020) - https://arxiv.org/abs/1910.03151
"""

from search_spaces import Option, Param, Site, Value


def _resolve(params: "dict[str, Value]", site: Site) -> "dict[str, Value]":
    kernel = int(params["kernel"])
    if kernel % 2 == 0 or kernel > site.out_channels:
        raise ValueError(f"kernel {kernel} must be odd and at most the {site.out_channels} channels: choose 3")
    return {"kernel": kernel}


option = Option(
    "eca",
    frozenset({"refine", "after"}),
    "efficient channel attention: scale each channel by a function of its neighbours' means",
    _resolve,
    {"kernel": Param(3, low=1, high=63, doc="how many neighbouring channels a scale depends on")},
)
operator = "eca.operator:ECA"
