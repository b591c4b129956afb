import pytest

from jaxgpt.errors import UsageError
from jaxgpt.objectives import OBJECTIVES
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.post_training import LEARNING_RATES, POLICIES, PostTrainingConfig
from jaxgpt.training.preset import Preset


def test_every_objective_that_a_run_must_name_has_a_learning_rate():
    assert LEARNING_RATES.keys() == {name for name, objective in OBJECTIVES.items() if objective.by_name}
    assert POLICIES.keys() == {name for name, objective in OBJECTIVES.items() if objective.data == "rollouts"}


def test_an_objective_sets_the_defaults_of_its_recipe_and_another_recipe_replaces_them():
    config = TrainConfig.from_preset(Preset(objective="simpo"))
    assert (config.optimizer.lr, config.optimizer.schedule, config.run.epochs) == (1e-6, "cosine", 1)
    assert config.data.B_step == 64
    assert TrainConfig.from_preset(Preset(objective="reward")).optimizer.lr == 9e-6
    assert TrainConfig.from_preset(Preset(objective="dpo", recipe="finetune")).optimizer.lr == 3e-5
    assert TrainConfig.from_preset(Preset()) == TrainConfig()


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"beta": 0.0}, "--beta 0.0 is out of range: it must be a finite number above 0"),
        ({"gamma": -1.0}, "--gamma -1.0 is out of range: it must be from 0 to below inf"),
        ({"label_smoothing": 0.5}, "--label-smoothing 0.5 is out of range: it must be from 0 to below 0.5"),
        ({"max_drop": float("nan")}, "--max-drop nan is out of range"),
    ],
)
def test_a_number_out_of_range_is_refused(flags, message):
    with pytest.raises(UsageError) as error:
        PostTrainingConfig(**flags)
    assert str(error.value).startswith(message)


def test_settings_are_those_that_are_given():
    assert PostTrainingConfig().settings == {}
    assert PostTrainingConfig(beta=0.3, gamma=0.0, max_drop=5.0).settings == {"beta": 0.3, "gamma": 0.0}
    with pytest.raises(UsageError, match="--max-drop has nothing to measure; name a file or a fraction with --val"):
        TrainConfig.of(max_drop=1.0)
