"""Starting the plan and finish commands quickly.

Neither needs torch, but transformers and accelerate import it, with its compiler, wherever it is installed: 10 of 15
CPU-seconds of a small plan. In these processes torch is made unfindable. Never call this where a model is loaded.
A few task files of lm-eval import it themselves: the command then starts anew, with torch.
"""

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import NoReturn

HIDDEN = ("torch",)
WITH_TORCH = "EVALFLEET_WITH_TORCH"
"""Variable of the environment that keeps torch findable."""


class TorchNeededError(Exception):
    """A task cannot be loaded or scored without torch, which is hidden here."""


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
    if os.environ.get(WITH_TORCH) or "torch" in sys.modules or PathFinder not in sys.meta_path:
        return
    sys.meta_path[sys.meta_path.index(PathFinder)] = _WithoutTorch


def let_torch_in(error: BaseException | None) -> None:
    """Say so when torch is missing because it is hidden.

    Raises:
        TorchNeededError: when that is what `error` comes from.
    """
    while error is not None and _WithoutTorch in sys.meta_path:
        if isinstance(error, ModuleNotFoundError) and error.name is not None and error.name.split(".")[0] in HIDDEN:
            raise TorchNeededError(error.name) from error
        error = error.__cause__ or error.__context__


def restart_with_torch() -> NoReturn:
    """Start this command anew in this process, with torch."""
    os.environ[WITH_TORCH] = "1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - the same command again
