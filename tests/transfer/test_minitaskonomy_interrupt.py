"""What interrupts a run ends its workers too, whenever it comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

# Six steps for two workers: each notes that it has begun and sleeps for much longer than the test waits.
STEPS = """
import sys
from functools import partial
from pathlib import Path
from dds_transfer.minitaskonomy.steps import Step, do_steps

folder = Path(sys.argv[1])
work = "import time; open({!r}, 'w').close(); time.sleep(300)"
steps = [Step("", folder / "output", 1, partial(exec, work.format(str(folder / f"began{i}")))) for i in range(6)]
try:
    list(do_steps([steps], 2))
except KeyboardInterrupt:
    sys.exit(130)
"""


def running(group: int) -> list[str]:
    """The command lines of the processes of a group that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state, _, process_group = (path / "stat").read_text(errors="replace").rpartition(")")[2].split()[:3]
            if int(process_group) == group and state != "Z":
                found.append((path / "cmdline").read_text(errors="replace").replace("\0", " "))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 180  # importing torch takes a few seconds, on a busy machine many
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that in three minutes"
        time.sleep(0.05)


@pytest.mark.parametrize("when", ["while workers start", "at work"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_run(tmp_path: Path, how: signal.Signals, when: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STEPS, str(tmp_path)],
        cwd=Path(__file__).parent,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    try:
        if when == "at work":
            wait(lambda: len(list(tmp_path.iterdir())) == 2)
        else:
            wait(lambda: sum("spawn_main" in line for line in running(process.pid)) == 2)
        begun = 2 if when == "at work" else 0
        if how == signal.SIGINT:
            os.killpg(process.pid, how)  # as a terminal does
        else:
            process.kill()
        assert process.wait(timeout=60) == (130 if how == signal.SIGINT else -signal.SIGKILL)
        wait(lambda: not running(process.pid))
        assert len(list(tmp_path.iterdir())) == begun
        if how == signal.SIGINT:
            assert process.stderr.read() == ""
    finally:
        if running(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.stderr.close()
