"""The servers that `bountycoder up` runs on a bare machine, and how their processes are kept."""
