"""Draws docs/images/capacity.svg: one synthetic window as ElasticAuto runs it. `python hack/draw_capacity.py`."""

from pathlib import Path

from evalfleet_lab.simulate.scenario import Faults, JobShape
from evalfleet_lab.whatif import Prices, build_scenario, draw
from evalfleet_scaling.capacity.elastic_auto import ElasticAuto

TARGET = Path(__file__).parent.parent / "docs" / "images" / "capacity.svg"


def main() -> None:
    """Draw the picture of the documentation."""
    job = JobShape(gpus=16, hours=12.0, deadline_ratio=1.67)
    world = build_scenario(None, job, Prices(1.0, 3.0), starts=1, seed=11)
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    draw(world, ElasticAuto(), Faults(), TARGET)
    print(f"wrote {TARGET}")


if __name__ == "__main__":
    main()
