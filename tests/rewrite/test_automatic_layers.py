"""The automatic layers of detectors, segmenters, and readers of text: models whose right layers are known by
construction. Classifiers are in `tests/spatial/test_layers.py`.
"""

import pytest

from onnxcam.dense import NO_CHOICE, HeadChoice
from onnxcam.heads.positions import with_dense_scores
from onnxcam.methods import METHODS
from onnxcam.model.model import Model
from onnxcam.rewrite.planner import layers, plan
from onnxcam.specs import AUTO
from tests.model.support.texts import load_text

# Three grids, each half of the one before
BACKBONE = """
    c1 = Conv<strides = [2, 2], kernel_shape = [1, 1]>(x, w3)   p1 = Relu(c1)
    c2 = Conv<strides = [2, 2], kernel_shape = [1, 1]>(p1, w8)  p2 = Relu(c2)
    c3 = Conv<strides = [2, 2], kernel_shape = [1, 1]>(p2, w8)  p3 = Relu(c3)
"""


def automatic(model: Model, task: str) -> list[str]:
    """The names of the automatic layers, for methods with and without a target."""
    choice = HeadChoice(task=task) if with_dense_scores(model).task != task else NO_CHOICE
    names = [layer.name for layer in layers(model, None, choice) if layer.automatic]
    if choice is NO_CHOICE:
        for method in ("grad-cam", "eigen-cam"):
            planned = plan(model, METHODS[method].plan_request(AUTO)).plan
            assert [layer.name for layer in planned.layers] == names
    return names


# Detectors: boxes (and objectness) are computed from b, the classes from f

RAW = "all{0} = Concat<axis = 1>(q{0}, s{0})"
OBJECTNESS = (
    "cs{0} = Sigmoid(s{0}) os{0} = Sigmoid(o{0}) all{0} = Concat<axis = 1>(q{0}, os{0}, cs{0})"
)
SPLIT = """
    widths = Constant<value_ints = [4, 3]>()  box, class = Split<axis = 1>(joined, widths)
    p = Sigmoid(class)  y = Concat<axis = 1>(box, p)"""


def detector(numbers: str, width: int, end: str, batch: str = "1", classes: int = 3) -> Model:
    """`end` makes the output y of `joined` (N, numbers, boxes)."""
    heads = "".join(
        f"""
        n{level} = Conv(p{level}, w8)  f{level} = Relu(n{level})  s{level} = Conv(f{level}, ws)
        m{level} = Conv(p{level}, w8)  b{level} = Relu(m{level})  q{level} = Conv(b{level}, wb)
        o{level} = Conv(b{level}, wo)  {numbers.format(level)}  rows{level} = Reshape(all{level}, rows)"""
        for level in (1, 2, 3)
    )
    return load_text(
        f"""(float[{batch}, 3, 16, 16] x) => (float[{batch}, r, k] y) {{
            rows = Constant<value_ints = [{0 if batch == "N" else 1}, {width}, -1]>()
            {BACKBONE} {heads}  joined = Concat<axis = 2>(rows1, rows2, rows3)  {end} }}""",
        w3=(8, 3, 1, 1),
        w8=(8, 8, 1, 1),
        ws=(classes, 8, 1, 1),
        wb=(4, 8, 1, 1),
        wo=(1, 8, 1, 1),
    )


@pytest.mark.parametrize("batch", ["1", "N"])
def test_detector_is_chosen_before_its_class_scores(batch: str) -> None:
    assert automatic(detector(RAW, 7, SPLIT, batch), "detection") == ["f1", "f2", "f3"]


@pytest.mark.parametrize("end", ["y = Transpose<perm = [0, 2, 1]>(joined)", "y = Identity(joined)"])
def test_detector_with_objectness_is_chosen_before_its_class_scores(end: str) -> None:
    assert automatic(detector(OBJECTNESS, 8, end), "detection") == ["f1", "f2", "f3"]


def test_detector_of_one_class_is_chosen_before_its_objectness_too() -> None:
    model = detector(OBJECTNESS, 6, "y = Transpose<perm = [0, 2, 1]>(joined)", classes=1)
    assert automatic(model, "detection") == ["f1", "b1", "f2", "b2", "f3", "b3"]


