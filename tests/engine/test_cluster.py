"""Units on Ray clusters of several nodes, which the tests start, damage and stop."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from smalti.engine import carry_out
from smalti.errors import MissingExtraError
from smalti.project import Listener
from test_engine import digests, end_caller, make, read

RAY = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="not applicable: Ray is not installed")
pytestmark = pytest.mark.slow
# A head node and another one with one core each, in a process of their own, whose files and sockets Ray may leave open.
# A node is lost after three answers that did not come.
HOST = """
import sys
from ray.cluster_utils import Cluster

quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 200, "health_check_failure_threshold": 3}
size = {"num_cpus": 1, "object_store_memory": 80 << 20}
cluster = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, "_system_config": quick, **size})
nodes = {"node": cluster.add_node(wait=False, **size), "head": cluster.head_node}
print("ADDRESS", cluster.address, flush=True)
for line in sys.stdin:
    cluster.remove_node(nodes[line.strip()], allow_graceful=False)
"""


@pytest.fixture
def cluster(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[subprocess.Popen[str]]:
    """A process with a cluster; the name of a node on its stdin ends that node at once."""
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "2")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    log = tmp_path_factory.mktemp("cluster") / "log"
    with log.open("w", encoding="utf-8") as errors:
        host = subprocess.Popen(
            [sys.executable, "-c", HOST], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
            start_new_session=True,
        )  # fmt: skip
    with host:
        assert host.stdout is not None
        address = next((line.split()[1] for line in host.stdout if line.startswith("ADDRESS")), None)
        if not address:  # Ray gives a node half a minute, which a busy machine may not have
            pytest.skip(
                f"not applicable: no Ray cluster could be started here: {log.read_text(encoding='utf-8')[-300:]}"
            )
        monkeypatch.setenv("RAY_ADDRESS", address)
        try:
            yield host
        finally:
            os.killpg(host.pid, signal.SIGKILL)


def end_node(host: subprocess.Popen[str], name: str) -> None:
    assert host.stdin is not None
    host.stdin.write(f"{name}\n")
    host.stdin.flush()


def kill_worker(host: subprocess.Popen[str]) -> None:
    """Kill a process that does a unit of the test."""
    found: list[psutil.Process] = []
    while not found:
        found = [p for p in psutil.Process(host.pid).children(recursive=True) if p.name().startswith("ray::u")]
    random.choice(found).kill()


def damage(acts: dict[int, Callable[[], object]], folder: Path) -> threading.Thread:
    """Carry out each act when there are that many files in a folder."""

    def watch() -> None:
        for count, act in sorted(acts.items()):
            while len([path for path in folder.iterdir() if path.suffix == ""]) < count:
                time.sleep(0.02)
            act()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


@RAY
def test_workers_nodes_and_the_head_are_lost_and_the_files_are_those_made_here(
    cluster: subprocess.Popen[str], tmp_path: Path
) -> None:
    carry_out(digests(tmp_path / "here", 40))
    broken = [
        make(tmp_path, "fails", "fail", message="there"),
        make(tmp_path, "forgets", "forget"),
        make(tmp_path, "dies", "die", path=str(tmp_path / "dies"), counter=str(tmp_path / "log"), times=9),
        make(tmp_path, "lives", "die", path=str(tmp_path / "lives"), counter=str(tmp_path / "log2"), times=1),
    ]
    outcomes = carry_out(broken, on="ray", tries=2)
    assert [(o.status, o.tries) for o in outcomes] == [("failed", 2)] * 3 + [("done", 2)]
    assert [o.error for o in outcomes[:2]] == ["KeyError: 'there'", f"ended without {tmp_path / 'forgets'}"]
    assert "killed" in outcomes[2].error

    there = tmp_path / "there"
    units = digests(there, 40, seconds=0.1)
    said: list[str] = []
    # A worker is killed, then a node, then the head node.
    watching = damage(
        {6: lambda: kill_worker(cluster), 14: lambda: end_node(cluster, "node"), 25: lambda: end_node(cluster, "head")},
        there,
    )
    large = make(tmp_path, "large", "forget", {"memory_gb": 1e6})
    *found, waited = carry_out([*units, large], on="ray", tries=4, listener=Listener(said.append))
    watching.join(5)
    assert waited.status in {"stopped", "failed"}  # what Ray says of it first, the head or the unit
    assert waited.error
    states = [outcome.status for outcome in found]
    # When the head is gone, Ray may first give up on single units.
    assert set(states) <= {"done", "stopped", "failed"}
    assert states.count("done") >= 25
    assert all(outcome.error for outcome in found if outcome.status != "done")
    assert said
    # The same call goes on, anywhere.
    again = carry_out(units, on="here")
    assert [o.status for o in again] == ["reused" if state == "done" else "done" for state in states]
    assert read(there) == read(tmp_path / "here")


@RAY
def test_ray_on_this_machine_leaves_no_process_and_nothing_half_written(tmp_path: Path) -> None:
    assert end_caller(tmp_path, "ray", signal.SIGINT) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["pids"]


def test_without_ray_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for on in ("ray", "ray://there:10001"):
        with pytest.raises(MissingExtraError, match=r"pip install 'smalti\[ray\]'"):
            carry_out(digests(tmp_path, 1), on=on)
    assert not any(tmp_path.iterdir())
