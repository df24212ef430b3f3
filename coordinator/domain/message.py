"""Text for people, in the two languages that the API speaks."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """One sentence in English and in Chinese; which one is shown is the caller's choice."""

    en: str
    zh: str

    def __str__(self) -> str:
        return self.en

    def text(self, language: str) -> str:
        """The sentence in `language` ("en" or "zh"; anything else is Chinese, the API's default)."""
        return self.en if language == "en" else self.zh
