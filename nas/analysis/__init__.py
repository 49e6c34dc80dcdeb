"""Analyses the trials of a run: the Pareto front, its growth, the effect of each placement, and the noise."""

from nas.analysis.account import Account, account
from nas.analysis.answer import Answer, Standing, answer, restored, stored
from nas.analysis.compare import EffectBeside, Gap, beside, takes_beside
from nas.analysis.decide import most_telling
from nas.analysis.front import FrontGrowth, GrowingFront, front_of, progress, searched
from nas.analysis.pace import Gaining, still_gaining
from nas.analysis.ranks import early_ranks, silent_rungs
from nas.analysis.selection import front_by_means, select

__all__ = [
    "Account",
    "Answer",
    "EffectBeside",
    "FrontGrowth",
    "Gaining",
    "Gap",
    "GrowingFront",
    "Standing",
    "account",
    "answer",
    "beside",
    "early_ranks",
    "front_by_means",
    "front_of",
    "most_telling",
    "progress",
    "restored",
    "searched",
    "select",
    "silent_rungs",
    "still_gaining",
    "stored",
    "takes_beside",
]
