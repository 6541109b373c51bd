"""The names of tags and metrics of runs, experiments and registered models. They are stored: none changes.

Beside these a run has a tag for each entry of core.machine.environment and core.machine.origin, and a metric for each
name in core.training.progress.METRICS and core.evaluate.metrics.
"""

from __future__ import annotations

# Every run
KIND = "kind"  # one of:
STAGE, TRIAL = "stage", "trial"  # a stage's run, and below it those of its trials
STAGE_NAME = "stage"
OWNER = "owner"  # of the project folder that a run is from
PARENT = "mlflow.parentRunId"  # below which run MLflow's page shows this one
TOKEN = "token"  # tells a run from any other before its id is known
REASON = "reason"  # why training was broken off, or a trial did not finish
DATA_NAME, DATA_SOURCE, DATA_SHA256 = "data.name", "data.source", "data.sha256"
DATA_SEED = "data.seed"  # of the split into training and validation images
LARGEST_CLASS = "data.largest_class"  # of the validation images, in words

# A trial's run
KEY = "key"  # of its cell
ATTEMPT = "attempt"  # from another seed, after it diverged
OUTCOME = "outcome"  # finished, cut, pruned or failed: MLflow's status has no word for all of them
RESUMED = "resumed"  # after which epoch, and how, where it was broken off
REBUILT_FROM = "rebuilt.from"  # of a run that was made anew from its files: its id in Optuna's record
WINNER, RANKED = "winner", "ranked"  # true or false
SOURCE = "source"  # of its setting: point, or the stage's sampler
BEST_VAL_ACCURACY, BEST_VAL_LOSS, BEST_EPOCH, EPOCHS = "best_val_accuracy", "best_val_loss", "best_epoch", "epochs"
RANK = "rank"

# A stage's run
FINGERPRINT = "fingerprint"  # its fixed settings and seed, as JSON
PLAN = "plan"  # a hash of its cells' keys
WINNER_RUN, WINNER_NAME = "winner.run_id", "winner.name"
DESCRIPTION = "mlflow.note.content"
SAMPLER, SEEDS, TRIALS, AT_ONCE = "sampler", "seeds", "trials", "at_once"
SPACE, WHEN, PRUNER, BUDGET = "space.", "when.", "pruner.", "budget."  # before the name of what they tell
ENDED = "trials_"  # before an outcome: how many trials had it
VAL_LARGEST_CLASS = "val_largest_class"
LEAD, LEAD_LOW, LEAD_HIGH = "lead", "lead_low", "lead_high"

# A version of a registered model, which has STAGE_NAME, BEST_VAL_ACCURACY and DATA_SHA256, too
VERSION_TRIAL = "trial"  # the name of its trial

# An experiment
EXPERIMENT_KIND = "mlflow.experimentKind"
VIEW = "mlflow.sharedViewState."  # before a view's key
