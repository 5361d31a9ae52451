"""Models with damaged bytes, or with a damaged structure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import onnx

from scripts.fuzz import values
from scripts.fuzz.case import Case, WrongError
from scripts.fuzz.graphs import MUTATIONS
from scripts.fuzz.nested import BOMBS, NESTING
from scripts.fuzz.seeds import seed_models
from scripts.fuzz.shell import run_command
from scripts.fuzz.truth import check, run_plain

COMMANDS = ("check", "layers", "augment", "explain")


def damaged_bytes(draw: Random) -> Case:
    """A model with some bytes changed."""
    name = draw.choice(list(seed_models()))
    return model_case(f"bytes of {name}", values.mutate_bytes(seed_models()[name], draw), draw)


def damaged_structure(draw: Random) -> Case:
    """A model that parses, with one to three mutations of its structure."""
    name = draw.choice(list(seed_models()))
    proto = onnx.load_from_string(seed_models()[name])
    done = []
    mutations = (*MUTATIONS, *NESTING) if draw.random() < 0.97 else BOMBS
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        mutation = draw.choice(mutations)
        try:
            mutation(proto, draw)
        except (ValueError, TypeError, IndexError, OverflowError):
            continue  # it finds nothing to change, or protobuf cannot hold the change
        done.append(mutation.__name__)
    return model_case(f"{', '.join(done)} of {name}", bytes(proto.SerializeToString()), draw)


def model_case(what: str, content: bytes, draw: Random, commands: float = 0.2) -> Case:
    """A model that is compared with the runtime or, in this share of cases, given to a command."""
    files = {"model.onnx": content, "weights": draw.randbytes(4000), "up/model.onnx": content}
    seed = draw.getrandbits(32)
    run: Callable[[Path], None]
    if draw.random() < commands:
        command = draw.choice(COMMANDS)
        what = f"{command}: {what}"
        run = lambda folder: _run_command_on_model(command, folder)  # noqa: E731
    else:
        run = lambda folder: check(folder / "model.onnx", np.random.default_rng(seed))  # noqa: E731
    return Case(what, files, run, lambda folder: run_plain(folder / "model.onnx"))


def _run_command_on_model(command: str, folder: Path) -> None:
    from PIL import Image

    more = {"augment": ["-o", "augmented.onnx"], "explain": ["image.png", "-n", "2", "--no-cache"]}
    Image.new("RGB", (8, 8), (90, 20, 200)).save(folder / "image.png")
    words = [command, "model.onnx", *more.get(command, ())]
    if command == "augment":
        words += ["--layer", _some_layer(folder / "model.onnx")]
    run_command(words, folder)
    if command == "augment":
        import onnxruntime as ort

        path = folder / "augmented.onnx"
        try:
            ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise WrongError(f"the augmented model does not open: {error}") from error


def _some_layer(path: Path) -> str:
    """The name of a tensor; any word if the file has none."""
    try:
        outputs = [
            str(node.output[0]) for node in onnx.load(path, load_external_data=False).graph.node
        ]
    except Exception:  # noqa: BLE001  whatever a damaged file raises
        return "f"
    return next(
        (name for name in ("f", "features", *outputs[len(outputs) // 2 :]) if name in outputs), "f"
    )
