"""The ffmpeg that does the decoding and encoding: where it is, what it can, running it, and what it says of errors."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import select
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import IO

from deblur_cli.errors import VideoError

QUIET = ("-hide_banner", "-nostdin", "-nostats")
NO_TIMESTAMP = -(2**63)
"""What ffmpeg has in place of a timestamp where there is none."""
_OLDEST = 8
_PIPE_BYTES = 1 << 20
# Lines that only say that something else went wrong before.
_CONSEQUENCES = re.compile(
    r"Conversion failed|Task finished|Terminating thread|Nothing was written|before EOF|Error opening (in|out)put file"
    r"|Error sending frames|Error opening output|Error initializing output|encoder - maybe incorrect parameters"
)
_PREFIX = re.compile(r"^(?:\[[^\]]*\] )*")
_LEVEL = re.compile(r"\[(fatal|error)\] ")
# What is told where nothing is wrong; encoders that write by themselves have a word of their own ahead of it.
_TOLD = re.compile(r"\[info\]")
_CAUGHT = re.compile(r"^\[info\] Exiting normally, received signal (\d+)")
_SIGNALS = {"SIGKILL": "as where memory runs out", "SIGXFSZ": "the limit on the size of files"}


def executable() -> str:
    """The path of the ffmpeg to run: the one that `IMAGEIO_FFMPEG_EXE` names, or else imageio-ffmpeg's.

    Raises:
        VideoError: there is none, it cannot be run, or it is too old.
    """
    import imageio_ffmpeg

    try:
        path = str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise VideoError(
            "there is no ffmpeg: install imageio-ffmpeg anew, or let IMAGEIO_FFMPEG_EXE name one"
        ) from error
    version = _version(path)
    if version is not None and version < _OLDEST:
        raise VideoError(
            f"{path} is ffmpeg {version}, which moves timestamps and changes samples: {_OLDEST} or later is needed"
        )
    return path


@functools.cache
def _version(path: str) -> int | None:
    """The major version; None of a build from between releases."""
    try:
        told = subprocess.run([path, "-version"], capture_output=True, check=False).stdout.decode("utf-8", "replace")
    except OSError as error:
        raise VideoError(f"{path} cannot be run: {error.strerror}") from error
    found = re.match(r"ffmpeg version n?(\d+)\.", told)
    return int(found[1]) if found else None


def file_argument(path: Path) -> str:
    """`path` as ffmpeg's command line takes it, whatever its name looks like (`-y.mp4`, `http:.mp4`, `pipe:`)."""
    return f"file:{path}"


def run(arguments: Sequence[str], data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run ffmpeg with `arguments` to its end, `data` on its standard input; both outputs are caught.

    Raises:
        VideoError: ffmpeg itself cannot be run. What it returns is for the caller to judge.
    """
    command = [executable(), *arguments]
    try:
        # An interruption from the keyboard must not end it half done, and what it returns be taken for a failure.
        return subprocess.run(command, input=data, capture_output=True, check=False, start_new_session=True)
    except OSError as error:
        raise VideoError(f"{command[0]} cannot be run: {error.strerror}") from error


class Process:
    """An ffmpeg at work, whose messages are read all the while so that it never waits for somebody to read them.

    Args:
        arguments: its command line.
        stdin: whether to have a pipe into it.
        stdout: whether to have a pipe out of it.
        pass_fds: descriptors that it gets under the same numbers.
        listener: called with each of its messages, from another thread or from within `hear`.

    Raises:
        VideoError: ffmpeg itself cannot be run.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        stdin: bool = False,
        stdout: bool = False,
        pass_fds: Sequence[int] = (),
        listener: Callable[[str], None] | None = None,
    ) -> None:
        command = [executable(), *QUIET, "-loglevel", "repeat+level+info", *arguments]
        try:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE if stdout else subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                bufsize=0,
                pass_fds=pass_fds,
                # An interruption from the keyboard is ours to handle: frames on their way must reach the file.
                start_new_session=True,
            )
        except OSError as error:
            raise VideoError(f"{command[0]} cannot be run: {error.strerror}") from error
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                _widen(pipe.fileno())
        self.messages: deque[str] = deque(maxlen=200)
        """The last lines it said."""
        self._listener = listener
        self._hearing = threading.Lock()
        self._unfinished = b""
        self._silent = False
        self._reader = threading.Thread(target=self._drain, name="ffmpeg messages", daemon=True)
        self._reader.start()

    @property
    def stdin(self) -> IO[bytes]:
        """The pipe into it."""
        assert self._child.stdin is not None
        return self._child.stdin

    @property
    def stdout(self) -> IO[bytes]:
        """The pipe out of it."""
        assert self._child.stdout is not None
        return self._child.stdout

    def wait(self) -> int:
        """Let it end, read its last words, and return its exit status: less than zero, the number of a signal."""
        if self._child.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._child.stdin.close()
        status = self._child.wait()
        self._reader.join()
        self._close_pipes()
        # Some signals it takes as a wish to end, and ends with a status of its own.
        caught = [found[1] for line in self.messages if (found := _CAUGHT.match(line))]
        return -int(caught[-1]) if status and caught else status

    def kill(self) -> None:
        """End it at once, and leave neither a zombie nor an open pipe."""
        if self._child.poll() is None:
            self._child.kill()
        self._close_pipes()
        self._child.wait()
        self._reader.join()

    def _close_pipes(self) -> None:
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def hear(self) -> None:
        """Take in all it has said so far: what it said before it wrote to another pipe, once that has been read."""
        assert self._child.stderr is not None
        with self._hearing:
            while not self._silent and _is_readable(self._child.stderr, wait=False):
                self._take(os.read(self._child.stderr.fileno(), _PIPE_BYTES))

    def _drain(self) -> None:
        assert self._child.stderr is not None
        while not self._silent and _is_readable(self._child.stderr, wait=True):
            self.hear()
        self._child.stderr.close()

    def _take(self, chunk: bytes) -> None:
        """The next bytes that it said; none: the last have been heard."""
        self._silent = not chunk
        *lines, self._unfinished = (self._unfinished + chunk).split(b"\n")
        for line in [self._unfinished] if self._silent and self._unfinished else lines:
            text = line.decode("utf-8", "replace").rstrip()
            self.messages.append(text)
            if self._listener is not None:
                self._listener(text)


