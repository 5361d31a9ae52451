"""Runs files on the runtimes that are installed, and compares what they return."""
