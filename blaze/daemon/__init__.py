"""Access from other processes: the daemon's protocol, its server and its client."""
