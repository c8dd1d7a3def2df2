"""Ground floor: errors, states, names, clocks, the running step's context. Imports no other floor."""
