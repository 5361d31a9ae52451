"""`onnxcam layers`, `check` and `augment`."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from onnxcam.bundled import bundled_explained_model
from onnxcam.cli.check import _format_verdict
from onnxcam.methods import METHODS
from onnxcam.methods.place import IMAGE, PLACES
from onnxcam.model.model import Model
from tests.cli.conftest import Run
from tests.cli.support.tiny import write_model
from tests.support.nets import MIXING, MLP, POOL, POOLED, SOFTMAX, Net


def test_layers_are_printed_as_table(run: Run, model: Path) -> None:
    result = run("layers", model)
    assert result.exit_code == 0
    heading, *rows = result.stdout.splitlines()
    assert heading.split() == [
        *("#", "layer", "operator", "shape", "layout", "grid", "channels", "marks"),
    ]  # fmt: skip
    assert rows[-1].split() == [
        *("4", "relu2", "Relu", "n", "x", "8", "x", "8", "x", "8", "NCHW", "8", "x", "8", "8"),
        *("auto", "bottleneck"),
    ]


def test_layers_as_json(run: Run, model: Path) -> None:
    result = json.loads(run("layers", model, "--all", "--json").stdout)
    assert [layer["name"] for layer in result] == ["conv1", "relu1", "conv2", "relu2"]
    assert [layer["number"] for layer in result] == [1, 2, 3, 4]
    assert [layer["automatic"] for layer in result] == [False, False, False, True]
    assert result[0]["grid"] == [16, 16]


def test_layers_of_separate_branches_are_marked(run: Run, tmp_path: Path) -> None:
    """No layer sees everything, so those that are taken together are shown."""
    path = tmp_path / "branches.onnx"
    text = """<ir_version: 9, opset_import: ["": 17]> net (float[N, 3, 8, 8] x) => (float[N, 3] y) {
        a = Relu(x) b = Sigmoid(x) c = Relu(b) p = GlobalAveragePool(a) q = GlobalAveragePool(c)
        s = Add(p, q) y = Flatten(s) }"""
    onnx.save(onnx.parser.parse_model(text), path)
    result = run("layers", path)
    rows = [row.split()[:2] for row in result.stdout.splitlines()[1:]]
    assert rows == [["1", "a"], ["3", "c"]]  # numbers count all layers
    every = run("layers", path, "--all").stdout.splitlines()[1:]
    assert [row.split()[:2] for row in every] == [["1", "a"], ["2", "b"], ["3", "c"]]
    assert [row.split()[-2:] for row in result.stdout.splitlines()[1:]] == [["auto", "smooth"]] * 2
    assert "1 more layer inside branches" in result.stderr


BLOCK = (
    "MobilenetV2/expanded_conv_{}/depthwise/Relu6;MobilenetV2/expanded_conv_{}/project/Conv2D" * 3
)


@pytest.mark.parametrize("columns", [60, 80])
def test_layers_fit_narrow_terminal(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    path, names = tmp_path / "long.onnx", [BLOCK.format(*[i] * 6) for i in range(20)]
    nodes = [
        onnx.helper.make_node("Relu", [before], [name])
        for before, name in zip(["x", *names], names, strict=False)
    ]
    nodes += [
        onnx.helper.make_node("GlobalAveragePool", [names[-1]], ["p"]),
        onnx.helper.make_node("Flatten", ["p"], ["y"]),
    ]
    types = (("x", ["N", 3, 112, 112]), ("y", ["N", 3]))
    image, scores = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in types
    )
    opsets = [onnx.helper.make_opsetid("", 17)]
    graph = onnx.helper.make_graph(nodes, "long", [image], [scores])
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    piped = run("layers", path).stdout
    assert all(name in piped for name in names)
    monkeypatch.setattr("onnxcam.cli.output._terminal_columns", lambda: columns)
    result = run("layers", path)
    heading, *rows = (re.sub(r"\x1b\[\d*m", "", line) for line in result.stdout.splitlines())
    assert heading.split() == ["#", "layer", "grid", "marks"]
    assert max(map(len, rows)) <= columns
    shown = [row.split()[1] for row in rows]
    assert len(set(shown)) == len(names) == len(rows)
    assert all(name.startswith("Mo") and name.endswith("/project/Conv2D") for name in shown)
    assert "left out to fit: operator, shape, layout, channels" in result.stderr


def test_layers_of_invalid_model_is_error(run: Run, tmp_path: Path) -> None:
    result = run("layers", tmp_path / "gone.onnx")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")


def test_check_passes_sound_model(run: Run, model: Path) -> None:
    result = run("check", model)
    assert result.exit_code == 0, result.output
    for word in (
        "NCHW",
        "5 classes",
        "Softmax",
        "relu2",
        "all 4 layers",
        "Conv",
        "can be explained",
    ):
        assert word in result.stdout
    report = json.loads(run("check", model, "--json").stdout)
    assert report["explainable"] is True
    assert report["trial"]["layer"] == "relu1"  # of the method that `explain` takes by default
    assert (report["layer"], report["layer_smoothed"]) == ("relu2", "relu1")
    assert report["operators"][0]["rule"] is True
    cpu, first_gpu, *_ = report["devices"]
    assert cpu == {"name": "cpu", "usable": True, "error": None}
    assert (first_gpu["name"], first_gpu["usable"]) == ("cuda:0", first_gpu["error"] is None)


def test_check_names_operators_without_rule(run: Run, tmp_path: Path) -> None:
    path = write_model(tmp_path / "late.onnx", stochastic=("late",))
    result = run("check", path)
    assert result.exit_code == 2
    assert "late_draw" in result.stdout
    assert "none of 4 layers" in result.stdout
    report = json.loads(run("check", path, "--json").stdout)
    assert report["explainable"] is False
    assert report["operators"][0]["operator"] == "Bernoulli"
    assert "Bernoulli" in report["trial"]["error"]
    names = report["without_gradient"]
    assert names == [
        name for name, row in METHODS.items() if not row.needs_gradient and row.place not in PLACES
    ]
    (verdict,) = [line for line in result.stdout.splitlines() if "cannot be explained" in line]
    assert verdict.endswith(
        f"cannot be explained by gradients; try a --method that needs none: {', '.join(names)}"
    )


def test_check_names_only_methods_that_the_model_needs_and_has_layers_for(
    run: Run, model: Path, tmp_path: Path
) -> None:
    assert json.loads(run("check", model, "--json").stdout)["without_gradient"] == []
    flat = tmp_path / "flat.onnx"
    proto = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["": 17]> net (float[N, 3, 8, 8] x) => (float[N, 5] y) {
        flat = Flatten(x) steps = Round(flat) y = MatMul(steps, w) }"""
    )
    weights = np.random.default_rng(0).normal(size=(192, 5)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    onnx.save(proto, flat)
    names = json.loads(run("check", flat, "--json").stdout)["without_gradient"]
    assert names == [
        name for name, row in METHODS.items() if not row.needs_gradient and row.place == IMAGE
    ]


def test_check_reports_runs_of_one_image(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "mixing.onnx"
    path.write_bytes(MIXING.with_batch("N").content())
    result = run("check", path)
    assert result.exit_code == 0
    assert "images are run one by one" in result.stdout


def test_check_reports_reach_of_gradients(run: Run, tmp_path: Path) -> None:
    path = write_model(tmp_path / "early.onnx", stochastic=("early",))
    report = json.loads(run("check", path, "--json").stdout)
    assert report["reach"] == {"layers": 6, "explainable": 1, "earliest": "early_drawn"}


def test_check_of_feature_map_output(run: Run, model: Path) -> None:
    """Its channels are like the classes of a segmenter: the mean of each can be explained."""
    report = json.loads(run("check", model, "--output", "relu1", "--json").stdout)
    assert report["score"]["output"] == "onnxcam/classes"


# free by its declaration, 8 x 8 by its weights
ONE_SIZE = Net(head=MLP + SOFTMAX, shape="N, 3, H, W")


def test_check_uses_requested_size(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "one_size.onnx"
    path.write_bytes(ONE_SIZE.content())
    failed = run("check", path)
    assert failed.exit_code == 2
    assert "random input of 224 x 224 pixels (--size)" in failed.stdout
    assert (
        "the input was 224 x 224; if the model expects another size, set it with --size"
        in failed.stdout
    )
    assert "cannot be explained as it is" in failed.stdout
    result = run("check", path, "--size", "8,8")
    assert result.exit_code == 0, result.output
    assert "random input of 8 x 8 pixels (--size)" in result.stdout
    assert "finite scores and gradients" in result.stdout
    report = json.loads(run("check", path, "--size", "8x8", "--json").stdout)
    assert report["trial"]["size"] == [8, 8]


@pytest.mark.parametrize("size", ["8,8", "0,16", "16,99999", "16", "-1,16"])
def test_check_refuses_unsupported_size(run: Run, model: Path, size: str) -> None:
    result = run("check", model, "--size", size)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1


def test_check_reports_trial_run(run: Run, model: Path, tmp_path: Path) -> None:
    trial = json.loads(run("check", model, "--json").stdout)["trial"]
    assert (trial["method"], trial["samples"], trial["size"]) == ("smooth-grad-cam++", 2, [16, 16])
    assert (trial["batch"], trial["device"], trial["layers"]) == (None, "cpu", ["relu1"])
    line = "smooth-grad-cam++ at relu1, 2 noisy copies of a random input of 16 x 16 pixels, run together"
    assert line in run("check", model).stdout
    path = tmp_path / "mixing.onnx"
    path.write_bytes(MIXING.content())
    assert "run 1 at a time on cpu" in run("check", path).stdout


def test_check_reports_assumptions(run: Run, model: Path, tmp_path: Path) -> None:
    assert "--mean 0.485,0.456,0.406" in run("check", model).stdout
    proto = replace(POOLED, shape="N, 3, H, W").proto()
    path = tmp_path / "any_size.onnx"
    onnx.save(proto, path)
    assert "--fit crop --size 224,224 (the preset imagenet)" in run("check", path).stdout
    assert "--fit crop (the preset imagenet)" in run("check", path, "--size", "32,64").stdout
    onnx.helper.set_model_props(proto, {"imgsz": "[48, 64]"})
    onnx.save(proto, path)
    assert "random input of 48 x 64 pixels (--size)" in run("check", path).stdout


def test_check_fails_without_gradient(run: Run, tmp_path: Path) -> None:
    """The layers are there, and it is said that gradients reach none of them."""
    path = tmp_path / "steps.onnx"
    path.write_bytes(replace(POOLED, head=POOL.replace("(pooled)", "(steps)")).content())
    model = onnx.load(path)
    where = next(i for i, node in enumerate(model.graph.node) if "steps" in node.input)
    model.graph.node.insert(where, onnx.helper.make_node("Round", ["pooled"], ["steps"], "step"))
    model.graph.output[0].name = "logits"
    onnx.save(model, path)
    result = run("check", path)
    assert result.exit_code == 2, result.output
    assert "Round" in result.stdout
    assert "gradients reach none of" in result.stdout
    assert ["Round", "1", "flat", "step"] in [line.split() for line in result.stdout.splitlines()]
    assert "can be explained" not in result.stdout
    assert "no spatial layer" not in result.stdout


def test_check_suggests_working_layer() -> None:
    def verdict(
        tried: str | None, earliest: str | None, reached: int, automatic: str | None
    ) -> str:
        reach = {"earliest": earliest, "explainable": reached, "layers": 3}
        trial = {"layer": tried}
        report = {"explainable": False, "layer": automatic, "trial": trial, "reach": reach}
        return _format_verdict({**report, "without_gradient": []})

    suggestion = "cannot be explained at its automatic layer; try --layer a"
    assert verdict(None, "a", 2, "c") == suggestion
    assert verdict(None, "a", 3, None) == suggestion
    for arguments in ((None, None, 0, "c"), ("b", "a", 2, "c"), (None, "a", 3, "c")):
        assert verdict(*arguments) == "cannot be explained as it is"


def test_check_of_missing_file_is_error(run: Run, model: Path) -> None:
    result = run("check", model, "--output", "relu9")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1


def test_augment_writes_model_with_gradients(run: Run, model: Path, out: Path) -> None:
    path = out / "augmented.onnx"
    result = run("augment", model, "-l", "relu1", "-l", "auto", "-o", path)
    assert result.exit_code == 0, result.output
    assert "seed" in result.stdout
    onnx.checker.check_model(path, full_check=True)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    assert {"gradient/relu1", "activation/relu1", "gradient/relu2", "probabilities"} <= set(names)
    image = np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.float32)
    (gradient,) = session.run(
        ["gradient/relu2"], {"image": image, "seed": np.eye(2, 5, dtype=np.float32)}
    )
    assert gradient.shape == (2, 8, 8, 8)
    assert np.abs(gradient).max() > 0


def test_augment_finds_layers_by_number_and_part(run: Run, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "augmented.onnx"
    assert run("augment", model, "-l", "#4,elu1", "-l", "mean", "-o", path).exit_code == 0
    outputs = [output.name for output in ort.InferenceSession(path).get_outputs()]
    assert [name for name in outputs if name.startswith("gradient/")] == [
        "gradient/relu2", "gradient/relu1", "gradient/mean",
    ]  # fmt: skip
    result = run("augment", model, "-l", "5", "-o", path, "--force")
    assert result.exit_code == 2
    assert "4 layers, numbered from 1" in result.stderr


def test_augment_does_not_overwrite(run: Run, model: Path, out: Path) -> None:
    path = out / "augmented.onnx"
    path.parent.mkdir()
    path.write_bytes(b"mine")
    refused = run("augment", model, "-o", path)
    assert refused.exit_code == 2
    assert "--force" in refused.stderr
    assert path.read_bytes() == b"mine"
    assert run("augment", model, "-o", path, "--force").exit_code == 0
    assert path.read_bytes() != b"mine"
    before = model.read_bytes()
    assert run("augment", model, "-o", model, "--force").exit_code == 2
    assert model.read_bytes() == before


@pytest.mark.parametrize("command", ["augment", "embed"])
def test_written_model_does_not_replace_weights_of_the_original(
    run: Run, model: Path, tmp_path: Path, command: str
) -> None:
    path, data = tmp_path / "model.onnx", tmp_path / "model.onnx.data"
    options = {"location": data.name, "size_threshold": 0}
    onnx.save(onnx.load(model), path, save_as_external_data=True, **options)
    before = data.read_bytes()
    result = run(command, path, "-o", data, "--force")
    assert (result.exit_code, data.read_bytes()) == (2, before)
    assert "holds weights of" in result.stderr


def test_size_of_the_original_includes_its_weights(run: Run, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    options = {"location": "weights", "size_threshold": 0}
    onnx.save(onnx.load(model), path, save_as_external_data=True, **options)
    size = sum(file.stat().st_size for file in tmp_path.iterdir())
    result = run("embed", path, "-o", tmp_path / "out.onnx", "-n", 1)
    assert f"(the model: {size:,} bytes)" in result.stdout
    assert "1 sample\n" in result.stdout


@pytest.mark.parametrize("command", ["augment", "embed"])
def test_written_model_needs_the_name_of_a_file(run: Run, model: Path, command: str) -> None:
    result = run(command, model, "-o", model.parent, "--force")
    assert result.exit_code == 2
    assert "is a folder; name a file in it" in result.stderr


@pytest.mark.parametrize("words", [("-l", "relu9"), ("--output", "logit")])
def test_augment_leaves_no_file_on_failure(
    run: Run, model: Path, out: Path, words: tuple[str, ...]
) -> None:
    result = run("augment", model, *words, "-o", out / "augmented.onnx")
    assert result.exit_code == 2
    assert "did you mean" in result.stderr
    assert not out.exists()


def break_relus(model: Model, *_: object) -> Model:
    """What a mistake in a rule might leave."""
    for node in model.graph.nodes:
        node.op = "NoSuchOperator" if node.op == "Relu" else node.op
    return model


@pytest.mark.parametrize("there", [b"", b"an older one"])
def test_augment_writes_only_loadable_models(
    run: Run, model: Path, out: Path, monkeypatch: pytest.MonkeyPatch, there: bytes
) -> None:
    out.mkdir()
    path = out / "augmented.onnx"
    if there:
        path.write_bytes(there)
    monkeypatch.setattr("onnxcam.rewrite.gradient.augment", break_relus)
    result = run("augment", model, "-o", path, "--force")
    assert result.exit_code == 2
    assert "not written, because ONNX Runtime cannot open it" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert [(path.name, path.read_bytes()) for path in out.iterdir()] == (
        [(path.name, there)] if there else []
    )


def test_augment_of_unloadable_model_is_error(
    run: Run, model: Path, out: Path, tmp_path: Path
) -> None:
    """An operator of somebody else's, say: neither is what is written."""
    proto, foreign = onnx.load(model), tmp_path / "foreign.onnx"
    proto.graph.node[0].domain = "com.somebody"
    proto.opset_import.append(onnx.helper.make_opsetid("com.somebody", 1))
    onnx.save(proto, foreign)
    result = run("augment", foreign, "-l", "relu2", "-o", out / "augmented.onnx")
    assert result.exit_code == 2
    assert "onnxcam failed" not in result.stderr
    assert not out.exists() or not list(out.iterdir())


@pytest.fixture
def blocked_model(model: Path, tmp_path: Path) -> Path:
    """The tiny model with a Round before its last layer."""
    proto = onnx.load(model)
    last = next(node for node in proto.graph.node if node.op_type in ("Gemm", "MatMul"))
    at = list(proto.graph.node).index(last)
    rounding = onnx.helper.make_node("Round", [last.input[0]], ["steps"], "the step")
    last.input[0] = "steps"
    proto.graph.node.insert(at, rounding)
    path = tmp_path / "blocked.onnx"
    onnx.save(proto, path)
    return path


def test_layers_without_gradient_are_listed(run: Run, blocked_model: Path) -> None:
    result = run("layers", blocked_model)
    assert result.exit_code == 0
    assert "relu2" in result.stdout


@pytest.mark.parametrize("words", [(), ("-l", "relu1")])
def test_augment_names_obstacle_and_alternative(
    run: Run, blocked_model: Path, out: Path, words: tuple[str, ...]
) -> None:
    result = run("augment", blocked_model, *words, "-o", out / "augmented.onnx")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "Round (the step) is a step function" in result.stderr
    assert "there is no layer after it" in result.stderr
    output = result.stderr.rpartition("--output ")[2].rstrip(")\n")
    works = run("augment", blocked_model, "--output", output, "-o", out / "augmented.onnx")
    assert works.exit_code == 0, works.stderr


def test_check_lists_answers_under_each_preset(run: Run, model: Path, image: Path) -> None:
    result = run("check", model, image)
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stdout.splitlines() if "  --preprocess" in line]
    assert len(lines) == 10
    assert [line.startswith("*  --preprocess imagenet ") for line in lines] == [True] + [False] * 9
    report = json.loads(run("check", model, image, "--json").stdout)
    assert report["photo"] == str(image)
    default = report["presets"][0]
    assert (default["options"], default["is_default"]) == ("--preprocess imagenet", True)
    assert [answer["name"].split()[0] for answer in default["answers"]] == ["class"] * 5
    probabilities = [answer["probability"] for answer in default["answers"]]
    assert sum(probabilities) == pytest.approx(1)
    assert default["confidence"] == probabilities[0] == max(probabilities)
    assert "presets" not in json.loads(run("check", model, "--json").stdout)


def test_check_names_answers_by_labels(run: Run, model: Path, image: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(("tabby, tabby cat", "hen", "bus", "cup", "oak")))
    result = run("check", model, image, "--labels", labels)
    assert any("tabby 0." in line for line in result.stdout.splitlines())
    labels.write_text("hen\nbus")
    refused = run("check", model, image, "--labels", labels)
    assert refused.exit_code == 2
    assert "2 labels for 5 classes" in refused.stderr


def test_check_of_a_missing_image_is_one_line(run: Run, model: Path, tmp_path: Path) -> None:
    result = run("check", model, tmp_path / "cat.png")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert "no such file" in result.stderr


@pytest.mark.parametrize("command", ["explain", "check", "layers", "augment", "visualize", "embed"])
def test_file_with_an_explanation_is_refused_with_the_name_of_its_original(
    run: Run, image: Path, out: Path, command: str
) -> None:
    """It has no layers that are one image's; before, advice led from one error to the next."""
    to = ("-o", out)
    words = {"explain": (image, *to), "visualize": ("-t", 0, *to), "check": (), "layers": ()}
    result = run(command, bundled_explained_model(), *words.get(command, to))
    assert result.exit_code == 2
    assert "holds an explanation already, smooth-grad-cam++ of shapes.onnx" in result.stderr
    assert not out.is_file()
    assert not [*out.glob("*")]
