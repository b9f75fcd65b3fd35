"""A small HTTP service: a video is uploaded, the answer is the JSON of its events.

python docs/examples/http_service.py RUN PEOPLE
curl --data-binary @video.mp4 http://127.0.0.1:8000/events

RUN and PEOPLE: whatever `detect_actions` takes as --checkpoint and --people.
Needs: pip install fastapi uvicorn. The body is the video itself, without a form and without a name,
so that no word of the client's becomes part of a path. It has no users and no encryption: put it
behind something that has.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool

from detection import ActionDetectorPipeline, UserError


def create_app(
    detector: ActionDetectorPipeline,
    *,
    most_bytes: int = 200 * 2**20,
    upload_s: float = 120.0,
    work_s: float = 300.0,
    most_waiting: int = 4,
) -> FastAPI:
    """Return the service around a detector.

    most_bytes: of an upload.  upload_s: that it may take.  work_s: after so long the answer is what
    was found until then.  most_waiting: requests at a time, of which one is in the networks.
    """
    app = FastAPI(title="Who does what in a video")
    networks = threading.Lock()
    waiting = 0

    @app.post("/events")
    async def events(request: Request) -> dict[str, Any]:
        nonlocal waiting
        if waiting >= most_waiting:
            raise HTTPException(503, "busy; try again later", headers={"Retry-After": "30"})
        waiting += 1
        try:
            with tempfile.TemporaryDirectory(prefix="upload-") as folder:
                video = Path(folder) / "upload"
                await receive(request, video, most_bytes, upload_s)
                return await run_in_threadpool(analyse, detector, video, networks, work_s)
        finally:
            waiting -= 1

    return app


async def receive(request: Request, path: Path, most_bytes: int, upload_s: float) -> None:
    """Write the body to a file; ends as soon as it is too large or too slow."""
    size = 0
    try:
        with path.open("wb") as file:
            async with asyncio.timeout(upload_s):
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > most_bytes:
                        raise HTTPException(413, f"at most {most_bytes:,} bytes are required")
                    file.write(chunk)
    except TimeoutError as error:
        raise HTTPException(408, f"the upload took more than {upload_s:g} s") from error


def analyse(
    detector: ActionDetectorPipeline, video: Path, networks: threading.Lock, work_s: float
) -> dict[str, Any]:
    """Return the events of a file as plain values; one file at a time."""
    with networks:
        end_s = time.monotonic() + work_s
        walk = detector.run(video, should_stop=lambda: time.monotonic() > end_s)
        try:
            events = [asdict(event) for event in walk]
        except UserError as error:  # no video, or a damaged one: what is wrong, in a line
            raise HTTPException(422, str(error).replace(str(video), "the upload")) from error
        report = detector.report
    return {
        "events": events,
        "keyframes": report.keyframes,
        "people": report.people,
        "until_s": report.end_s,
        "stopped": report.stopped,
        "gaps": [asdict(gap) for gap in report.gaps],
    }


if __name__ == "__main__":
    import uvicorn

    if len(sys.argv) != 3:
        sys.exit("error: RUN and PEOPLE are required: python http_service.py RUN PEOPLE")
    try:
        pipeline = ActionDetectorPipeline.from_checkpoint(sys.argv[1], people=sys.argv[2])
    except UserError as error:
        sys.exit(f"error: {error}")
    uvicorn.run(create_app(pipeline), host="127.0.0.1", port=8000)
