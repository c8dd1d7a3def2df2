"""What there is to run: blocks, sequences, references between steps, and the plan they are compiled and checked into.

Pure: no thread, no clock, no file.
"""
