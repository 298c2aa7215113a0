"""Task templates are code: render them in Jinja's sandbox.

lm-eval renders `doc_to_text` and its kind in an unsandboxed environment, in which
`{{ cycler.__init__.__globals__.os.popen('...').read() }}` runs a command. The environment is replaced before a
task is made; filters and behaviour stay the same.
"""

from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment


def sandbox_templates() -> None:
    """Replace lm-eval's Jinja environment by an immutable sandbox with the same filters and settings."""
    import lm_eval.utils

    if not isinstance(lm_eval.utils.env, ImmutableSandboxedEnvironment):
        lm_eval.utils.env = _sandboxed(lm_eval.utils.env)


def _sandboxed(original: Any) -> ImmutableSandboxedEnvironment:
    sandboxed = ImmutableSandboxedEnvironment(
        loader=original.loader,
        undefined=original.undefined,
        keep_trailing_newline=original.keep_trailing_newline,
    )
    sandboxed.filters.update(original.filters)
    return sandboxed
