"""Options of the commands that change an image step by step. The defaults are those of `ascent/recipes.py`;
a test compares them with the texts here.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from typer import Option

Steps: TypeAlias = Annotated[
    int | None,
    Option("--steps", "-n", metavar="N", help="Steps of Adam.  [default: 256]", show_default=False),
]
Seed: TypeAlias = Annotated[
    int | None,
    Option(
        "--seed",
        metavar="N",
        help="Seed of the noise and the movements; the same seed gives the same image.  [default: 0]",
        show_default=False,
    ),
]
Count: TypeAlias = Annotated[
    int | None,
    Option(
        "--count",
        metavar="N",
        help="Images of each target or feature map, from seeds that count on, in one batch.  [default: 4]",
        show_default=False,
    ),
]
AscentNoise: TypeAlias = Annotated[
    float | None,
    Option(
        "--noise",
        metavar="X",
        help="Standard deviation of what it starts from, in parameters of the basis.  [default: 0.02]",
        show_default=False,
    ),
]
InversionNoise: TypeAlias = Annotated[
    float | None,
    Option(
        "--noise",
        metavar="X",
        help="Standard deviation of what it starts from, where pixels are -1 to 1.  [default: 0.02]",
        show_default=False,
    ),
]
AscentBasis: TypeAlias = Annotated[
    str | None,
    Option(
        "--basis",
        metavar="fourier|pixels",
        help="What is changed: waves of uncorrelated colors, or pixels.  [default: fourier]",
        show_default=False,
    ),
]
InversionBasis: TypeAlias = Annotated[
    str | None,
    Option(
        "--basis",
        metavar="fourier|pixels",
        help="What is changed: waves of uncorrelated colors, or pixels.  [default: pixels]",
        show_default=False,
    ),
]
AscentRate: TypeAlias = Annotated[
    float | None,
    Option(
        "--rate", metavar="X", help="Size of a step of Adam.  [default: 0.03]", show_default=False
    ),
]
InversionRate: TypeAlias = Annotated[
    float | None,
    Option(
        "--rate", metavar="X", help="Size of a step of Adam.  [default: 0.05]", show_default=False
    ),
]
Slowing: TypeAlias = Annotated[
    float | None,
    Option(
        "--slowing",
        metavar="N",
        help="Steps after which a step is half as large; 0: never.  [default: 100]",
        show_default=False,
    ),
]
Decay: TypeAlias = Annotated[
    float | None,
    Option(
        "--decay",
        metavar="X",
        help="Weight of L2 decay: larger gives less contrast.  [default: 0.05]",
        show_default=False,
    ),
]
Norm: TypeAlias = Annotated[
    float | None,
    Option(
        "--norm",
        metavar="X",
        help="Weight of the mean of |x|^power.  [default: 0.003]",
        show_default=False,
    ),
]
Power: TypeAlias = Annotated[
    float | None,
    Option("--power", metavar="X", help="Power of --norm.  [default: 6]", show_default=False),
]
AscentVariation: TypeAlias = Annotated[
    float | None,
    Option(
        "--variation",
        metavar="X",
        help="Weight of the total variation: larger gives a smoother image.  [default: 0.2]",
        show_default=False,
    ),
]
InversionVariation: TypeAlias = Annotated[
    float | None,
    Option(
        "--variation",
        metavar="X",
        help="Weight of the total variation: larger gives a smoother image.  [default: 0.05]",
        show_default=False,
    ),
]
Beta: TypeAlias = Annotated[
    float | None,
    Option(
        "--beta",
        metavar="X",
        help="Power of the length of differences in --variation, 1 to 4.  [default: 2]",
        show_default=False,
    ),
]
Blur: TypeAlias = Annotated[
    float | None,
    Option(
        "--blur",
        metavar="PIXELS",
        help="Standard deviation of a Gaussian blur after every fourth step.  [default: 0]",
        show_default=False,
    ),
]
Jitter: TypeAlias = Annotated[
    float | None,
    Option(
        "--jitter",
        metavar="X",
        help="Largest shift of a step, as a fraction of the shorter side.  [default: 0.06]",
        show_default=False,
    ),
]
Zoom: TypeAlias = Annotated[
    float | None,
    Option(
        "--zoom",
        metavar="X",
        help="Largest enlargement or reduction of a step, as a fraction.  [default: 0.1]",
        show_default=False,
    ),
]
