"""Starting the plan and finish commands quickly.

Neither needs torch, but transformers and accelerate import it, with its compiler, wherever it is installed: 10 of 15
CPU-seconds of a small plan. In these processes torch is made unfindable. Never call this where a model is loaded.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

HIDDEN = ("torch",)


class _WithoutTorch(PathFinder):
    """The path finder of Python, blind to torch: `find_spec` is None and an import is a ModuleNotFoundError."""

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of every other module."""
        return None if name in HIDDEN else super().find_spec(name, path, target)


def hide_torch() -> None:
    """Make torch unfindable in this process, unless it is loaded already."""
    if "torch" in sys.modules or PathFinder not in sys.meta_path:
        return
    sys.meta_path[sys.meta_path.index(PathFinder)] = _WithoutTorch
