"""What GitHub shows of a run: step summary, annotations and the pull request comment, and the way there."""
