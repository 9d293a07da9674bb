import functools
import json
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from deblur_cli.commands.train import parse_duration
from deblur_cli.errors import UsageError
from deblur_cli.training import inputs
from deblur_cli.training.checkpoint import read_checkpoint
from deblur_cli.training.recipe import shipped_recipes
from models import create_model
from models.vgg import VGG19Features
from models.weights import load_model, save_weights
from tests.forked import MAIN, forked
from tests.training.runs import another_precision

RECIPE = """
model = "test-tiny"
steps = {steps}
batch = 4
warmup = 2
save_every = 5
validate_every = {steps}
[pool]
pairs = 8
size = 48
chunk = 4
reuse = 4
[[stages]]
crop = 32
clips = 0.0
blur.length = [2, 6]
"""


@pytest.fixture
def material(tmp_path: Path) -> Path:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        coarse = np.random.default_rng(number).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        cv2.imwrite(str(photos / f"{number}.png"), cv2.resize(coarse, (280, 280), interpolation=cv2.INTER_CUBIC))
    (tmp_path / "tiny.toml").write_text(RECIPE.format(steps=12))
    return tmp_path


@pytest.fixture
def small_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four small held-out pictures in place of the 32 that take seconds to blur, where the scores do not matter."""
    monkeypatch.setattr(inputs, "synthetic_set", functools.partial(inputs.synthetic_set, count=4, size=64))


@pytest.fixture
def pairs(material: Path) -> Path:
    """A dataset of pairs; a run on it validates on nothing, which is quicker."""
    for name in ("input", "target"):
        (material / "data" / "train" / name).mkdir(parents=True)
        for file in (material / "photos").iterdir():
            shutil.copy(file, material / "data" / "train" / name)
    return material / "data"


def test_train_then_export_then_use(material: Path, run, request: pytest.FixtureRequest) -> None:
    folder = material / "run"
    arguments = ["train", "--recipe", str(material / "tiny.toml"), "--photos", str(material / "photos")]
    result = run([*arguments, "-o", str(folder), "--device", "cpu"])
    assert result.code == 0, result.stderr
    assert "12 steps" in result.stdout
    assert re.search(r"validation .* dB, \d+% of channels shut", result.stderr)
    assert {file.name for file in folder.iterdir()} >= {
        "checkpoint.safetensors",
        "best.safetensors",
        "curves.csv",
        "validation.png",
    }

    again = run([*arguments, "-o", str(folder)])
    assert again.code == 2 and "--resume" in again.stderr
    exported = run(["train", "-o", str(folder), "--export", str(material / "mine.safetensors")])
    assert exported.code == 0, exported.stderr
    assert str(material / "mine.json") in exported.stdout
    card = json.loads((material / "mine.json").read_text())
    assert card["model"] == "test-tiny" and card["steps"] == 12 and card["sha256"] in exported.stdout
    assert re.fullmatch(r"cpu, \d+ threads?, (fp32|bf16)", card["device"])

    request.getfixturevalue("small_validation")  # one run above was validated as users' are
    tuned = run([*arguments, "-o", str(material / "tuned"), "--start", str(material / "mine.safetensors")])
    assert tuned.code == 0, tuned.stderr
    wrong = material / "wrong.safetensors"
    save_weights(create_model("test-tiny", width=4), wrong, name="test-tiny", options={"width": 4}, card={})
    refused = run([*arguments, "-o", str(material / "refused"), "--start", str(wrong)])
    assert refused.code == 2 and "not weights of the network" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--recipe", "lite"], "nothing to train on"),
        (["--photos", "nowhere", "--recipe", "lite"], "nowhere"),
        (["--photos", "."], "which recipe"),
        (["--recipe", "light", "--photos", "."], "did you mean lite"),
        (["--recipe", "lite", "--photos", ".", "--max-time", "soon"], "not a time"),
        (["--recipe", "lite", "--photos", ".", "--precision", "fp16"], "use --precision auto, fp32, tf32 or bf16"),
        (["--export", "mine.safetensors", "--precision", "fp32"], "give it with --output alone"),
    ],
)
def test_wrong_usage_is_one_line(tmp_path: Path, run, arguments: list[str], complaint: str) -> None:
    result = run(["train", "-o", str(tmp_path / "run"), *arguments])
    assert result.code == 2
    assert complaint in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("below", ["", "run"])
def test_a_file_is_no_folder_of_a_run(tmp_path: Path, run, below: str) -> None:
    photo = tmp_path / "photo.jpg"
    photo.touch()
    result = run(["train", "--recipe", "lite", "--photos", str(tmp_path), "-o", str(photo / below)])
    assert result.code == 2 and f"'{photo}' is a file; name a folder for the run" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--recipe", "lite", "--photos", ".", "--resume"], "there is no checkpoint"),
        (["--export", "mine.safetensors"], "holds no best.safetensors"),
    ],
)
def test_a_run_that_is_not_there_is_wrong_usage(tmp_path: Path, run, arguments: list[str], complaint: str) -> None:
    result = run(["train", "-o", str(tmp_path / "run"), *arguments])
    assert result.code == 2 and complaint in result.stderr and not (tmp_path / "run").exists()


def test_a_run_goes_on_in_the_precision_that_it_was_begun_in(pairs: Path, material: Path, run) -> None:
    arguments = ["train", "--recipe", str(material / "tiny.toml"), "--data", str(pairs), "-o", str(material / "run")]

    def trained(*more: str) -> tuple[str, str]:
        """What was said, and what the card says."""
        with another_precision():
            result = run([*arguments, "--device", "cpu", *more])
        assert result.code == 0, result.stderr
        return result.stderr, load_model(material / "run" / "best.safetensors").card["device"]

    assert trained("--stop-at", "3", "--precision", "fp32")[1].endswith(", fp32")
    said, card = trained("--stop-at", "6", "--resume")
    assert card.endswith(", fp32") and "from here on" not in said
    said, card = trained("--resume", "--precision", "bf16")
    assert card.endswith(", fp32; from step 6 on bf16")
    assert "trained in bf16 from here on; before it was fp32" in said


def test_a_run_of_a_gpu_goes_on_without_one(pairs: Path, material: Path, run, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["train", "--recipe", str(material / "tiny.toml"), "--data", str(pairs), "-o", str(material / "run")]
    with monkeypatch.context() as on_a_gpu:
        on_a_gpu.setattr("deblur_cli.training.trainer.precision_of", lambda accelerator: "tf32")
        assert run([*arguments, "--device", "cpu", "--stop-at", "3"]).code == 0
    result = run([*arguments, "--device", "cpu", "--resume"])
    assert result.code == 0 and "from here on; before it was tf32" in result.stderr


def test_the_shipped_recipes_are_listed(run) -> None:
    listed = run(["train", "--list"])
    assert listed.code == 0
    names = [line.split()[0] for line in listed.stdout.splitlines()]
    assert names == shipped_recipes()
    assert "Kupyn" in next(line for line in listed.stdout.splitlines() if line.startswith("deblurgan "))


def test_a_perceptual_recipe_takes_vgg19_from_a_file(material: Path, pairs: Path, run) -> None:
    recipe = material / "perceptual.toml"
    recipe.write_text(RECIPE.format(steps=2) + "perceptual_weight = 0.1\n")
    arguments = ["train", "--recipe", str(recipe), "--data", str(pairs), "-o", str(material / "run")]
    refused = run([*arguments, "--vgg", str(material / "photos" / "0.png"), "--device", "cpu"])
    assert refused.code == 2 and "0.png" in refused.stderr
    save_file(VGG19Features().state_dict(), material / "vgg.safetensors")
    result = run([*arguments, "--vgg", str(material / "vgg.safetensors"), "--device", "cpu"])
    assert result.code == 0, result.stderr
    assert "perceptual" in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
@pytest.mark.parametrize("signalled", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_and_resume_goes_on(material: Path, pairs: Path, run, signalled: int) -> None:
    recipe = material / "long.toml"
    recipe.write_text(RECIPE.format(steps=100_000))
    folder = material / "run"
    arguments = ["train", "--recipe", str(recipe), "--data", str(pairs), "-o", str(folder)]
    with forked(MAIN, *arguments) as process:
        deadline = time.monotonic() + 200  # a loaded machine takes its time to import torch
        while not (folder / "checkpoint.safetensors").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signalled)
        complaint = process.stderr.read()
        assert process.wait() == 130, complaint
    assert "Traceback" not in complaint
    done = json.loads(_facts(folder / "checkpoint.safetensors"))["progress"]["step"]
    resumed = run([*arguments, "--resume", "--stop-at", str(done + 3)])
    assert resumed.code == 0, resumed.stderr
    assert f"{done + 3} steps" in resumed.stdout


def test_a_resumed_run_has_the_steps_that_it_was_begun_with(material: Path, pairs: Path, run) -> None:
    arguments = ["train", "--recipe", str(material / "tiny.toml"), "--data", str(pairs), "-o", str(material / "run")]
    assert run([*arguments, "--steps", "6", "--stop-at", "2"]).code == 0
    assert "6 steps" in run([*arguments, "--resume"]).stdout
    assert "9 steps" in run([*arguments, "--resume", "--steps", "9"]).stdout


def test_a_run_that_validates_on_nothing_says_so_and_keeps_its_last_weights(material: Path, pairs: Path, run) -> None:
    arguments = ["train", "--recipe", str(material / "tiny.toml"), "--data", str(pairs), "-o", str(material / "run")]
    begun = run([*arguments, "--stop-at", "7"])
    assert begun.code == 0 and "nothing to validate on" in begun.stderr
    export = ["train", "-o", str(material / "run"), "--export"]
    assert run([*export, str(material / "half.safetensors")]).code == 0
    assert json.loads((material / "half.json").read_text())["steps"] == 7
    finished = run([*arguments, "--resume"])
    assert "12 steps" in finished.stdout and "nothing was left to do" not in finished.stderr
    assert run([*export, str(material / "whole.safetensors")]).code == 0
    card = json.loads((material / "whole.json").read_text())
    assert card["steps"] == 12 and card["scores"] == {}
    assert "nothing was left to do" in run([*arguments, "--resume"]).stderr
    (material / "scores.json").write_text('{"mean": 28.1}')
    foreign = run([*export, str(material / "scores.safetensors")])
    assert foreign.code == 2 and "no card of weights" in foreign.stderr
    assert (material / "scores.json").read_text() == '{"mean": 28.1}' and not (material / "scores.safetensors").exists()
    assert run([*export, str(material / "whole.safetensors")]).code == 0, "its own card is written anew"
    both = run([*export, str(material / "whole.safetensors"), "--steps", "50"])
    assert both.code == 2 and "does not train" in both.stderr
    over = run([*export, str(material / "run" / "checkpoint.safetensors")])
    assert over.code == 2 and "the checkpoint of a run" in over.stderr
    nowhere = run([*export, str(material / "none" / "w.safetensors")])
    assert nowhere.code == 2 and "there is no folder" in nowhere.stderr


@pytest.mark.usefixtures("small_validation")
def test_a_photo_that_cannot_be_read_is_left_out(material: Path, run) -> None:
    (material / "photos" / "9.png").write_bytes((material / "photos" / "0.png").read_bytes()[:2000])
    arguments = ["train", "--recipe", str(material / "tiny.toml"), "--photos", str(material / "photos")]
    result = run([*arguments, "-o", str(material / "run"), "--stop-at", "1"])
    assert result.code == 0, result.stderr
    assert "left out: " in result.stderr and "9.png" in result.stderr


def test_bad_pairs_are_left_out_and_a_resumed_run_takes_the_same_in_their_place(
    material: Path, pairs: Path, run
) -> None:
    blurred = pairs / "train" / "input"
    (blurred / "1.png").write_bytes((blurred / "1.png").read_bytes()[:2000])
    for part in ("input", "target"):
        cv2.imwrite(str(pairs / "train" / part / "small.png"), np.zeros((40, 90, 3), np.uint8))
    arguments = ["train", "--recipe", str(material / "tiny.toml"), "--data", str(pairs)]
    whole = run([*arguments, "-o", str(material / "whole")])
    assert whole.code == 0, whole.stderr
    assert whole.stderr.count("left out") == 2 and "small.png is 90×40" in whole.stderr and "1.png" in whole.stderr
    for more in (["--stop-at", "6"], ["--resume"]):
        assert run([*arguments, "-o", str(material / "parts"), *more]).code == 0
    one, other = (read_checkpoint(material / name / "checkpoint.safetensors")[2] for name in ("whole", "parts"))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.usefixtures("small_validation")
def test_a_resumed_run_that_is_no_longer_validated_says_so(material: Path, pairs: Path, run) -> None:
    arguments = ["train", "--recipe", str(material / "tiny.toml"), "--data", str(pairs), "-o", str(material / "run")]
    photos = ["--photos", str(material / "photos")]
    recipe = material / "tiny.toml"
    recipe.write_text(recipe.read_text().replace("validate_every = 12", "validate_every = 2"))
    assert "no validation" not in run([*arguments, *photos, "--stop-at", "2"]).stderr
    assert "no validation" not in run([*arguments, *photos, "--stop-at", "3", "--resume"]).stderr
    validated = (material / "run" / "best.safetensors").read_bytes()
    assert "no validation from here on" in run([*arguments, "--resume"]).stderr
    assert (material / "run" / "best.safetensors").read_bytes() == validated


@pytest.mark.usefixtures("small_validation")
def test_other_material_is_said_and_stands_in_the_card(material: Path, pairs: Path, run) -> None:
    arguments = ["train", "--recipe", str(material / "tiny.toml"), "--data", str(pairs), "-o", str(material / "run")]
    assert run([*arguments, "--stop-at", "2"]).code == 0
    assert "other material" not in run([*arguments, "--stop-at", "3", "--resume"]).stderr
    photos = [*arguments, "--photos", str(material / "photos"), "--resume"]
    more = run([*photos, "--stop-at", "4"])
    assert "trained on other material from here on; before it was 3 pairs" in more.stderr
    assert "other material" not in run([*photos, "--stop-at", "5"]).stderr
    assert run(["train", "-o", str(material / "run"), "--export", str(material / "w.safetensors")]).code == 0
    data = json.loads((material / "w.json").read_text())["data"]
    assert data == "3 pairs; from step 3 on 2 photos, 3 pairs", "one of three photos is validated on"


@pytest.mark.usefixtures("small_validation")
def test_a_resumed_run_on_other_pictures_chooses_its_best_weights_anew(material: Path, run) -> None:
    recipe = material / "tiny.toml"
    recipe.write_text(recipe.read_text().replace("validate_every = 12", "validate_every = 2"))
    arguments = ["train", "--recipe", str(recipe), "--photos", str(material / "photos"), "-o", str(material / "run")]
    assert run([*arguments, "--stop-at", "2"]).code == 0
    assert "validated on other pictures" not in run([*arguments, "--resume", "--stop-at", "4"]).stderr
    refused = run([*arguments, "--resume", "--start", "lite"])
    assert refused.code == 2 and "leave one out" in refused.stderr
    for photo in (material / "photos").iterdir():
        cv2.imwrite(str(photo), 255 - cv2.imread(str(photo)) // 2)
    resumed = run([*arguments, "--resume", "--stop-at", "6"])
    assert resumed.code == 0 and "validated on other pictures" in resumed.stderr
    assert read_checkpoint(material / "run" / "checkpoint.safetensors")[1].baseline.keys() == {"synthetic"}


def _facts(checkpoint: Path) -> str:
    from safetensors import safe_open

    with safe_open(checkpoint, framework="np") as file:
        return file.metadata()["deblur.checkpoint"]


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("30m", 1800), ("1.5h", 5400), ("2 H", 7200)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1h", "0m", "1d", "h"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError, match="90s, 30m or 2h"):
        parse_duration(text)
