"""Asking a provider for many things, with nothing lost and nothing paid twice.

work.py       what is asked for, and what makes an answer good
engine.py     the loop: who is asked next, what becomes of an answer
ledgers.py    the three journals, and where they left off
queue.py      whose turn it is
calls.py      one request, and how it is written down
patience.py   what follows from a failure, by gate.py backoff.py concurrency.py breaker.py
budget.py     what may be spent
stopping.py   Ctrl-C, once and twice
figures.py    what is shown meanwhile
"""
