import torch

from models import create_model
from models.measure import macs, parameters


def test_size_and_cost_are_between_those_of_lite_and_of_the_papers() -> None:
    network = create_model("base")
    assert parameters(network) == 1_268_912
    assert 60e9 <= macs(network.to("meta"), 768, 1280) <= 100e9  # what a 720p frame is padded to


def test_untrained_it_gives_back_its_input() -> None:
    image = torch.rand(1, 3, 64, 128, generator=torch.Generator().manual_seed(0))
    assert torch.equal(create_model("base")(image), image)


def test_levels_whose_relus_are_shut_still_hand_on_what_they_see() -> None:
    torch.manual_seed(0)
    network = create_model("base").eval()
    torch.nn.init.normal_(network.tail.weight, std=0.1)
    for name, parameter in network.named_parameters():
        if name.endswith("conv1.bias"):
            torch.nn.init.constant_(parameter, -1e6)
    image = torch.rand(1, 3, 192, 192, generator=torch.Generator().manual_seed(0))
    changed = image.clone()
    changed[:, :, 88:104, 88:104] = 0
    with torch.inference_mode():
        effect = (network(changed) - network(image)).abs().amax(dim=(0, 1))
    assert effect[80, 80] > 0  # by way of the coarsest scale, where 16 pixels beside each other meet in one
