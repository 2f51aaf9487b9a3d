"""Which answers are the same, for a vote."""

from __future__ import annotations

from pts.graders.numeric import last_number
from pts.graders.statements import last_boxed, plain_text


def answer_key(answer: str) -> str:
    r"""What an answer says, so that answers that say the same have the same key.

    What its last box holds, else its last number, else all of its text, without case and spacing. A number is
    the same however it is written (1,234 and 1234.0). Empty where the answer is.
    """
    boxed = last_boxed(answer)
    stated = plain_text(answer if boxed is None else boxed)
    number = last_number(stated)
    if number is None or (boxed is not None and not _is_number(stated)):
        return stated
    return f"{number:g}" if number != int(number) else str(int(number))


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "").replace("−", "-"))
    except ValueError:
        return False
    return True
