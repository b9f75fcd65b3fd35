"""The connection to a Ray cluster, or to a Ray on this machine alone that is started for it."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detection.errors import UserError
from detection.jobs.environment import variables

_CONNECT_S = 5.0

# Read by Ray's own programs when they start: nothing reported to its makers, no workers started on
# speculation, and less often than ten times a second a look at what has not changed.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_event_stats": "0",
    "RAY_task_events_report_interval_ms": "0",
    "RAY_raylet_report_resources_period_milliseconds": "1000",
    "RAY_raylet_report_loads_period_milliseconds": "1000",
}


@contextmanager
def connected(ray: Any, address: str | None, num_cores: int) -> Iterator[str | None]:
    """Be connected to a cluster, or to a Ray of our own; yield the address of its dashboard.

    A connection that this process has already is used, and stays. Where a cluster asks for a token
    Ray sends it only where RAY_AUTH_MODE=token says so.
    """
    if ray.is_initialized():
        yield None
        return
    options: dict[str, Any] = {"address": address}
    if address is None:
        options = {"address": "local", "num_cpus": num_cores}
    else:
        _check_answer(address)
    try:
        with variables(QUIET), _own_signal_handlers():
            context = ray.init(**options, logging_level="ERROR", log_to_driver=False)
    except (OSError, RuntimeError, ValueError) as error:
        words = " ".join(str(error).split())[:300]
        advice = "" if address is None else "; a cluster with tokens needs RAY_AUTH_MODE=token"
        place = address or "on this machine"
        raise UserError(f"Ray {place}: no connection ({words}){advice}") from error
    # Else it prints to stdout, among a command's results, what `wait` says: that workers died.
    ray._private.worker._worker_logs_enabled = False
    try:
        yield context.dashboard_url or None
    finally:
        ray.shutdown()
        ray._private.worker._worker_logs_enabled = True


def _check_answer(address: str) -> None:
    """Raise `UserError` where nothing answers at an address: Ray itself would wait for minutes."""
    place = address
    if address == "auto":
        place = os.environ.get("RAY_ADDRESS", "")
        noted = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster"
        if not place and noted.is_file():
            place = noted.read_text(encoding="utf-8").strip()
        if not place:
            raise UserError("address auto: no Ray cluster runs on this machine (ray start)")
    host, _, port = place.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise UserError(f"address '{place}': auto or host:port of a Ray cluster is required")
    try:
        is_grpc = _speaks_http2(host.strip("[]"), int(port))
    except (OSError, OverflowError) as error:
        raise UserError(f"{place}: no Ray cluster answers there ({error})") from error
    if not is_grpc:
        raise UserError(f"{place}: a server answers there that is no Ray cluster")


def _speaks_http2(host: str, port: int) -> bool:
    """Tell whether a server greets as gRPC's do: with a frame of settings (RFC 9113, 3.4)."""
    settings = b"\0\0\0\x04\0\0\0\0\0"
    with socket.create_connection((host, port), timeout=_CONNECT_S) as server:
        server.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings)
        answer = server.recv(len(settings))
    return len(answer) > 3 and answer[3] == settings[3]


@contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Put this process's handlers back, which Ray replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
