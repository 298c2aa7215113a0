"""The API server's clock is found within a fraction of a second from headers of whole seconds."""

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from evalfleet.kube.serverclock import ServerClock

EPOCH = 1_800_000_000.0


class Machine:
    """A local monotonic clock and a server whose clock is ahead of it by `offset` seconds."""

    def __init__(self, offset: float) -> None:
        self.local, self.offset = 500.0, offset
        self.clock = ServerClock(lambda: self.local)

    def ask(self, out: float = 0.01, back: float = 0.01) -> None:
        sent = self.clock.started()
        self.local += out
        stamp = datetime.fromtimestamp(int(self.local + self.offset), UTC)
        self.local += back
        self.clock.observe(format_datetime(stamp, usegmt=True), sent)

    @property
    def error_seconds(self) -> float:
        return abs(self.clock.now().timestamp() - (self.local + self.offset))


@pytest.mark.parametrize("offset", [EPOCH, EPOCH + 0.37, EPOCH + 7200.9, EPOCH - 86400.5])
def test_the_server_time_is_known_whatever_the_local_clock_says(offset: float) -> None:
    machine = Machine(offset)
    machine.ask()
    assert machine.error_seconds <= 0.52
    for _ in range(40):
        machine.local += 0.173
        machine.ask()
        assert machine.error_seconds <= 0.52
    assert machine.error_seconds <= 0.1


def test_slow_answers_and_unreadable_headers_spoil_nothing() -> None:
    machine = Machine(EPOCH + 0.5)
    for _ in range(20):
        machine.local += 0.173
        machine.ask()
    known = machine.error_seconds
    machine.ask(out=9.0, back=4.0)
    for header in (None, "", "yesterday"):
        machine.clock.observe(header, machine.local)
    assert machine.error_seconds == pytest.approx(known, abs=1e-6)


def test_a_server_whose_clock_is_set_is_believed() -> None:
    machine = Machine(EPOCH)
    machine.ask()
    machine.offset -= 3600.0
    machine.ask()
    assert machine.error_seconds <= 0.52


def test_before_the_first_answer_it_is_local_time() -> None:
    assert abs((ServerClock().now() - datetime.now(UTC)).total_seconds()) < 60
