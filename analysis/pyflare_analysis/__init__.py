"""Answers from spans: traces, cost, drift, root cause, evaluation."""
