"""What holds for all tests."""

import signal

from hypothesis import settings

# No test asserts a speed, and hypothesis' deadline would be one.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# A shell's background job ignores interrupts, which some tests send to themselves.
signal.signal(signal.SIGINT, signal.default_int_handler)
