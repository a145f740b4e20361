"""For all tests: TensorFlow as backend, two logical CPU devices, seeds, and what was covered.

A contract test (mark `contract("suite", of=n)`) is one of `n` members of a suite; how many of them
passed is printed at the end, and it may not be skipped. Another test may be, for a reason in SKIPS.
"""

import gc
import os
import sys
from collections import Counter

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import pytest

pytest.register_assert_rewrite("kerasft.testing")

# Reason of a skip -> what the machine lacks. Any other skip fails.
SKIPS = {
    "no font with Chinese characters is installed": "fonts belong to the machine, not to kerasft",
    "a device of Linux": "/dev/full is a full disk that no other system has",
    "/proc is a folder of Linux": "it names the libraries of a process; other systems have none",
    "no Chromium on the PATH": "the page of `kerasft serve` is tried in a browser of the machine's",
}


def pytest_addoption(parser):
    parser.addoption("--graphs", action="store_true", help="run every step in a graph")


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "contract(suite, of): one of `of` members of a contract suite"
    )
    config.pluginmanager.register(Covered())


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """With -n a file's tests stay in one process, and the files that share SavedModels; members of
    contract suites share nothing, and fill the processes up at the end."""
    for item in items:
        if item.get_closest_marker("contract") is None:
            room = item.path.parent.name
            item.add_marker(pytest.mark.xdist_group(room if room == "export" else item.path.name))


def pytest_collection_finish(session):
    """Two logical CPUs, so that what is divided by the replicas can be tested anywhere.

    They are set before TensorFlow starts; tests that never load it stay quick. Graphs are made of
    many small objects that stay: to look for garbage among them took a seventh of the time.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    tf = sys.modules.get("tensorflow")
    if tf is not None:
        cpu = tf.config.list_physical_devices("CPU")[0]
        devices = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, devices)


@pytest.fixture(autouse=True)
def seeded():
    """The same random numbers for every test, whatever ran before it."""
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Steps run operation by operation: three of them are over sooner than their graph is made.

    What is of the graph itself is tried in one by the mark `graph`, long loops are (generation),
    and all is with `--graphs`. Exports are graphs either way.
    """
    tf = sys.modules.get("tensorflow")
    if tf is not None:
        marked = any(item.get_closest_marker(mark) for mark in ("graph", "slow"))
        long = item.path.parent.name == "generation"
        tf.config.run_functions_eagerly(not (marked or long or item.config.getoption("graphs")))


@pytest.fixture(scope="module")
def browser():
    """Chromium without a window, on the page of a server: see browsing.py."""
    import browsing

    if not browsing.there():
        pytest.skip("no Chromium on the PATH")
    with browsing.Browser() as made:
        yield made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.skipped and _reason(report) not in SKIPS:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: skipped for a reason outside SKIPS: {_reason(report)}"
    mark = item.get_closest_marker("contract")
    if mark is None:
        return report
    # It goes with the report, which may come from another process.
    report.suite, report.of = mark.args[0], mark.kwargs["of"]
    if report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: a member of {report.suite} may be refused, not skipped"
    return report


class Covered:
    """Counts the members of contract suites that passed.

    A test that goes through a whole list says so itself, with
    `record_property("covered", [suite, how many, of])`.
    """

    def __init__(self):
        self.passed, self.members = Counter(), {}

    def pytest_runtest_logreport(self, report):
        for name, (suite, passed, of) in report.user_properties if report.when == "call" else ():
            if name == "covered":
                self.members[suite], self.passed[suite] = of, passed
        if hasattr(report, "suite"):
            self.members[report.suite] = report.of
            self.passed[report.suite] += report.when == "call" and report.passed

    def pytest_terminal_summary(self, terminalreporter):
        for suite, members in sorted(self.members.items()):
            terminalreporter.write_line(f"{suite}: covered {self.passed[suite]} of {members}")


def _reason(report):
    return str(report.longrepr[2]).removeprefix("Skipped: ")
