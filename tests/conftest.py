"""What holds for all tests."""

import os
import signal

from hypothesis import settings

# No test asserts a speed, and hypothesis' deadline would be one.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# IPython warns where another environment is activated than the one it runs in.
os.environ.pop("VIRTUAL_ENV", None)

# A shell's background job ignores interrupts, which some tests send to themselves.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter):
    """Say what the browser's tests took: they may take four minutes of a run."""
    reports = [report for each in terminalreporter.stats.values() for report in each]
    timed = [r for r in reports if hasattr(r, "duration") and "browser" in r.keywords]
    seconds = sum(report.duration for report in timed)
    if seconds:
        terminalreporter.write_line(f"in a browser: {seconds:.0f} s, set-up and all workers added")
