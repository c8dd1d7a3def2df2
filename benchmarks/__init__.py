"""Benchmarks of Blaze against bare loops: ``make bench``, or ``python -m benchmarks.engine --help``.

The goals are those of the design: ratios, each against a loop by hand that does the
least that the same promise takes, measured in the same process and the same minute.
"""
