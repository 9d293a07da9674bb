from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as functional

import models
from deblur_cli.errors import UsageError
from deblur_cli.training.accelerator import default_accelerator
from deblur_cli.training.learner import Learner, load_start
from deblur_cli.training.losses import transfer
from deblur_cli.training.recipe import Recipe, Stage
from models.lite import UnshuffledUNet
from models.transfer import VALUES
from models.weights import save_weights


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


def test_an_estimate_of_the_blur_is_taught_what_was_measured() -> None:
    stage = Stage(crop=64, transfer_weight=1.0)
    recipe = Recipe(model="lite", rate=1e-3, warmup=1, batch=2, stages=(stage,))
    learner = Learner(recipe, default_accelerator("cpu"))
    sharp = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    batch = functional.avg_pool2d(sharp, (1, 7), stride=1, padding=(0, 3)), sharp
    found = []
    for number in range(12):
        found.append(learner.learn(stage, batch, number, recipe.rate))
        learner.update(number)
    assert found[0]["loss"] == pytest.approx(float(found[0]["content"] + found[0]["transfer"]))
    assert found[-1]["transfer"] < 0.2 * found[0]["transfer"]


def test_where_only_the_estimate_counts_nothing_else_is_run() -> None:
    stage = Stage(crop=64, content_weight=0.0, transfer_weight=1.0)
    learner = Learner(Recipe(model="lite", batch=2, stages=(stage,)), default_accelerator("cpu"))
    learner.network.head.register_forward_hook(lambda *_: pytest.fail("restored"))  # type: ignore[union-attr, operator]
    before = {name: parameter.detach().clone() for name, parameter in learner.network.named_parameters()}
    batch = torch.rand(2, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0)).unbind()
    found = learner.learn(stage, batch, 0, 1e-3)
    learner.update(0)
    assert found.keys() == {"loss", "transfer"}
    changed = {name for name, now in learner.network.named_parameters() if not torch.equal(now, before[name])}
    assert "transfer.look.0.weight" in changed
    assert all(name.startswith("transfer.") for name in changed)


def test_the_estimate_is_taught_at_each_scale_of_the_network() -> None:
    stage = Stage(crop=64, content_weight=0.0, transfer_weight=1.0)
    learner = Learner(Recipe(model="lite", batch=2, stages=(stage,)), default_accelerator("cpu"))
    sharp = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    blurred = functional.avg_pool2d(sharp, (1, 7), stride=1, padding=(0, 3))
    sizes = [(functional.avg_pool2d(blurred, by), functional.avg_pool2d(sharp, by)) for by in (1, 2, 4)]
    with torch.no_grad():
        apart = [float(transfer(learner.network.transfer(small), small, target)) for small, target in sizes]  # type: ignore[operator]
    assert max(apart) - min(apart) > 0.05
    assert learner.learn(stage, (blurred, sharp), 0, 1e-3)["loss"] == pytest.approx(sum(apart) / 3, rel=1e-3)
    # What is said while it does not count is no part of a later step's loss.
    learner.learn(Stage(crop=64), (sharp, sharp), 1, 1e-3)
    assert learner.learn(stage, (blurred, sharp), 2, 1e-3)["loss"] == pytest.approx(sum(apart) / 3, rel=1e-3)


def test_a_network_without_an_estimate_of_the_blur_cannot_be_taught_one() -> None:
    recipe = Recipe(model="test-tiny", name="ours", stages=(Stage(transfer_weight=1.0),))
    with pytest.raises(UsageError, match=r"'ours': transfer_weight is for networks .* 'test-tiny' does not"):
        Learner(recipe, default_accelerator("cpu"))


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_a_stage_teaches_what_it_names_and_the_next_one_the_rest(optimizer: str) -> None:
    stages = (Stage(until=0.5, crop=16, taught=("0", "4.bias")), Stage(crop=16))
    recipe = Recipe(model="cnn", optimizer=optimizer, batch=1, gradient_norm=1.0, stages=stages)
    learner = Learner(recipe, default_accelerator("cpu"))
    batch = torch.rand(2, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).unbind()

    def changed(number: int, stage: Stage) -> set[str]:
        before = {name: parameter.detach().clone() for name, parameter in learner.network.named_parameters()}
        learner.learn(stage, batch, number, 1e-3)
        learner.update(number)
        return {name for name, now in learner.network.named_parameters() if not torch.equal(now, before[name])}

    assert changed(0, stages[0]) == changed(1, stages[0]) == {"0.weight", "0.bias", "4.bias"}
    assert changed(2, stages[1]) == {name for name, _ in learner.network.named_parameters()}


