"""The edge of the program: help, wrong usage, errors and exit codes."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deblur_cli import app as app_module
from deblur_cli import errors
from deblur_cli.commands import models as models_command
from deblur_cli.commands import options
from models.hub import FetchError
from models.registry import DEFAULT_MODEL, ModelError

VERBS = ("image", "video", "eval", "bench", "train", "synth", "models")
HEAVY = ("torch", "numpy", "cv2", "PIL", "safetensors", "tifffile", "accelerate", "models")
Run = Callable[[list[str]], Any]


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[1]
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Make `deblur models --markdown` end with `error`."""
    import models.catalogue

    def fail() -> str:
        raise error

    monkeypatch.setattr(models.catalogue, "markdown_table", fail)


def one_line(stderr: str) -> str:
    assert stderr.startswith("deblur: ") and stderr.endswith("\n") and stderr.count("\n") == 1
    return stderr


# --- help


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_lists_the_verbs(run: Run, option: str) -> None:
    result = run([option])
    assert result.code == 0 and result.stderr == ""
    listed = result.stdout[result.stdout.index("Commands:") :]
    assert [line.split()[0] for line in listed.splitlines() if line.startswith("  ") and line[2] != " "] == list(VERBS)


def test_deblur_alone_shows_help(run: Run) -> None:
    result = run([])
    assert result.code == errors.EXIT_USAGE and result.stderr == ""
    assert result.stdout == run(["--help"]).stdout


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_help(run: Run, verb: str) -> None:
    result = run([verb, "--help"])
    assert result.code == 0 and f"Usage: deblur {verb}" in result.stdout


def test_version(run: Run) -> None:
    from deblur_cli import __version__

    result = run(["--version"])
    assert (result.code, result.stdout, result.stderr) == (0, f"deblur {__version__}\n", "")


@pytest.mark.parametrize("arguments", [["--help"], *([verb, "--help"] for verb in VERBS), ["--version"], ["imgae"]])
def test_help_and_wrong_usage_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from deblur_cli.__main__ import main; main(sys.argv[1:]); "
        f"print('loaded', [name for name in {HEAVY} if name in sys.modules])"
    )
    result = python(code, *arguments)
    assert result.stdout.endswith("loaded []\n"), result.stdout + result.stderr


def test_help_is_not_laid_out_by_rich() -> None:
    # Importing it takes longer than all the rest together.
    result = python("import sys; from deblur_cli.__main__ import main; main(['--help']); print('rich' in sys.modules)")
    assert result.stdout.endswith("False\n")


@pytest.mark.parametrize("own, expected", [(None, "10000"), ("7", "7")])
def test_threads_of_torch_go_to_sleep_soon_unless_the_user_said_otherwise(
    own: str | None, expected: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOMP_SPINCOUNT", "")  # so that what is set here is put back
    monkeypatch.delenv("GOMP_SPINCOUNT") if own is None else monkeypatch.setenv("GOMP_SPINCOUNT", own)
    run(["--help"])
    assert os.environ["GOMP_SPINCOUNT"] == expected


def test_the_default_network_is_the_registrys() -> None:
    assert options.DEFAULT_MODEL == DEFAULT_MODEL


# --- wrong usage


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["imgae", "a.jpg"], "No such command 'imgae'. Did you mean 'image'?"),
        (["modles"], "'models'"),
        (["zzzz"], "No such command 'zzzz'"),
        (["--vrebose", "models"], "--verbose"),
        (["models", "--markdwon"], "--markdown"),
        (["image", "a.jpg", "--modle", "lite"], "--model"),
        (["image"], "Missing argument"),
        (["image", "a.jpg", "--strength", "2.1"], "--strength"),
        (["models", "nafnte"], "did you mean nafnet?"),
        (["models", "one", "two"], "two"),
    ],
)
def test_wrong_usage_is_one_line_and_suggests(run: Run, arguments: list[str], complaint: str) -> None:
    result = run(arguments)
    assert result.code == errors.EXIT_USAGE and result.stdout == ""
    assert complaint in one_line(result.stderr)


@pytest.mark.parametrize(
    ("arguments", "behind"),
    [
        (["image", ""], " behind 'image'"),
        (["image", "a.jpg", "-o", ""], " behind '-o'"),
        (["video", "a.mp4", "--frames="], " behind '--frames'"),
        (["synth", "a.jpg", ""], " behind 'a.jpg'"),
        ([""], ""),
    ],
)
def test_an_empty_word_does_not_stand_for_this_folder(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], behind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(arguments)
    assert result.code == errors.EXIT_USAGE
    assert one_line(result.stderr) == f"deblur: there is an empty word{behind}; is a variable of the shell not set?\n"


@pytest.mark.parametrize("option", [["--suffix", ""], ["--suffix="]])
def test_a_suffix_may_be_empty(run: Run, option: list[str]) -> None:
    assert "'nowhere'" in one_line(run(["image", "nowhere", "-o", "out", *option]).stderr)


def test_wrong_usage_says_where_help_is(run: Run) -> None:
    assert "(see 'deblur models --help')" in run(["models", "--nothing"]).stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["image", "nowhere"],
        ["eval", "nowhere"],
        ["synth", "nowhere", "-o", "out"],
        ["train", "--recipe", "nowhere.toml", "--photos", "nowhere", "-o", "out"],
    ],
)
def test_a_missing_folder_is_named(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(arguments)
    assert result.code == errors.EXIT_USAGE
    assert "nowhere" in one_line(result.stderr)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["image", "eval"])
