import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblur_cli.errors import UsageError
from deblur_cli.training.schedules import SCHEDULES, Plateau, Schedule

HALVING = Schedule(kind="plateau", factor=0.5, epoch=2, patience=3)


def rate(schedule: Schedule, progress: float, lowered: float = 1.0) -> float:
    return schedule.rate(1.0, 0.1, progress, lowered)


def after(losses: list[float], schedule: Schedule = HALVING) -> Plateau:
    plateau = Plateau()
    for loss in losses:
        plateau = plateau.after(loss, schedule)
    return plateau


@pytest.mark.parametrize("kind", ["cosine", "polynomial"])
@given(start=st.floats(0, 0.9), power=st.floats(0.1, 4), one=st.floats(0, 1), other=st.floats(0, 1))
def test_smooth_schedules_fall_from_the_highest_rate_to_the_lowest(
    kind: str, start: float, power: float, one: float, other: float
) -> None:
    schedule = Schedule(kind=kind, start=start, power=power)
    assert rate(schedule, start) == 1.0
    assert rate(schedule, 1.0) == pytest.approx(0.1)
    assert rate(schedule, min(one, other)) >= rate(schedule, max(one, other)) - 1e-12


def test_values_worked_out_by_hand() -> None:
    assert rate(Schedule(), 0.5) == pytest.approx(0.55)
    assert rate(Schedule(kind="polynomial", power=0.3), 0.5) == pytest.approx(0.1 + 0.9 * math.exp(0.3 * math.log(0.5)))
    late = Schedule(kind="polynomial", start=0.5)
    assert [rate(late, progress) for progress in (0.0, 0.5, 0.75)] == pytest.approx([1.0, 1.0, 0.55])
    stairs = Schedule(kind="steps", milestones=(0.25, 0.5), factor=0.1)
    assert [rate(stairs, progress) for progress in (0.2, 0.25, 0.6)] == pytest.approx([1.0, 0.1, 0.01])


def test_a_plateau_lowers_the_rate_after_its_patience_and_not_below_the_lowest() -> None:
    # Epochs of two steps: 1 is the best, then three no better than it.
    assert after([1.0, 1.0, 2.0, 2.0, 1.0, 1.0]).factor == 1.0
    assert after([1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 0.5, 1.5]).factor == 0.5
    assert after([1.0, 1.0] + 18 * [2.0]).factor == 0.125
    assert rate(HALVING, 0.9, 0.5) == 0.5
    assert rate(HALVING, 0.9, 0.01) == 0.1


def test_a_new_least_loss_starts_the_waiting_anew() -> None:
    assert after([1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 0.9, 0.9, 2.0, 2.0, 2.0, 2.0]).factor == 1.0


@given(losses=st.lists(st.floats(0, 2), max_size=40))
def test_losses_that_fall_never_lower_the_rate(losses: list[float]) -> None:
    falling = sorted({round(loss, 6) for loss in losses}, reverse=True)
    assert after(falling, replace(HALVING, epoch=1)).factor == 1.0


@pytest.mark.parametrize("kind", [kind for kind in SCHEDULES if kind != "plateau"])
def test_other_schedules_remember_nothing(kind: str) -> None:
    assert after([1.0, 2.0, 3.0], Schedule(kind=kind)) == Plateau()


def test_what_is_no_schedule_is_refused() -> None:
    with pytest.raises(UsageError, match="cosine"):
        Schedule(kind="cosin")
    with pytest.raises(UsageError, match="below 1"):
        Schedule(start=1.0)
