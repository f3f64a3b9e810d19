"""Rules for every test: one thread of PyTorch, and which tests share a worker of pytest-xdist.

A file's tests run on one worker, one after another, so that what the file builds once is built
once. A file of long tests that share nothing marks them ``spread``; files that share a fixture name
one ``xdist_group``. What measures seconds or fills the machine is ``serial``: it runs without
workers.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Make a group of every file that says nothing else."""
    for item in items:
        if not (item.get_closest_marker("xdist_group") or item.get_closest_marker("spread")):
            item.add_marker(pytest.mark.xdist_group(str(item.path)))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Toy sizes need no second thread, and threads that wait for a busy core cost most of the time.

    Set around every test, because some tests and what they import set it, too.
    """
    torch = sys.modules.get("torch")
    if torch is None:  # a test that needs none does not wait for its import
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def alone_if_serial(request: pytest.FixtureRequest) -> None:
    """Skip what measures seconds where another worker would disturb it."""
    beside = hasattr(request.config, "workerinput")
    if beside and request.node.get_closest_marker("serial"):
        pytest.skip("serial: runs without -n")
