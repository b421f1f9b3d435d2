"""Threads: loops may have many, sums have one, so that numbers never depend on the machine."""

import os
import subprocess
import sys

from alsflow.workflows.machine import THREADED, UNTHREADED, limit_threads

SUM = """
import hashlib, sys
from alsflow.workflows.machine import limit_threads
limit_threads(int(sys.argv[1]))
import numpy as np
wide = np.random.default_rng(0).normal(size=(300, 20000)).astype(np.float32)
product = np.concatenate([(wide @ wide.T).ravel(), wide.T[:64] @ wide[:, 0]])
print(hashlib.sha256(product.tobytes()).hexdigest())
"""


def test_sums_have_one_thread_whatever_is_asked_for(monkeypatch):
    for name in (*THREADED, *UNTHREADED):
        monkeypatch.setenv(name, "7")
    limit_threads(3)
    assert {os.environ[name] for name in THREADED} == {"3"}
    assert {os.environ[name] for name in UNTHREADED} == {"1"}


def test_products_of_matrices_do_not_depend_on_the_threads():
    digests = {
        subprocess.run([sys.executable, "-c", SUM, number], capture_output=True, check=True).stdout
        for number in ("1", "2", "4")
    }
    assert len(digests) == 1
