"""Run the parity table."""

import typer

from scripts.parity.parity import main

if __name__ == "__main__":
    typer.run(main)
