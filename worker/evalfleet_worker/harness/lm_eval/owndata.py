"""The user's own tasks: their data files are read as written, and every document is checked before lm-eval sees it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evalfleet_worker.harness.data import data_folder
from evalfleet_worker.harness.datafiles import READERS, convert_columns, read_rows, unreadable
from evalfleet_worker.harness.lm_eval.checks import oddities, unusable_shots
from evalfleet_worker.harness.lm_eval.metrics import check_metrics
from evalfleet_worker.harness.lm_eval.seeds import kept_random_state
from evalfleet_worker.harness.lm_eval.templates import is_bare_name, members_of, wanted_by
from evalfleet_worker.harness.rows import Rows
from evalfleet_worker.protocol import FailureReason, LmEvalSpec, RunError, RunSpec

GLOB = "*?["
ALL_IN_ONE = "train"
"""The split of `data_files` without names, as in `datasets`."""


class OwnTasks:
    """Loads the data of the tasks that an evaluation's inline config defines."""

    def __init__(self, spec: LmEvalSpec, run: RunSpec) -> None:
        self._spec = spec
        self._keep_na = run.na_values == "Keep"
        self._folder = data_folder(run) if spec.task_config is not None else None

    def load(self, task: Any, download: Callable[[], None]) -> None:
        """Give `task` its data set: from files below the data folder, else by lm-eval's own `download`.

        Raises:
            RunError: DATASET_UNREADABLE or INVALID_TASK, naming task, document and member.
        """
        if not is_own(task, self._spec):
            download()
            return
        files = (task.config.dataset_kwargs or {}).get("data_files")
        if self._folder is not None and files is not None:
            task.dataset = self._splits(task, files)
        else:
            download()
        _check(task, self._spec)

    def _splits(self, task: Any, files: Any) -> "Splits":
        by_split = files if isinstance(files, Mapping) else {ALL_IN_ONE: files}
        loaded = Splits(task.config.task)
        for split, names in by_split.items():
            found = [file for name in ([names] if isinstance(names, str) else names) for file in self._find(name)]
            loaded[split] = self._read(task, found)
        return loaded

    def _find(self, name: str) -> list[tuple[str, Path]]:
        """The file called `name`, or those that match it as a pattern."""
        assert self._folder is not None
        name = str(Path(name).relative_to(self._folder)) if Path(name).is_absolute() else name
        path = self._folder / name
        if path.is_file():
            return [(name, path)]
        matches = sorted(p for p in self._folder.glob(name) if p.is_file()) if any(c in name for c in GLOB) else []
        if not matches:
            what = "is a folder: name the files in it" if path.is_dir() else "is no file below data.uri"
            raise unreadable(f"{name} {what}")
        return [(str(match.relative_to(self._folder)), match) for match in matches]

    def _read(self, task: Any, files: Sequence[tuple[str, Path]]) -> Any:
        kind, options = task.config.dataset_path, task.config.dataset_kwargs
        if kind not in READERS:
            return _read_typed(kind, files)
        rows = read_rows(kind, files, options, self._keep_na)
        if kind == "csv":
            convert_columns(rows)
        if task.config.process_docs is None:
            return rows
        import datasets

        return datasets.Dataset.from_list(list(rows))


class Splits(dict[str, Any]):
    """A data set by split, which says what splits there are when another is asked for."""

    def __init__(self, task: str) -> None:
        super().__init__()
        self._task = task

    def __missing__(self, split: str) -> Any:
        raise RunError(
            FailureReason.INVALID_TASK,
            f"task {self._task!r}: dataset_kwargs.data_files has no split {split!r}; it has {', '.join(self)}",
        )


def is_own(task: Any, spec: LmEvalSpec) -> bool:
    """Whether the task is defined by the evaluation's inline config, not by a file of lm-eval."""
    metadata = task.config.metadata
    source = metadata.get("config_source", "inline") if isinstance(metadata, dict) else "inline"
    return spec.task_config is not None and source == "inline"


