"""Whether a run can be trusted: is a baseline beaten, is the training long enough, are some networks unstable."""

from dataclasses import dataclass

from launch.reports.answer import against_baseline
from launch.reports.facts import Facts
from nas.analysis.answer import Answer

_MOST_NAMED = 8


@dataclass(frozen=True, slots=True)
class Sign:
    """A sentence on a run. ``good``: None where the run cannot say."""

    good: bool | None
    text: str


def health(facts: Facts) -> list[Sign]:
    """The signs that a reader looks at before the answer."""
    found, answer = [], facts.answer
    if answer is not None and answer.over_baseline is not None:
        beaten = {1: True, 0: None, -1: False}[answer.over_baseline.sign]
        found.append(Sign(beaten, f"Trial {answer.take} {against_baseline(answer)}."))
    if facts.gaining:
        options = ", ".join(row["option"] for row in facts.gaining)
        found.append(
            Sign(
                False,
                "The training may be too short: networks with these options still gain on the plain network when it "
                f"ends: {options}.",
            )
        )
    else:
        found.append(Sign(True, "No option is seen to gain on the plain network in the last third of the training."))
    if answer is not None:
        found.append(_stable(answer))
    return found


def _stable(answer: Answer) -> Sign:
    if all(len(standing.values) < 2 for standing in answer.standings):
        return Sign(None, "No network was trained in full with two seeds, so no one knows whether some are unstable.")
    unstable = [standing.trial.number for standing in answer.standings if standing.unstable]
    if not unstable:
        return Sign(True, "No network varies far more between its seeds than the others do.")
    named = ", ".join(map(str, unstable[:_MOST_NAMED])) + (", ..." if len(unstable) > _MOST_NAMED else "")
    return Sign(False, f"These trials' networks vary far more between their seeds than the others do: {named}.")
