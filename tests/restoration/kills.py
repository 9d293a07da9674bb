"""Run as a program by `test_video_job`: restores a clip with kills on the way, each time in a process of its own.

A process of one thread that has restored a frame before is forked for each run, which saves loading torch each time.

    python kills.py CLIP FRAMES_OF_A_SEGMENT '[[NETWORK, TARGET, [KILL_AT_FRAME, ..., null]], ...]'

prints for each how many frames were done before its last run.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import torch

from deblur_cli.restoration import video_job
from deblur_cli.restoration.restorer import Restorer
from deblur_cli.restoration.video_outputs import VideoSettings

QUICKLY = VideoSettings(preset="ultrafast")


def restore(clip: Path, target: Path, network: str, kill_at: int | None) -> int:
    """Restore in a child process, which kills itself as soon as so many frames are written; how many were done before.

    The child's other threads, and its ffmpegs, are in the middle of whatever they are doing then.
    """

    def progress(done: int, expected: int | None) -> None:
        if kill_at is not None and done >= kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        result = video_job.restore_video(
            clip, target, Restorer(network, device="cpu", precision="fp32"), QUICKLY, progress=progress
        )
        os.write(writer, str(result.before).encode())
        os._exit(0)
    os.close(writer)
    status = os.waitpid(child, 0)[1]
    with os.fdopen(reader) as told:
        before = told.read()
    assert os.WIFSIGNALED(status) if kill_at is not None else status == 0, status
    return int(before or -1)


if __name__ == "__main__":
    clip, length, jobs = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
    video_job.segment_length = lambda *_: length
    torch.set_num_threads(1)
    Restorer("test-tiny", device="cpu").restore_tensor(torch.zeros(1, 3, 16, 16))
    befores = [[restore(clip, Path(target), network, kill) for kill in kills][-1] for network, target, kills in jobs]
    print(json.dumps(befores))  # noqa: T201
