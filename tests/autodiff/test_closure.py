"""Whatever the rules write has rules itself: a gradient can be differentiated again."""

from onnxcam.autodiff.rules import DEFAULT
from onnxcam.errors import ModelError
from onnxcam.graph.reachability import is_float
from onnxcam.model.load import load
from onnxcam.model.model import Model
from onnxcam.rewrite.gradient import gradient
from tests.autodiff.support.cases import LeftOutError, collected, made_dynamic, prepared


def test_every_emitted_operator_has_a_rule() -> None:
    """Of a case of every operator and choice of attributes, with fixed and with unknown sizes."""
    found: set[str] = set()
    for name in chosen():
        for model in gradients(name):
            found |= emitted(model)
    assert len(found) > 30
    assert found - DEFAULT.keys() == set()


def chosen() -> list[str]:
    """One case of each operator and set of attributes, of those of one node."""
    kinds: dict[tuple[str, ...], str] = {}
    for name, case in collected().items():
        first, *others = case.model.graph.node
        if not others:
            said = sorted(f"{each.name}={each.s.decode()}" for each in first.attribute)
            kinds.setdefault((first.op_type, *said), name)
    return list(kinds.values())


def gradients(name: str) -> list[Model]:
    try:
        case = prepared(name)
    except LeftOutError:
        return []
    made = []
    for proto in (case.proto, made_dynamic(case)):
        try:
            made.append(gradient(load(proto), case.wrt, case.outputs[0]))
        except ModelError:  # refused by name: the conformance suite looks at those
            continue
    return made


def emitted(model: Model) -> set[str]:
    """The operators that make floats of floats, of the nodes that the rules wrote."""
    return {
        node.op
        for node in model.graph.nodes
        if node.name.startswith("onnxcam/")
        and any(is_float(each) for each in node.inputs if not each.is_empty())
        and is_float(node.outputs[0])
    }
