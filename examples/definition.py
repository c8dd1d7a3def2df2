"""A mathematical ETL pipeline: make numbers, look at them from three sides, and sum up what was found.

    generate_numbers ─┬─ calculate_statistics ── normalise ─┬─ summarise
                      └─ find_primes ───────────────────────┘

Run it in this process, with nothing on disk:

    python examples/definition.py
"""

from __future__ import annotations

import math
import random
import statistics
from typing import Any, Dict, List, Optional

from blaze import Abort, BlazeBlock, BlazeSequence, SeqBlockData

blocks = BlazeBlock()
sequences = BlazeSequence()


@blocks.block(name="generate_numbers", tags=["math"])
def generate_numbers(count: int = 5, seed: Optional[int] = None) -> List[int]:
    """Make random whole numbers from 1 to 100.

    :param count: how many.
    :param seed: the same seed gives the same numbers; None: other ones each time.
    """
    if count < 1:
        raise Abort(f"count is at least 1, got {count}")  # trying again would not help
    source = random.Random(seed)
    return [source.randint(1, 100) for _ in range(count)]


@blocks.block(name="calculate_statistics", tags=["math", "stats"])
def calculate_statistics(numbers: List[int]) -> Dict[str, float]:
    """Calculate the mean, median, sum and (population) standard deviation."""
    return {
        "mean": statistics.fmean(numbers),
        "median": statistics.median(numbers),
        "sum": sum(numbers),
        "deviation": statistics.pstdev(numbers),
    }


@blocks.block(name="find_primes", tags=["math"])
def find_primes(numbers: List[int]) -> List[int]:
    """Find the primes among the numbers: each once, in ascending order."""
    return sorted({number for number in numbers if _is_prime(number)})


@blocks.block(name="normalise", tags=["math", "transform"])
def normalise(numbers: List[int], mean: float, deviation: float) -> List[float]:
    """Express each number in standard deviations from the mean."""
    return [(number - mean) / deviation if deviation else 0.0 for number in numbers]


@blocks.block(name="summarise", tags=["math", "load"])
def summarise(numbers: List[int], stats: Dict[str, float], primes: List[int], scores: List[float]) -> str:
    """Say it in words."""
    furthest = max(range(len(numbers)), key=lambda position: abs(scores[position]))
    return (
        f"{len(numbers)} numbers with mean {stats['mean']:.2f} and median {stats['median']:g}; "
        f"primes: {', '.join(map(str, primes)) or 'none'}; "
        f"furthest from the mean: {numbers[furthest]} ({scores[furthest]:+.2f} deviations)"
    )


@sequences.sequence(
    blocks=blocks,
    sequence=[
        SeqBlockData("generate_numbers"),
        # "@step" is the output of that step; a reference makes it a dependency, too.
        SeqBlockData("calculate_statistics", parameters={"numbers": "@generate_numbers"}),
        SeqBlockData("find_primes", parameters={"numbers": "@generate_numbers"}),
        # "@step.key" walks into the output.
        SeqBlockData(
            "normalise",
            parameters={
                "numbers": "@generate_numbers",
                "mean": "@calculate_statistics.mean",
                "deviation": "@calculate_statistics.deviation",
            },
        ),
        SeqBlockData(
            "summarise",
            parameters={
                "numbers": "@generate_numbers",
                "stats": "@calculate_statistics",
                "primes": "@find_primes",
                "scores": "@normalise",
            },
        ),
    ],
    seq_id="math_pipeline",
    description="Mathematical processing pipeline",
)
def math_pipeline(context: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
    """What the run returns: the output of every step, by its name."""
    return context or {}


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, math.isqrt(number) + 1))


if __name__ == "__main__":
    for step, output in sequences.run("math_pipeline").raise_for_status().output.items():
        print(f"{step:>20}: {output}")
