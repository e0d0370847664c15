"""How many requests at a time a registry takes well: found by trying, within what the administrator allows."""

from __future__ import annotations

_FIRST = 8
# A window is judged by its throughput once it has so many answers and so many seconds: fewer tell chance from change
# badly, more learn too late.
_ANSWERS = 64
_SECONDS = 0.25
# So many of them must have come while all places were taken: what comes in batches leaves some free at the end of each.
_MOSTLY = 0.75
# Wider has to bring so much more; narrower may cost so little. Where the throughput is the same, the narrower one
# has the shorter answers.
_GAIN = 1.05
_LOSS = 0.98
# Windows between two tries that changed nothing.
_REST = 16
# At the same width, answers that take twice as long are the registry's trouble.
_COLLAPSE = 0.5


class Width:
    """Climbs while the throughput rises, gives way to latency, and halves when the registry says that it is too much.

    Judged are only windows in which nearly always all places were taken: by Little's law, the mean time of an answer
    is then the width divided by the throughput, so nobody has to measure it.

    Attributes:
        limit: so many requests may be under way now; at least 1, at most what is allowed.
    """

    def __init__(self, most: int) -> None:
        """Begin narrow, and never allow more than `most`."""
        self._most = most
        self.limit = min(_FIRST, most)
        self._begun: float | None = None
        self._answers = 0
        self._full = 0
        self._throughput: float | None = None
        self._before: int | None = None  # the width to come back to if the present one is no better
        self._widens = True
        self._rest = 0
        self._deaf = 0

    def answered(self, now: float, under_way: int, *, overloaded: bool) -> None:
        """Take note of an answer.

        Args:
            now: seconds by a clock that nobody sets.
            under_way: how many requests were, this one included.
            overloaded: whether the registry said, or showed, that it has too much to do: 429, 5xx, no answer in time.
        """
        self._deaf = max(0, self._deaf - 1)
        if overloaded:
            # One halving for all that were sent before it took effect.
            if not self._deaf:
                self._deaf = under_way
                self._set(self.limit // 2)
                self._throughput, self._before, self._widens, self._rest = None, None, True, _REST
                self._begun = None
            return
        if self._begun is None:
            self._begun, self._answers, self._full = now, 0, 0
            return
        self._answers += 1
        self._full += under_way >= self.limit
        if self._answers >= _ANSWERS and now - self._begun >= _SECONDS:
            if self._full >= _MOSTLY * self._answers:
                self._judge(self._answers / (now - self._begun))
            self._begun = None

    def _judge(self, throughput: float) -> None:
        if self._before is not None:
            self._end_try(throughput)
            return
        if self._throughput is not None and throughput < _COLLAPSE * self._throughput:
            self._set(self.limit * 3 // 4)
            self._throughput, self._rest, self._widens = None, _REST, True
            return
        self._throughput = throughput if self._throughput is None else (self._throughput + throughput) / 2
        self._rest -= 1
        if self._rest <= 0:
            self._try()

    def _try(self) -> None:
        """Go one step wider or narrower, whichever was not tried last; come back if it is no better."""
        step = max(1, self.limit // 2 if self._widens else self.limit // 4)
        self._before = self.limit
        self._set(self.limit + step if self._widens else self.limit - step)
        if self.limit == self._before:
            self._before, self._widens, self._rest = None, not self._widens, _REST

    def _end_try(self, throughput: float) -> None:
        wider, before = self._widens, self._throughput or 0.0
        if throughput >= before * (_GAIN if wider else _LOSS):
            # It is better: go on in the same direction at once.
            self._before, self._throughput, self._rest = None, throughput, 0
            return
        self._set(self._before or self.limit)
        self._before, self._widens, self._rest = None, not wider, _REST

    def _set(self, limit: int) -> None:
        self.limit = max(1, min(limit, self._most))