def documents_to_score(task: Any, spec: LmEvalSpec) -> list[tuple[int, Any]]:
    """(index, document) of the documents that the evaluation asks for."""
    if spec.samples is None:
        return list(task.doc_iterator(limit=spec.limit))
    documents = task.eval_docs
    return [(index, documents[index]) for index in sorted(set(spec.samples)) if index < len(documents)]


def _read_typed(kind: str, files: Sequence[tuple[str, Path]]) -> Any:
    """The rows of files that carry their types (parquet, arrow)."""
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    for name, path in files:
        try:
            tables.append(pq.read_table(path) if kind == "parquet" else _read_arrow(path))
        except (OSError, pa.ArrowException) as error:
            raise unreadable(f"{name} cannot be read as {kind}: {error}") from error
    table = pa.concat_tables(tables, promote_options="default")
    if not table.num_rows:
        raise unreadable(f"{', '.join(name for name, _ in files)} has no rows")
    return datasets.Dataset(table)


def _read_arrow(path: Path) -> Any:
    import pyarrow as pa

    try:
        return pa.ipc.open_file(path).read_all()
    except pa.ArrowInvalid:
        return pa.ipc.open_stream(path).read_all()


def _check(task: Any, spec: LmEvalSpec) -> None:
    name = task.config.task
    if task.config.metric_list == [] and not spec.predict_only:
        words = f"task {name!r}: metric_list is empty: name a metric, or leave it out for lm-eval's defaults"
        raise RunError(FailureReason.INVALID_TASK, words)
    check_metrics(name, task)
    _check_listed_choices(name, task.config.doc_to_choice)
    documents = task.eval_docs
    task.features, task.prompt = list(documents.features), None  # as lm-eval sets them once the data are there
    for member, template in members_of(task.config).items():
        _check_columns(name, member, template, task)
    with kept_random_state():
        for odd in oddities(task, documents_to_score(task, spec)):
            raise odd.refusal(name, _place(documents, odd.document))
        shots = task.fewshot_docs() if _shot_count(task, spec) else None
        for odd in unusable_shots(task, shots or ()):
            raise odd.refusal(name, f" of the few-shot examples{_place(shots, odd.document)}")


def _place(documents: Any, index: int) -> str:
    return f" ({documents.place(index)})" if isinstance(documents, Rows) else ""


def _shot_count(task: Any, spec: LmEvalSpec) -> int:
    """Few-shot examples that a prompt will have, by lm-eval's rule: a 0 of the config holds."""
    own: int | None = task.config.num_fewshot
    return spec.num_few_shot if spec.num_few_shot is not None and own != 0 else own or 0


def _check_columns(name: str, member: str, template: str, task: Any) -> None:
    wanted = wanted_by(template, task.features)
    unknown = sorted(wanted.names - wanted.asked - set(task.features))
    if not unknown and is_bare_name(template) and template not in task.features:
        unknown = [template] if _must_be_a_column(member) else []
    if unknown:
        raise RunError(
            FailureReason.INVALID_TASK,
            f"task {name!r}, {member}: there is no column {unknown[0]!r}; the columns are "
            f"{', '.join(map(repr, task.features))}{_constant(template)}",
        )


def _check_listed_choices(name: str, choices: Any) -> None:
    """lm-eval renders one template that gives a list, and takes the members of a list as they stand."""
    for number, choice in enumerate(choices if isinstance(choices, list) else ()):
        if isinstance(choice, str) and wanted_by(choice, ()).names:
            raise RunError(
                FailureReason.INVALID_TASK,
                f"task {name!r}, doc_to_choice: choice {number} is the text {choice!r}, because members of a list are "
                "not rendered: write one template that gives the list, such as '{{ [column_a, column_b] }}'",
            )


def _must_be_a_column(member: str) -> bool:
    """A description and a prefix are often a single word; a text, its choices and its answer never are."""
    return member.rpartition(".")[2] not in ("description", "gen_prefix")


def _constant(template: str) -> str:
    return f" (for the same text in every document write {{{{ {template!r} }}}})" if is_bare_name(template) else ""
