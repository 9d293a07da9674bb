"""Words that every room needs."""


def counted(number: int, noun: str) -> str:
    """`1 frame`, `2 frames`, `0 frames`.

    >>> counted(1, "frame"), counted(12, "pair")
    ('1 frame', '12 pairs')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
