"""Which requests may rightly be answered differently a second time."""

import json

from evalfleet_worker.requests import Request, RequestType


def is_sampled(request: Request) -> bool:
    """Whether the request draws random numbers or runs user code: never de-duplicated, never cached."""
    if request.type is RequestType.CALL:
        return True
    return request.type is RequestType.GENERATE_UNTIL and bool(json.loads(request.arguments)["do_sample"])
