"""How languages announce an answer."""

from __future__ import annotations

import re

_LATIN = (
    "Antwort",
    "Lösung",
    "Réponse",
    "Reponse",
    "Respuesta",
    "Resposta",
    "Risposta",
    "Antwoord",
    "Odpowiedź",
    "Odpověď",
    "Odpoveď",
    "Cevap",
    "Yanıt",
    "Jawaban",
    "Jawapan",
    "Vastaus",
    "Svar",
    "Svaret",
    "Răspuns",
    "Răspunsul",
    "Válasz",
    "Đáp án",
    "Trả lời",
    "Câu trả lời",
    "Jibu",
    "Sagot",
    "Tugon",
    "Ответ",
    "Відповідь",
    "Отговор",
    "Απάντηση",
    "תשובה",
    "התשובה",
    "الإجابة",
    "الاجابة",
    "إجابة",
    "الجواب",
    "پاسخ",
    "उत्तर",
    "जवाब",
    "উত্তর",
    "பதில்",
    "సమాధానం",
    "คำตอบ",
)
_UNSPACED = (
    "答案",
    "正解",
    "答え",
    "解答",
    "回答",
    "答",
    "選擇",
    "选择",
    "应选",
    "應選",
    "故选",
    "选",
    "정답",
    "답변",
    "답",
)

_COPULA = (
    r"ist|lautet|wäre|est|serait|es|sería|é|è|sarà|seria|to|jest|je|är|er|on|is|là|ni|adalah|ialah|este|"
    r"هي|هو|है|হল|হলো|คือ|είναι|הוא|היא|esto"
)
OTHER_ANSWER = (
    rf"(?:\b(?:{'|'.join(_LATIN)})(?!\w)(?:[^\n.:=]{{0,40}}?\s(?:{_COPULA})(?!\w)"
    rf"|[^\n.:=]{{0,40}}?\s?[:=]|(?=\s+[\"'(\[*]{{0,4}}[A-Z0-9](?!\w)))"
    rf"|(?:{'|'.join(_UNSPACED)})(?:[^\n.:=。A-Za-z0-9]{{0,12}}?(?:[:=]|是|为|為|は|은|는|이|가)|\s?[\])]"
    rf"|(?=\s*[\"'(\[*]*\s*[A-Z0-9])))"
)
"""A pattern of the words before an answer in languages other than English, for use without regard to case."""

_PLAIN = tuple(word.lower() for word in _LATIN if word.isascii())


def speaks_another(text: str) -> bool:
    """Whether a text has a word for "answer" of another language: a quick look before a slow one."""
    if not text.isascii():
        return OTHER_ANSWER_WORD.search(text) is not None
    lowered = text.lower()
    return any(word in lowered for word in _PLAIN)


OTHER_ANSWER_WORD = re.compile("|".join((*_LATIN, *_UNSPACED)), re.IGNORECASE)
