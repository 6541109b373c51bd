"""The names of other libraries are understood as what they are called here."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.config.settings import CHOICES
from core.errors import InputError
from sweep.experiment import file as experiments
from sweep.experiment import parse_space, parse_stage, synonyms
from sweep.experiment.checks import SETTINGS
from sweep.experiment.pruner import PRUNERS
from sweep.experiment.sampler import SAMPLERS
from sweep.experiment.synonyms import nearest


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        *[("learning_rate", "lr"), ("LearningRate", "lr"), ("weight_decay", "reg"), ("l2", "reg"), ("eta0", "lr")],
        *[("n_epochs", "epochs"), ("epochs_max", "epochs"), ("num-epochs", "epochs"), ("batch", "batch_size")],
        *[("optimizer", "optimiser"), ("momentum_factor", "momentum"), ("beta_1", "beta1"), ("epsilon", "adam_eps")],
        *[("dropout_rate", "dropout"), ("max_grad_norm", "clip_global"), ("clipnorm", "clip"), ("gamma", "decay")],
        *[("T_max", None), ("pct_start", "cycle_rise"), ("eta_min", "lr_min"), ("LR", "lr"), ("momentun", "momentum")],
    ],
)
def test_a_setting_by_another_name(theirs: str, ours: str | None) -> None:
    assert nearest(theirs, SETTINGS) == (f': did you mean "{ours}"?' if ours else "")


STAGE = '[stages.s]\nsampler = "random"\nspace = { lr = [0.1] }\n'
NEXT = '[stages.t]\nsampler = "grid"\nafter = "s"\ninherit = ["weight_decay"]\nspace = { clip = [1] }\n'
CONDITION = 'optimiser = ["sgd", "adam"], lr = { choices = [0.1], when = { optim = "adam" } }'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[settings]\nlearning_rate = 0.1\n" + STAGE, 'settings.learning_rate is not a key: did you mean "lr"?'),
        (STAGE.replace("lr =", "learning_rate ="), 'space.learning_rate is not a key: did you mean "lr"?'),
        (STAGE + "settings = { n_epochs = 3 }\n", 'settings.n_epochs is not a key: did you mean "epochs"?'),
        (STAGE + "n_trials = 3\n", 'stages.s.n_trials is not a key: did you mean "trials"?'),
        (STAGE + "n_jobs = 3\n", 'stages.s.n_jobs is not a key: did you mean "at_once"?'),
        (STAGE + "timeout = 3\n", 'stages.s.timeout is not a key: did you mean "budget"?'),
        (STAGE + NEXT, 'did you mean "reg"?'),
        (STAGE.replace("random", "bayes"), 'did you mean "tpe"?'),
        (STAGE.replace("random", "sobol"), 'did you mean "qmc"?'),
        (STAGE.replace("random", "CMA-ES"), 'did you mean "cmaes"?'),
        (STAGE + 'pruner = "asha"\n', 'did you mean "halving"?'),
        (STAGE + 'pruner = { kind = "halving", grace_period = 2 }\n', 'did you mean "min_epochs"?'),
        (STAGE.replace("[0.1]", "{ min = 0.1, high = 1 }"), 'space.lr.min is not a key: did you mean "low"?'),
        ('[settings]\nschedule = "OneCycleLR"\n' + STAGE, 'did you mean "one-cycle"?'),
        ('[settings]\noptimiser = "SGD"\n' + STAGE, 'did you mean "sgd"?'),
        ('[settings]\ninitial = "kaiming"\n' + STAGE, 'did you mean "he"?'),
        (
            STAGE.replace("lr = [0.1]", CONDITION),
            'names optim, which is not searched further up: did you mean "optimiser"?',
        ),
        ("random_state = 1\n" + STAGE, 'random_state is not a key: did you mean "seed"?'),
    ],
)  # fmt: skip
def test_wherever_it_stands(project: Path, text: str, said: str) -> None:
    path = project / "experiments" / "other.toml"
    path.write_text(text)
    with pytest.raises(InputError) as refused:
        experiments.load("other")
    assert said in str(refused.value)


def test_every_meaning_is_a_name_that_there_is() -> None:
    values = (*(value for values in CHOICES.values() for value in values), *SAMPLERS, *PRUNERS)
    keys = (
        *SETTINGS,
        *parse_stage._STAGE,
        *experiments._TOP,
        *parse_space._DIMENSION,
        "min_epochs",
        "reduction",
        "minutes",
    )
    assert set(synonyms._OTHERS) <= {*values, *keys}