@pytest.mark.parametrize("nhwc", [False, True])
def test_detector_with_anchors_is_chosen_before_its_class_scores_at_every_grid(nhwc: bool) -> None:
    """As SSD: two anchors a cell; the last grid has one cell, whose evidence lies in the grid before."""
    heads = "".join(
        f"""
        s{level} = Conv(p{level}, ws)  st{level} = Transpose<perm = [0, 2, 3, 1]>(s{level})
        q{level} = Conv(p{level}, wb)  qt{level} = Transpose<perm = [0, 2, 3, 1]>(q{level})
        sr{level} = Reshape(st{level}, classes)  qr{level} = Reshape(qt{level}, corners)"""
        for level in (1, 2, 3)
    )
    image, start = ("float[1, 8, 8, 3] x", "t = Transpose<perm = [0, 3, 1, 2]>(x)") if nhwc else (
        "float[1, 3, 8, 8] x", "t = Identity(x)"
    )  # fmt: skip
    model = load_text(
        f"""({image}) => (float[1, r, 5] scores, float[1, r, 4] boxes) {{
            classes = Constant<value_ints = [1, -1, 5]>()  corners = Constant<value_ints = [1, -1, 4]>()
            {start} {BACKBONE.replace("(x,", "(t,")} {heads}
            joined = Concat<axis = 1>(sr1, sr2, sr3)  scores = Sigmoid(joined)
            boxes = Concat<axis = 1>(qr1, qr2, qr3) }}""",
        w3=(8, 3, 1, 1),
        w8=(8, 8, 1, 1),
        ws=(10, 8, 1, 1),
        wb=(8, 8, 1, 1),
    )
    assert automatic(model, "detection") == ["p1", "p2"]


def test_detector_with_anchors_in_one_tensor_is_chosen_before_its_heads() -> None:
    """As YOLOv5: one Conv of a grid writes boxes, objectness and classes of two anchors."""
    heads = "".join(
        f"""
        s{level} = Conv(p{level}, ws)  r{level} = Reshape(s{level}, to{level})
        t{level} = Transpose<perm = [0, 1, 3, 4, 2]>(r{level})  g{level} = Sigmoid(t{level})
        box{level}, other{level} = Split<axis = 4>(g{level}, widths)  double{level} = Mul(box{level}, two)
        n{level} = Concat<axis = 4>(double{level}, other{level})  rows{level} = Reshape(n{level}, rows)
        to{level} = Constant<value_ints = [1, 2, 8, {side}, {side}]>()"""
        for level, side in ((1, 8), (2, 4), (3, 2))
    )
    model = load_text(
        f"""(float[1, 3, 16, 16] x) => (float[1, r, 8] y) {{
            rows = Constant<value_ints = [1, -1, 8]>()  widths = Constant<value_ints = [4, 4]>()
            two = Constant<value_float = 2.0>()
            {BACKBONE} {heads}  y = Concat<axis = 1>(rows1, rows2, rows3) }}""",
        w3=(8, 3, 1, 1),
        w8=(8, 8, 1, 1),
        ws=(16, 8, 1, 1),
    )
    assert automatic(model, "detection") == ["p1", "p2", "p3"]


@pytest.mark.parametrize("pads", ["", "padded = Pad(n, sides)"])
def test_detector_of_peaks_is_chosen_before_its_heat_map(pads: str) -> None:
    """As CenterNet: cells that are no peak are set to 0; the padding of the last Conv is no cell."""
    features, shape = ("padded", (5, 8, 3, 3)) if pads else ("n", (5, 8, 1, 1))
    model = load_text(
        f"""(float[1, 3, 16, 16] x) => (float[1, 5, 4, 4] y, float[1, 4, 4, 4] boxes) {{
            sides = Constant<value_ints = [0, 0, 1, 1, 0, 0, 1, 1]>()
            {BACKBONE}  m = Conv(p2, w8)  n = Relu(m)  {pads}
            h = Conv({features}, ws)  heat = Sigmoid(h)
            around = MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(heat)
            is_peak = Equal(around, heat)  peak = Cast<to = 1>(is_peak)  y = Mul(heat, peak)
            boxes = Conv(n, wb) }}""",
        w3=(8, 3, 1, 1),
        w8=(8, 8, 1, 1),
        ws=shape,
        wb=(4, 8, 1, 1),
    )
    assert automatic(model, "detection") == ["n"]


