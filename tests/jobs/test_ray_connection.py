"""Ray of our own and of others: found or named as missing at once, and gone with its driver."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from piece_work import descendants, is_gone, open_work, until

from detection.errors import UserError
from detection.jobs.open import open_workers

HELPERS = Path(__file__).resolve().parent.parent / "helpers"

BEGIN = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(HELPERS)!r})
from piece_work import open_work
from detection.jobs.open import open_workers
from detection.jobs.run_all import run_all
"""


def closed_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def words_of(pid):
    """Return the command line of a process."""
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0]


def refusal(**options):
    begun_s = time.monotonic()
    with pytest.raises(UserError) as caught:
        open_workers("ray", open_work, workers=1, **options)
    assert time.monotonic() - begun_s < 30
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_the_package_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert refusal() == 'ray is not installed: pip install "x3d-action-detection[ray]"'


@pytest.fixture
def needs_ray():
    if find_spec("ray") is None:
        pytest.skip("ray is not installed")


@pytest.mark.ray
@pytest.mark.usefixtures("needs_ray")
@pytest.mark.parametrize("address", ["head", "ray://head:10001", "head:port", ":6379"])
def test_an_address_that_is_none_is_refused(address):
    assert refusal(address=address).startswith(f"address '{address}': auto or host:port")


@pytest.mark.ray
@pytest.mark.usefixtures("needs_ray")
def test_where_no_cluster_answers_is_said_at_once(monkeypatch, tmp_path):
    address = f"127.0.0.1:{closed_port()}"
    assert refusal(address=address).startswith(f"{address}: no Ray cluster answers there")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert "no Ray cluster runs on this machine" in refusal(address="auto")
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(address)  # of one that was killed
    assert refusal(address="auto").startswith(f"{address}: no Ray cluster answers there")


@pytest.mark.ray
@pytest.mark.usefixtures("needs_ray")
def test_a_server_that_is_no_ray_is_refused(monkeypatch):
    monkeypatch.setattr("detection.jobs.ray_connection._CONNECT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert address in refusal(address=address)


@pytest.mark.ray
@pytest.mark.usefixtures("needs_ray")
def test_a_cluster_is_used_and_ends_with_its_own_driver(tmp_path):
    place, note = tmp_path / "pid", tmp_path / "address"
    code = f"""{BEGIN}
with open_workers("ray", open_work, workers=2) as workers:
    import ray
    Path({str(note)!r}).write_text(ray.get_runtime_context().gcs_address)
    list(run_all(workers, [("heedless", {str(place)!r})]))
"""
    driver = subprocess.Popen([sys.executable, "-c", code])
    try:
        until(lambda: place.exists() and place.read_text(), 60)
        guest = f"""{BEGIN}
import signal
with open_workers("ray", open_work, workers=1, address={note.read_text()!r}) as workers:
    print([one.result for one in run_all(workers, [("times", 4)])])
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
"""
        said = subprocess.run(
            [sys.executable, "-c", guest],
            env={**os.environ, "RAY_AUTH_MODE": "token"},  # as the driver's Ray has it
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert said.stdout == "[4]\n", said.stderr
        assert driver.poll() is None
        # Its two agents first tell the head, which is gone: they stay idle for a minute (Ray 2.60).
        started = [pid for pid in descendants(driver.pid) if "Agent" not in words_of(pid)]
        assert int(place.read_text()) in started
        assert any("raylet" in words_of(pid) for pid in started)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    until(lambda: all(map(is_gone, started)))


@pytest.mark.ray
@pytest.mark.usefixtures("needs_ray")
def test_a_lost_raylet_ends_the_command_which_can_go_on(tmp_path):
    place = tmp_path / "pid"
    code = f"""{BEGIN}
with open_workers("ray", open_work, workers=2) as workers:
    list(run_all(workers, [("heedless", {str(place)!r})], retries=9))
"""
    driver = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    until(lambda: place.exists() and place.read_text(), 60)
    (raylet,) = (pid for pid in descendants(driver.pid) if "raylet/raylet" in words_of(pid))
    os.kill(raylet, signal.SIGKILL)
    said = driver.communicate(timeout=120)[1].decode()
    assert driver.returncode == 1 and "ProcessLostError: Ray's program on this machine" in said
