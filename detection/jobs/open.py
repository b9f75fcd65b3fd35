"""Opens workers by the name of what runs them."""

from __future__ import annotations

from detection.errors import UserError
from detection.jobs.base import Engine, Open, PieceT, Resources, ResultT, Workers

GRACE_S = 5.0  # until work under way is ended, where it does not heed the progress callback


def open_workers(
    engine: Engine,
    open_: Open[PieceT, ResultT],
    *,
    workers: int | None = None,
    resources: Resources | None = None,
    address: str | None = None,
    grace_s: float | None = GRACE_S,
) -> Workers[PieceT, ResultT]:
    """Return workers of an engine; nothing is opened in them before the first piece.

    engine: here: in this process, one piece after the other. processes: processes of this machine.
        ray: actors of Ray ([`ray`] is an extra), on as many machines as its cluster has.
    workers: how many at most; None: as many as the cores and GPUs allow.
    resources: of one worker (None: one core).
    address: of a running Ray cluster, auto or host:port; None: one is started on this machine, and
        ended with the workers.
    grace_s: how long, on leaving, work under way may take to stop by itself (None: as it takes).
    Raises `UserError` for resources that are not there, Ray that is not installed, and a cluster
    that does not answer.
    """
    resources = resources or Resources()
    if workers is not None and workers < 1:
        raise UserError(f"{workers} workers: 1 or more are required")
    if address is not None and engine != "ray":
        raise UserError(f"an address ({address}) is of a Ray cluster: the engine ray is required")
    if engine == "here":
        from detection.jobs.here import HereWorkers

        return HereWorkers(open_)
    if engine == "processes":
        from detection.jobs.processes import ProcessWorkers

        return ProcessWorkers(open_, workers=workers, resources=resources, grace_s=grace_s)
    if engine == "ray":
        from detection.jobs.ray_workers import RayWorkers

        return RayWorkers(
            open_, workers=workers, resources=resources, address=address, grace_s=grace_s
        )
    raise UserError(f"engine '{engine}': here, processes or ray is required")