def test_an_unknown_network_suggests_close_names(run: Run, tmp_path: Path, verb: str) -> None:
    import numpy as np
    from PIL import Image

    for folder in ("blur", "sharp"):
        (tmp_path / "test" / "s" / folder).mkdir(parents=True)
        Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "test" / "s" / folder / "0.png")
    result = run([verb, str(tmp_path), "-m", "nafnte"])
    assert result.code == errors.EXIT_USAGE
    assert "did you mean nafnet?" in one_line(result.stderr)


# --- errors and exit codes


@pytest.mark.parametrize("imported", ["typer", "deblur_cli.app"])
def test_ctrl_c_while_the_program_is_still_imported_is_one_line(imported: str) -> None:
    code = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # which a shell's background has not
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {imported!r}:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from deblur_cli.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    result = python(code, "--version")
    assert (result.returncode, result.stdout) == (130, "")
    assert one_line(result.stderr) == f"{errors.INTERRUPTED}\n"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (errors.UsageError("do it otherwise"), 2, "do it otherwise"),
        (errors.DatasetError("pairs are missing:\n  a.png\n  b.png"), 2, "pairs are missing: a.png b.png"),
        (errors.PhotoError("bad\x1b[2Jname.jpg"), 1, "bad\\x1b[2Jname.jpg"),
        (errors.OutOfMemoryError("a  b"), 1, "a  b"),
        (FileNotFoundError(2, "No such file or directory", "a.json"), 1, "a.json: No such file or directory"),
        (OSError(28, "No space left on device"), 1, "No space left on device"),
        (ModelError("no such network"), 2, "no such network"),
        (FetchError("hf:a/b/c: the hub does not answer"), 1, "the hub does not answer"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_an_error_is_one_line_and_its_code(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    fail_with(monkeypatch, error)
    result = run(["models", "--markdown"])
    assert result.code == code and result.stdout == ""
    assert said in one_line(result.stderr)


@pytest.mark.parametrize("error", [ValueError("surprise"), OSError("without a number")])
def test_a_fault_of_ours_keeps_its_traceback(run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    fail_with(monkeypatch, error)
    result = run(["models", "--markdown"])
    assert result.code == 1
    assert "Traceback" in result.stderr and str(error) in result.stderr
    assert result.stderr.splitlines()[-1].startswith("deblur: a fault in deblur itself")


def test_verbose_shows_the_traceback_and_the_log(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, errors.UsageError("no"))
    assert "Traceback" in run(["--verbose", "models", "--markdown"]).stderr
    assert "Traceback" not in run(["models", "--markdown"]).stderr


def test_the_log_goes_to_standard_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def speak(entries: object, **options: object) -> str:
        logging.getLogger("deblur_cli.room").info("for the curious")
        logging.getLogger("deblur_cli.room").warning("for all")
        return "table"

    monkeypatch.setattr(models_command, "_overview", speak)
    quiet, verbose, quiet_again = run(["models"]), run(["-v", "models"]), run(["models"])
    assert quiet.stdout == verbose.stdout == "table\n"
    assert quiet.stderr == quiet_again.stderr == "WARNING deblur_cli.room: for all\n"
    assert verbose.stderr == "INFO deblur_cli.room: for the curious\nWARNING deblur_cli.room: for all\n"


def test_the_code_of_a_verb_is_the_code_of_the_program(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import typer

    fail_with(monkeypatch, typer.Exit(errors.EXIT_SOME_FAILED))
    assert run(["models", "--markdown"]).code == errors.EXIT_SOME_FAILED


def test_every_verb_is_registered() -> None:
    assert tuple(command.name for command in app_module.app.registered_commands) == VERBS


@pytest.mark.skipif(sys.platform == "win32", reason="pipes close otherwise")
@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_that_goes_away_is_no_fault(lines: int) -> None:
    code = (
        "import sys, typer; from deblur_cli.__main__ import main; from deblur_cli.app import app\n"
        f"app.command('talk')(lambda: typer.echo('line\\n' * {lines})); sys.exit(main(['talk']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path(__file__).parents[1]
    ) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        said = process.stderr.read()
    assert said == b"" and process.returncode == errors.EXIT_SOME_FAILED


@pytest.mark.skipif(os.name == "nt", reason="a shell of another kind")
@pytest.mark.parametrize(
    ("closed", "more"),
    [
        (">&-", "--dry-run"),
        ("<&- >&- 2>&-", ""),
        pytest.param("2>/dev/full", "", marks=pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux's")),
    ],
)
def test_a_daemon_may_close_the_streams_and_have_no_room_for_its_log(closed: str, more: str, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (20, 16), "grey").save(tmp_path / "a.png")
    command = f"{sys.executable} -m deblur_cli image a.png -m test-tiny --strength 0 {more} {closed}"
    root = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    ended = subprocess.run(["sh", "-c", command], cwd=tmp_path, env=root, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    assert (tmp_path / "a_deblurred.png").exists() == (not more)


def test_a_name_that_the_terminal_cannot_show_is_spelt_out(tmp_path: Path) -> None:
    (tmp_path / "日.jpg").write_bytes(b"")
    root = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONIOENCODING": "latin-1"}
    command = [sys.executable, "-m", "deblur_cli", "image", ".", "-o", "out", "--dry-run"]
    ended = subprocess.run(command, cwd=tmp_path, env=root, capture_output=True, check=False)
    assert b"Traceback" not in ended.stderr
    assert rb"\u65e5.jpg" in ended.stdout
