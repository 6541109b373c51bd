"""What a stage may search: ranges, conditions and their combinations; one clear line for what is wrong in a file."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest

from core.errors import InputError
from sweep.__main__ import main
from sweep.experiment import file as experiments
from sweep.experiment import parse_space
from sweep.experiment.space import Range, Space

OPTIMISERS = Space(
    dimensions={
        "optimiser": ("sgd", "adam"),
        "momentum": (0.0, 0.9),
        "nesterov": (False, True),
        "beta1": Range(0.5, 1),
    },
    conditions={
        "momentum": {"optimiser": ("sgd",)},
        "nesterov": {"momentum": (0.9,)},
        "beta1": {"optimiser": ("adam", "adamw")},
    },
)


def test_a_range_of_any_numbers_has_its_low_end_but_not_its_high_one() -> None:
    numbers = Range(0.1, 0.5)
    assert 0.1 in numbers
    assert 0.3 in numbers
    assert math.nextafter(0.5, 0) in numbers
    assert 0.5 not in numbers
    assert 0.09 not in numbers
    assert numbers.ends == (0.1, math.nextafter(0.5, 0))
    assert all(end in numbers for end in numbers.ends)
    assert str(numbers) == "0.1 to 0.5"
    assert str(Range(0.1, 0.5, log=True)) == "0.1 to 0.5, log"


def test_a_range_of_whole_numbers_has_both_ends_and_what_lies_on_its_steps() -> None:
    numbers = Range(1, 7, step=3)
    assert [value for value in range(10) if value in numbers] == [1, 4, 7]
    assert numbers.ends == (1, 7)
    assert str(numbers) == "1 to 7, step 3"
    assert str(Range(1, 7, step=1)) == "1 to 7"


@pytest.mark.parametrize("value", [True, "1", None, math.nan])
def test_what_is_no_number_is_in_no_range(value: object) -> None:
    assert value not in Range(0, 2)
    assert value not in Range(0, 2, step=1)


def test_combinations_search_a_setting_only_where_its_condition_holds_and_come_once_each() -> None:
    below_one = math.nextafter(1, 0)
    assert list(OPTIMISERS.combinations()) == [
        {"optimiser": "sgd", "momentum": 0.0},
        {"optimiser": "sgd", "momentum": 0.9, "nesterov": False},
        {"optimiser": "sgd", "momentum": 0.9, "nesterov": True},
        {"optimiser": "adam", "beta1": 0.5},
        {"optimiser": "adam", "beta1": below_one},
    ]


@pytest.mark.parametrize(
    ("point", "inside"),
    [
        ({"optimiser": "adam", "beta1": 0.5}, True),
        ({"optimiser": "sgd", "momentum": 0.9, "nesterov": True}, True),
        ({"optimiser": "sgd", "momentum": 0.0}, True),
        ({"optimiser": "sgd", "momentum": 0.0, "nesterov": True}, False),
        ({"optimiser": "sgd", "momentum": 0.5}, False),
        ({"optimiser": "adam", "beta1": 1.0}, False),
        ({"optimiser": "adam"}, False),
        ({"optimiser": "adam", "momentum": 0.9, "beta1": 0.5}, False),
        ({"momentum": 0.9}, False),
    ],
)
def test_a_point_lies_in_the_space_if_it_sets_what_is_searched_there_and_nothing_else(
    point: dict, inside: bool
) -> None:
    assert OPTIMISERS.contains(point) is inside


def test_what_is_fixed_leaves_the_space_and_decides_its_conditions() -> None:
    assert OPTIMISERS.without({"lr": 0.1}) == OPTIMISERS
    adam = OPTIMISERS.without({"optimiser": "adam"})
    assert list(adam.combinations()) == [{"beta1": 0.5}, {"beta1": math.nextafter(1, 0)}]
    heavy = OPTIMISERS.without({"optimiser": "sgd", "momentum": 0.9})
    assert heavy == Space({"nesterov": (False, True)})
    assert list(OPTIMISERS.without({"optimiser": "sgd", "momentum": 0.0}).combinations()) == [{}]


def test_a_file_says_log_and_whole_ranges_choices_and_conditions() -> None:
    found = parse_space.parse_space(
        "space",
        {
            "optimiser": ["sgd", "adam", "adamw"],
            "lr": {"low": 1e-4, "high": 1, "log": True},
            "crop": {"low": 0, "high": 4, "step": 2},
            "cutout": {"low": 1, "high": 6, "log": True},
            "momentum": {"choices": [0, 0.9], "when": {"optimiser": "sgd"}},
            "beta2": {"low": 0.9, "high": 1, "when": {"optimiser": ["adam", "adamw"]}},
        },
        "tpe",
    )
    assert found.dimensions == {
        "optimiser": ("sgd", "adam", "adamw"),
        "lr": Range(1e-4, 1.0, log=True),
        "crop": Range(0, 4, step=2),
        "cutout": Range(1, 6, log=True, step=1),
        "momentum": (0.0, 0.9),
        "beta2": Range(0.9, 1.0),
    }
    assert found.conditions == {"momentum": {"optimiser": ("sgd",)}, "beta2": {"optimiser": ("adam", "adamw")}}
    assert all(type(end) is int for key in ("crop", "cutout") for end in found.dimensions[key].ends)


def test_a_range_is_written_as_ever() -> None:
    """By which a study that was begun is known."""
    table = {"lr": {"low": 1e-4, "high": 1, "log": True}, "crop": {"low": 0, "high": 4}, "dropout": [0, 0.5]}
    assert repr(parse_space.parse_space("space", table, "tpe")) == (
        "Space(dimensions={'lr': Range(low=0.0001, high=1.0, log=True, step=0), "
        "'crop': Range(low=0, high=4, log=False, step=1), 'dropout': (0.0, 0.5)}, conditions={})"
    )


def test_a_range_with_a_step_has_the_numbers_that_are_written() -> None:
    table = {"dropout": {"low": 0.1, "high": 0.7, "step": 0.1}, "batch_size": {"low": 16, "high": 64, "step": 16}}
    grid = parse_space.parse_space("space", table, "grid")
    assert grid.dimensions == {"dropout": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7), "batch_size": (16, 32, 48, 64)}
    assert {type(value) for value in grid.dimensions["batch_size"]} == {int}
    drawn = parse_space.parse_space("space", table, "tpe").dimensions["dropout"]
    assert drawn == Range(0.1, 0.7, step=0.1)
    assert drawn.ends == (0.1, 0.7)
    assert [n / 100 for n in range(90) if n / 100 in drawn] == list(grid.dimensions["dropout"])
    assert 0.1 + 2 * 0.1 not in drawn
    assert str(drawn) == "0.1 to 0.7, step 0.1"


def write(project: Path, stage: str, settings: str = "epochs = 3") -> Path:
    path = project / "experiments" / "bad.toml"
    path.write_text(f'data = "small.npz"\n[settings]\nbatch_size = 16\n{settings}\n[stages.search]\n{stage}\n')
    return path


def of_space(line: str, sampler: str = "tpe") -> str:
    return f'sampler = "{sampler}"\n[stages.search.space]\n{line}'


def of_stage(line: str, sampler: str = "tpe") -> str:
    return f'sampler = "{sampler}"\nspace = {{ lr = [0.01, 0.1] }}\n{line}'


# What is wrong: the stage's text, the key that the line names, and what it says would be right.
BAD = {
    "a parent that is not searched": (
        of_space('beta1 = { low = 0.5, high = 0.9, when = { optimiser = "adam" } }'),
        "stages.search.space.beta1.when names optimiser",
        "not searched further up",
    ),
    "a parent further down": (
        of_space('beta1 = { low = 0.5, high = 0.9, when = { optimiser = "adam" } }\noptimiser = ["sgd", "adam"]'),
        "stages.search.space.beta1.when names optimiser",
        "not searched further up",
    ),
    "a setting under its own condition": (
        of_space("lr = { choices = [0.1], when = { lr = 0.1 } }"),
        "stages.search.space.lr.when names lr",
        "not searched further up",
    ),
    "a misspelt parent": (
        of_space('optimiser = ["sgd", "adam"]\nbeta1 = { choices = [0.5], when = { optimizer = "adam" } }'),
        "stages.search.space.beta1.when names optimizer",
        'did you mean "optimiser"?',
    ),
    "a parent that is a range": (
        of_space("lr = { low = 0.1, high = 0.9 }\nreg = { choices = [0.1], when = { lr = 0.1 } }"),
        "stages.search.space.reg.when names lr, which is a range",
        "a condition needs a list of values",
    ),
    "a value that never comes up": (
        of_space('optimiser = ["sgd", "adam"]\nbeta1 = { choices = [0.5], when = { optimiser = "adamw" } }'),
        "stages.search.space.beta1.when: optimiser = 'adamw' never comes up",
        "its values are ['sgd', 'adam']",
    ),
    "one of two values never comes up": (
        of_space('optimiser = ["sgd", "adam"]\nbeta1 = { choices = [0.5], when = { optimiser = ["adam", "adamw"] } }'),
        "stages.search.space.beta1.when: optimiser = 'adamw' never comes up",
        "its values are ['sgd', 'adam']",
    ),
    "an empty condition": (
        of_space("lr = { choices = [0.1], when = {} }"),
        "stages.search.space.lr.when is empty",
        "name a setting and its value",
    ),
    "a condition that is text": (
        of_space('lr = { choices = [0.1], when = "adam" }'),
        "stages.search.space.lr.when is 'adam'",
        "it must be a table like",
    ),
    "a condition alone": (
        of_space('optimiser = ["sgd", "adam"]\nbeta1 = { when = { optimiser = "adam" } }'),
        "stages.search.space.beta1.low is None",
        "it must be a number",
    ),
    "choices and a range": (
        of_space("lr = { choices = [0.1], low = 0.1, high = 0.5 }"),
        "stages.search.space.lr.low is not a key",
        "there are: choices, when",
    ),
    "choices that are no list": (
        of_space("lr = { choices = 0.1 }"),
        "stages.search.space.lr is 0.1",
        "it must be a list of values",
    ),
    "an unknown optimiser": (
        of_space('optimiser = ["sgd", "lion"]'),
        "stages.search.space.optimiser: optimiser is 'lion'",
        "it must be one of sgd, adam, adamw",
    ),
    "a beta of 1": (
        of_space("beta1 = [0.9, 1.0]"),
        "stages.search.space.beta1: beta1 is 1.0",
        "it must be a number in [0, 1)",
    ),
    "a beta below 0": (
        of_space("beta2 = { low = -0.1, high = 0.9 }"),
        "stages.search.space.beta2: beta2 is -0.1",
        "it must be a number in [0, 1)",
    ),
    "a beta beyond 1": (
        of_space("beta2 = { low = 0.1, high = 1.1 }"),
        "stages.search.space.beta2: beta2 is 1.0999",
        "it must be a number in [0, 1)",
    ),
    "a log range from 0": (
        of_space("lr = { low = 0, high = 0.1, log = true }"),
        "stages.search.space.lr: low is 0",
        "a logarithmic range needs one above 0",
    ),
    "a log range of whole numbers from 0": (
        of_space("crop = { low = 0, high = 4, log = true }"),
        "stages.search.space.crop: low is 0",
        "a logarithmic range needs one above 0",
    ),
    "log that is no yes or no": (
        of_space('lr = { low = 0.1, high = 1, log = "yes" }'),
        "stages.search.space.lr.log is 'yes'",
        "it must be true or false",
    ),
    "a step that does not divide": (
        of_space("crop = { low = 0, high = 5, step = 2 }"),
        "stages.search.space.crop.step is 2",
        "it must be a whole number that divides high - low",
    ),
    "a step of 0": (of_space("crop = { low = 0, high = 4, step = 0 }"), "stages.search.space.crop.step is 0", "whole"),
    "a step that is no whole number": (
        of_space("crop = { low = 0, high = 4, step = 0.5 }"),
        "stages.search.space.crop.step is 0.5",
        "it must be a whole number that divides high - low",
    ),
    "a step that does not divide any number": (
        of_space("lr = { low = 0.1, high = 0.5, step = 0.3 }"),
        "stages.search.space.lr.step is 0.3",
        "it must be a number above 0 that divides high - low",
    ),
    "a step back": (
        of_space("lr = { low = 0.1, high = 0.5, step = -0.1 }"),
        "stages.search.space.lr.step is -0.1",
        "it must be a number above 0 that divides high - low",
    ),
    "a step that is text": (
        of_space('lr = { low = 0.1, high = 0.5, step = "0.1" }'),
        "stages.search.space.lr.step is '0.1'",
        "it must be a number",
    ),
    "log and a step of any number": (
        of_space("lr = { low = 1, high = 5, step = 1, log = true }"),
        "stages.search.space.lr: log and step",
        "cannot both be given",
    ),
    "a grid of too many steps": (
        of_space("clip = { low = 0, high = 1e300, step = 1e-3 }", "grid"),
        "stages.search.space.clip has more than 100000 values: ",
        "a stage may have no more trials",
    ),
    "a step beyond what is allowed": (
        of_space("dropout = { low = 0, high = 1, step = 0.25 }", "grid"),
        "stages.search.space.dropout: dropout is 1.0",
        "it must be a number in [0, 1)",
    ),
    "log and a step": (
        of_space("cutout = { low = 1, high = 5, step = 2, log = true }"),
        "stages.search.space.cutout: log and step",
        "cannot both be given",
    ),
    "whole numbers out of range": (
        of_space("epochs = { low = 0, high = 4 }"),
        "stages.search.space.epochs: epochs is 0",
        "it must be a whole number from 1 to 1000000",
    ),
    "whole numbers that are none": (
        of_space("patience = { low = 1, high = 4.5 }"),
        "stages.search.space.patience: patience is 4.5",
        "it must be a whole number from 1 to 1000000000",
    ),
    "a range of one value": (of_space("lr = { low = 0.1, high = 0.1 }"), "stages.search.space.lr", "low must be below"),
    "a range of words": (
        of_space("filters = { low = 1, high = 4 }"),
        "stages.search.space.filters is a range",
        "give a list of values",
    ),
    "a range of yes and no": (
        of_space("residual = { low = 0, high = 1 }"),
        "stages.search.space.residual is a range",
        "give a list of values",
    ),
    "yes that is 1": (of_space("residual = [0, 1]"), "residual is 0", "it must be true or false"),
    "a range in a grid": (
        of_space("crop = { low = 0, high = 4 }", "grid"),
        "stages.search.space.crop is a range",
        "a grid needs a list of values, or a range with a step",
    ),
    "cmaes with choices": (
        of_space('lr = { low = 0.01, high = 0.1 }\nfilters = ["2", "3"]', "cmaes"),
        "stages.search.space: cmaes searches two or more unconditional ranges, which filters is not",
        "use tpe",
    ),
    "cmaes under a condition": (
        of_space(
            'optimiser = ["sgd", "adam"]\nlr = { low = 0.01, high = 0.1 }\n'
            'beta1 = { low = 0.5, high = 0.9, when = { optimiser = "adam" } }',
            "cmaes",
        ),
        "which optimiser, beta1 is not",
        "use tpe",
    ),
    "cmaes of one range": (
        of_space("lr = { low = 0.01, high = 0.1 }", "cmaes"),
        "stages.search.space: cmaes searches two or more unconditional ranges; this is one",
        "use tpe",
    ),
    "no space": ('sampler = "tpe"', "stages.search.space is missing", "name the settings to search"),
    "a seed that is searched": (of_space("seed = [1, 2]"), "stages.search.space.seed is not a key", "there are: "),
    "at_once with a grid": (
        of_stage("at_once = 4", "grid"),
        "stages.search.at_once is given",
        "grid knows all its trials beforehand: remove it",
    ),
    "at_once with draws": (
        of_stage("at_once = 4", "qmc"),
        "stages.search.at_once is given",
        "qmc knows all its trials",
    ),
    "at_once of 0": (of_stage("at_once = 0"), "stages.search.at_once is 0", "a whole number from 1 to 10000"),
    "seeds of 0": (of_stage("seeds = 0", "grid"), "stages.search.seeds is 0", "a whole number from 1 to 1000"),
    "seeds in a list": (of_stage("seeds = [1, 2]"), "stages.search.seeds is [1, 2]", "a whole number from 1 to 1000"),
    "seeds of true": (of_stage("seeds = true"), "stages.search.seeds is True", "a whole number from 1 to 1000"),
    "trials of 2.5": (of_stage("trials = 2.5"), "stages.search.trials is 2.5", "a whole number from 1 to 100000"),
    "an unknown pruner": (
        of_stage('pruner = "medain"'),
        "stages.search.pruner.kind is 'medain'",
        "it must be one of median, halving, hyperband",
    ),
    "a pruner without a kind": (
        of_stage("pruner = { min_epochs = 2 }"),
        "stages.search.pruner.kind is None",
        "it must be one of median, halving, hyperband",
    ),
    "a pruner that is a number": (of_stage("pruner = 3"), "stages.search.pruner is 3", "a table or a pruner's name"),
    "a misspelt option of a pruner": (
        of_stage('pruner = { kind = "median", min_epoch = 2 }'),
        "stages.search.pruner.min_epoch is not a key",
        'did you mean "min_epochs"?',
    ),
    "a pruner that comes too late": (
        of_stage('pruner = { kind = "median", min_epochs = 3 }'),
        "stages.search.pruner: min_epochs is 3",
        "it must be below the most epochs that a trial trains (3)",
    ),
    "a pruner that keeps all": (
        of_stage('pruner = { kind = "halving", reduction = 1 }'),
        "stages.search.pruner: reduction is 1",
        "it must be at least 2",
    ),
    "a budget of 0 minutes": (of_stage("budget = { minutes = 0 }"), "stages.search.budget.minutes is 0", "above 0"),
    "a budget of 0 epochs": (
        of_stage("budget = { epochs = 0 }"),
        "stages.search.budget.epochs is 0",
        "it must be a whole number from 1",
    ),
    "a budget without end": (of_stage("budget = { minutes = inf }"), "stages.search.budget.minutes is inf", "a number"),
    "a budget that is a number": (
        of_stage("budget = 30"),
        "stages.search.budget is 30",
        "it must be a table like { minutes = 30 }",
    ),
    "a misspelt budget": (
        of_stage("budget = { minuets = 30 }"),
        "stages.search.budget.minuets is not a key",
        'did you mean "minutes"?',
    ),
    "a point beyond its condition": (
        of_space(
            'optimiser = ["sgd", "adam"]\nmomentum = { choices = [0.9], when = { optimiser = "sgd" } }\n'
            '[stages.search.points]\nnamed = [{ optimiser = "adam", momentum = 0.9 }]'
        ),
        "stages.search.points.named",
        "a point must set exactly optimiser;",
    ),
    "a point between two steps": (
        of_space("crop = { low = 0, high = 4, step = 2 }\n[stages.search.points]\nnamed = [{ crop = 1 }]"),
        "stages.search.points.named: {'crop': 1}",
        "lies outside the stage's space",
    ),
}


def refused(path: Path, capsys: pytest.CaptureFixture[str], command: str = "run") -> str:
    """The one line with which a file is refused, from outside: exit status 2, and no traceback."""
    assert main([command, str(path), "--quiet"] if command == "run" else [command, str(path), "--json"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize("case", BAD)
def test_a_bad_stage_is_refused_with_one_line_that_names_file_key_and_remedy(project: Path, capsys, case: str) -> None:
    stage, key, remedy = BAD[case]
    path = write(project, stage)
    before = (project / "mlflow.db").read_bytes()
    line = refused(path, capsys)
    assert line.startswith(f"error: {path}: ")
    assert key in line
    assert remedy in line
    assert not (project / "mlruns").exists()
    assert (project / "mlflow.db").read_bytes() == before


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ('optimiser = "lion"', "settings.optimiser: optimiser is 'lion': it must be one of sgd, adam, adamw"),
        ("beta1 = 1", "settings.beta1: beta1 is 1: it must be a number in [0, 1)"),
        ("momentum = -0.5", "settings.momentum: momentum is -0.5: it must be a number in [0, 1)"),
        ("nesterov = 1", "settings.nesterov: nesterov is 1: it must be true or false"),
        ("flip = 1.5", "settings.flip: flip is 1.5: it must be a probability in [0, 1]"),
        ("crop = 1.5", "settings.crop: crop is 1.5: it must be a whole number of pixels, not below 0"),
        ("rotate = 200", "settings.rotate: rotate is 200: it must be a number of degrees in [0, 180]"),
        ('pool = "maybe"', 'settings.pool: pool is "maybe": write "auto", or yes or no for each block'),
        ("adam_eps = 0.0", "settings.adam_eps: adam_eps is 0.0: it must be a number of at least 1e-12"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_made(
    project: Path, capsys, command: str, settings: str, expected: str
) -> None:
    path = write(project, of_stage("", "grid"), settings)
    shutil.rmtree(project / "mlruns", ignore_errors=True)
    (project / "mlflow.db").unlink()
    assert refused(path, capsys, command).startswith(f"error: {path}: {expected}")
    assert not (project / "mlruns").exists()
    assert not (project / "mlflow.db").exists()


def test_a_pruner_without_known_epochs_is_refused(project: Path, capsys) -> None:
    path = write(
        project, of_stage("") + '\n[stages.next]\nafter = "search"\ninherit = ["epochs"]\npruner = "median"\n' + (
            'sampler = "grid"\nspace = { lr = [0.1] }'
        )
    )  # fmt: skip
    assert "stages.next: a pruner must know the epochs, which inherit names: put them into settings" in refused(
        path, capsys
    )


def test_a_pruner_goes_by_the_epochs_that_the_stage_searches(project: Path) -> None:
    pruner = 'pruner = { kind = "median", min_epochs = 5 }\n[stages.search.space]\nepochs = '
    path = write(project, f'sampler = "tpe"\n{pruner}{{ low = 2, high = 6 }}')
    stage = experiments.load(str(path)).stages["search"]
    assert stage.pruner is not None
    assert (stage.pruner.epochs, stage.longest_training) == (6, 6)
    write(project, f'sampler = "grid"\n{pruner}[2, 5]')
    with pytest.raises(
        InputError, match=r"min_epochs is 5: it must be below the most epochs that a trial trains \(5\)"
    ):
        experiments.load(str(path))
    assert experiments.load(str(path), {"epochs": 6}).stages["search"].pruner is not None
    assert experiments.load(str(path), {"epochs": 5}).stages["search"].pruner is None  # a trial run, too short for it


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        (of_space("crop = [0, 7]", "grid"), "crop is 7: larger than images of 6x7 pixels"),
        (of_space("cutout = { low = 0, high = 9 }"), "cutout is 9: larger than images of 6x7 pixels"),
        (of_space('pool = ["auto", "yes"]', "grid"), "pool speaks of 1 blocks, but there are 2"),
        (of_space('filters = ["2", "2x2x2x2"]\npool = ["yes/yes/yes/yes"]'), "pool speaks of 4 blocks"),
    ],
)
@pytest.mark.parametrize("command", ["run", "plan"])
def test_what_the_images_cannot_bear_is_refused_before_training(
    project: Path, capsys, stage: str, expected: str, command: str
) -> None:
    assert expected in refused(write(project, stage), capsys, command)
    assert not list((project / "mlruns").glob("*/optuna.journal"))
