"""What of the Events about a policy is news."""

from datetime import timedelta

from registry_cleanup.domain.news import News
from tests.support.builders import NOW

_MINUTE = timedelta(minutes=1)


def test_what_happens_again_and_again_is_told_once_an_hour() -> None:
    news = News()
    told = [minute for minute in range(180) if news.is_news("PlanFailed", "no answer", NOW + minute * _MINUTE)]
    assert told == [0, 60, 120]


def test_another_message_or_reason_is_news() -> None:
    news = News()
    assert news.is_news("PlanFailed", "no answer", NOW)
    assert news.is_news("PlanFailed", "refused", NOW)
    assert news.is_news("RunFailed", "no answer", NOW)
    assert not news.is_news("PlanFailed", "no answer", NOW + _MINUTE)


def test_two_messages_by_turns_are_told_once_each() -> None:
    news = News()
    messages = ["no answer", "refused"] * 20
    told = [text for number, text in enumerate(messages) if news.is_news("PlanFailed", text, NOW + number * _MINUTE)]
    assert told == ["no answer", "refused"]


def test_what_is_remembered_is_bounded_and_what_was_forgotten_is_told_again() -> None:
    news = News()
    assert all(news.is_news("PlanFailed", f"failure {number}", NOW) for number in range(1000))
    assert not news.is_news("PlanFailed", "failure 999", NOW)
    assert news.is_news("PlanFailed", "failure 0", NOW)


def test_a_clock_that_is_set_back_silences_nothing() -> None:
    news = News()
    assert news.is_news("PlanFailed", "no answer", NOW + 100 * _MINUTE)
    assert news.is_news("PlanFailed", "no answer", NOW)
