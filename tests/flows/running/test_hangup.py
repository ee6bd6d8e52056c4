"""A closed terminal ends a command as Ctrl-C does, in a real terminal."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flows.running import hangup

# What a command starts and tidies up, without the minutes of its work.
COMMAND = """
import signal, subprocess, sys, time
from pathlib import Path
import flows.cli
from flows.running.lifetime import watched
def work(standalone_mode):
    started = subprocess.Popen(watched(["sleep", "600"]), stdin=subprocess.PIPE)
    try:
        print("begun", flush=True)  # the signal can follow at once
        time.sleep(600)
    except KeyboardInterrupt:
        print("the terminal is gone", flush=True)
        print("the terminal is gone", file=sys.stderr, flush=True)
        started.stdin.close()
        Path(sys.argv[1]).write_text(str(started.wait()))
        return 130  # as typer does
flows.cli.app = work
flows.cli.main()
"""


def test_what_a_command_started_ends_with_its_terminal(tmp_path, wait_for):
    ours, theirs = pty.openpty()
    tidied = tmp_path / "tidied"
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(tidied)],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        # The terminal of its session, as a login has it.
        preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),
    ) as process:  # fmt: skip
        os.close(theirs)
        assert b"begun" in os.read(ours, 100)
        os.close(ours)
        assert process.wait(300) == 1
    wait_for(tidied.is_file)
    assert Path(tidied).read_text() == str(-signal.SIGTERM % 256), "the watcher ended what it watches"


@pytest.mark.parametrize(("before", "ends"), [(signal.SIG_DFL, True), (signal.SIG_IGN, False)])
def test_under_nohup_a_command_outlives_its_terminal(before, ends):
    usual = signal.signal(signal.SIGHUP, before)
    try:
        assert hangup.ends_this_process() is ends
    finally:
        signal.signal(signal.SIGHUP, usual)
