"""The tables of gradient rules that users choose by name.

Every file of this folder but `_*.py` defines `rules`, and is the table of its name: `deep_lift.py` is
"deep-lift". Other packages add theirs with `RULE_TABLES.add(name, rules)`.
"""

import importlib

from onnxcam.autodiff.rule_table import Rules
from onnxcam.autodiff.rules import rule_modules
from onnxcam.registry import Registry

RULE_TABLES: Registry[Rules] = Registry("rule table")
for module_name in rule_modules(__path__):
    module = importlib.import_module(f"{__name__}.{module_name}")
    RULE_TABLES.add(module_name.replace("_", "-"), module.rules)
