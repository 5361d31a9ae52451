"""Odd words on the command line."""

from __future__ import annotations

from pathlib import Path
from random import Random

from scripts.fuzz.case import Case
from scripts.fuzz.interrupted import model_file, write_images
from scripts.fuzz.shell import run_command

COMMANDS = ("explain", "layers", "methods", "check", "augment", "demo", "doctor", "none", "")
OPTIONS = (
    *("-m", "-l", "-t", "--labels", "-n", "--noise", "--seed", "--set", "--score", "--output"),
    *("--channels", "--region", "--fuse", "--preprocess", "--size", "--mean", "--std"),
    *("--scale", "--order", "--fit", "--device", "--chunk", "--no-cache", "--recursive"),
    *("--skip-existing", "--colormap", "--opacity", "--longest-side", "--side-by-side"),
    *("--caption", "--json"),
    *("-q", "--all", "--help", "--version", "--none"),
)
VALUES = (
    *("0", "-1", "1", "2", "nan", "inf", "1e400", "9" * 30, "", " ", "a", "a.png"),
    *("model.onnx", "grad-cam", "cam", "grad-cam++", "smooth-grad-cam++", "top1", "top0"),
    *("top99", "1-2", "1-2-3", "-", "--", "281", "auto", "cpu", "cuda", "cuda:9", "max"),
    *("mean", "exp", "probability", "logit", "8,8", "0,0", "8", "100000,100000", "-8,8", "rgb"),
    *("bgr", "crop", "squash", "imagenet", "raw", "0:4,0:4", "4:0,0:1", ":"),
    *("0:9999999999,0:1", "3,1-2", "5-1", "samples=3", "samples=x", "numerator=d1", "="),
    *("score=exp", "r1", "f", "*", "[", "**", "\x1b[31m", "\u202e", "a\nb", "ember", "jet"),
    *(".", "none.onnx", "image", "0.5", "0.5,0.5,0.5", "0,0,0", "\udcff", "😀"),
)


def odd_words(draw: Random) -> Case:
    """A command line of words that only sometimes make sense together."""
    command = draw.choice((*COMMANDS, "explain", "explain", "check"))
    words = [command, *(["model.onnx"] if draw.random() < 0.8 else [])]
    if command == "explain":
        words += ["a.png", "-n", "2"] if draw.random() < 0.9 else []
    for _ in range(draw.choice((1, 1, 2, 3, 5))):
        words.append(draw.choice(OPTIONS))
        if draw.random() < 0.75:
            words.append(draw.choice(VALUES))
    return Case(" ".join(words), model_file(), lambda folder: _run_words(words, folder))


def _run_words(words: list[str], folder: Path) -> None:
    write_images(folder)
    run_command(words, folder)
