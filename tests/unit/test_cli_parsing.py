"""Command lines: flags and their twins in the environment, near names, parameters, exit statuses."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Tuple

import pytest

from blaze import AmbiguousName, BlazeError, NotFound, RunFailed, StateError, ValidationError
from blaze.cli import main
from blaze.cli.commands import Commands, Parser, twin_of
from blaze.cli.exits import UsageError, exit_status_of
from blaze.cli.parameters import parameters_of, value_of
from blaze.core.ground.errors import DaemonBusy, NoAnswer, NoDaemon, Refused


def parsed(*words: str, **environ: str) -> Any:
    return main.build_parser(environ, main.modules_of(words))[0].parse_args(list(words))


def parsers(commands: Commands, path: Tuple[str, ...] = ()) -> List[Tuple[Tuple[str, ...], Parser]]:
    """Every command with its parser."""
    found: List[Tuple[Tuple[str, ...], Parser]] = []
    for name, parser in commands.names().items():
        here = (*path, name)
        found += parsers(commands.groups[name], here) if name in commands.groups else [(here, parser)]
    return found


EVERY = parsers(main.build_parser({})[1])


@pytest.mark.parametrize("module", main.COMMAND_MODULES)
def test_a_module_registers_the_commands_for_which_it_is_imported(module: str) -> None:
    assert tuple(main.build_parser({}, [module])[1].names()) == main.COMMAND_MODULES[module]


@pytest.mark.parametrize(("path", "parser"), EVERY, ids=[" ".join(path) for path, _ in EVERY])
def test_the_help_of_every_command_shows_an_example_of_it(path: Tuple[str, ...], parser: Parser) -> None:
    help = parser.format_help()
    assert "example:" in help
    assert f"blazed {' '.join(path)}" in help.split("example:")[1]
    assert "--state-dir" in help


@pytest.mark.parametrize(("path", "parser"), EVERY, ids=[" ".join(path) for path, _ in EVERY])
def test_no_two_flags_of_a_command_share_a_twin(path: Tuple[str, ...], parser: Parser) -> None:
    twins = [twin for twin in map(twin_of, parser._actions) if twin is not None]
    assert len(twins) == len(set(twins))
    assert all(twin.startswith("BLAZE_") for twin in twins)


def test_flags_of_every_command_stand_before_or_after_it() -> None:
    for words in (["--json", "--state-dir", "x", "runs"], ["runs", "--json", "--state-dir", "x"]):
        args = parsed(*words)
        assert (args.json, args.state_dir, args.debug) == (True, "x", False)


def test_the_environment_gives_what_the_command_line_does_not() -> None:
    args = parsed("runs", BLAZE_LIMIT="7", BLAZE_JSON="1", BLAZE_STATE_DIR="/there", BLAZE_STATUS="failed")
    assert (args.limit, args.json, args.state_dir, args.status) == (7, True, "/there", "FAILED")
    args = parsed("runs", "--limit", "3", BLAZE_LIMIT="7", BLAZE_JSON="no", BLAZE_STATUS="")
    assert (args.limit, args.json, args.status) == (3, False, None)


@pytest.mark.parametrize(
    ("words", "environ", "message"),
    [
        (["runs"], {"BLAZE_LIMIT": "many"}, "BLAZE_LIMIT: 'many' is no whole number"),
        (["runs"], {"BLAZE_JSON": "perhaps"}, "BLAZE_JSON is 'perhaps'; write 1 or 0"),
        (["runs"], {"BLAZE_STATUS": "faild"}, "did you mean 'FAILED'"),
        (["rnus"], {}, "there is no command 'rnus'; did you mean 'runs'?"),
        (["db", "chek"], {}, "there is no command 'chek'; did you mean 'check'?"),
        (["runs", "--limt", "3"], {}, "there is no flag --limt; did you mean '--limit'?"),
        (["runs", "--limit", "0"], {}, "no whole number from 1"),
        (["runs", "--limit", "9" * 5000], {}, "no whole number from 1"),
        (["--jsno", "runs"], {}, "there is no flag --jsno; did you mean '--json'?"),
        (["show"], {}, "required: RUN"),
        (["status", "--watch", "nan"], {}, "no number of seconds"),
        (["graph", "etl", "--format", "pdf"], {}, "is none of text, mermaid, dot"),
    ],
)
def test_what_can_not_be_understood_is_told_with_a_near_name(
    words: List[str], environ: Dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(*words, **environ)
    assert message in str(caught.value)


def test_what_the_environment_says_of_other_commands_disturbs_none() -> None:
    assert parsed("db", "check", BLAZE_LIMIT="many").state_dir is None


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RunFailed("x"), 1),
        (BlazeError("x"), 1),
        (RuntimeError("x"), 1),
        (UsageError("x"), 2),
        (ValidationError([]), 3),
        (NotFound("x"), 4),
        (AmbiguousName("x", []), 4),
        (NoDaemon("x"), 5),
        (Refused("x"), 6),
        (DaemonBusy("x"), 6),
        (StateError("x"), 6),
        (NoAnswer("x"), 7),
        (TimeoutError("x"), 7),
        (KeyboardInterrupt(), 130),
    ],
)
def test_every_error_has_its_exit_status(error: BaseException, status: int) -> None:
    assert exit_status_of(error) == status


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", 10),
        ("1.5", 1.5),
        ("true", True),
        ("null", None),
        ('"10"', "10"),
        ('["a", 1]', ["a", 1]),
        ("ten", "ten"),
        ("", ""),
        ("007", "007"),
        ("NaN", "NaN"),
        ("https://example.org/?a=b", "https://example.org/?a=b"),
        ("[" * 100_000, "[" * 100_000),
        ("\ud800", "\ud800"),
    ],
)
def test_a_value_is_json_or_else_text(text: str, value: object) -> None:
    assert value_of(text) == value


def test_parameters_of_the_command_line_are_put_together_by_step() -> None:
    words = ["fetch.limit=5", "fetch.url=a=b.c", "clean.rules={}", "fetch.limit=6"]
    assert parameters_of(words, None) == {"fetch": {"limit": 6, "url": "a=b.c"}, "clean": {"rules": {}}}


@pytest.mark.parametrize("word", ["fetch", "fetch=3", "fetch.=3", ".limit=3", "=", "fetch.limit"])
def test_a_parameter_without_step_name_or_value_is_a_fault_of_usage(word: str) -> None:
    with pytest.raises(UsageError, match=r"step\.name=VALUE"):
        parameters_of([word], None)


def test_an_error_is_one_document_when_json_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["next", "61 * * * *", "--json"], {}) == 3
    out, err = capsys.readouterr()
    told = json.loads(out)["error"]
    assert (told["kind"], told["exit_status"]) == ("ValidationError", 3)
    assert "61 lies outside 0 to 59" in told["faults"][0]["what"]
    assert err.startswith("blazed: ")


def test_a_usage_error_is_one_document_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--json", "nothing"], {}) == 2
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "UsageError"


def test_without_a_command_the_help_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([], {}) == 2
    out, err = capsys.readouterr()
    assert out == "" and "exit status:" in err


def test_next_tells_a_cron_expression_in_its_zone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["next", "30 2 * * *", "-n", "3", "--timezone", "Europe/Berlin", "--json"], {}) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["next"]) == 3 and told["timezone"] == "Europe/Berlin"
    assert all(moment.endswith("+00:00") for moment in told["next"])
