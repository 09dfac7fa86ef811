"""What counting adds to a hit: the whole gateway with and without it, in turns, and its calls of stores.

    python bench/accounting.py

A call of a store that a request does not wait for (`Accounts.beside`, the local server's loop) is made once
in ten seconds and key; what is shown here is what every hit pays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from time import perf_counter

from embedonce.bootstrap import App
from embedonce.ports import Deployment
from support import gateway, request

ROUNDS = 60
UNCHANGED = Deployment()


def main() -> None:
    texts = [f"the {i}th sentence of a corpus that is asked for again and again" for i in range(100)]
    print("| hits | ms with | ms without | more |\n|---|---|---|---|")
    with gateway() as app:
        for count, runs in ((1, 200), (10, 60), (100, 10)):
            for encoding in ("base64", "float"):
                asked = request(texts[:count] if count > 1 else texts[0], encoding)
                app.gateway.handle(asked)
                assert app.gateway.handle(asked).headers["X-Cache"] == "HIT"
                compared(app, lambda asked=asked: app.gateway.handle(asked), count, encoding, runs)


def compared(app: App, hit: Callable[[], object], count: int, encoding: str, runs: int) -> None:
    """In turns, so that both see the same machine; the median of the ratios."""
    kept, left = [], []
    for _ in range(ROUNDS):
        kept.append(_timed(hit, runs))
        with uncounted(app):
            left.append(_timed(hit, runs))
    ratio = median(a / b for a, b in zip(kept, left, strict=True))
    print(
        f"| {count} x 3072, {encoding} | {median(kept) * 1000:.3f} | {median(left) * 1000:.3f} "
        f"| {100 * (ratio - 1):+.1f}% |"
    )


@contextmanager
def uncounted(app: App) -> Iterator[None]:
    accounts = app.parts.accounts
    nothing = {
        (accounts.meter, "answered"): lambda *_, **__: None,
        (accounts.rates, "admit"): lambda *_, **__: None,
        (accounts.deployment, "current"): lambda *_: UNCHANGED,
    }
    for (where, name), empty in nothing.items():
        setattr(where, name, empty)
    try:
        yield
    finally:
        for where, name in nothing:
            delattr(where, name)


def _timed(hit: Callable[[], object], runs: int) -> float:
    began = perf_counter()
    for _ in range(runs):
        hit()
    return (perf_counter() - began) / runs


if __name__ == "__main__":
    main()
