"""Waiting for what other processes do, on machines of any speed."""

import time

SLOW = 120  # s that anything may take on a busy machine; nothing waits for longer than it must


def wait_for(condition, seconds=SLOW, problem="this did not happen in time"):
    """Return when `condition` holds; fail after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(problem)
        time.sleep(0.05)