def _is_readable(pipe: IO[bytes], *, wait: bool) -> bool:
    """Whether there is something to read, or the end; with `wait` not before there is."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    return bool(poll.poll(None if wait else 0))


def _widen(descriptor: int) -> None:
    """Let a pipe hold a megabyte, where the system allows it: fewer changes between the processes for each frame."""
    if sys.platform == "linux":
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def reason(messages: Iterable[str]) -> str:
    """The line that says best why ffmpeg failed, without the addresses before it."""
    lines = [line for line in messages if line.strip()]
    errors = [line for line in lines if _LEVEL.search(line)] or [line for line in lines if not _TOLD.search(line)]
    telling = [line for line in errors if not _CONSEQUENCES.search(line)] or errors
    if not telling:
        return "ffmpeg gave no reason"
    return _PREFIX.sub("", telling[0]).strip().rstrip(".")


def failure(status: int, messages: Iterable[str]) -> str:
    """Why an ffmpeg failed that returned `status`: a signal has ended it, or else what `reason` finds in `messages`."""
    if status >= 0:
        return reason(messages)
    name = next((each.name for each in signal.Signals if each == -status), "")
    words = ", ".join(filter(None, [f"ffmpeg was ended by signal {-status}", name]))
    return f"{words}: {_SIGNALS[name]}" if name in _SIGNALS else words


def is_disk_full(messages: Iterable[str]) -> bool:
    """Whether ffmpeg says that there was no room for its output."""
    return any("No space left" in message or "Disk quota exceeded" in message for message in messages)


def stamp_options(target: str) -> list[str]:
    """Options of an output that make ffmpeg write a line to `target` ahead of each frame, for `read_stamp`."""
    lines = ["-stats_enc_pre_fmt", "{ptsi} {tbi} {pts} {tb}", "-stats_enc_pre", target]
    return ["-fps_mode", "passthrough", "-enc_time_base", "demux", *lines]


def read_stamp(line: str) -> tuple[int, Fraction]:
    """Timestamp and time base of the frame that a line stands for: the source's own, or else what ffmpeg made up.

    The latter is for packets without a timestamp, as those of AVI are.
    """
    ticks, base, counted, counted_base = line.split()
    if int(ticks) == NO_TIMESTAMP:
        return int(counted), Fraction(counted_base)
    return int(ticks), Fraction(base)


def encoders() -> frozenset[str]:
    """The names of the video encoders that this ffmpeg has."""
    return _encoders(executable())


@functools.cache
def _encoders(_: str) -> frozenset[str]:
    listed = run([*QUIET, "-encoders"]).stdout.decode()
    return frozenset(re.findall(r"^ V[A-Z.]{5} (\S+)", listed, re.MULTILINE))


def encoder_formats(encoder: str) -> list[str]:
    """ffmpeg's names of the pixel formats that `encoder` takes; empty where it does not say."""
    return list(_encoder_formats(executable(), encoder))


@functools.cache
def _encoder_formats(_: str, encoder: str) -> tuple[str, ...]:
    told = run([*QUIET, "-h", f"encoder={encoder}"]).stdout.decode()
    found = re.search(r"Supported pixel formats: (.*)", told)
    return tuple(found[1].split()) if found else ()


def muxer_options(muxer: str) -> frozenset[str]:
    """The names of the options that `muxer` has of its own."""
    return _muxer_options(executable(), muxer)


@functools.cache
def _muxer_options(_: str, muxer: str) -> frozenset[str]:
    told = run([*QUIET, "-h", f"muxer={muxer}"]).stdout.decode()
    return frozenset(re.findall(r"^  -(\S+)", told, re.MULTILINE))
