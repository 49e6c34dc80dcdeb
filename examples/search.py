"""A search from Python, in one process and without Ray: `python examples/search.py`, seconds on a core."""

import sys
from pathlib import Path

from nas.analysis import front_of
from nas.costs import Budget, Conditions, CostModel
from nas.search import Engine, EpochRecord, Journal, Objective, Outcome, SearchConfig, read_trials
from search_spaces import load_space
from trainers import DataConfig, TrainerConfig, Training, load_data

run = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/from-python")
space, data = load_space("shapes"), load_data(DataConfig(name="shapes", train_size=96, val_size=48))
trainer, costs = TrainerConfig(epochs=2, batch_size=32), CostModel(Conditions())
objectives = (Objective("top1", "maximize"), Objective("macs", "minimize"))
budget = Budget.parse({"macs": "1.5x"}, plain=space.plain(), costs=costs)
config = SearchConfig(trials=6)

with Journal.create(run, [o.direction for o in objectives], [o.metric for o in objectives], {}) as journal:
    engine = Engine(journal, space, config, objectives=objectives, epochs=trainer.epochs, costs=costs, budget=budget)
    while (job := engine.next()) is not None:
        training = Training(job.architecture, data, trainer, epochs=job.epochs, seed=job.seed)
        if job.start_epoch:
            training.restore(run / f"{job.number}.pt")
        while training.epoch < job.stop_epoch:
            epoch = training.run_epoch()
            engine.report(job, EpochRecord(epoch.epoch, dict(epoch.val), epoch.lr, epoch.seconds))
        training.save(run / f"{job.number}.pt")
        engine.finish(job, Outcome("reached"))
    for trial in front_of(read_trials(journal.study), objectives):
        placed = {
            block: [choice.option for choice in slots.values()]
            for block, slots in trial.architecture.placements.items()
        }
        print(f"trial {trial.number}: top-1 {trial.epochs[trial.last_epoch].metrics['top1']:.3f}", placed or "plain")
