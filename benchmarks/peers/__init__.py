"""Blaze beside what users would pick instead: ``make bench-peers``, or ``python -m benchmarks.peers --help``.

Every peer lives in an environment of its own (``.venv-peers/NAME``), is used in the idiom of
its own documentation for local or embedded use, and is given the same workloads in the same
minutes as Blaze and as the bare loops. What comes out is ``benchmarks/RESULTS.md``.
"""
