import dataclasses
import math
import typing
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deblur_cli.errors import UsageError
from deblur_cli.training.adversarial import AdversarialSettings
from deblur_cli.training.blur import BlurSettings
from deblur_cli.training.learner import load_start
from deblur_cli.training.pool import PoolSettings
from deblur_cli.training.ranges import RANGES
from deblur_cli.training.recipe import Recipe, Stage, load_recipe, recipe_from, recipe_table, shipped_recipes
from deblur_cli.training.schedules import Schedule

STAGED = Recipe(
    model="test-tiny",
    options={"width": 4},
    stages=(Stage(until=0.25, clips=0.0, blur=BlurSettings(length=(3, 16))), Stage(crop=96)),
    pool=PoolSettings(pairs=32, chunk=8),
)


def test_every_shipped_recipe_loads_and_names_a_network() -> None:
    import models

    assert "lite" in shipped_recipes()
    for name in shipped_recipes():
        recipe = load_recipe(name)
        with torch.device("meta"):  # drawing millions of weights takes longest
            models.create_model(recipe.model, **recipe.options)
        assert not recipe.start or load_start(recipe.start, recipe)


PAPERS = [name for name in shipped_recipes() if f"{name}-short" in shipped_recipes()]


def test_each_paper_has_a_recipe_and_a_short_one() -> None:
    papers = {"srn", "msrn", "msr2b", "dscgan", "deepdeblur", "deblurgan", "cnn", "autoencoder", "nafnet"}
    assert set(PAPERS) == papers
    for name in papers:
        paper, short = load_recipe(name), load_recipe(f"{name}-short")
        assert short.model == paper.model == name
        assert short.steps < paper.steps
        assert (short.loss, short.adversarial) == (paper.loss, paper.adversarial) or "adversarial" in paper.losses


@pytest.mark.parametrize("name", [f"{name}-short" for name in PAPERS])
def test_short_recipes_begin_without_a_critic(name: str) -> None:
    first, last = (load_recipe(name).stages[end] for end in (0, -1))
    assert first.content_weight > 0
    assert first.adversarial_weight == first.perceptual_weight == 0
    assert bool(last.adversarial_weight) == ("adversarial" in load_recipe(name.removesuffix("-short")).losses)


@pytest.mark.parametrize(
    ("name", "step", "rate"),
    [
        ("srn", 0, 1e-4),
        ("srn", 131_437, 1e-6 + 99e-6 * 0.5**0.3),
        ("msrn", 149_999, 5e-5),
        ("msrn", 150_000, 5e-6),
        ("deepdeblur", 299_999, 5e-5),
        ("deepdeblur", 300_000, 5e-6),
        ("msr2b", 200 * 2103, 1e-4),
        ("msr2b", 250 * 2103, (1e-4 + 1e-7) / 2),
        ("dscgan", 150 * 2103, 1e-4),
        ("dscgan", 325 * 2103, 5e-5),
        ("deblurgan", 225 * 2103, 5e-5),
        ("nafnet", 100_000, (1e-3 + 1e-7) / 2),
    ],
)
def test_rates_are_those_of_the_papers(name: str, step: int, rate: float) -> None:
    recipe = load_recipe(name)
    assert recipe.rate_at(step, step / recipe.steps) == pytest.approx(rate, rel=1e-4)


def test_a_recipe_survives_its_table() -> None:
    assert recipe_from(recipe_table(STAGED)) == STAGED


def test_every_field_is_documented() -> None:
    source = Path(__file__).parents[2] / "deblur_cli" / "training"
    for cls, file in (
        (Recipe, "recipe.py"),
        (Stage, "recipe.py"),
        (BlurSettings, "blur.py"),
        (PoolSettings, "pool.py"),
        (Schedule, "schedules.py"),
        (AdversarialSettings, "adversarial.py"),
    ):
        text = (source / file).read_text(encoding="utf-8").split(f"class {cls.__name__}", 1)[1]
        for field in dataclasses.fields(cls):
            line = next(line for line in text.splitlines() if line.startswith(f"    {field.name}: "))
            after = text.split(line, 1)[1].lstrip("\n").splitlines()[0]
            assert after.strip().startswith('"""'), f"{cls.__name__}.{field.name} has no sentence under it"


