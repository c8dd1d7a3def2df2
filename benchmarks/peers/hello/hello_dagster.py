"""Two ops with Dagster, executed in this process on an ephemeral instance: ``python hello_dagster.py STATE_DIR``."""

from dagster import job, op


@op
def greet() -> str:
    return "hello"


@op
def shout(text: str) -> str:
    return text.upper()


@job
def hello() -> None:
    shout(greet())


if __name__ == "__main__":
    quiet = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
    print(hello.execute_in_process(run_config=quiet).output_for_node("shout"))
