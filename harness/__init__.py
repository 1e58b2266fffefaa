"""The harness: from the words on a command line to a row of the leaderboard."""

__version__ = "0.1.0"
