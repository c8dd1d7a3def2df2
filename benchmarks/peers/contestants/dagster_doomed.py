"""The pipeline that is killed, for Dagster: it loads a job from the file that defines it, so this file is one of its own."""

from __future__ import annotations

from benchmarks.peers.contestants.dagster import job_of
from benchmarks.peers.workloads import doomed_graph
from dagster import JobDefinition


def doomed_job() -> JobDefinition:
    """The job."""
    return job_of(doomed_graph(), "doomed", witness=True)
