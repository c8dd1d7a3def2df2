"""Two tasks with Prefect, ephemeral server: ``PREFECT_HOME=STATE_DIR python hello_prefect.py``."""

from prefect import flow, task


@task
def greet() -> str:
    return "hello"


@task
def shout(text: str) -> str:
    return text.upper()


@flow
def hello() -> str:
    return shout(greet())


print(hello())
