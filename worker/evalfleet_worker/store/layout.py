"""Where everything of one run lies, as paths. Pure."""

from dataclasses import dataclass

SEGMENT_UNITS = 256
"""Units per segment: a full segment is never listed again."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of one run below the store's root."""

    namespace: str
    run_id: str

    @property
    def root(self) -> str:
        """The run's folder."""
        return f"{self.namespace}/runs/{self.run_id}"

    @property
    def plan(self) -> str:
        """plan.json: its presence means that the plan is complete."""
        return f"{self.root}/plan.json"

    @property
    def summary(self) -> str:
        """summary.json: its presence means that the run is finished."""
        return f"{self.root}/results/summary.json"

    def plan_file(self, attempt: str, name: str) -> str:
        """A file of a plan attempt."""
        return f"{self.root}/plan/{attempt}/{name}"

    def result_file(self, attempt: str, name: str) -> str:
        """A file of a finish attempt."""
        return f"{self.root}/results/{attempt}/{name}"

    def segment(self, segment: int) -> str:
        """The folder of a segment."""
        return f"{self.root}/segments/{segment:05d}"

    def claim(self, unit: int, epoch: int) -> str:
        """A claim of a unit."""
        return f"{self.segment(unit // SEGMENT_UNITS)}/claims/{unit}.{epoch}"

    def freed(self, unit: int, epoch: int) -> str:
        """Its presence gives that claim up."""
        return f"{self.claim(unit, epoch)}.free"

    def backup(self, unit: int) -> str:
        """The one backup task of a unit."""
        return f"{self.segment(unit // SEGMENT_UNITS)}/claims/{unit}.backup"

    def part(self, unit: int) -> str:
        """The committed answers of a unit."""
        return f"{self.segment(unit // SEGMENT_UNITS)}/units/{unit}.parquet"

    def failed(self, unit: int) -> str:
        """The final failure of a unit; a part always wins."""
        return f"{self.segment(unit // SEGMENT_UNITS)}/units/{unit}.failed.json"

    def comparison(self, unit: int, owner: str) -> str:
        """What the loser of a commit found."""
        return f"{self.root}/twice/{unit}.{owner}.json"

    def failure(self, unit: int, owner: str) -> str:
        """One owner's failure record against a unit."""
        return f"{self.root}/failures/{unit}/{owner}.json"

    def ended(self, evaluation: str) -> str:
        """Its presence ends an evaluation: nobody scores it any more."""
        return f"{self.root}/ended/{evaluation}.json"
