"""Doing the work: one run and its workers, with retries, timeouts and isolation."""
