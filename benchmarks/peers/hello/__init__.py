"""Hello: the same pipeline of two steps for each contestant, as a user would write it: ``python hello_X.py STATE_DIR``.

Those of Blaze and by hand are ``benchmarks/hello_blaze.py`` and ``benchmarks/hello_bare.py``.
"""
