"""Words that every room needs."""


def counted(number: int | str, noun: str) -> str:
    """`1 frame`, `2 frames`, `0 frames`, `1/12 frames`.

    >>> counted(1, "frame"), counted(12, "pair")
    ('1 frame', '12 pairs')
    """
    return f"{number} {noun}" if str(number) == "1" else f"{number} {noun}s"
