"""The command `polarflow`."""
