"""How fast files are on this machine, and why."""