def test_options_that_leave_a_layer_without_weights_are_refused() -> None:
    with pytest.raises(UsageError, match=r"recipe\.options must give each layer of 'test-tiny' weights"):
        Learner(Recipe(model="test-tiny", options={"width": 0}), default_accelerator("cpu"))


def test_a_stage_that_would_teach_nothing_is_refused() -> None:
    stages = (Stage(until=0.5), Stage(taught=("last", "la")))
    with pytest.raises(UsageError, match="'ours': 'test-tiny' has no part 'la' that could be taught"):
        Learner(Recipe(model="test-tiny", name="ours", stages=stages), default_accelerator("cpu"))


def test_what_the_weights_to_begin_with_have_beyond_the_network_is_left_out() -> None:
    shipped = models.load_model("lite").network
    assert isinstance(shipped, UnshuffledUNet) and shipped.gains is not None
    begun = load_start("lite", Recipe(model="lite", options={"scales": 1}))
    assert isinstance(begun, UnshuffledUNet) and begun.gains is None
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(begun(image), image + shipped.correct(image)[0])


def test_a_wider_network_begins_as_what_the_narrower_one_does(tmp_path: Path) -> None:
    options: dict[str, Any] = {"scales": 1, "encoder_blocks": (1, 1), "decoder_blocks": (1,)}
    narrow, weights = models.create_model("lite", widths=(6, 10), **options), tmp_path / "narrow.safetensors"
    torch.nn.init.normal_(narrow.tail.weight, std=0.01)  # type: ignore[arg-type]
    save_weights(narrow, weights, name="lite", options={"widths": (6, 10), **options}, card={})
    taught = ("head", "guides", "encoders", "downs", "ups", "decoders", "tail")
    wider: dict[str, Any] = {"widths": (8, 12), **options}
    recipe = Recipe(model="base", options=wider, stages=(Stage(taught=taught),))
    begun = load_start(str(weights), recipe)
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(narrow(images), images)
    torch.testing.assert_close(begun(images), narrow(images))
    # The further channels carry something, and what reads them learns at once.
    begun(images).square().mean().backward()
    for convolution in (begun.tail, begun.decoders[0][0].conv1, begun.ups[0][0]):  # type: ignore[index]
        further = convolution.weight.grad[:, -2:]  # type: ignore[index]
        assert further.flatten(2).abs().amax(2).max(0).values.min() > 0
    # Where one part is narrower, all begin untrained.
    save_weights(begun, weights, name="base", options=wider, card={})
    mixed = Recipe(model="lite", options={**options, "widths": (9, 11)}, stages=(Stage(taught=taught),))
    torch.testing.assert_close(load_start(str(weights), mixed)(images), images)


def test_a_part_that_is_taught_first_may_have_another_shape_than_the_weights_to_begin_with(tmp_path: Path) -> None:
    one_scale = models.create_model("lite", scales=1)
    torch.nn.init.normal_(one_scale.tail.weight, std=0.01)  # type: ignore[arg-type]
    weights = tmp_path / "one.safetensors"
    save_weights(one_scale, weights, name="lite", options={"scales": 1}, card={})
    stages = (Stage(until=0.5, taught=("gains",)), Stage())
    begun = load_start(str(weights), Recipe(model="lite", stages=stages))
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    (of_one, _), (of_three, _) = one_scale.correct(images), begun.correct(images)  # type: ignore[operator]
    assert torch.equal(of_one, of_three) and of_one.abs().max() > 0
    torch.testing.assert_close(begun.gains([torch.rand(1, 4, 4, VALUES)] * 3), (torch.full((1, 1, 4, 4), 1 / 3),) * 3)  # type: ignore[operator]
    for refused in ((Stage(until=0.5), Stage(taught=("gains",))), (Stage(taught=("head",)),)):
        with pytest.raises(UsageError, match="not weights of the network that recipe 'ours' trains"):
            load_start(str(weights), Recipe(model="lite", name="ours", stages=refused))
