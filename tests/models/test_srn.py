"""SRN: published size and cost, its scales, and the state that runs through scales and frames."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from models import create_model, load_model, model_info
from models.measure import macs, parameters
from models.srn import ConvLSTM


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return create_model("srn").eval()


@pytest.fixture
def woken(network: nn.Module) -> nn.Module:
    """A network whose last layer, which in a new one returns the picture alone, draws on all that leads to it."""
    nn.init.xavier_uniform_(network.decoder1[3].weight)
    return network


def calls(module: nn.Module) -> list[tuple[Any, ...]]:
    """What `module` will be called with, call by call."""
    seen: list[tuple[Any, ...]] = []
    module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    return seen


def bilinear(images: Tensor, scale: float) -> Tensor:
    return functional.interpolate(images, scale_factor=scale, mode="bilinear", align_corners=False)


@pytest.mark.parametrize(("lstm", "count", "gmacs"), [(True, 8_061_411, 89.8), (False, 6_881_251, 84)])
def test_size_and_cost(lstm: bool, count: int, gmacs: float) -> None:
    with torch.device("meta"):
        network = create_model("srn", lstm=lstm).eval()
    assert parameters(network) == count
    assert macs(network, 256, 256) / 1e9 == pytest.approx(gmacs, rel=0.02)


@pytest.mark.parametrize("lstm", [True, False])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (32, 48), (80, 16)])
def test_training_gives_the_pyramid_and_restoring_its_finest_scale(lstm: bool, height: int, width: int) -> None:
    network = create_model("srn", lstm=lstm)
    blurred = torch.rand(2, 3, height, width)
    with torch.no_grad():
        pyramid, state = network.train()(blurred)
        restored, same_state = network.eval()(blurred, None)
    assert [tuple(scale.shape) for scale in pyramid] == [(2, 3, height // n, width // n) for n in (4, 2, 1)]
    assert torch.equal(restored, pyramid[-1])
    if lstm:
        for number, scale, same in zip((16, 8, 4), state, same_state, strict=True):
            assert [tuple(part.shape) for part in scale] == [(2, 128, height // number, width // number)] * 2
            assert all(torch.equal(one, other) for one, other in zip(scale, same, strict=True))
    else:
        assert state is same_state is None


def test_each_scale_sees_the_blurred_image_and_what_the_coarser_made_of_it(network: nn.Module) -> None:
    seen = calls(network.encoder1)
    blurred = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        pyramid, _ = network.train()(blurred)
    coarsest = bilinear(blurred, 0.25)
    expected = [
        torch.cat([coarsest, coarsest], dim=1),
        torch.cat([bilinear(blurred, 0.5), bilinear(pyramid[0], 2)], dim=1),
        torch.cat([blurred, bilinear(pyramid[1], 2)], dim=1),
    ]
    assert len(seen) == 3  # the same weights three times
    for (found,), wanted in zip(seen, expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_the_encoder_s_features_are_added_to_the_decoder_s(network: nn.Module) -> None:
    outputs: dict[str, Tensor] = {}
    for name in ("encoder1", "encoder2", "decoder3", "decoder2"):
        part = network.get_submodule(name)
        part.register_forward_hook(lambda _, __, output, name=name: outputs.update({name: output}))
    into = {name: calls(network.get_submodule(name)) for name in ("decoder2", "decoder1")}
    with torch.inference_mode():
        network(torch.rand(1, 3, 16, 16))
    assert torch.equal(into["decoder2"][-1][0], outputs["encoder2"] + outputs["decoder3"])
    assert torch.equal(into["decoder1"][-1][0], outputs["encoder1"] + outputs["decoder2"])


def test_one_step_of_the_lstm_by_hand() -> None:
    cell_module = ConvLSTM(1)
    with torch.no_grad():
        cell_module.gates.weight.zero_()
        cell_module.gates.bias.copy_(torch.tensor([0.2, 0.7, -0.4, 1.1]))  # input, candidate, forget, output
        state = torch.zeros(1, 1, 1, 1), torch.full((1, 1, 1, 1), 3.0)
        hidden, cell = cell_module(torch.rand(1, 1, 1, 1), state)

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    expected = sigmoid(-0.4 + 1) * 3 + sigmoid(0.2) * math.tanh(0.7)
    assert cell.item() == pytest.approx(expected)
    assert hidden.item() == pytest.approx(sigmoid(1.1) * math.tanh(expected))


def test_the_lstm_sees_its_input_and_the_hidden_state_but_not_the_cell() -> None:
    module = ConvLSTM(2)
    seen = calls(module.gates)
    x, hidden, cell = torch.rand(3, 1, 2, 4, 4)
    module(x, (hidden, cell))
    assert torch.equal(seen[0][0], torch.cat([x, hidden], dim=1))


def test_what_any_scale_remembers_of_the_frame_before_counts(woken: nn.Module) -> None:
    blurred = torch.rand(1, 3, 32, 16)
    with torch.inference_mode():
        restored, states = woken(blurred)
        again, _ = woken(blurred, states)
        for number in range(3):
            more = tuple((hidden, cell + (scale == number)) for scale, (hidden, cell) in enumerate(states))
            assert not torch.allclose(woken(blurred, more)[0], again, atol=1e-4)
    assert not torch.equal(restored, again)


def test_the_state_runs_through_scales_and_frames(network: nn.Module) -> None:
    steps = calls(network.lstm)
    left: list[tuple[Tensor, Tensor]] = []
    network.lstm.register_forward_hook(lambda _, __, state: left.append(state))
    frames = torch.rand(2, 1, 3, 32, 48)
    with torch.inference_mode():
        _, states = network(frames[0])
        _, last = network(frames[1], states)
    assert all(scale is step for scale, step in zip((*states, *last), left, strict=True))
    taken = [step[1] for step in steps]
    assert not any(part.any() for part in taken[0])
    for part in (0, 1):  # the hidden and the cell state
        coarser = {number: bilinear(left[number - 1][part], 2) for number in (1, 2, 4, 5)}
        torch.testing.assert_close(taken[1][part], coarser[1])
        torch.testing.assert_close(taken[2][part], coarser[2])
        torch.testing.assert_close(taken[3][part], left[0][part])
        for number in (4, 5):  # half of the channels from the frame before, half from the coarser scale
            halves = [left[number - 3][part][:, :64], coarser[number][:, 64:]]
            torch.testing.assert_close(taken[number][part], torch.cat(halves, dim=1))


def test_sequences_of_a_batch_do_not_touch_each_other(network: nn.Module) -> None:
    frames = torch.rand(2, 2, 3, 16, 16)
    with torch.inference_mode():
        _, together = network(frames[0])
        restored, _ = network(frames[1], together)
        _, alone = network(frames[0, 1:])
        expected, _ = network(frames[1, 1:], alone)
    torch.testing.assert_close(restored[1:], expected, rtol=1e-4, atol=1e-5)


def test_the_gradient_of_a_frame_reaches_the_frame_before(woken: nn.Module) -> None:
    first = torch.rand(1, 3, 16, 16, requires_grad=True)
    _, state = woken(first)
    restored, _ = woken(torch.rand(1, 3, 16, 16), state)
    restored.sum().backward()
    assert first.grad is not None and first.grad.any()


@pytest.mark.parametrize("lstm", [True, False])
def test_every_parameter_learns(lstm: bool) -> None:
    torch.manual_seed(0)
    network = create_model("srn", lstm=lstm).train()
    nn.init.xavier_uniform_(network.decoder1[3].weight)
    pyramid, _ = network(torch.rand(1, 3, 32, 32))
    torch.stack([scale.square().mean() for scale in pyramid]).sum().backward()
    idle = [key for key, parameter in network.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert idle == []


@pytest.mark.parametrize("lstm", [True, False])
def test_no_gradient_goes_through_the_upsampled_output(lstm: bool) -> None:
    """The last bias is added to each pixel, so its gradient is their number, unless it also came by a coarser scale."""
    network = create_model("srn", lstm=lstm).train()
    pyramid, _ = network(torch.rand(1, 3, 16, 32))
    pyramid[-1].sum().backward()
    assert network.decoder1[-1].bias.grad.tolist() == pytest.approx([16 * 32] * 3)


def test_new_weights_that_do_not_hold_the_picture_are_xavier_uniform(network: nn.Module) -> None:
    weights = dict(network.named_parameters())
    bounds = {
        "encoder2.0.weight": (24, math.sqrt(6 / (25 * 96))),
        "encoder1.2.body.0.weight": (0, math.sqrt(6 / (25 * 64))),
        "encoder1.2.body.2.weight": (6, 0.1 * math.sqrt(6 / (25 * 64))),  # a residual branch ends small
        "lstm.gates.weight": (3 * 128 + 48, math.sqrt(6 / (9 * (256 + 512)))),
    }
    for key, (held, bound) in bounds.items():
        assert weights[key][held:].abs().max().item() == pytest.approx(bound, rel=0.01)
        assert weights[key][held:].std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03)


@pytest.mark.parametrize("lstm", [True, False])
def test_a_new_network_hands_the_picture_through_and_has_no_way_shut(lstm: bool) -> None:
    torch.manual_seed(0)
    network = create_model("srn", lstm=lstm).eval()
    rose = []
    for decoder in (network.decoder3, network.decoder2):
        decoder.register_forward_hook(lambda module, inputs, output: rose.append((output > 0).float().mean()))
    blurred = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        restored, _ = network(blurred)
    torch.testing.assert_close(restored, blurred, rtol=0, atol=1e-6)
    assert min(rose) > 0.6


def test_the_strides_of_a_new_network_fold_the_picture_into_channels(network: nn.Module) -> None:
    bottleneck = calls(network.lstm)
    blurred = torch.rand(1, 3, 32, 16)
    with torch.inference_mode():
        network(blurred)
    folded = functional.pixel_unshuffle(functional.pixel_unshuffle(blurred, 2), 2)
    assert torch.equal(bottleneck[-1][0][:, :48], folded)


def test_the_finest_level_of_a_new_network_compares_the_frame_with_the_one_before(network: nn.Module) -> None:
    compared: list[Tensor] = []
    network.decoder1[0].body[0].register_forward_hook(lambda _, __, output: compared.append(output[:, :12].clone()))
    before, now = (bilinear(torch.rand(1, 3, 4, 4), 8) for _ in range(2))
    with torch.inference_mode():
        state = None
        for frame in (before, before, before, now):
            _, state = network(frame, state)
    at_rest, moved = compared[-4], compared[-1]  # three scales a frame
    assert at_rest[:, :6].abs().max() < 0.05
    difference = (before - now).flatten()
    # A quarter of what is remembered is of the frame before, and its strength is 1.3 times the picture's.
    slope = (moved[:, :3].flatten() @ difference / difference.square().sum()).item()
    assert slope == pytest.approx(0.25 * 1.3, abs=0.03)
    torch.testing.assert_close(moved[:, 3:6], -moved[:, :3], rtol=0, atol=1e-5)
    torch.testing.assert_close(moved[:, 6:], moved[:, :6] - 0.06, rtol=0, atol=1e-5)


def test_half_precision_keeps_the_picture_that_goes_through_all_layers() -> None:
    network = load_model("srn").network
    first = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    frames = [functional.interpolate(first.roll(shift, 3), size=(96, 96), mode="bicubic") for shift in range(3)]
    restored = {}
    for enabled in (False, True):
        state = None
        for frame in frames:
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                restored[enabled], state = network(frame.clamp(0, 1), state)
    assert restored[True].dtype == torch.float32
    assert 0 < (restored[True] - restored[False]).square().mean() < 1e-5  # 50 dB


def test_facts() -> None:
    info = model_info("srn")
    assert (info.multiple_of, info.recurrent, info.parameters, info.gmacs) == (16, True, 8_061_411, 89.8)
    assert [(score.psnr, score.ssim_kind) for score in info.published] == [
        (30.26, "ssim_matlab"),
        (30.19, "ssim_matlab"),
        (26.75, ""),
    ]
