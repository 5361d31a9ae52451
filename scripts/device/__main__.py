"""Run the check of a device."""

import typer

from scripts.device.check import main

if __name__ == "__main__":
    typer.run(main)
