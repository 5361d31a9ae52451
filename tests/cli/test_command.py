"""The command itself: help, version, start-up, exit codes; and `methods`, `demo` and `doctor`."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import parser
from typer.main import get_command

import onnxcam
from onnxcam import bundled, installation
from onnxcam.cli.app import app
from onnxcam.image.colormap import COLORMAPS
from onnxcam.image.overlay import LONGEST_SIDE
from onnxcam.methods.families import FAMILIES
from tests.cli.conftest import Run
from tests.cli.support.tiny import size, write_image, write_model

ROOT = Path(onnxcam.__file__).resolve().parents[1]
COMMANDS = (
    *(
        "explain",
        "compare",
        "concepts",
        "scan",
        "visualize",
        "invert",
        "layers",
        "methods",
        "check",
        "inspect",
        "augment",
        "embed",
    ),
    *("demo", "doctor"),
)
HEAVY = ("onnxruntime", "onnx", "numpy", "PIL", "onnx_graphsurgeon")
WRITING = ("onnx", "onnx_graphsurgeon", "google.protobuf", "onnxcam.model.model")


def start(heavy: tuple[str, ...]) -> str:
    """The command line as a script that fails where it imported one of these."""
    return f"""
import sys
from onnxcam.cli import main
try:
    main()
except SystemExit as stopped:
    loaded = [name for name in {heavy!r} if name in sys.modules]
    sys.exit(f"imported {{loaded}}" if loaded else stopped.code)
