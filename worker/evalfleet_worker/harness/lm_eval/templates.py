"""Which columns a template of a task uses, and of which it asks whether they are there."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

MEMBERS = ("doc_to_text", "doc_to_target", "doc_to_choice", "description", "gen_prefix")
"""Members of a task config (and, but for the description, of its few-shot part) that are columns or templates."""
PLAIN_NAME = re.compile(r"[A-Za-z_]\w*")
ASKING_FILTERS = ("default", "d")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Columns that a template uses.

    Attributes:
        names: all that it uses.
        asked: those of which it asks whether they hold something, and so decides itself what to do without.
    """

    names: frozenset[str] = frozenset()
    asked: frozenset[str] = frozenset()


def members_of(config: Any) -> Mapping[str, str]:
    """The members of a task's config that are names of columns or templates, by name."""
    found = {name: getattr(config, name) for name in MEMBERS if isinstance(getattr(config, name), str)}
    shots = config.fewshot_config
    for name in MEMBERS if shots is not None else ():
        value = getattr(shots, name, None)
        if isinstance(value, str) and value != found.get(name):
            found[f"fewshot_config.{name}"] = value
    return {name: template for name, template in found.items() if template}


def wanted_by(template: str, features: Collection[str]) -> Wanted:
    """The columns of `template`, which may also be the bare name of one."""
    if template in features:
        return Wanted(frozenset([template]))
    return _parsed(template)


def is_bare_name(template: str) -> bool:
    """Whether the text looks like the name of a column rather than a template or a constant."""
    return PLAIN_NAME.fullmatch(template) is not None


@lru_cache(maxsize=256)
def _parsed(template: str) -> Wanted:
    import lm_eval.utils
    from jinja2 import TemplateSyntaxError, meta

    try:
        tree = lm_eval.utils.env.parse(template)
    except TemplateSyntaxError:
        return Wanted()  # rendering says what is wrong
    names = meta.find_undeclared_variables(tree) - set(lm_eval.utils.env.globals)
    return Wanted(frozenset(names), frozenset(_asked(tree)))


def _asked(tree: Any) -> Iterator[str]:
    from jinja2 import nodes

    tests = [node.test for node in tree.find_all((nodes.If, nodes.CondExpr))]
    tests += [operand for node in tree.find_all((nodes.Or, nodes.And)) for operand in (node.left, node.right)]
    tests += [node.node for node in tree.find_all(nodes.Filter) if node.name in ASKING_FILTERS]
    tests += [node.node for node in tree.find_all(nodes.Test)]
    for test in tests:
        yield from (name.name for name in test.find_all(nodes.Name))
        if isinstance(test, nodes.Name):
            yield test.name
