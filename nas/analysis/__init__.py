"""Analyses the trials of a run: the Pareto front, its growth, the effect of each placement, and the noise."""

from nas.analysis.account import Account, account
from nas.analysis.effects import Effect, effects
from nas.analysis.finalists import Finalist, finalists
from nas.analysis.front import FrontGrowth, GrowingFront, front_of, progress, searched, select
from nas.analysis.pace import Gaining, still_gaining
from nas.analysis.ranks import early_ranks, silent_rungs

__all__ = [
    "Account",
    "Effect",
    "Finalist",
    "FrontGrowth",
    "Gaining",
    "GrowingFront",
    "account",
    "early_ranks",
    "effects",
    "finalists",
    "front_of",
    "progress",
    "searched",
    "select",
    "silent_rungs",
    "still_gaining",
]