# Segmenters and image-to-image nets

U_NET = """
    c1 = Conv(x, w3)   e1 = Relu(c1)  d1 = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(e1)
    c2 = Conv(d1, w8)  e2 = Relu(c2)  d2 = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(e2)
    c3 = Conv(d2, w8) bottom = Relu(c3)
    {up2}
    j2 = Concat<axis = 1>(e2, u2)  c4 = Conv(j2, w16)  r2 = Relu(c4)
    {up1}
    j1 = Concat<axis = 1>(e1, u1)  c5 = Conv(j1, w16)  r1 = Relu(c5)  y = Conv(r1, ws)
"""
RESIZE = 'u{0} = Resize<mode = "linear">({1}, , scales)'
TRANSPOSED = "u{0} = ConvTranspose<strides = [2, 2]>({1}, wt)"
SCALES = "scales = Constant<value_floats = [1.0, 1.0, 2.0, 2.0]>()"


@pytest.mark.parametrize("size", ["16, 16", "H, W"])
@pytest.mark.parametrize("up", [RESIZE, TRANSPOSED], ids=["resize", "transposed"])
@pytest.mark.parametrize(("classes", "task"), [(3, "segmentation"), (1, "image")])
def test_u_net_is_chosen_at_its_bottleneck(up: str, size: str, classes: int, task: str) -> None:
    body = U_NET.format(up2=up.format(2, "bottom"), up1=up.format(1, "r2"))
    text = f"(float[N, 3, {size}] x) => (float[N, {classes}, h, w] y) {{ {SCALES} {body} }}"
    weights = {
        "w3": (8, 3, 1, 1),
        "w8": (8, 8, 1, 1),
        "w16": (8, 16, 1, 1),
        "ws": (classes, 8, 1, 1),
    }
    more = {"wt": (8, 8, 2, 2)} if up == TRANSPOSED else {}
    assert automatic(load_text(text, **weights, **more), task) == ["bottom"]


@pytest.mark.parametrize("pooled_size", [1, 2])
def test_segmenter_with_pooled_branch_is_chosen_before_its_branches(pooled_size: int) -> None:
    """As DeepLab and PSPNet: the pooled branch has a coarser grid, but not the evidence."""
    side = 4 // pooled_size
    model = load_text(
        f"""(float[N, 3, 16, 16] x) => (float[N, 3, 16, 16] y) {{
            small = Constant<value_floats = [1.0, 1.0, {side}.0, {side}.0]>()
            large = Constant<value_floats = [1.0, 1.0, 4.0, 4.0]>()
            c1 = Conv<strides = [2, 2], kernel_shape = [1, 1]>(x, w3)   p1 = Relu(c1)
            c2 = Conv<strides = [2, 2], kernel_shape = [1, 1]>(p1, w8)  end = Relu(c2)
            ca = Conv(end, w8)  a = Relu(ca)
            mean = AveragePool<kernel_shape = [{side}, {side}], strides = [{side}, {side}]>(end)
            cb = Conv(mean, w8)  rb = Relu(cb)  b = Resize<mode = "linear">(rb, , small)
            j = Concat<axis = 1>(a, b)  c = Conv(j, w16)  r = Relu(c)  s = Conv(r, ws)
            y = Resize<mode = "linear">(s, , large) }}""",
        w3=(8, 3, 1, 1),
        w8=(8, 8, 1, 1),
        w16=(8, 16, 1, 1),
        ws=(3, 8, 1, 1),
    )
    assert automatic(model, "segmentation") == ["end"]


