"""What a daemon writes down of the sequences it serves, and what is checked against it while none runs."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Dict, List, Literal, Optional, Tuple, Union
from uuid import UUID

import pytest

from blaze import BlazeBlock, BlazeSequence, SeqBlockData, StateError, SubmitSequenceData, ValidationError
from blaze.daemon.offline import known_sequences, store_submissions
from blaze.daemon.recorded import FILE_NAME, record_definitions, recorded_definitions
from blaze.daemon.submissions import hints_of, read_submissions, write_submissions


class Colour(enum.Enum):
    RED = 1


@dataclass
class Window:
    first: int
    last: int = 10


def registry() -> BlazeSequence:
    blocks, sequences = BlazeBlock(), BlazeSequence()

    @blocks.block
    def fetch(
        endpoint: str,
        limit: int = 100,
        since: Optional[datetime] = None,
        mode: Literal["all", "new"] = "all",
        colour: Colour = Colour.RED,
        pair: Tuple[int, ...] = (),
        either: Union[int, Decimal, None] = None,
        where: Path = Path("x"),
        window: Optional[Window] = None,
    ) -> List[Any]:
        return []

    @blocks.block(name="clean", data_model=Window)
    def clean(**window: Any) -> None: ...

    @blocks.block
    def load(rows: List[Dict[str, Any]], write: Any, run: UUID, wait: timedelta, **more: Any) -> None: ...

    wiring = [
        SeqBlockData("fetch"),
        SeqBlockData("clean", ["fetch"], {"first": 1}),
        SeqBlockData(
            "load", parameters={"rows": "@fetch", "write": lambda: 1, "run": UUID(int=1), "wait": timedelta(1)}
        ),
        SeqBlockData(
            "load", ["load"], {"rows": [], "write": 1, "run": UUID(int=1), "wait": timedelta(1)}, name="again"
        ),
    ]
    sequences.sequence(blocks, wiring, seq_id="etl")(lambda context=None: context)
    return sequences


@pytest.fixture
def both(tmp_path):
    """The sequences, and what is read back of them."""
    sequences = registry()
    record_definitions(tmp_path, sequences)
    return sequences, recorded_definitions(tmp_path)


def faults(sequences, parameters):
    try:
        sequences["etl"].validate(parameters)
    except ValidationError as error:
        return sorted((where, what) for where, what in error.errors)
    return []


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"fetch": {"endpoint": "x"}},
        {"fetch": {"endpoint": "x", "since": "2024-01-31T00:00:00", "pair": [1, 2], "either": "1.5", "where": "/x"}},
        {"fetch": {"endpoint": "x", "limit": "10", "mode": "some", "pair": ["a"], "either": [], "where": 5}},
        {"fetch": {"endpoint": "x", "limitt": 5}, "fetchh": {}, "clean": {"last": "x"}},
        {
            "fetch": {"endpoint": "x"},
            "load": {"rows": "@fetch.0.x", "anything": 5, "run": "no"},
            "again": {"rows": [1]},
        },
        {"fetch": {"endpoint": "@load"}},
        {"fetch": {"endpoint": "@nowhere"}},
        {"fetch": {"endpoint": None, "limit": None, "since": None}},
    ],
)
def test_what_is_read_back_finds_the_faults_that_the_sequences_themselves_find(both, parameters):
    sequences, recorded = both
    assert [what for _, what in faults(recorded, parameters)] == [what for _, what in faults(sequences, parameters)]


def test_a_parameter_whose_class_is_not_known_accepts_everything(both):
    _, recorded = both
    assert faults(recorded, {"fetch": {"endpoint": "x", "colour": "PURPLE", "window": 5}}) == []


def test_what_is_read_back_tells_where_the_definitions_stand(both):
    sequences, recorded = both
    assert recorded["etl"].definition.place == sequences["etl"].definition.place
    assert __file__.rpartition("/")[2] in recorded["etl"].definition.blocks["fetch"].place


def test_nothing_of_the_file_is_executed(tmp_path):
    record_definitions(tmp_path, registry())
    text = (tmp_path / FILE_NAME).read_text()
    for evil in ("__import__('os').abort()", "int.__class__", "[].append", "os", "list[__import__]", "a b", "(" * 5000):
        (tmp_path / FILE_NAME).write_text(text.replace('"str"', json.dumps(evil)))
        with pytest.raises(StateError, match="start the daemon, which writes it anew"):
            recorded_definitions(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 99}', '{"format": 1, "sequences": [{}]}', "[" * 100_000, "\xff"]
)
def test_a_damaged_file_is_told_and_left_as_it_is(tmp_path, text):
    (tmp_path / FILE_NAME).write_text(text, encoding="latin-1")
    with pytest.raises(StateError, match=r"definitions\.json can't be read"):
        recorded_definitions(tmp_path)
    assert (tmp_path / FILE_NAME).read_text(encoding="latin-1") == text


def test_sequences_of_the_calling_process_go_before_recorded_ones(tmp_path):
    record_definitions(tmp_path, registry())
    mine = registry()
    assert known_sequences(tmp_path, [mine])["etl"] is mine["etl"]
    assert len(known_sequences(tmp_path)) == 1


def test_a_submission_goes_through_json_and_comes_back_as_what_it_was():
    sequences = registry()
    given = SubmitSequenceData(
        "etl",
        {
            "fetch": {
                "endpoint": "x",
                "since": datetime(2024, 1, 31),
                "either": Decimal("1.50"),
                "colour": Colour.RED,
                "pair": (1,),
            }
        },
        "0 12 * * *",
        start_date=datetime(2030, 1, 1, 12),
        timezone="Europe/Berlin",
        catchup="all",
        priority=3,
    )
    written = json.loads(json.dumps(write_submissions([given], hints_of(sequences))))
    assert read_submissions(written, sequences) == [given]


def test_what_cannot_be_sent_is_told_with_its_path():
    with pytest.raises(ValidationError) as caught:
        write_submissions([SubmitSequenceData("etl", {"fetch": {"endpoint": print}}), 5], hints_of(registry()))
    assert [fault.where for fault in caught.value.errors] == ["job 'etl': fetch.endpoint", "submission 2"]


def test_of_several_submissions_all_are_stored_or_none(tmp_path):
    sequences = registry()
    good = SubmitSequenceData("etl", {"fetch": {"endpoint": "x"}}, seq_run_interval="@yearly")
    with pytest.raises(ValidationError, match="no sequence 'nope'"):
        store_submissions(tmp_path / "state", [good, SubmitSequenceData("nope")], sequences)
    (job,) = store_submissions(tmp_path / "state", [good], sequences)
    assert job.job_id == "etl"
