"""What every other layer stands on and that stands on nothing of ours."""
