"""What the README promises: its commands exist, its table is the registry's, its example runs, its files are there."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import typer

from deblur_cli.app import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line.startswith(("deblur ", "accelerate "))]


def arguments_of(line: str) -> list[str]:
    """What `deblur` is given in a README line: no comment, no redirection, no launcher."""
    words = shlex.split(line, comments=True)
    start = words.index("deblur") if "deblur" in words else words.index("deblur_cli")
    words = words[start + 1 :]
    return words[: words.index("<")] if "<" in words else words


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_and_option_exists(line: str) -> None:
    verb, *words = arguments_of(line)
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert verb in commands
    known = {name for parameter in commands[verb].params for name in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        if word.startswith("-") and word != "-" and " " not in word:  # with a space in it, it is an option's value
            assert word in known, f"{verb} has no {word}"


def test_there_are_examples_of_every_verb() -> None:
    shown = {arguments_of(line)[0] for line in COMMANDS}
    assert shown == set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def test_the_table_of_networks_is_the_registrys(run) -> None:
    table = re.search(r"<!-- networks -->\n(.*?)<!-- /networks -->", README, flags=re.DOTALL)
    assert table
    assert table[1].strip() == run(["models", "--markdown"]).stdout.strip()


def test_the_python_example_runs() -> None:
    code = re.search(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert code
    scope: dict[str, object] = {"pixels": np.full((40, 56, 3), 99, np.uint8)}
    exec(compile(code[1], "README.md", "exec"), scope)  # the README's own code
    sharp = scope["sharp"]
    assert isinstance(sharp, np.ndarray)
    assert sharp.shape == (40, 56, 3) and sharp.dtype == np.uint8


def test_every_file_it_links_or_names_is_there() -> None:
    named = re.findall(r"\]\(([^)]+)\)", README) + re.findall(r"`(sample_media/[^`*]+)`", README)
    for path in named:
        assert path.startswith("http") or (ROOT / path).exists(), path


def test_the_samples_restore(tmp_path: Path, run) -> None:
    result = run(["image", str(ROOT / "sample_media" / "photos"), "-o", str(tmp_path), "--device", "cpu"])
    assert result.code == 0, result.stderr
    made = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert made == {"astronaut.jpg", "camera.png", "chelsea.png", "coffee.tif", "rocket.webp", "real/clock.png"}
