"""One small file a contestant, each in the idiom of its own documentation for local or embedded use.

A file has the functions of the workloads that it can do; ``field.py`` says which it can't, and why:

- ``graph(setting, graph, place)``: a context with a function that runs the graph once and returns
  the time and the last task's output;
- ``runs(setting, count, place)``: the same for runs of extract → transform → load, and their outputs;
- ``cron(setting, texts, place)``: the same for adding jobs, and how many are there then;
- ``late(setting, count, seconds, place)``: (job, nominal instant, instant of the body's first line) of every tick;
- ``idle(setting, count, place)``: a context in which jobs wait and nothing is due;
- ``carry(setting, graph, place, again)``: carries the pipeline that is killed to its end, again after a
  restart in the way that the documentation shows; its output, or None if nothing goes on with it.

What is not timed: imports, declaring the graph, opening a database or starting workers.
"""
