import torch

from deblur_cli.training.learner import Learner
from deblur_cli.training.recipe import Recipe, Stage
from deblur_cli.training.trainer import default_accelerator


def test_a_stage_of_another_loss_begins_with_steps_of_the_usual_size() -> None:
    stages = (Stage(until=0.5, crop=32), Stage(crop=32, content_weight=1e5))
    recipe = Recipe(model="test-tiny", optimizer="adam", betas=(0.5, 0.999), batch=4, gradient_norm=0.0, stages=stages)
    learner = Learner(recipe, default_accelerator("cpu"))
    generator = torch.Generator().manual_seed(0)
    batch = torch.rand(4, 3, 32, 32, generator=generator), torch.rand(4, 3, 32, 32, generator=generator)
    rate = 1e-3

    def largest_step(number: int, stage: Stage) -> float:
        before = [parameter.detach().clone() for parameter in learner.network.parameters()]
        learner.learn(stage, batch, number, rate)
        learner.update(number)
        pairs = zip(learner.network.parameters(), before, strict=True)
        return max(float((now.detach() - then).abs().max()) for now, then in pairs)

    for number in range(200):
        largest_step(number, stages[0])
    assert largest_step(200, stages[1]) <= 1.01 * rate  # Adam's first; with the moments there are it would be 6.7 times
