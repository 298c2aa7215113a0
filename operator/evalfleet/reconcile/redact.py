"""Credentials out of the last output of a pod: who may read a status may not read a Secret. Pure.

A pod that ends without a report is quoted from its log, and errors of stores and hubs quote their requests.
"""

import re

HIDDEN = "***"
_CREDENTIALS = (
    (re.compile(r"(\w://)[^\s/@]+@"), rf"\1{HIDDEN}@"),  # user:password@host
    (re.compile(r"\b(hf_|AKIA|ASIA|gh[pousr]_|github_pat_|glpat-|xox[abp]-|sk-)[\w-]{12,}"), HIDDEN),
    (re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"), HIDDEN),  # a JSON web token
    (re.compile(r"\b((?:X-Amz-|X-Goog-)?(?:Signature|Credential|Security-Token)|sig)=[^&\s'\"]+"), rf"\1={HIDDEN}"),
    (
        re.compile(
            r"((?:\b|_)(?:password|passwd|secret|token|api_?key|access_?key|account_?key)['\"]?\s*[=:]\s*['\"]?)[^\s'\",;&]{8,}",
            re.IGNORECASE,
        ),
        rf"\1{HIDDEN}",
    ),
)


def redacted(text: str) -> str:
    """The same text without what looks like a credential."""
    for pattern, replacement in _CREDENTIALS if text else ():  # most children have nothing to say
        text = pattern.sub(replacement, text)
    return text