"""


def python(*words: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-W", "error", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, cwd=ROOT, check=False, timeout=60)


@pytest.mark.parametrize("words", [("--help",), ("explain", "--help"), ("compare", "-h")])
def test_help_imports_no_heavy_package(words: tuple[str, ...]) -> None:
    result = python("-c", start(HEAVY), *words)
    assert result.returncode == 0, result.stderr


def test_cached_run_does_not_import_onnx(model: Path, image: Path, out: Path) -> None:
    first, second = (
        python("-c", start(WRITING), "explain", model, image, "-o", out) for _ in range(2)
    )
    assert "imported ['onnx'" in first.stderr
    assert (second.returncode, second.stdout) == (0, first.stdout), second.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_help_lists_every_option_and_examples(run: Run, name: str) -> None:
    text = run(name, "--help").stdout
    for parameter in get_command(app).commands[name].params:  # type: ignore[attr-defined]
        for option in parameter.opts if parameter.param_type_name == "option" else ():
            assert re.search(rf"(?<!\S){re.escape(option)}(?!\S*\w)", text), option
    assert "Examples:" in text


def test_help_lists_choices(run: Run) -> None:
    text = run("explain", "--help").stdout
    for name in (*onnxcam.PRESETS, *COLORMAPS):
        assert re.search(rf"\b{name}\b", text), name


def test_default_longest_side_is_that_of_python() -> None:
    command = get_command(app).commands["explain"]  # type: ignore[attr-defined]
    defaults = {parameter.name: parameter.default for parameter in command.params}
    assert defaults["longest_side"] == LONGEST_SIDE


def test_commands_are_tested_and_described(run: Run) -> None:
    assert tuple(get_command(app).commands) == COMMANDS  # type: ignore[attr-defined]
    lines = run("--help").stdout.splitlines()
    cut_off = [line for line in lines if line.startswith("  ") and line.endswith("...")]
    assert not cut_off


def test_version(run: Run) -> None:
    assert run("--version").stdout.strip() == f"onnxcam {onnxcam.__version__}"


def test_module_runs_as_process(model: Path, image: Path, out: Path) -> None:
    result = python("-m", "onnxcam", "explain", model, image, "-o", out)
    assert result.returncode == 0, result.stderr
    wrong = python("-m", "onnxcam", "explain", model, image, "-m", "gradcam", "-o", out)
    assert wrong.returncode == 2
    assert (
        wrong.stderr
        == "error: no method 'gradcam'; did you mean grad-cam or xgrad-cam or grad-cam++?\n"
    )


def test_ctrl_c_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("onnxcam.model.load.load", stop)
    result = run("layers", model)
    assert result.exit_code == 130
    assert len(result.stderr.splitlines()) == 1


def test_unexpected_exception_keeps_traceback(
    run: Run, monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    def stumble(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("onnxcam.model.load.load", stumble)
    with pytest.raises(ZeroDivisionError):
        run("layers", model)


def test_methods(run: Run) -> None:
    text = run("methods").stdout
    result = json.loads(run("methods", "--json").stdout)
    assert [method["name"] for method in result] == list(onnxcam.METHODS)
    for method in result:
        (line,) = (row for row in text.splitlines() if row.split()[:1] == [method["name"]])
        assert line.endswith(method["computes"])
        shown = "varies" if method["passes"] is None else str(method["passes"])
        gradient = "yes" if method["needs_gradient"] else "no"
        embeds = "no" if method["embedding_refusal"] else "yes"
        assert line.split()[1:5] == [method["place"], shown, gradient, embeds]
        assert {"signed", "needs_target", "rules", "sampler"} <= method.keys()


def test_methods_are_grouped_by_family(run: Run) -> None:
    lines = run("methods").stdout.splitlines()
    number_of = {line.split(" ")[0]: number for number, line in enumerate(lines)}
    cams, gradients = number_of["Class"], number_of["Gradients"]
    assert cams < number_of["grad-cam"] < gradients < number_of["saliency"]
    assert number_of["Perturbation:"] < number_of["rise"]
    families = {method.family for method in onnxcam.METHODS.values()}
    headings = [heading for family, heading in FAMILIES.items() if family in families]
    assert [line for line in lines if line in FAMILIES.values()] == headings


def test_methods_of_names_shows_everything_about_them(run: Run) -> None:
    text = run("methods", "integrated-gradients", "guided-backprop", "activation-map").stdout
    integrated, guided, activation = text.split("\n\n")
    assert "Signed: negative values are evidence against the target." in integrated
    assert "1 to 1000" in integrated
    assert "Its map is that of the image's pixels" in integrated
    assert "rule table guided" in guided
    assert "Needs no gradient" in activation
    assert "The same map for every target." in activation
    assert "a layer (--layer)" in activation
    (described,) = json.loads(run("methods", "rise", "--json").stdout)
    for setting in described["settings"]:
        assert setting["name"] in run("methods", "rise").stdout
        assert setting["meaning"]


def test_methods_of_names_says_whether_maps_embed_and_why_not(run: Run) -> None:
    text = run("methods", "grad-cam", "smooth-grad", "score-cam").stdout
    constant, smooth, masks = text.split("\n\n")
    assert "Its map can be embedded in a model." in constant
    assert "Its map can be embedded in a model, with generator=tile." in smooth
    assert (
        "Its map cannot be embedded in a model: its masks are made from the activations of the clean run."
        in masks
    )


def test_methods_of_unknown_name_fails(run: Run) -> None:
    result = run("methods", "grad-kam")
    assert result.exit_code == 2
    assert "did you mean" in result.stderr
    assert "grad-cam" in result.stderr


def test_json_of_methods_has_limits_of_settings(run: Run) -> None:
    methods = {method["name"]: method for method in json.loads(run("methods", "--json").stdout)}
    smooth = methods["smooth-grad-cam++"]
    settings = {setting.pop("name"): setting for setting in smooth["settings"]}
    assert settings["samples"] == {
        "default": 25,
        "meaning": "number n of noisy copies per image",
        "choices": None,
        "lowest": 1,
        "highest": 1_000_000,
    }
    assert settings["numerator"]["choices"] == ["d2", "d1"]
    assert settings["numerator"]["lowest"] is settings["seed"]["highest"] is None
    assert (methods["saliency"]["place"], methods["saliency"]["signed"]) == ("image", False)
    assert methods["integrated-gradients"]["signed"]
    assert not methods["activation-map"]["needs_gradient"]


def test_doctor(run: Run, cache_folder: Path) -> None:
    result = run("doctor", "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 0, result.output
    assert report["devices"][0] == {"device": "cpu", "usable": True, "passed": True, "error": None}
    assert report["versions"]["onnxruntime"]
    assert report["cache"] == {
        "folder": str(cache_folder), "bytes": 0, "limit": 2_000_000_000, "problem": None,
    }  # fmt: skip
    text = run("doctor").stdout
    assert f"{cache_folder}: 0 MB of at most 2000 MB; delete the folder to empty it" in text
    assert "self-test on cpu" in text
    assert "passed" in text


def test_doctor_reports_why_cache_is_unused(run: Run, cache_folder: Path) -> None:
    cache_folder.mkdir()
    (cache_folder / "models").write_bytes(b"")
    report = json.loads(run("doctor", "--json").stdout)
    assert report["cache"]["problem"].startswith(str(cache_folder / "models"))
    assert f"not used, because {report['cache']['problem']}" in run("doctor").stdout


def test_doctor_reports_missing_gpu_without_repeating_its_name(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation, "why_no_cuda", lambda index: f"no device {index}")
    (line,) = (line for line in run("doctor").stdout.splitlines() if "on cuda" in line)
    assert line.split("  ")[-1].strip() == "not available: no device 0"


def test_doctor_reports_failed_self_test(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "_computes_right_gradient", lambda _: False)
    result = run("doctor")
    assert result.exit_code == 2
    assert "FAILED" in result.stdout


def test_self_test_model_equals_its_text() -> None:
    result = onnx.load_from_string(base64.b64decode(installation.MODEL))
    assert result == parser.parse_model(installation.TEXT)


def test_demo(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "models" / "samples" / "one.png")
    write_model(tmp_path / "models" / "shapes.onnx")
    (tmp_path / "models" / "detector").mkdir()
    for bundled_file in (bundled.bundled_detector(), bundled.detector_image()):
        path = tmp_path / "models" / bundled_file.relative_to(ROOT / "models")
        path.write_bytes(bundled_file.read_bytes())
    monkeypatch.setattr(bundled, "FOLDERS", (tmp_path / "gone", tmp_path / "models"))
    result = run("demo", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert size(tmp_path / "out" / "onnxcam-demo.png")[0] > 1000
    assert result.stdout.count("onnxcam explain") == 2
    assert "shapes-detector.onnx finds" in result.stdout


def test_embedded_demo_writes_the_file_and_a_sheet(run: Run, tmp_path: Path) -> None:
    result = run("demo", "--embed", "-o", tmp_path)
    assert result.exit_code == 0, result.output
    assert size(tmp_path / "onnxcam-embedded.png")[0] > 1000
    source = bundled.bundled_explained_model()
    assert (tmp_path / source.name).read_bytes() == source.read_bytes()
    share = re.search(r"maps is (\S+) of the largest value", result.stdout)
    assert share is not None
    assert float(share[1]) < 1e-5
    assert f"onnxcam inspect {tmp_path / source.name}" in result.stdout


def test_demo_without_bundled_model_is_error(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundled, "FOLDERS", (tmp_path,))
    result = run("demo", "-o", tmp_path)
    assert result.exit_code == 2
    assert "shapes.onnx" in result.stderr
    assert not list(tmp_path.iterdir())