@pytest.mark.parametrize(
    ("toml", "complaint"),
    [
        ("modle = 'lite'", "did you mean 'model'"),
        ("steps = 10", "'model' is missing"),
        ("model = 'lite'\nsteps = 'many'", "recipe.steps: 'many' is not of the type int"),
        ("model = 'lite'\nbetas = [0.9]", "2 values are wanted"),
        ("model = 'lite'\n[[stages]]\nuntil = 0.5", "must rise to 1"),
        ("model = 'lite'\n[[stages]]\ncrop = 4000", "crops of 4000 pixels"),
        ("model = 'lite'\n[pool]\npairs = 10", "multiple of its chunk"),
        ("model = 'lite'\n[[stages]]\nblur.lenght = [1, 2]", "did you mean 'length'"),
        ("model = 'lite'\nloss = 'charbonier'", "charbonnier"),
        ("model = 'lite'\n[[stages]]\nloss = 'l3'", "no content loss is called 'l3'"),
        ("model = 'lite'\nscales = 'first'", "normalised"),
        ("model = 'lite'\nadversarial.kind = 'lsgan'", "wgan-gp"),
        ("model = 'lite'\nschedule.kind = 'linear'", "polynomial"),
        ("model = 'lite'\n[[stages]]\ncontent_weight = 0.0", "no loss has a weight"),
        ("model = 'lite'\n[[stages]]\nphotos = 0.0\nclips = 0.0\npairs = 0.0", "photos, clips, stills, pairs"),
        ("model = 'lite'\n[[stages]]\nuntil = 0.5\n[[stages]]\nuntil = 0.5\n[[stages]]", "must rise to 1"),
        ("model = 'lite'\nrate = 1e-4\nfinal_rate = 1e-3", "final_rate must be at most the rate of 0.0001"),
        ("model = 'lite'\nsave_every = 0", "save_every must be at least 1"),
        ("model = 'lite'\n[[stages]]\nblur.length = [0, 40]", "blur.length must be above 0"),
        ("model = 'lite'\n[[stages]]\nblur.length = [9, 4]", "not from 9.0 to 4.0"),
        ("model =", "not valid TOML"),
    ],
)
def test_a_wrong_recipe_is_one_clear_line(tmp_path: Path, toml: str, complaint: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(toml)
    with pytest.raises(UsageError, match=complaint) as caught:
        load_recipe(str(file))
    assert "\n" not in str(caught.value).strip()


def test_a_recipe_that_is_no_text_is_one_clear_line(tmp_path: Path) -> None:
    file = tmp_path / "latin.toml"
    file.write_bytes("model = 'lite'\nsource = 'Köhler'".encode("latin-1"))
    with pytest.raises(UsageError, match="not valid TOML"):
        load_recipe(str(file))


PARTS = {
    "recipe": Recipe,
    "stage": Stage,
    "pool": PoolSettings,
    "blur": BlurSettings,
    "schedule": Schedule,
    "adversarial": AdversarialSettings,
}
FIELDS = [(part, field) for part, fields in RANGES.items() for field in fields]


def with_number(part: str, field: str, number: float) -> object:
    """The part of a recipe with that number, and where the field has several, with it as the last of them."""
    named = {"model": "test-tiny"} if part == "recipe" else {}
    plain = getattr(PARTS[part](**named), field)
    value = (*plain[:-1], number) if isinstance(plain, tuple) else number
    return PARTS[part](**named, **{field: value})


@pytest.mark.parametrize(("part", "field"), FIELDS)
def test_each_number_is_refused_outside_its_range_and_taken_at_its_ends(part: str, field: str) -> None:
    allowed = RANGES[part][field]
    outside = [math.nan, math.inf, -math.inf, allowed.least - 1, allowed.most + 1]
    outside += [allowed.least] * allowed.open_below + [allowed.most] * allowed.open_above
    for number in outside:
        with pytest.raises(UsageError, match=rf"{part}\.{field} must be .*{allowed.least}"):
            with_number(part, field, number)
    taken = {("recipe", "rate"): 1.0, ("recipe", "final_rate"): 0.0, ("blur", "length"): 2.0, ("stage", "until"): 0.5}
    assert with_number(part, field, taken.get((part, field), allowed.least + allowed.open_below))


def test_every_number_of_a_recipe_has_a_range() -> None:
    for part, cls in PARTS.items():
        hints = typing.get_type_hints(cls)
        numbers = {name for name, hint in hints.items() if hint in (int, float) or "float" in str(hint)}
        assert numbers == set(RANGES[part])


def test_the_final_rate_of_a_schedule_in_steps_is_not_looked_at() -> None:
    assert Recipe(model="lite", rate=1e-7, schedule=Schedule(kind="steps"))


def test_unknown_recipes_suggest_close_ones() -> None:
    with pytest.raises(UsageError, match="did you mean lite"):
        load_recipe("lit")
    with pytest.raises(UsageError, match="no recipe file"):
        load_recipe("missing.toml")


def test_stages_follow_progress() -> None:
    assert STAGED.stage_at(0.0).crop == 128
    assert STAGED.stage_at(0.2499).crop == 128
    assert STAGED.stage_at(0.25).crop == 96
    assert STAGED.stage_at(1.0).crop == 96


@given(step=st.integers(0, 10**6), progress=st.floats(0, 1))
def test_the_rate_stays_between_zero_and_its_highest(step: int, progress: float) -> None:
    rate = STAGED.rate_at(step, progress)
    assert 0 < rate <= STAGED.rate
    if step >= STAGED.warmup:
        assert rate >= STAGED.final_rate


def test_the_rate_warms_up_and_then_falls() -> None:
    assert STAGED.rate_at(0, 0.0) == pytest.approx(STAGED.rate / STAGED.warmup)
    assert STAGED.rate_at(STAGED.warmup, 0.0) == STAGED.rate
    assert STAGED.rate_at(10**6, 0.5) == pytest.approx((STAGED.rate + STAGED.final_rate) / 2)
    assert STAGED.rate_at(10**6, 1.0) == pytest.approx(STAGED.final_rate)
