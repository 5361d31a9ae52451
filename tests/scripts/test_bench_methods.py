"""The times of every method beside other packages: what is run, and how the table reads."""

from pathlib import Path

import pytest

from onnxcam.methods import METHODS
from scripts.bench import contestants, methods
from scripts.bench.bench import Worker
from scripts.bench.methods import OURS, PLAIN, Network, Timing, chosen_settings, is_one_pass, table
from scripts.bench.models import BenchLayer
from scripts.bench.peers import PACKAGES, packages_with
from tests.support.nets import CLASSES, DEEP

LAYER = BenchLayer("last", "features", "NCHW", 16, "layer", 6)


def timing(**seconds: float) -> Timing:
    made = Timing("grad-cam", "Net", "last", {"samples": 4}, is_one_pass=True)
    made.seconds = {PLAIN: 0.01, OURS: 0.012, **seconds}
    return made


@pytest.fixture
def network(tmp_path: Path) -> Network:
    """A small one, without its equal in PyTorch."""
    path = tmp_path / "model.onnx"
    path.write_bytes(DEEP.content())
    job = {"path": str(path), "shape": [3, 8, 8], "classes": CLASSES, "device": "cpu", "threads": 1}
    plain = Worker(job | {"contestant": PLAIN, "passes": 1})
    return Network("Net", job, {"last": LAYER}, plain)


def test_peers_are_contestants_and_their_methods_exist() -> None:
    assert {*PACKAGES} == {*contestants.PEERS} <= {*contestants.CONTESTANTS}
    assert {name for package in PACKAGES.values() for name in package.methods} <= {*METHODS}
    assert packages_with("grad-cam") == ("torch-cam", "pytorch-grad-cam", "captum")


@pytest.mark.parametrize("method", METHODS)
def test_settings_are_valid_for_method(method: str) -> None:
    METHODS[method].resolve_settings(chosen_settings(method))


def test_one_pass_needs_no_samples_and_no_gradient_of_the_image() -> None:
    assert is_one_pass("activation-map", "middle")
    assert is_one_pass("grad-cam", "last")
    assert not is_one_pass("grad-cam", "dependent")
    assert not is_one_pass("saliency", "image")
    assert not is_one_pass("smooth-grad-cam++", "last")


def test_table_marks_ratios_that_miss_their_target() -> None:
    fast, slow = timing(captum=0.030, zennit=0.024), timing(captum=0.015)
    slow.seconds[OURS] = 0.014
    alone, refused = timing(), timing()
    refused.failed, alone.failed = {OURS: "no such layer"}, {"captum": "odd"}
    assert [*table([fast, slow, alone, refused])][2:] == [
        "| `grad-cam` | Net, last | samples 4 | 12.0 | zennit 24.0, captum 30.0 | 2.00 | 1.20 (one pass) |",
        "| `grad-cam` | Net, last | samples 4 | 14.0 | captum 15.0 | **1.07** | **1.40** (one pass) |",
        "| `grad-cam` | Net, last | samples 4 | 12.0 | ; captum: odd |  | 1.20 (one pass) |",
        "| `grad-cam` | Net, last | samples 4 | no such layer | | | |",
    ]


@pytest.mark.parametrize("method", ["grad-cam", "smooth-grad"])
def test_method_is_timed_beside_plain_model(
    method: str, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(methods, "packages_with", lambda _: ())
    monkeypatch.setattr(contestants, "LONG", 0.0)
    measured = methods.measure(method, network, rounds=1)
    network.plain.end()
    assert measured.failed == {}
    assert measured.seconds.keys() == {PLAIN, OURS}
    assert measured.where == ("last" if method == "grad-cam" else "image")
    assert measured.ratio is None
    assert measured.passes > 0


def test_refusal_is_not_compared(network: Network) -> None:
    measured = methods.measure("cam", network, rounds=1)  # the head is no linear layer
    network.plain.end()
    assert measured.seconds == {}
    assert "global average pooling" in measured.failed[OURS]


def test_methods_that_may_be_refused_come_first() -> None:
    ordered = sorted(METHODS, key=methods.order)
    assert {*ordered[:4]} == {"attention-rollout", "transformer-attribution", "legrad", "full-grad"}
    assert not packages_with(ordered[-1])
