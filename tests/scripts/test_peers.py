"""When the map of another package counts as equal to ours, and what is said where none can be compared."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `oracle`")
pytestmark = pytest.mark.oracle

from scripts.parity.peer_comparisons import COMPARISONS, SETTINGS, Comparison  # noqa: E402
from scripts.parity.peer_nets import NETS, make_cases  # noqa: E402  it needs torch
from scripts.parity.peers import Row, compare, judge, summarize  # noqa: E402

OURS = np.random.default_rng(0).random((2, 4, 5))
OWN = Comparison("grad-cam", "numpy", lambda case, settings: OURS, ("curved",), at_layer=True)


def judged(**changes: object) -> Comparison:
    return dataclasses.replace(OWN, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("comparison", "peer", "outcome"),
    [
        (OWN, OURS, "equal"),
        (OWN, 1.0005 * OURS, "equal"),
        (OWN, 3 * OURS, "FAILS: error above 0.001"),
        (judged(difference="thrice"), 3 * OURS, "known: thrice"),
        (judged(scaled=True), 3 * OURS, "equal"),
        (judged(method="rise"), 3 * OURS, "as near as another seed (0.9990)"),
        (OWN, OURS[::-1], "FAILS: below 0.9990"),
        (OWN, np.stack([OURS[0], OURS[0]]), "FAILS: below 0.9990"),
        (OWN, np.zeros_like(OURS), "FAILS: below 0.9990"),
        (judged(difference="other"), OURS[::-1], "known: other"),
        (judged(difference="other"), OURS, "equal"),
    ],
)
def test_maps_are_judged_by_correlation_and_error(
    comparison: Comparison, peer: np.ndarray, outcome: str
) -> None:
    assert judge(comparison, "curved", OURS, peer, 0.999).outcome == outcome


def test_scaled_maps_are_compared_after_scaling() -> None:
    peer = (OURS - OURS.min((1, 2), keepdims=True)) * 7
    row = judge(judged(scaled=True), "curved", OURS, peer, 0.999)
    assert row.error < 1e-12
    assert judge(OWN, "curved", OURS, peer, 0.999).error > 0.1


def test_exported_net_is_explained_at_its_layer(tmp_path: Path) -> None:
    for case in make_cases(tmp_path):
        row = compare(case, judged(peer=lambda case, settings: np.ones((2, 32, 32))))
        assert row.outcome.startswith("FAILS: below"), row.outcome


def test_rows_without_comparison_say_why(tmp_path: Path) -> None:
    case = next(make_cases(tmp_path))

    def broken(case: object, settings: object) -> np.ndarray:
        raise ZeroDivisionError("odd")

    outcomes = {
        "no such method yet": judged(method="nonsense"),
        "not installed": judged(package="no_such_package"),
        "the package raises ZeroDivisionError: odd": judged(peer=broken),
    }
    for outcome, comparison in outcomes.items():
        assert compare(case, comparison).outcome == outcome


def test_comparisons_name_nets_and_settings_of_methods() -> None:
    assert {net for comparison in COMPARISONS for net in comparison.nets} == set(NETS)
    assert set(SETTINGS) <= {comparison.method for comparison in COMPARISONS}
    compared = [
        (of.method, of.peer, net, str(of.settings)) for of in COMPARISONS for net in of.nets
    ]
    assert len({*compared}) == len(compared)


def test_table_has_the_worst_figures_of_packages_that_agree() -> None:
    rows = [
        Row(judged(package="numpy"), "curved", "equal", 0.9995, 1e-6),
        Row(judged(package="numpy"), "vit", "equal", 1.0, 1e-4),
        Row(judged(package="other"), "curved", "known: it errs", 0.5, 1.0),
        Row(judged(method="cam"), "curved", "not installed"),
    ]
    assert [*summarize(rows)][2:] == [
        "| `grad-cam` | numpy | 0.999500 | 1.0e-04 | other: known: it errs |",
        "| `cam` | – | – | – | numpy: not installed |",
    ]
