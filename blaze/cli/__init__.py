"""The ``blazed`` program: commands, and how what they find is drawn."""
