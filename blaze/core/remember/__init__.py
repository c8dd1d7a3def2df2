"""What is remembered: the SQLite file, its schema, the journal that commits to it, and the codec of outputs."""
