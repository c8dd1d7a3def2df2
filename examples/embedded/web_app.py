"""Blaze inside a FastAPI app: the app's life is the scheduler's, and its routes ask and start it.

    pip install 'blaze-etl[examples]'
    python examples/embedded/web_app.py            # serves http://127.0.0.1:8000 until Ctrl-C
    python examples/embedded/web_app.py --demo     # serves on a free port, asks itself, and ends

With several workers (``--workers 4``) each process has a scheduler on the same state directory; each
tick fires once between them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import tempfile
import threading
import time
import urllib.request
from collections.abc import AsyncIterator
from typing import Any, Dict, List

import uvicorn
from fastapi import FastAPI, HTTPException
from pipeline import sequences  # the file beside this one

from blaze import Blaze, NotFound, SubmitSequenceData

#: Where the state is; the workers of a server inherit it.
STATE_DIR = "WEATHER_STATE_DIR"


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """The scheduler lives as long as the app; it is made here, so that each worker process has its own."""
    with Blaze(sequences=sequences, state_dir=os.environ.get(STATE_DIR, "./state")) as scheduler:
        scheduler.submit(SubmitSequenceData("weather", seq_run_interval="* * * * * *"))
        app.state.scheduler = scheduler
        yield


app = FastAPI(title="Weather", lifespan=lifespan)


@app.post("/runs", status_code=201)
async def start_run() -> Dict[str, Any]:
    """Run the sequence now, and wait for it without holding up the server."""
    result = await app.state.scheduler.trigger("weather")
    return {"run_id": result.run_id, "status": result.status, "output": result.output}


@app.get("/runs")
def list_runs(limit: int = 10) -> List[Dict[str, Any]]:
    """The latest runs."""
    return [run.to_dict() for run in app.state.scheduler.state.runs(limit=limit)]


@app.get("/runs/{run_id}")
def show_run(run_id: str) -> Dict[str, Any]:
    """One run with its steps."""
    state = app.state.scheduler.state
    try:
        run = state.find_run(run_id)
    except NotFound as error:
        raise HTTPException(404, str(error)) from error
    return {**run.to_dict(), "steps": [step.to_dict() for step in state.steps(run.run_id)]}


@app.get("/health")
def health() -> Dict[str, Any]:
    """For the load balancer."""
    found: Dict[str, Any] = app.state.scheduler.health().to_dict()
    return found


def demo() -> None:
    """Serve on a free port, ask a few things, and end."""
    with socket.socket() as listening, tempfile.TemporaryDirectory() as temporary:
        os.environ[STATE_DIR] = f"{temporary}/state"
        listening.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        serving = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        serving.start()
        while not server.started and serving.is_alive():
            time.sleep(0.01)
        made = ask(urllib.request.Request(f"{url}/runs", method="POST"))
        print(f"POST /runs       {made['status']}  {made['output']}")
        shown = ask(f"{url}/runs/{made['run_id'][:8]}")
        print(f"GET /runs/{{id}}   {', '.join(step['name'] + ' ' + step['status'] for step in shown['steps'])}")
        ticks: List[Dict[str, Any]] = []
        while not ticks:
            ticks = [run for run in ask(f"{url}/runs") if run["job_id"] and run["status"] == "COMPLETED"]
            time.sleep(0.05)
        print(f"GET /runs        the tick of {ticks[0]['scheduled_at']} came {ticks[0]['lateness'] * 1e3:.0f} ms late")
        print(f"GET /health      ok: {ask(f'{url}/health')['ok']}")
        server.should_exit = True
        serving.join()


def ask(request: Any) -> Any:
    """What the server answers."""
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", action="store_true", help="ask the server a few things, and end")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--workers", type=int, default=1, help="processes (default 1)")
    options = parser.parse_args()
    if options.demo:
        demo()
    else:
        uvicorn.run("web_app:app", port=options.port, workers=options.workers)


if __name__ == "__main__":
    main()