def test_segmenter_without_decoder_is_chosen_before_its_scores() -> None:
    model = load_text(
        f"""(float[N, 3, 16, 16] x) => (float[N, 3, 16, 16] y) {{
            scales = Constant<value_floats = [1.0, 1.0, 8.0, 8.0]>()
            {BACKBONE} s = Conv(p3, ws)  y = Resize<mode = "linear">(s, , scales) }}""",
        w3=(8, 3, 1, 1),
        w8=(8, 8, 1, 1),
        ws=(3, 8, 1, 1),
    )
    assert automatic(model, "segmentation") == ["p3"]


def test_segmenter_of_tokens_is_chosen_at_its_last_stage() -> None:
    """As SegFormer: every stage is projected and enlarged; the projection holds nothing more."""
    model = load_text(
        f"""(float[1, 3, 16, 16] x) => (float[1, 3, 8, 8] y) {{
            rows = Constant<value_ints = [1, 8, -1]>()  grid = Constant<value_ints = [1, 8, 4, 4]>()
            {SCALES}
            c1 = Conv<strides = [2, 2], kernel_shape = [1, 1]>(x, w3)   g1 = Relu(c1)
            c2 = Conv<strides = [2, 2], kernel_shape = [1, 1]>(g1, w8)  f2 = Reshape(c2, rows)
            t2 = Transpose<perm = [0, 2, 1]>(f2)  stage = LayerNormalization(t2, w)
            m2 = MatMul(stage, e)  n2 = Transpose<perm = [0, 2, 1]>(m2)  v2 = Reshape(n2, grid)
            u2 = Resize<mode = "linear">(v2, , scales)
            j = Concat<axis = 1>(g1, u2)  c = Conv(j, w16)  r = Relu(c)  y = Conv(r, ws) }}""",
        w3=(8, 3, 1, 1),
        w8=(8, 8, 1, 1),
        w16=(8, 16, 1, 1),
        ws=(3, 8, 1, 1),
        w=(8,),
        e=(8, 8),
    )
    assert automatic(model, "segmentation") == ["stage"]


# Sequences, and queries


def test_reader_of_text_is_chosen_where_there_are_rows() -> None:
    """As CRNN: the rows are joined to one before the steps are computed."""
    model = load_text(
        """(float[1, 1, 8, 16] x) => (float[8, 1, 5] y) {
            axis = Constant<value_ints = [2]>()
            c1 = Conv<strides = [2, 2], kernel_shape = [1, 1]>(x, w1)   r = Relu(c1)
            c2 = Conv<kernel_shape = [4, 1]>(r, tall)  one = Relu(c2)
            q = Squeeze(one, axis)  t = Transpose<perm = [2, 0, 1]>(q)
            m = MatMul(t, e)  y = Softmax<axis = -1>(m) }""",
        w1=(4, 1, 1, 1),
        tall=(4, 4, 4, 1),
        e=(4, 5),
    )
    assert automatic(model, "sequence") == ["r"]


def test_detector_with_queries_is_chosen_where_they_look() -> None:
    """As DETR: the class scores are computed from queries, which have no grid, and these from tokens."""
    model = load_text(
        """(float[1, 3, 16, 16] x) => (float[1, 6, 4] scores, float[1, 6, 4] boxes) {
            rows = Constant<value_ints = [1, 8, -1]>()
            c1 = Conv<strides = [2, 2], kernel_shape = [1, 1]>(x, w3)  g = Relu(c1)
            f = Reshape(g, rows)  t = Transpose<perm = [0, 2, 1]>(f)  tokens = LayerNormalization(t, w)
            k = MatMul(tokens, e)  kt = Transpose<perm = [0, 2, 1]>(k)
            qk = MatMul(queries, kt)  a = Softmax<axis = -1>(qk)
            v = MatMul(tokens, e)  mixed = MatMul(a, v)  decoded = LayerNormalization(mixed, w)
            scores = MatMul(decoded, h)  b = MatMul(decoded, h)  boxes = Sigmoid(b) }""",
        w3=(8, 3, 1, 1),
        w=(8,),
        e=(8, 8),
        queries=(1, 6, 8),
        h=(8, 4),
    )
    assert automatic(model, "detection") == ["tokens"]
