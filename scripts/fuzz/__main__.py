"""Run the fuzzer."""

import typer

from scripts.fuzz.fuzz import main

if __name__ == "__main__":
    typer.run(main)
