"""The one comment that a pull request has of us: found, judged, written anew, made where there is none.

What is done follows from what is there each time it is looked at, and it is looked at again whenever a write may have
gone wrong or somebody else may have been quicker: two runs may do this at once.
"""

from collections.abc import Iterator
from typing import NamedTuple

from k8s_e2e.report.github.api import Author, Comment, IssueComments, Refused, TooLong
from k8s_e2e.report.github.patience import Later, Patience
from k8s_e2e.report.github.stamp import Age, age_of

ACTIONS_LOGIN, ACTIONS_APP = "github-actions[bot]", "github-actions"  # whose token a workflow is given


class Placed(NamedTuple):
    """What became of the comment. ``done`` is ``created``, ``updated`` or ``newer``: a later run's was left alone."""

    done: str
    url: str
    more: int = 0  # comments of ours besides it


class Upsert:
    """Brings ``rungs`` (the text, from long to short, each with its `stamp`) into the one comment called ``name``."""

    def __init__(
        self, comments: IssueComments, rungs: Iterator[str], *, name: str, age: Age, patience: Patience
    ) -> None:
        self._comments = comments
        self._rungs = rungs
        self._name = name
        self._age = age
        self._patience = patience
        self._made: dict[int, Comment] = {}
        self._me: Author | None = None

    def run(self) -> Placed:
        """Create or update the comment.

        Raises:
            GaveUp: no usable answer within the deadline.
            Refused: GitHub does not allow it, or takes not even the shortest text.
        """
        self._me = self._comments.me()
        text = self._next_rung()
        while True:
            try:
                placed = self._attempt(text)
            except TooLong:
                text = self._next_rung()
            except Later as later:
                self._patience.wait(later)
            else:
                if placed is not None:
                    return placed

    def _attempt(self, text: str) -> Placed | None:
        """Look, and do what follows; None where it has to be looked at again.

        A comment that somebody else has made meanwhile wins if it is older than ours: ours goes.
        """
        ours = [comment for comment in self._comments.all() if self._is_ours(comment)]
        others = [comment for comment in ours if comment.id not in self._made]
        newer = next((comment for comment in others if self._age_of(comment) > self._age), None)
        if newer is not None:
            self._withdraw()
            return Placed("newer", newer.html_url, len(others) - 1)
        kept = next((comment for comment in others if not self._made or comment.id < min(self._made)), None)
        if kept is not None:
            return self._update(kept, text, len(others) - 1)
        if self._made:
            return Placed("created", self._made[min(self._made)].html_url, len(others))
        created = self._comments.create(text)
        self._made[created.id] = created
        self._me = self._me or created.user  # an app other than Actions: only now it is known which
        return None

    def _update(self, comment: Comment, text: str, more: int) -> Placed | None:
        now = self._comments.get(comment.id)
        if now is None or not self._is_ours(now):
            raise Later("the comment was deleted or rewritten in between")
        if self._age_of(now) > self._age:
            self._withdraw()
            return Placed("newer", now.html_url, more)
        updated = self._comments.update(now.id, text)
        if updated is None:
            raise Later("the comment was deleted in between")
        self._withdraw()
        return Placed("updated", updated.html_url or now.html_url, more)

    def _withdraw(self) -> None:
        """Delete what this very call has made; never anything else."""
        for number in list(self._made):
            self._comments.delete(number)
            del self._made[number]

    def _is_ours(self, comment: Comment) -> bool:
        """Whether a comment begins with our marker and was written by who would write it now.

        An app's token may not ask who it is: in a workflow it is that of GitHub Actions.
        """
        author = comment.user
        if age_of(comment.body or "", self._name) is None or author is None:
            return False
        if self._me is not None:
            return author.id == self._me.id
        app = comment.performed_via_github_app
        return author.type == "Bot" and author.login == ACTIONS_LOGIN and (app is None or app.slug == ACTIONS_APP)

    def _age_of(self, comment: Comment) -> Age:
        return age_of(comment.body or "", self._name) or Age()

    def _next_rung(self) -> str:
        text = next(self._rungs, None)
        if text is None:
            raise Refused(422, "even its shortest form is too long")
        return text
