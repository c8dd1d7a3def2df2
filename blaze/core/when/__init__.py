"""When to run: cron schedules, the timetable, and the decisions on catch-up and overlap.

Pure functions of (state, now): no thread, no clock, no file.
"""
