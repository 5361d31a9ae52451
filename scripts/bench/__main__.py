"""Run the benchmark."""

import typer

from scripts.bench.bench import main

if __name__ == "__main__":
    typer.run(main)
