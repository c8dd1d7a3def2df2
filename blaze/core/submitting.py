"""From what a user submits to a job that can be stored: everything is checked, all faults are told at once."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Dict, Iterable, List, Mapping, Optional, Set, Tuple

from .ground.clock import as_datetime
from .ground.errors import Fault, ValidationError
from .ground.names import name_fault
from .remember.jobs import AUTO_START, SUBMITTED, NewJob
from .seq import BlazeSequence, Sequence
from .what.checker import shown
from .what.declarations import SubmitSequenceData
from .what.naming import choices, quoted
from .what.options import MAX_COUNT, check_choice
from .what.values import dumps
from .when.decisions import CATCHUPS, OVERLAPS, first_tick
from .when.schedule import Schedule
from .when.zone import Zone, zone_of


def new_jobs(given: Any, sequences: BlazeSequence, executors: Iterable[str], now: float) -> List[NewJob]:
    """The jobs of a list of submissions. Raises :class:`ValidationError` with the faults of all of them."""
    faults: List[Fault] = []
    found: List[NewJob] = []
    seen: Set[str] = set()
    zones = _Zones()
    for number, data in enumerate(_listed(given), 1):
        where = _where(data, number)
        if not isinstance(data, SubmitSequenceData):
            faults.append(Fault(where, f"a submission is a SubmitSequenceData, got {shown(data)}"))
            continue
        check = _Check(data, where, sequences, executors, zones, faults)
        job = check.job(now)
        if isinstance(check.job_id, str):
            if check.job_id in seen:
                faults.append(Fault(where, "the same job_id stands twice in this list; give each job one of its own"))
            seen.add(check.job_id)
        if job is not None:
            found.append(job)
    if faults:
        raise ValidationError(faults, "the submission")
    return found


def faults_of(given: Any, sequences: BlazeSequence, executors: Iterable[str], now: float) -> List[Fault]:
    """What is wrong with a list of submissions."""
    try:
        new_jobs(given, sequences, executors, now)
    except ValidationError as error:
        return list(error.errors)
    return []


def auto_start_job(
    sequence: Sequence[Any, Any], sequences: BlazeSequence, executors: Iterable[str], now: float
) -> NewJob:
    """The job of a sequence with ``auto_start`` and an interval. Raises :class:`ValidationError`."""
    data = SubmitSequenceData(sequence.seq_id, seq_run_interval=sequence.seq_run_interval, timezone=sequence.timezone)
    return new_jobs([data], sequences, executors, now)[0]._replace(source=AUTO_START)


def _listed(given: Any) -> List[Any]:
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
        return [given]
    return list(given)


def _where(data: Any, number: int) -> str:
    job_id = getattr(data, "job_id", None) or getattr(data, "seq_id", None)
    return f"submission {number}" if job_id is None else f"job {quoted(job_id)}"


class _Zones:
    """The time zones of one call: that of the machine is looked up once."""

    def __init__(self) -> None:
        self._known: Dict[Optional[str], Zone] = {}

    def of(self, name: Any) -> Zone:
        """The zone of a name. Raises :class:`ValidationError`."""
        if name is not None and not isinstance(name, str):
            return zone_of(name)
        found = self._known.get(name)
        if found is None:
            found = self._known[name] = zone_of(name)
        return found


class _Check:
    """The checks of one submission."""

    def __init__(
        self,
        data: SubmitSequenceData,
        where: str,
        sequences: BlazeSequence,
        executors: Iterable[str],
        zones: _Zones,
        faults: List[Fault],
    ) -> None:
        self.data = data
        self.where = where
        self.faults = faults
        self.sequences = sequences
        self.executors = executors
        self.zones = zones
        self.job_id = data.seq_id if data.job_id is None else data.job_id

    def job(self, now: float) -> Optional[NewJob]:
        """The job; None if there are faults, which are in the list then."""
        data, before = self.data, len(self.faults)
        self._add(
            None if data.job_id is None else _name_fault("job_id", data.job_id),
            check_choice("catchup", data.catchup, CATCHUPS),
            check_choice("overlap", data.overlap, OVERLAPS),
            _priority_fault(data.priority),
        )
        text = self._parameters()
        schedule, zone = self._schedule()
        start_at, end_at = self._date("start_date", zone), self._date("end_date", zone)
        if start_at is not None and end_at is not None and end_at < start_at:
            self._add(f"end_date ({data.end_date}) is before start_date ({data.start_date})")
        if len(self.faults) > before or zone is None:
            return None
        first = first_tick(schedule, now, start_at, end_at)
        return NewJob(
            self.job_id, data.seq_id, text, data.seq_run_interval, zone.name, start_at, end_at, data.catchup,
            data.overlap, data.priority, SUBMITTED, first,
        )  # fmt: skip

    def _add(self, *whats: Optional[str]) -> None:
        self.faults.extend(Fault(self.where, what) for what in whats if what)

    def _parameters(self) -> Optional[str]:
        """The parameters as they are stored, held against the sequence."""
        data = self.data
        fault = _name_fault("seq_id", data.seq_id)
        if fault is not None or data.seq_id not in self.sequences:
            known = choices(data.seq_id, self.sequences, self.faults, "the sequences are")
            self._add(fault or f"there is no sequence {quoted(data.seq_id)}{known or '; none is registered'}")
            return None
        try:
            plan = self.sequences[data.seq_id].plan(data.parameters, self.executors)
            return dumps(data.parameters, plan.hints(data.parameters)) if data.parameters else None
        except ValidationError as error:
            self.faults.extend(Fault(f"{self.where}: {fault.where}", fault.what) for fault in error.errors)
            return None

    def _schedule(self) -> Tuple[Optional[Schedule], Optional[Zone]]:
        data = self.data
        try:
            zone = self.zones.of(data.timezone)
        except ValidationError as error:
            self._add(*[fault.what for fault in error.errors])
            zone = None
        if data.seq_run_interval is None:
            return None, zone
        try:
            return Schedule.parse(data.seq_run_interval, "UTC" if zone is None else zone.name), zone
        except ValidationError as error:
            self._add(*[str(fault) for fault in error.errors])
            return None, zone

    def _date(self, name: str, zone: Optional[Zone]) -> Optional[float]:
        """Epoch seconds of a date; a naive one is in the job's zone."""
        value = getattr(self.data, name)
        if value is None:
            return None
        if not isinstance(value, datetime):
            self._add(f"{name} is a datetime, got {shown(value)}")
            return None
        if value.tzinfo is None and zone is not None:
            value = value.replace(tzinfo=zone.info)
        try:
            seconds = value.timestamp()
            as_datetime(seconds)  # what is stored has to be told as a date again
            return seconds
        except (OverflowError, ValueError, OSError):
            self._add(f"{name} is beyond the dates that can be told, got {shown(value)}")
            return None


def _name_fault(name: str, value: Any) -> Optional[str]:
    found = name_fault(value, dotted=True)
    return found and f"{name}: {found}"


def _priority_fault(value: Any) -> Optional[str]:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_COUNT:
        return None
    return f"priority is a whole number from {-MAX_COUNT} to {MAX_COUNT}, got {shown(value)}"


__all__ = ["auto_start_job", "new_jobs"]
