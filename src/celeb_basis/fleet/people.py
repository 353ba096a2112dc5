"""The people of a table go through a job on a fleet, and a manifest says what became of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import PhotoError
from .job import Job, line_of
from .manifest import Manifest
from .pool import run
from .table import read_rows


@dataclass(frozen=True)
class FleetStep:
    """One more person is through.

    line: what the manifest says of them: name, error (None where all went well), photos, the files that were made,
        figures, seconds, inputs.
    kept: they were there from an earlier run, and their inputs are what they were.
    done, total: people of the table.
    """

    line: Mapping[str, Any]
    kept: bool
    done: int
    total: int


def steps_of(
    job: Job, table: str, *, address: str, workers: int | None, people_at_once: int | None
) -> Iterator[FleetStep]:
    """Yield each person of a table as they are through the job; those whose inputs are as before are not done again.

    The table is read twice, the first time to count its people and to refuse what is wrong with it. Raises PhotoError
    for a table, FleetError for workers, OutputError for the job's folder.
    """
    manifest = Manifest(job.out)
    total = 0
    for row in read_rows(table, job.needed):
        manifest.expect(row.name)
        total += 1
    if not total:
        raise PhotoError(f"{table} names nobody")
    manifest.begin()
    items = ((row, manifest.get(row.name).get("inputs")) for row in read_rows(table, job.needed))
    done = 0
    try:
        for batch, answers in run(job, items, total, address=address, workers=workers, at_once=people_at_once):
            rows = [row for row, _ in batch]
            lines = answers if isinstance(answers, list) else [line_of(row, str(answers)) for row in rows]
            manifest.add(line for line in lines if line is not None)
            for row, line in zip(rows, lines, strict=True):
                done += 1
                yield FleetStep(line or manifest.get(row.name), line is None, done, total)
    finally:
        manifest.close()
