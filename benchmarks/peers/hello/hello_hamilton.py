"""Two functions with Hamilton, nothing stored: ``python hello_hamilton.py STATE_DIR``."""

import sys

from hamilton import driver


def greet() -> str:
    return "hello"


def shout(greet: str) -> str:
    return greet.upper()


if __name__ == "__main__":
    built = driver.Builder().with_modules(sys.modules["__main__"]).build()
    print(built.execute(["shout"])["shout"])
