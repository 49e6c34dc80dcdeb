"""The private parts of Optuna that `nas.search.optuna_private` uses exist and have the same meaning."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, _storage

from nas.search import optuna_private
from nas.search.optuna_private import IndexedStorage

ROOT = Path(__file__).parents[3]
REPLAY = getattr(_storage, "JournalStorageReplayResult", None)
PARTS: dict[str, tuple[object, tuple[str, ...]]] = {
    "JournalStorage._sync_with_backend": (getattr(JournalStorage, "_sync_with_backend", None), ("self",)),
    "JournalStorageReplayResult.__init__": (getattr(REPLAY, "__init__", None), ("self", "worker_id_prefix")),
    "JournalStorageReplayResult._apply_create_trial": (getattr(REPLAY, "_apply_create_trial", None), ("self", "log")),
    "JournalStorageReplayResult._apply_set_trial_param": (
        getattr(REPLAY, "_apply_set_trial_param", None),
        ("self", "log"),
    ),
    "JournalStorageReplayResult._apply_set_trial_state_values": (
        getattr(REPLAY, "_apply_set_trial_state_values", None),
        ("self", "log"),
    ),
    "JournalStorageReplayResult.get_all_trials": (
        getattr(REPLAY, "get_all_trials", None),
        ("self", "study_id", "states"),
    ),
    "Study._get_trials": (getattr(optuna.Study, "_get_trials", None), ("self", "deepcopy", "states", "use_cache")),
}


@pytest.mark.parametrize("name", PARTS)
def test_a_private_part_of_optuna_is_where_we_use_it(name: str) -> None:
    part, parameters = PARTS[name]
    found = tuple(inspect.signature(part).parameters) if callable(part) else None
    assert found == parameters, (
        f"optuna {optuna.__version__} has {name}{found or ' no longer'}, and nas/search/optuna_private.py uses "
        f"{name}{parameters}: change that file, or bound optuna's version in pyproject.toml"
    )


def test_the_attributes_of_a_study_that_we_read() -> None:
    study = optuna.create_study()
    for name in ("_storage", "_study_id"):
        assert hasattr(study, name), f"optuna {optuna.__version__}: a Study has no {name}: change optuna_private.py"


def test_no_other_file_uses_private_parts_of_optuna() -> None:
    private = re.compile(r"\b_storage\b|\._study_id\b|\._trial_id\b|\._get_trials\b|optuna[\w.]*\._\w")
    found = {
        str(path.relative_to(ROOT))
        for package in ("nas", "launch", "trainers", "search_spaces")
        for path in (ROOT / package).rglob("*.py")
        if private.search(path.read_text())
    }
    assert found == {"nas/search/optuna_private.py"}


def ask(study: optuna.Study, number: int) -> optuna.Trial:
    if number % 3 == 0:
        study.enqueue_trial({"kind": "b", "x": 0.5})
    trial = study.ask()
    if trial.suggest_categorical("kind", ["a", "b"]) == "b":
        trial.suggest_float("x", 0.0, 1.0)
    return trial


def test_our_storage_behaves_like_optunas(tmp_path: Path) -> None:
    """Same trials and errors for conditional parameters, waiting trials and changed ranges."""
    made: list[Callable[[JournalFileBackend], JournalStorage]] = [JournalStorage, IndexedStorage]
    trials = []
    for index, make in enumerate(made):
        backend = JournalFileBackend(str(tmp_path / f"{index}.log"))
        sampler = optuna.samplers.RandomSampler(seed=0)
        study = optuna.create_study(storage=make(backend), study_name="s", sampler=sampler)
        study.enqueue_trial({"kind": "a"})
        study.enqueue_trial({"kind": "b"})
        for number in range(12):
            trial = ask(study, number)
            if number % 2:
                study.tell(trial, float(number))
        with pytest.raises(ValueError, match="does not support dynamic value space"):
            study.ask().suggest_categorical("kind", ["a", "c"])
        trials.append([(t.number, t.state, t.params, t.distributions, t.values) for t in study.trials])
        read = optuna.load_study(study_name="s", storage=IndexedStorage(backend))
        assert [(t.number, t.state, t.params, t.distributions, t.values) for t in read.trials] == trials[-1]
    assert trials[0] == trials[1]
    assert optuna_private.trial_of(study, 3).number == 3
